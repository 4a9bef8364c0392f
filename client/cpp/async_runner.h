#ifndef DIRTY_CLIENT_CPP_ASYNC_RUNNER_H_
#define DIRTY_CLIENT_CPP_ASYNC_RUNNER_H_

#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/support/async_unary_call.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "client/cpp/connection.h"
#include "client/cpp/transport.h"
#include "dirty/v1/arbiter.grpc.pb.h"

namespace dirty::client::internal {

class AsyncRunner;

// One call that nobody waits for. Owned by its runner while it is in flight; thread-safe.
class AsyncCall : public Cancellable, public std::enable_shared_from_this<AsyncCall> {
 public:
  AsyncCall(std::shared_ptr<AsyncRunner> runner, Outgoing call, std::function<void(RawResult)> done);

  void Cancel() override;

 private:
  friend class AsyncRunner;

  void CancelOnStop();  // once, before anything else
  void Send(std::shared_ptr<Connection> connection, grpc::CompletionQueue* queue);
  void Finish(Error error);  // instead of Send
  void Received();           // after Send, when its tag comes back
  bool cancelled() const;

  const std::weak_ptr<AsyncRunner> runner_;
  Outgoing call_;                        // until it is sent
  std::function<void(RawResult)> done_;  // by whoever ends the call
  const Clock::time_point connect_by_;
  std::optional<std::stop_callback<std::function<void()>>> on_stop_;

  mutable std::mutex mutex_;
  // Guarded by mutex_, which also orders what gRPC's threads see:
  bool cancelled_ = false;
  std::shared_ptr<Connection> connection_;  // set: it was sent
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::ExecuteResponse>> reader_;
  v1::ExecuteResponse response_;
  grpc::Status status_;
};

// Runs AsyncCalls: a thread that takes their outcomes, and another, while there is no connection, that waits for one.
// Both start when first needed. Thread-safe, but Close comes last.
class AsyncRunner : public std::enable_shared_from_this<AsyncRunner> {
 public:
  AsyncRunner(std::shared_ptr<Connector> connector, std::chrono::nanoseconds connect_timeout);

  std::shared_ptr<Cancellable> Start(Outgoing call, std::function<void(RawResult)> done);

  // Cancels everything and waits until every outcome was told. On a thread of its own, which a callback that lets go
  // of the last client is on, it does not wait for that thread.
  void Close();

 private:
  friend class AsyncCall;

  void Send(const std::shared_ptr<AsyncCall>& call, std::shared_ptr<Connection> connection);  // or cancels it
  void Receive();                                                                             // the first thread
  void Connect();                                                                             // the second thread
  void Wake();  // the second thread looks at its calls again

  const std::shared_ptr<Connector> connector_;
  const std::chrono::nanoseconds connect_timeout_;
  grpc::CompletionQueue queue_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  bool closing_ = false;
  bool look_again_ = false;
  std::vector<std::shared_ptr<AsyncCall>> unsent_;
  std::unordered_map<void*, std::shared_ptr<AsyncCall>> sent_;  // by tag
  std::thread receiver_;
  std::thread connecter_;
};

// How long the arbiter's own answer to an overrun may take before gRPC's deadline speaks.
inline constexpr std::chrono::seconds kAnswerTime{1};

// The time that a call has to connect.
Clock::time_point ConnectBy(const Outgoing& call, std::chrono::nanoseconds connect_timeout);

// Puts what is left of the call's time into the message, and a slightly later deadline into the context: the
// arbiter's answer to an overrun says more than the transport's.
void SetLimits(Outgoing& call, grpc::ClientContext& context);

// FromStatus, with what the call knows.
Error CallError(const grpc::Status& status, const Connection& connection,
                std::optional<std::chrono::nanoseconds> timeout);

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_ASYNC_RUNNER_H_
