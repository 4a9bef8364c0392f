// How late the loop is: twice a second a timer tells by how much it fired after its time. What holds the loop up, be it
// load or a callback that blocks, delays every call as much. Loop-confined; main.cc owns it.
#pragma once

#include "server/loop/timers.h"
#include "server/observe/time_histogram.h"

namespace dirty {

class LoopLag {
 public:
  explicit LoopLag(TimerQueue& timers) : timers_(timers) { Arm(); }
  ~LoopLag() { timers_.Cancel(timer_); }
  LoopLag(const LoopLag&) = delete;
  LoopLag& operator=(const LoopLag&) = delete;

  const TimeHistogram& histogram() const { return histogram_; }

 private:
  static constexpr absl::Duration kInterval = absl::Milliseconds(500);

  void Arm() {
    const absl::Time due = timers_.Now() + kInterval;
    timer_ = timers_.Schedule(due, [this, due] {
      histogram_.Add(timers_.Now() - due);
      Arm();
    });
  }

  TimerQueue& timers_;
  TimerQueue::TimerId timer_ = 0;
  TimeHistogram histogram_;
};

}  // namespace dirty
