// Time for everything that runs on the loop: a clock and a queue of timers. Pure; tests move a fake clock.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/time/time.h"

namespace dirty {

// Monotonic time. It starts at the wall clock's time but never jumps: use it for deadlines and durations, and
// absl::Now() only for what people read.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class SteadyClock : public Clock {
 public:
  SteadyClock();
  absl::Time Now() const override;

 private:
  absl::Duration offset_;
};

// Timers fire in the order of (deadline, scheduling). Loop-confined.
class TimerQueue {
 public:
  using TimerId = uint64_t;  // 0: no timer

  explicit TimerQueue(const Clock& clock) : clock_(clock) {}

  const Clock& clock() const { return clock_; }
  absl::Time Now() const { return clock_.Now(); }

  // Calls `fire` once, from RunDue, when the time has come. InfiniteFuture: never, and the id is 0.
  TimerId Schedule(absl::Time when, std::function<void()> fire);
  TimerId ScheduleIn(absl::Duration delay, std::function<void()> fire) {
    return Schedule(Now() + delay, std::move(fire));
  }

  // Forgets a timer and sets the id to 0. One that has fired, and 0, are ignored.
  void Cancel(TimerId& id);

  // When the next timer fires; InfiniteFuture if there is none.
  absl::Time NextDeadline() const;

  // Fires what is due. Timers scheduled meanwhile for a time that has come fire too.
  void RunDue();

  size_t size() const { return heap_.size(); }

 private:
  struct Node {
    absl::Time when;
    uint64_t sequence = 0;
    uint32_t reuse = 0;  // distinguishes timers that had the same node
    uint32_t place = 0;  // in heap_
    std::function<void()> fire;
  };

  bool Before(uint32_t a, uint32_t b) const;
  void Place(uint32_t place, uint32_t node);
  void Up(uint32_t place);
  void Down(uint32_t place);
  std::function<void()> Remove(uint32_t place);

  const Clock& clock_;
  uint64_t next_sequence_ = 0;
  std::vector<Node> nodes_;
  std::vector<uint32_t> free_;
  std::vector<uint32_t> heap_;  // 4-ary: nodes by deadline
};

}  // namespace dirty
