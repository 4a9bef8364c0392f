#include <grpcpp/client_context.h>

#include <memory>
#include <mutex>
#include <utility>

#include "client/cpp/async_runner.h"
#include "client/cpp/connection.h"
#include "client/cpp/errors.h"
#include "client/cpp/socket.h"
#include "client/cpp/transport.h"

namespace dirty::client::internal {
namespace {

// A server-streaming RPC, or why there is none.
class UnaryChunkReader : public ChunkReader {
 public:
  UnaryChunkReader(Outgoing call, Outcome<std::shared_ptr<Connection>> connection)
      : call_(std::move(call)), on_stop_(call_.stop, [this] { context_.TryCancel(); }) {
    if (!connection.ok()) {
      error_ = std::move(connection).error();
      return;
    }
    connection_ = *std::move(connection);
    SetLimits(call_, context_);
    reader_ = connection_->arbiter().ExecuteStream(&context_, call_.request);
  }

  ~UnaryChunkReader() override {
    context_.TryCancel();
    while (Read()) {
    }
  }

  std::optional<RawChunk> Read() override {
    if (reader_ == nullptr) return std::nullopt;
    v1::Chunk chunk;
    if (reader_->Read(&chunk)) return FromProto(std::move(chunk));
    const grpc::Status status = reader_->Finish();
    reader_ = nullptr;
    if (!status.ok()) error_ = CallError(status, *connection_, call_.timeout);
    return std::nullopt;
  }

  std::optional<Error>& error() override { return error_; }
  void Cancel() override { context_.TryCancel(); }

 private:
  Outgoing call_;
  grpc::ClientContext context_;
  std::shared_ptr<Connection> connection_;
  std::unique_ptr<grpc::ClientReader<v1::Chunk>> reader_;  // null: ended
  std::optional<Error> error_;
  std::stop_callback<std::function<void()>> on_stop_;
};

class UnaryTransport : public Transport {
 public:
  explicit UnaryTransport(const Options& options)
      : connect_timeout_(options.connect_timeout),
        connector_(std::make_shared<Connector>(SocketPaths(options.socket, "DIRTY_SOCKET", "dirty.sock"))) {}

  ~UnaryTransport() override {
    if (runner_ != nullptr) runner_->Close();
  }

  RawResult Execute(Outgoing call) override {
    Outcome<std::shared_ptr<Connection>> connection = connector_->Get(ConnectBy(call, connect_timeout_), call.stop);
    if (!connection.ok()) return std::move(connection).error();
    grpc::ClientContext context;
    SetLimits(call, context);
    std::stop_callback on_stop(call.stop, [&context] { context.TryCancel(); });
    v1::ExecuteResponse response;
    const grpc::Status status = (*connection)->arbiter().Execute(&context, call.request, &response);
    if (!status.ok()) return CallError(status, **connection, call.timeout);
    return FromProto(std::move(response));
  }

  std::shared_ptr<Cancellable> Start(Outgoing call, std::function<void(RawResult)> done) override {
    std::call_once(runner_made_, [this] { runner_ = std::make_shared<AsyncRunner>(connector_, connect_timeout_); });
    return runner_->Start(std::move(call), std::move(done));
  }

  std::unique_ptr<ChunkReader> Open(Outgoing call) override {
    auto connection = connector_->Get(ConnectBy(call, connect_timeout_), call.stop);
    return std::make_unique<UnaryChunkReader>(std::move(call), std::move(connection));
  }

 private:
  const std::chrono::nanoseconds connect_timeout_;
  const std::shared_ptr<Connector> connector_;
  std::once_flag runner_made_;
  std::shared_ptr<AsyncRunner> runner_;
};

}  // namespace

std::unique_ptr<Transport> MakeUnaryTransport(const Options& options) {
  return std::make_unique<UnaryTransport>(options);
}

}  // namespace dirty::client::internal
