// A worker as an app that was taken over could be. It serves dirty.v1.Worker, and does to dirtyd and to the others what
// its calls ask for:
//
//   echo [...]                its arguments
//   claim [n]                 answers the calls 0 to n but its own, and sends chunks of them; then answers its own,
//   twice large [megabytes]         an answer of that size, whatever the limit is attach [socket]           attaches to
//   another worker; the code that it was told connect [socket]          connects; the errno, 0: it could open [path]
//   opens a file for reading; the errno kill [pid]                asks whether it may kill a process; the errno id []
//   uid, gid, number of supplementary groups, umask, NoNewPrivs
//
// hostile-worker             what stands above
// hostile-worker bomb        its first frame is compressed: a quarter of a gigabyte of zeros
// hostile-worker link TO     its socket is a symbolic link to another one
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "dirty/v1/worker.grpc.pb.h"

namespace dirty::security {
namespace {

using Json = nlohmann::json;
using Stream = grpc::ServerReaderWriter<v1::WorkerFrame, v1::ArbiterFrame>;

const char* Variable(const char* name) {
  const char* value = getenv(name);
  return value != nullptr ? value : "";
}

int Connect(const std::string& path) {
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int error = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
  close(fd);
  return error;
}

int Open(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

int AttachTo(const std::string& path) {
  auto stub = v1::Worker::NewStub(grpc::CreateChannel("unix:" + path, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  auto stream = stub->Attach(&context);
  v1::WorkerFrame frame;
  while (stream->Read(&frame)) {
  }
  return stream->Finish().error_code();
}

Json Id() {
  mode_t mask = umask(0);
  umask(mask);
  return {getuid(), getgid(), getgroups(0, nullptr), mask, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)};
}

void Done(Stream* stream, uint64_t call, const Json& result) {
  v1::WorkerFrame frame;
  frame.mutable_done()->set_call(call);
  frame.mutable_done()->mutable_response()->set_result(result.dump());
  stream->Write(frame);
}

void Claim(Stream* stream, uint64_t own, uint64_t last) {
  for (uint64_t call = 0; call <= last; ++call) {
    if (call == own) continue;
    v1::WorkerFrame chunk;
    chunk.mutable_chunk()->set_call(call);
    chunk.mutable_chunk()->mutable_chunk()->set_value("\"forged\"");
    stream->Write(chunk);
    Done(stream, call, "forged");
  }
  Done(stream, own, "own");
  Done(stream, own, "forged");
}

void Run(Stream* stream, const v1::StartCall& start) {
  const std::string& action = start.request().action();
  const Json args = Json::parse(start.request().args());
  if (action == "claim") return Claim(stream, start.call(), args.at(0));
  Json result;
  if (action == "echo") result = args;
  if (action == "large") result = std::string(args.at(0).get<size_t>() << 20, 'x');
  if (action == "attach") result = AttachTo(args.at(0));
  if (action == "connect") result = Connect(args.at(0));
  if (action == "open") result = Open(args.at(0));
  if (action == "kill") result = kill(args.at(0).get<pid_t>(), 0) == 0 ? 0 : errno;
  if (action == "id") result = Id();
  Done(stream, start.call(), result);
}

class Service final : public v1::Worker::Service {
 public:
  explicit Service(bool bomb) : bomb_(bomb) {}

  grpc::Status Attach(grpc::ServerContext* context, Stream* stream) override {
    v1::WorkerFrame frame;
    frame.mutable_hello()->set_protocol_version(1);
    if (bomb_) {
      context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
      frame.mutable_hello()->set_runtime(std::string(size_t{256} << 20, '\0'));
    }
    stream->Write(frame);
    v1::ArbiterFrame in;
    while (stream->Read(&in)) {
      if (in.has_hello()) Initialise(stream, in.hello());
      if (in.has_start()) Run(stream, in.start());
      if (in.has_ping()) {
        v1::WorkerFrame pong;
        pong.mutable_pong()->set_sequence(in.ping().sequence());
        stream->Write(pong);
      }
      if (in.has_drain()) break;
    }
    // The stream ends with OK, and then the process: dirtyd waits for both.
    stop_ = std::make_unique<std::thread>([this] { server_->Shutdown(); });
    return grpc::Status::OK;
  }

  void Serve(const std::string& socket, int ready) {
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(-1).AddListeningPort("unix:" + socket, grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    (void)!write(ready, "\n", 1);
    close(ready);
    server_->Wait();
    if (stop_ != nullptr) stop_->join();
  }

 private:
  static void Initialise(Stream* stream, const v1::WorkerConfig& config) {
    for (const v1::AppSpec& app : config.apps()) {
      v1::WorkerFrame frame;
      frame.mutable_app_starting()->set_app(app.name());
      stream->Write(frame);
      frame.mutable_app_ready()->set_app(app.name());
      stream->Write(frame);
    }
    v1::WorkerFrame frame;
    frame.mutable_ready();
    stream->Write(frame);
  }

  const bool bomb_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<std::thread> stop_;
};

}  // namespace
}  // namespace dirty::security

int main(int argc, char** argv) {
  using dirty::security::Variable;
  const std::string what = argc > 1 ? argv[1] : "";
  const std::string path = Variable("DIRTY_WORKER_SOCKET");
  const int ready = atoi(Variable("DIRTY_READY_FD"));
  if (what == "link" && argc > 2) {
    (void)!symlink(argv[2], path.c_str());
    (void)!write(ready, "\n", 1);
    for (;;) pause();
  }
  dirty::security::Service(what == "bomb").Serve(path, ready);
}
