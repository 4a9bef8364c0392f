#ifndef DIRTY_CLIENT_CPP_OPERATION_H_
#define DIRTY_CLIENT_CPP_OPERATION_H_

#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "client/cpp/connection.h"
#include "client/cpp/transport.h"
#include "dirty/v1/arbiter.grpc.pb.h"

namespace dirty::client::internal {

class AsyncRunner;

// One RPC that no thread of the caller's is in. Owned by its runner while it is in flight, and holds nothing of gRPC's
// after that. It has one tag, itself. Thread-safe.
class Operation : public Cancellable, public std::enable_shared_from_this<Operation> {
 public:
  void Cancel() final;

 protected:
  Operation(const std::shared_ptr<AsyncRunner>& runner, Outgoing call);

  // Starts the RPC, whose tag is `this`. With mutex_.
  virtual void Begin(grpc::CompletionQueue* queue) = 0;

  // The tag is back. False: that was the last time. Without mutex_.
  virtual bool Received(bool ok) = 0;

  // Tells the outcome of what was never sent. Without mutex_.
  virtual void Fail(Error error) = 0;

  // Nothing of gRPC's is needed any more. With mutex_.
  virtual void LetGo() = 0;

  // What has to be done, once, after a cancellation of what was sent. With mutex_.
  virtual void OnCancelled() {}

  // What the status of an RPC that failed says. With mutex_.
  Error Failure(const grpc::Status& status) const;

  // Ends the RPC's part in this. With mutex_.
  void Release();

  Outgoing call_;  // its request until it is sent
  mutable std::mutex mutex_;
  // Guarded by mutex_, which also orders what gRPC's threads see:
  bool cancelled_ = false;
  std::string cut_;  // why, if a fork ended it
  bool sent_ = false;
  std::shared_ptr<Connection> connection_;      // while it is under way
  std::optional<grpc::ClientContext> context_;  // likewise

 private:
  friend class AsyncRunner;

  void CancelOnStop();  // once, before anything else
  void Send(std::shared_ptr<Connection> connection, grpc::CompletionQueue* queue);
  void Refuse(Error error);  // instead of Send
  void Cut(const std::string& why);
  bool cancelled() const;

  const std::weak_ptr<AsyncRunner> runner_;
  const Clock::time_point connect_by_;
  std::optional<std::stop_callback<std::function<void()>>> on_stop_;
};

// Execute.
class AsyncCall final : public Operation {
 public:
  AsyncCall(const std::shared_ptr<AsyncRunner>& runner, Outgoing call, std::function<void(RawResult)> done);

 private:
  void Begin(grpc::CompletionQueue* queue) override;
  bool Received(bool ok) override;
  void Fail(Error error) override;
  void LetGo() override { reader_.reset(); }

  std::function<void(RawResult)> done_;  // by whoever ends the call
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::ExecuteResponse>> reader_;
  v1::ExecuteResponse response_;
  grpc::Status status_;
};

// ExecuteStream. Reads a little ahead of its one reader.
class AsyncStream final : public Operation {
 public:
  AsyncStream(const std::shared_ptr<AsyncRunner>& runner, Outgoing call);

  // As ChunkReader's.
  std::optional<RawChunk> Read();
  bool Ready(std::function<void()> wake);
  std::optional<Error>& error() { return error_; }

 private:
  enum class State { kUnsent, kStarting, kReading, kPaused, kFinishing, kEnded };

  void Begin(grpc::CompletionQueue* queue) override;
  bool Received(bool ok) override;
  void Fail(Error error) override;
  void LetGo() override { reader_.reset(); }
  void OnCancelled() override;
  void ReadOn();                 // with mutex_
  bool Full() const;             // with mutex_
  std::function<void()> Wake();  // with mutex_; call it without

  // Guarded by mutex_:
  State state_ = State::kUnsent;
  std::unique_ptr<grpc::ClientAsyncReader<v1::Chunk>> reader_;
  v1::Chunk chunk_;
  grpc::Status status_;
  std::deque<RawChunk> chunks_;
  std::size_t bytes_ = 0;  // in chunks_
  std::function<void()> wake_;
  std::condition_variable changed_;

  std::optional<Error> error_;  // the reader's, once Read gave nothing
  std::optional<Error> end_;    // guarded by mutex_
};

// How far a stream reads ahead of its reader in bytes, whatever the number of its chunks.
inline constexpr std::size_t kBytesAhead = std::size_t{1} << 20;

std::size_t SizeOf(const RawChunk& chunk);

// How long the arbiter's own answer to an overrun may take before gRPC's deadline speaks.
inline constexpr std::chrono::seconds kAnswerTime{1};

// The time that a call has to connect.
Clock::time_point ConnectBy(const Outgoing& call, std::chrono::nanoseconds connect_timeout);

// Connects within that time, on the caller's thread.
Outcome<std::shared_ptr<Connection>> Connect(const Outgoing& call, Connector& connector,
                                             std::chrono::nanoseconds connect_timeout);

// Puts what is left of the call's time into the message, and gives it back.
std::optional<std::chrono::nanoseconds> SetTimeLeft(Outgoing& call);

// The same, and a slightly later deadline into the context: the arbiter's answer to an overrun says more than the
// transport's. And the trace.
void SetLimits(Outgoing& call, grpc::ClientContext& context);

// FromStatus, with what the call knows. `cut`: why it was ended by a fork; empty if it was not.
Error CallError(const grpc::Status& status, const Connection& connection,
                std::optional<std::chrono::nanoseconds> timeout, const std::string& cut);

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_OPERATION_H_
