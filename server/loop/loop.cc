#include "server/loop/loop.h"

#include <grpc/support/time.h>

#include <utility>

namespace dirty {
namespace {

gpr_timespec ToGpr(absl::Duration remaining) {
  if (remaining == absl::InfiniteDuration()) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  if (remaining < absl::ZeroDuration()) remaining = absl::ZeroDuration();
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(absl::ToInt64Nanoseconds(remaining), GPR_TIMESPAN));
}

}  // namespace

class Loop::PostAlarm final : public Completion {
 public:
  explicit PostAlarm(Loop* loop) : loop_(loop) {}
  // The past, not now: that would be rounded up and go by gRPC's timer thread, a millisecond later.
  void Arm() { alarm_.Set(loop_->queue(), gpr_inf_past(GPR_CLOCK_MONOTONIC), this); }
  void OnCompletion(bool) override { loop_->RunPosted(); }

 private:
  Loop* loop_;
  grpc::Alarm alarm_;
};

Loop::Loop(std::unique_ptr<grpc::ServerCompletionQueue> queue, const Clock& clock)
    : queue_(std::move(queue)), timers_(clock), alarm_(std::make_unique<PostAlarm>(this)) {}

Loop::~Loop() = default;

void Loop::Run() {
  quit_ = false;
  while (!quit_) {
    timers_.RunDue();
    if (quit_) break;
    void* tag = nullptr;
    bool ok = false;
    absl::Time next = timers_.NextDeadline();
    switch (queue_->AsyncNext(
        &tag, &ok, ToGpr(next == absl::InfiniteFuture() ? absl::InfiniteDuration() : next - timers_.Now()))) {
      case grpc::CompletionQueue::GOT_EVENT:
        static_cast<Completion*>(tag)->OnCompletion(ok);
        break;
      case grpc::CompletionQueue::TIMEOUT:
        break;
      case grpc::CompletionQueue::SHUTDOWN:
        return;
    }
  }
}

void Loop::Post(std::function<void()> work) {
  MutexLock lock(&mutex_);
  posted_.push_back(std::move(work));
  if (std::exchange(armed_, true)) return;
  // Under the mutex, so that an alarm is never set twice.
  alarm_->Arm();
}

void Loop::RunPosted() {
  std::vector<std::function<void()>> posted;
  {
    MutexLock lock(&mutex_);
    posted.swap(posted_);
    armed_ = false;
  }
  for (auto& work : posted) work();
}

void Loop::Drain() {
  queue_->Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) static_cast<Completion*>(tag)->OnCompletion(ok);
}

}  // namespace dirty
