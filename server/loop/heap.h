// The process's heap, which is glibc's. Left alone it gives memory back to the kernel as soon as 128 KiB are free at
// its end, and takes it again page by page: with payloads of 1 MB that was half of a call's time (docs/performance.md).
// Owned by main; loop-confined, but for Keep.
#pragma once

#include <cstddef>

#include "server/loop/timers.h"

namespace dirty {

class Heap {
 public:
  // What is free is kept from now on, up to 32 MiB at its end. Once, before the first thread.
  static void Keep();

  // Gives what is free back now and then, so that a burst is not paid for ever. `timers` outlives it.
  explicit Heap(TimerQueue& timers) : timers_(timers) { Wait(); }
  ~Heap() { timers_.Cancel(timer_); }
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

 private:
  void Wait();

  TimerQueue& timers_;
  TimerQueue::TimerId timer_ = 0;
  size_t free_ = 0;  // bytes, after the last time
};

}  // namespace dirty
