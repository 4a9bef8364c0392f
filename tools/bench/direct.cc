// One gRPC hop without an arbiter: a server that answers Execute with what it got, and a client that waits for each
// answer. Two processes, one thread each beside gRPC's own; the server polls one completion queue.
//
// bench-direct SIZE SECONDS: prints {"calls": N, "p50_us": X, "p99_us": Y}. Up to a KiB in `args`, else an attachment.

#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "dirty/v1/arbiter.grpc.pb.h"
#include "tools/bench/histogram.h"

namespace dirty::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWarmUpShare = 5;  // a fifth of the time comes before, and does not count
constexpr std::size_t kTextBytes = 1024;
constexpr auto kConnectTime = std::chrono::seconds(10);

// One call of the server; the object is its tag, and takes the next call when it is done.
class EchoCall {
 public:
  EchoCall(v1::Arbiter::AsyncService& service, grpc::ServerCompletionQueue& queue) : service_(service), queue_(queue) {
    Await();
  }

  void Proceed() {
    if (finishing_) {
      Await();
      return;
    }
    v1::ExecuteResponse response;
    response.mutable_result()->swap(*request_.mutable_args());
    response.mutable_attachments()->Swap(request_.mutable_attachments());
    finishing_ = true;
    writer_->Finish(response, grpc::Status::OK, this);
  }

 private:
  void Await() {
    finishing_ = false;
    request_.Clear();
    context_ = std::make_unique<grpc::ServerContext>();
    writer_ = std::make_unique<grpc::ServerAsyncResponseWriter<v1::ExecuteResponse>>(context_.get());
    service_.RequestExecute(context_.get(), &request_, writer_.get(), &queue_, &queue_, this);
  }

  v1::Arbiter::AsyncService& service_;
  grpc::ServerCompletionQueue& queue_;
  std::unique_ptr<grpc::ServerContext> context_;
  std::unique_ptr<grpc::ServerAsyncResponseWriter<v1::ExecuteResponse>> writer_;
  v1::ExecuteRequest request_;
  bool finishing_ = false;
};

// Serves until it is killed.
[[noreturn]] void Serve(const std::string& address) {
  v1::Arbiter::AsyncService service;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  builder.SetMaxReceiveMessageSize(-1);
  const std::unique_ptr<grpc::ServerCompletionQueue> queue = builder.AddCompletionQueue();
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) _exit(1);
  EchoCall call(service, *queue);
  void* tag = nullptr;
  for (bool ok = false; queue->Next(&tag, &ok);) static_cast<EchoCall*>(tag)->Proceed();
  _exit(0);
}

int Measure(const std::string& address, std::size_t size, double seconds) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  const auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  if (!channel->WaitForConnected(std::chrono::system_clock::now() + kConnectTime)) {
    std::fprintf(stderr, "bench-direct: no connection\n");
    return 1;
  }
  const auto stub = v1::Arbiter::NewStub(channel);
  v1::ExecuteRequest request;
  request.set_app("echo");
  request.set_action("echo");
  if (size <= kTextBytes) {
    request.set_args("[\"" + std::string(size, 'x') + "\"]");
  } else {
    request.add_attachments(std::string(size, 'x'));
  }
  Histogram latency;
  const auto measured = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  const Clock::time_point counts_from = Clock::now() + measured / kWarmUpShare;
  for (Clock::time_point start = Clock::now(); start < counts_from + measured || latency.count() == 0;) {
    grpc::ClientContext context;
    v1::ExecuteResponse response;
    const grpc::Status status = stub->Execute(&context, request, &response);
    const Clock::time_point now = Clock::now();
    if (!status.ok()) {
      std::fprintf(stderr, "bench-direct: %s\n", status.error_message().c_str());
      return 1;
    }
    if (start >= counts_from) latency.Add(now - start);
    start = now;
  }
  auto micros = [&latency](double share) { return static_cast<double>(latency.Percentile(share).count()) / 1e3; };
  std::printf("{\"calls\": %llu, \"p50_us\": %.3f, \"p99_us\": %.3f}\n",
              static_cast<unsigned long long>(latency.count()), micros(0.5), micros(0.99));
  return 0;
}

int Main(std::size_t size, double seconds) {
  char folder[] = "/tmp/bench-direct-XXXXXX";
  if (mkdtemp(folder) == nullptr) return std::perror(folder), 1;
  const std::string path = std::string(folder) + "/socket";
  const std::string address = "unix:" + path;
  const pid_t server = fork();  // before gRPC starts: it does not survive a fork
  if (server < 0) return std::perror("fork"), 1;
  if (server == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Serve(address);
  }
  const int code = Measure(address, size, seconds);
  kill(server, SIGKILL);
  waitpid(server, nullptr, 0);
  unlink(path.c_str());
  rmdir(folder);
  return code;
}

}  // namespace
}  // namespace dirty::bench

int main(int argc, char** argv) {
  const long size = argc == 3 ? std::atol(argv[1]) : 0;
  const double seconds = argc == 3 ? std::atof(argv[2]) : 0;
  if (size <= 0 || seconds <= 0) {
    std::fprintf(stderr, "bench-direct SIZE SECONDS\n");
    return 2;
  }
  return dirty::bench::Main(static_cast<std::size_t>(size), seconds);
}
