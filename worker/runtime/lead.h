// Who polls the link of a worker with one slot. As long as calls are short it is the slot's own thread: it reads a call
// and runs it, and nobody has to be woken. The I/O thread watches, and takes the lead when a call runs on: from then on
// it answers pings, cancellations and credit, until it hands over the next call and the lead with it.
//
// So both roles keep their threads: user code always runs on the same one. Owned by the executor. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "worker/runtime/mutex.h"

namespace dirty::worker {

class Lead {
 public:
  // A call that runs for longer than one to two of these loses the lead. Short against what people wait for, long
  // against the usual time slices of a busy machine.
  static constexpr std::chrono::milliseconds kTick{2};

  // I/O thread, once the slot's thread may lead: returns when the lead is the I/O thread's.
  void Watch();

  // Slot's thread, with the lead: user code runs from here to End.
  void Begin();
  // False: the I/O thread has taken the lead.
  bool End();
  // Slot's thread, with the lead, outside Begin and End: it is the I/O thread's again.
  void Return();

 private:
  // Ticks without a call after which the I/O thread sleeps until the next one.
  static constexpr int kIdleTicks = 10;

  uint64_t run_number_ = 0;         // of the slot's thread
  std::atomic<uint64_t> run_ = 0;   // odd: a run under the lead
  std::atomic<bool> awake_ = true;  // the I/O thread looks at every tick
  Mutex mutex_;
  Condition changed_;
  bool returned_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace dirty::worker
