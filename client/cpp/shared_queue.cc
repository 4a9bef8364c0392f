#include "client/cpp/shared_queue.h"

#include <algorithm>
#include <chrono>

namespace dirty::client::internal {
namespace {

// How much Drain takes at most, so that a caller who only starts something does not work for all others.
constexpr int kDrained = 64;

// Both are the kernel's monotonic clock.
gpr_timespec ToGrpc(Clock::time_point time) {
  if (time == Clock::time_point::max()) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  if (time == Clock::time_point::min()) return gpr_inf_past(GPR_CLOCK_MONOTONIC);
  const auto since = time.time_since_epoch();
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(since);
  return {whole.count(), static_cast<int>((since - whole).count()), GPR_CLOCK_MONOTONIC};
}

}  // namespace

SharedQueue::SharedQueue(Owner& owner) : owner_(owner), queue_(std::in_place), alarm_(std::in_place) {}

bool SharedQueue::Wait(Lock& lock, Waiter& waiter, Clock::time_point until) {
  bool in_time = true;
  while (!waiter.ready_ && in_time) {
    if (!leading_) {
      Lead(lock, &waiter, until, [&waiter] { return !waiter.ready_; });
      in_time = waiter.ready_ || Clock::now() < until;
    } else {
      followers_.push_back(&waiter);
      if (until == Clock::time_point::max()) {
        waiter.changed_.wait(lock);
      } else {
        in_time = waiter.changed_.wait_until(lock, until) == std::cv_status::no_timeout;
      }
      followers_.erase(std::find(followers_.begin(), followers_.end(), &waiter));
    }
  }
  Pass();
  return waiter.ready_;
}

void SharedQueue::Wake(Waiter& waiter) {
  waiter.ready_ = true;
  &waiter == leader_ ? WakeLeader() : waiter.changed_.notify_one();
}

void SharedQueue::Drain(Lock& lock) {
  if (!leading_) Lead(lock, nullptr, Clock::time_point::min(), [] { return true; });
}

void SharedQueue::Lead(Lock& lock, absl::FunctionRef<bool()> goes_on) {
  Lead(lock, nullptr, Clock::time_point::max(), goes_on);
}

void SharedQueue::Lead(Lock& lock, const Waiter* leader, Clock::time_point until, absl::FunctionRef<bool()> goes_on) {
  leading_ = true;
  leader_ = leader;
  const bool draining = until == Clock::time_point::min();
  for (int taken = 0; goes_on() && !(draining && taken == kDrained); ++taken) {
    owner_.Prepare(lock);
    const Clock::time_point timer = owner_.NextTimer();
    const Clock::time_point due = std::min(until, timer);
    const gpr_timespec deadline = ToGrpc(due);
    void* tag = nullptr;
    bool ok = false;
    polling_ = goes_on();  // Prepare lets go of the lock
    if (!polling_) break;
    lock.unlock();
    const auto status = queue_->AsyncNext(&tag, &ok, deadline);
    lock.lock();
    polling_ = false;
    bool timed_out = status == grpc::CompletionQueue::TIMEOUT;
    if (!timed_out) {
      if (tag == &*alarm_) {
        alarm_set_ = false;
      } else {
        owner_.Take(lock, tag, ok);
      }
      // A queue that is never empty never times out.
      timed_out = !draining && due != Clock::time_point::max() && Clock::now() >= due;
    }
    if (!timed_out) continue;
    if (until <= timer) break;
    owner_.RunTimers(lock);
  }
  leading_ = false;
  leader_ = nullptr;
}

// The one that came last has the longest to wait, so the lead passes rarely.
void SharedQueue::Pass() {
  if (leading_) return;
  if (closing_) {
    free_.notify_all();
  } else if (!owner_.TakesLead(!followers_.empty()) && !followers_.empty()) {
    followers_.back()->changed_.notify_one();
  }
}

void SharedQueue::WakeLeader() {
  if (!polling_ || alarm_set_) return;
  alarm_set_ = true;
  alarm_->Set(&*queue_, gpr_inf_past(GPR_CLOCK_MONOTONIC), &*alarm_);
}

void SharedQueue::Close(Lock& lock, absl::FunctionRef<bool()> open) {
  closing_ = true;
  while (leading_) {
    WakeLeader();
    free_.wait(lock);
  }
  Lead(lock, open);
  leading_ = true;  // for good
  lock.unlock();
  queue_->Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) {
  }
  alarm_.reset();
  queue_.reset();
  lock.lock();
}

}  // namespace dirty::client::internal
