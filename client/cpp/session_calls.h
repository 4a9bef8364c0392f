#ifndef DIRTY_CLIENT_CPP_SESSION_CALLS_H_
#define DIRTY_CLIENT_CPP_SESSION_CALLS_H_

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>

#include "client/cpp/session_runner.h"
#include "client/cpp/transport.h"

namespace dirty::client::internal {

// Calls on a session that nobody waits for in Execute. One that was not sent because its session broke, or is not to
// go on a session at all, goes to the `other` transport, which outlives the runner's thread. Thread-safe.

class AsyncSessionCall final : public SessionCall,
                               public Cancellable,
                               public std::enable_shared_from_this<AsyncSessionCall> {
 public:
  AsyncSessionCall(std::shared_ptr<SessionRunner> runner, Transport& other, Outgoing call,
                   std::function<void(RawResult)> done);

  // Once, first.
  void Start(const std::shared_ptr<Connection>& connection);
  void Cancel() override;

 private:
  void OnEnd(RawResult result) override;
  void OnUnsent() override { Leave(); }
  void Leave();  // the session
  void Told();
  void GoElsewhere();

  const std::shared_ptr<SessionRunner> runner_;
  Transport& other_;
  std::function<void(RawResult)> done_;
  std::optional<std::stop_callback<std::function<void()>>> on_stop_;
  // Guarded by the mutex of the runner's queue:
  std::shared_ptr<AsyncSessionCall> self_;  // while it is on a session
  std::optional<RawResult> result_;
  std::shared_ptr<Cancellable> elsewhere_;
  bool cancelled_ = false;
};

// Reads ahead of its one reader as far as its credits go.
class SessionStream final : public SessionCall, public std::enable_shared_from_this<SessionStream> {
 public:
  SessionStream(std::shared_ptr<SessionRunner> runner, Transport& other, Outgoing call);

  // False: it is to go elsewhere; nothing happened.
  bool Start(const std::shared_ptr<Connection>& connection);

  // As ChunkReader's.
  std::optional<RawChunk> Read();
  bool Ready(std::function<void()> wake);
  std::optional<Error>& error() { return error_; }
  void Cancel();

 private:
  void OnChunk(v1::Chunk&& chunk) override;
  void OnEnd(RawResult result) override;
  void OnUnsent() override;
  void GoElsewhere();
  RawChunk TakeChunk(Lock& lock);
  void Wake();

  const std::shared_ptr<SessionRunner> runner_;
  Transport& other_;
  std::optional<std::stop_callback<std::function<void()>>> on_stop_;
  std::atomic<bool> ended_ = false;  // after a fork the mutex may be a thread's that is gone
  std::optional<Error> error_;       // the reader's
  // Guarded by the mutex of the runner's queue:
  Waiter waiter_;
  std::deque<RawChunk> chunks_;
  std::size_t coming_;       // granted, and not here yet
  std::size_t largest_ = 1;  // bytes of a chunk so far
  std::function<void()> wake_;
  std::optional<Error> end_;
  std::unique_ptr<ChunkReader> elsewhere_;  // once it is set, it stays
  bool cancelled_ = false;
};

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_SESSION_CALLS_H_
