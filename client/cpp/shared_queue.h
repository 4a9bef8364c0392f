#ifndef DIRTY_CLIENT_CPP_SHARED_QUEUE_H_
#define DIRTY_CLIENT_CPP_SHARED_QUEUE_H_

#include <absl/functional/function_ref.h>
#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <vector>

#include "client/cpp/connection.h"

namespace dirty::client::internal {

using Lock = std::unique_lock<std::mutex>;

// What one thread waits for. Guarded by the queue's mutex.
class Waiter {
 public:
  // Before the next wait.
  void Reset() { ready_ = false; }

 private:
  friend class SharedQueue;
  bool ready_ = false;
  std::condition_variable changed_;
};

// A completion queue that is polled by the threads that wait for what comes through it: the first one leads, which
// saves a hand-over to it, the others follow, and the lead passes on when the leader has what it waits for, or waits
// no more. Thread-safe: everything but mutex() is called with the mutex, which those that take a Lock let go of for a
// while. Close comes last.
class SharedQueue {
 public:
  // Whom the tags belong to. Everything with the mutex.
  class Owner {
   public:
    virtual ~Owner() = default;

    // The leader is about to wait.
    virtual void Prepare(Lock& lock) = 0;

    virtual void Take(Lock& lock, void* tag, bool ok) = 0;

    // When RunTimers is due. A new time that is earlier needs a WakeLeader.
    virtual Clock::time_point NextTimer() const = 0;
    virtual void RunTimers(Lock& lock) = 0;

    // The lead is free. True: a thread of the owner's takes it. `followers`: somebody else could.
    virtual bool TakesLead(bool followers) = 0;
  };

  explicit SharedQueue(Owner& owner);

  std::mutex& mutex() { return mutex_; }
  grpc::CompletionQueue* queue() { return &*queue_; }

  // Waits until `waiter` was woken, which is true, or until `until`.
  bool Wait(Lock& lock, Waiter& waiter, Clock::time_point until);

  // Has it ready.
  void Wake(Waiter& waiter);

  // Takes some of what is there, without waiting, unless somebody leads.
  void Drain(Lock& lock);

  // Leads as long as `goes_on`. Precondition: nobody leads.
  void Lead(Lock& lock, absl::FunctionRef<bool()> goes_on);

  // Lets somebody lead, if nobody does and anybody has to.
  void Pass();

  // The leader looks at what it waits for again.
  void WakeLeader();

  bool leading() const { return leading_; }
  bool followed() const { return !followers_.empty(); }

  // Takes what still comes until `open` is false, and the queue down. Nobody waits any more but the leader.
  void Close(Lock& lock, absl::FunctionRef<bool()> open);

 private:
  void Lead(Lock& lock, const Waiter* leader, Clock::time_point until, absl::FunctionRef<bool()> goes_on);

  Owner& owner_;
  std::mutex mutex_;
  std::condition_variable free_;  // nobody leads
  // Guarded by mutex_:
  std::optional<grpc::CompletionQueue> queue_;  // the leader uses it without
  std::optional<grpc::Alarm> alarm_;            // its tag is itself
  bool alarm_set_ = false;
  bool leading_ = false;
  bool polling_ = false;            // the leader is in the queue
  bool closing_ = false;            // whoever waits for free_ leads next
  const Waiter* leader_ = nullptr;  // null: it waits for nothing in particular
  std::vector<Waiter*> followers_;  // the last one came last
};

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_SHARED_QUEUE_H_
