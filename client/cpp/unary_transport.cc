#include <grpc/grpc.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/support/async_unary_call.h>

#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "client/cpp/async_runner.h"
#include "client/cpp/connection.h"
#include "client/cpp/errors.h"
#include "client/cpp/operation.h"
#include "client/cpp/transport.h"

namespace dirty::client::internal {
namespace {

// gRPC, as long as this lives: to take it down and up again costs more than a call.
class GrpcHold {
 public:
  GrpcHold() { grpc_init(); }
  ~GrpcHold() { grpc_shutdown(); }
  GrpcHold(const GrpcHold&) = delete;
  GrpcHold& operator=(const GrpcHold&) = delete;
};

class UnaryTransport : public Transport {
 public:
  UnaryTransport(std::shared_ptr<Connector> connector, std::chrono::nanoseconds connect_timeout)
      : connect_timeout_(connect_timeout), connector_(std::move(connector)) {}

  ~UnaryTransport() override {
    if (runner_ != nullptr) runner_->Close();
  }

  RawResult Execute(Outgoing call) override {
    Waiting waiting(*this);
    Outcome<std::shared_ptr<Connection>> connection = Connect(call, *connector_, connect_timeout_);
    if (!connection.ok()) return std::move(connection).error();
    SetLimits(call, waiting.context);
    std::stop_callback on_stop(call.stop, [&waiting] { waiting.context.TryCancel(); });
    v1::ExecuteResponse response;
    const grpc::Status status = call.interrupted
                                    ? ExecuteInterruptibly(call, **connection, waiting.context, response)
                                    : (*connection)->arbiter().Execute(&waiting.context, call.request, &response);
    if (status.ok()) return FromProto(std::move(response));
    return CallError(status, **connection, call.timeout, waiting.CutBecause());
  }

  std::shared_ptr<Cancellable> Start(Outgoing call, std::function<void(RawResult)> done) override {
    const std::shared_ptr<AsyncRunner> runner = Runner();
    auto started = std::make_shared<AsyncCall>(runner, std::move(call), std::move(done));
    runner->Start(started);
    return started;
  }

  std::unique_ptr<ChunkReader> Open(Outgoing call) override {
    const std::shared_ptr<AsyncRunner> runner = Runner();
    auto started = std::make_shared<AsyncStream>(runner, std::move(call));
    runner->Start(started);
    return std::make_unique<SharedReader<AsyncStream>>(std::move(started));
  }

  void Cut(const std::string& why) override {
    connector_->Close(why);
    std::shared_ptr<AsyncRunner> runner;
    {
      std::lock_guard lock(mutex_);
      cut_ = why;
      for (Waiting* waiting : waiting_) waiting->context.TryCancel();
      runner = runner_;
    }
    if (runner != nullptr) runner->Cut(why);
  }

 private:
  // A thread in Execute.
  struct Waiting {
    explicit Waiting(UnaryTransport& transport) : owner(transport) {
      std::lock_guard lock(owner.mutex_);
      owner.waiting_.insert(this);
    }
    ~Waiting() {
      std::lock_guard lock(owner.mutex_);
      owner.waiting_.erase(this);
    }
    std::string CutBecause() const {
      std::lock_guard lock(owner.mutex_);
      return owner.cut_;
    }

    UnaryTransport& owner;
    grpc::ClientContext context;
  };

  // As the generated Execute does, with a look around now and then.
  static grpc::Status ExecuteInterruptibly(const Outgoing& call, const Connection& connection,
                                           grpc::ClientContext& context, v1::ExecuteResponse& response) {
    grpc::CompletionQueue queue;
    auto reader = connection.arbiter().AsyncExecute(&context, call.request, &queue);
    grpc::Status status;
    reader->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    while (queue.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + kInterruptedEvery) ==
           grpc::CompletionQueue::TIMEOUT) {
      if (call.interrupted()) context.TryCancel();
    }
    queue.Shutdown();
    while (queue.Next(&tag, &ok)) {
    }
    return status;
  }

  std::shared_ptr<AsyncRunner> Runner() {
    std::lock_guard lock(mutex_);
    if (runner_ == nullptr) runner_ = std::make_shared<AsyncRunner>(connector_, connect_timeout_);
    return runner_;
  }

  const GrpcHold hold_;
  const std::chrono::nanoseconds connect_timeout_;
  const std::shared_ptr<Connector> connector_;
  std::mutex mutex_;
  // Guarded by mutex_:
  std::shared_ptr<AsyncRunner> runner_;
  std::set<Waiting*> waiting_;
  std::string cut_;
};

}  // namespace

std::unique_ptr<Transport> MakeUnaryTransport(std::shared_ptr<Connector> connector,
                                              std::chrono::nanoseconds connect_timeout) {
  return std::make_unique<UnaryTransport>(std::move(connector), connect_timeout);
}

}  // namespace dirty::client::internal
