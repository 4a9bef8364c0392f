#ifndef DIRTY_CLIENT_CPP_SESSION_RUNNER_H_
#define DIRTY_CLIENT_CPP_SESSION_RUNNER_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client/cpp/session.h"
#include "client/cpp/shared_queue.h"

namespace dirty::client::internal {

// Runs calls on sessions: one session, made when it is first needed and again when its connection is gone. Threads
// that wait for a call or a chunk take what comes. While nobody does so, a thread of its own takes what callbacks wait
// for, and what a hello or a write that is under way needs; it runs the callbacks in any case. It is started when it is
// first needed and stays until Close; threads that only call and wait hardly ever need it. Thread-safe, but Close comes
// last. Holds nothing of gRPC's after that.
class SessionRunner : public std::enable_shared_from_this<SessionRunner>, private SharedQueue::Owner {
 public:
  SessionRunner() : queue_(*this) {}

  // Runs the call and waits for its outcome. None: it was never sent, by a session at least, and is as it was.
  std::optional<RawResult> Execute(Outgoing& call, const std::shared_ptr<Connection>& connection);

  // Puts a call that nobody waits for on the session, with a mutex that is held. False: there is none yet, or it is
  // full.
  bool Start(Lock& lock, SessionCall& call, const std::shared_ptr<Connection>& connection);

  // Ends a call, if it has not ended, for its caller: it was cancelled, or is overdue. With the mutex.
  void Cancel(Lock& lock, SessionCall& call);
  void Expire(Lock& lock, SessionCall& call);

  // Runs `tell` on the thread. With the mutex.
  void Tell(std::function<void()> tell);

  // Calls, and streams' readers, that wait for a callback. With the mutex.
  void Expect(int callbacks) { callbacks_ += callbacks; }

  // What was written goes out though nobody waits. With the mutex.
  void Settle(Lock& lock);

  // The limit of requests in bytes of the arbiter at the other end; 0 if it has none, or did not say so yet.
  std::uint64_t MaxMessageSize(const std::shared_ptr<Connection>& connection);

  // As Transport's; `unsent` is the end of what was not sent. Nothing can be started after that.
  void Cut(const std::string& why, const Error& unsent);

  // How calls that are not sent end, once it is over. With the mutex.
  const std::optional<Error>& over() const { return over_; }

  // Cancels everything and waits until every outcome was told, but not on the thread itself.
  void Close();

  SharedQueue& queue() { return queue_; }

 private:
  void Prepare(Lock& lock) override;
  void Take(Lock& lock, void* tag, bool ok) override;
  Clock::time_point NextTimer() const override { return next_overdue_; }
  void RunTimers(Lock& lock) override;
  bool TakesLead(bool followers) override;

  // Leaves the lead to whoever calls it.
  bool Attach(Lock& lock, SessionCall& call, const std::shared_ptr<Connection>& connection, bool waits);
  void EndAll(const Error& sent, const Error& unsent);  // and all that comes
  bool Busy() const;
  bool NeedsThread(bool followers) const { return callbacks_ > 0 || (!followers && Busy()); }
  void NeedThread();
  void Run();  // the thread

  SharedQueue queue_;
  std::condition_variable changed_;
  // Guarded by the queue's mutex:
  std::shared_ptr<Session> current_;
  std::vector<std::shared_ptr<Session>> sessions_;  // current_, and those whose tags are not back yet
  std::weak_ptr<Connection> refused_;               // has no session
  std::weak_ptr<Connection> greeted_;               // whose limit this is:
  std::uint64_t max_message_size_ = 0;
  Clock::time_point last_taken_{};
  Clock::time_point next_overdue_ = Clock::time_point::max();  // of calls that nobody waits for; or earlier
  int callbacks_ = 0;
  std::vector<std::function<void()>> told_;
  bool telling_ = false;
  std::optional<Error> over_;
  bool closing_ = false;
  std::thread thread_;
};

// When an answer to a call is overdue.
Clock::time_point Overdue(const Outgoing& call);

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_SESSION_RUNNER_H_
