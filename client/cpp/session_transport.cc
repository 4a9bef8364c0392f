#include <memory>
#include <utility>

#include "client/cpp/connection.h"
#include "client/cpp/operation.h"
#include "client/cpp/session_calls.h"
#include "client/cpp/session_runner.h"
#include "client/cpp/transport.h"

namespace dirty::client::internal {
namespace {

// Requests above this many bytes go beside the session, or all others would wait for them.
constexpr std::size_t kLargest = std::size_t{256} << 10;

// How often a call that could not be sent looks for another session.
constexpr int kAttempts = 2;

class SessionTransport : public Transport {
 public:
  SessionTransport(std::shared_ptr<Connector> connector, std::chrono::nanoseconds connect_timeout)
      : connect_timeout_(connect_timeout),
        unary_(MakeUnaryTransport(connector, connect_timeout)),
        connector_(std::move(connector)) {}

  ~SessionTransport() override { runner_->Close(); }

  RawResult Execute(Outgoing call) override {
    for (int attempt = 0; attempt < kAttempts && call.size <= kLargest; ++attempt) {
      auto connection = Connect(call, *connector_, connect_timeout_);
      if (!connection.ok()) return std::move(connection).error();
      if (auto result = runner_->Execute(call, *connection)) return *std::move(result);
    }
    return unary_->Execute(std::move(call));
  }

  // One that comes before the session is a call of its own: nothing waits here.
  std::shared_ptr<Cancellable> Start(Outgoing call, std::function<void(RawResult)> done) override {
    const std::shared_ptr<Connection> connection = SessionConnection(call);
    if (connection == nullptr) return unary_->Start(std::move(call), std::move(done));
    auto started = std::make_shared<AsyncSessionCall>(runner_, *unary_, std::move(call), std::move(done));
    started->Start(connection);
    return started;
  }

  std::unique_ptr<ChunkReader> Open(Outgoing call) override {
    const std::shared_ptr<Connection> connection = SessionConnection(call);
    if (connection == nullptr) return unary_->Open(std::move(call));
    auto started = std::make_shared<SessionStream>(runner_, *unary_, std::move(call));
    if (!started->Start(connection)) return unary_->Open(std::move(started->outgoing));
    return std::make_unique<SharedReader<SessionStream>>(std::move(started));
  }

  std::uint64_t max_message_size() const override { return runner_->MaxMessageSize(connector_->Current()); }

  void Cut(const std::string& why) override {
    unary_->Cut(why);
    runner_->Cut(why, connector_->Failure());
  }

 private:
  // Where a call may find its session, without waiting. Null: nowhere.
  std::shared_ptr<Connection> SessionConnection(const Outgoing& call) {
    return call.size <= kLargest ? connector_->Current() : nullptr;
  }

  const std::chrono::nanoseconds connect_timeout_;
  const std::unique_ptr<Transport> unary_;
  const std::shared_ptr<Connector> connector_;
  const std::shared_ptr<SessionRunner> runner_ = std::make_shared<SessionRunner>();
};

}  // namespace

std::unique_ptr<Transport> MakeSessionTransport(std::shared_ptr<Connector> connector,
                                                std::chrono::nanoseconds connect_timeout) {
  return std::make_unique<SessionTransport>(std::move(connector), connect_timeout);
}

}  // namespace dirty::client::internal
