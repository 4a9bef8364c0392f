// The loop: one thread, one gRPC completion queue, one queue of timers. It owns everything in the arbiter; what is
// "loop-confined" may be touched from its callbacks only, and needs no lock for it.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/loop/mutex.h"
#include "server/loop/poster.h"
#include "server/loop/timers.h"

namespace dirty {

// A tag of the completion queue. Its owner keeps it alive until it came back.
class Completion {
 public:
  virtual ~Completion() = default;
  // On the loop. `ok` as gRPC says for the operation.
  virtual void OnCompletion(bool ok) = 0;
};

// A tag that calls a member function: one member per operation of an RPC's object.
template <typename T>
class MemberCompletion final : public Completion {
 public:
  using Method = void (T::*)(bool ok);
  MemberCompletion(T* object, Method method) : object_(object), method_(method) {}
  void OnCompletion(bool ok) override { (object_->*method_)(ok); }

 private:
  T* object_;
  Method method_;
};

class Loop final : public Poster {
 public:
  // The queue is the server's; the loop is its only poller.
  Loop(std::unique_ptr<grpc::ServerCompletionQueue> queue, const Clock& clock);
  ~Loop() override;

  grpc::ServerCompletionQueue* queue() { return queue_.get(); }
  TimerQueue& timers() { return timers_; }

  // Runs until Quit. On the thread that is the loop from then on.
  void Run();

  // Makes Run return after the event at hand. On the loop.
  void Quit() { quit_ = true; }

  // Thread-safe: runs `work` on the loop, in the order of posting. Never after Drain began.
  void Post(std::function<void()> work) override;

  // Shuts the queue down and hands out every tag that is still to come. After Run, with all posters stopped and the
  // server shut down.
  void Drain();

 private:
  class PostAlarm;

  void RunPosted();

  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  TimerQueue timers_;
  bool quit_ = false;
  std::unique_ptr<PostAlarm> alarm_;
  Mutex mutex_;
  std::vector<std::function<void()>> posted_ ABSL_GUARDED_BY(mutex_);
  bool armed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace dirty
