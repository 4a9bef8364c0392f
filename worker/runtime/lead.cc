#include "worker/runtime/lead.h"

#include <utility>

namespace dirty::worker {

void Lead::Begin() {
  run_number_ += 2;
  // Either this thread sees that the other one sleeps, or that one sees the run before it sleeps.
  run_.store(run_number_ - 1);
  if (awake_.load()) return;
  {
    MutexLock lock(mutex_);  // it waits, or has seen
  }
  changed_.NotifyOne();
}

bool Lead::End() {
  uint64_t mine = run_number_ - 1;
  return run_.compare_exchange_strong(mine, run_number_);
}

void Lead::Return() {
  {
    MutexLock lock(mutex_);
    returned_ = true;
  }
  changed_.NotifyOne();
}

void Lead::Watch() {
  MutexLock lock(mutex_);
  uint64_t seen = 0;
  int idle = 0;
  while (!std::exchange(returned_, false)) {
    uint64_t run = run_.load();
    if (run % 2 == 0) {
      idle = run == seen ? idle + 1 : 0;
    } else if (run != seen) {
      idle = 0;
    } else if (run_.compare_exchange_strong(run, run + 1)) {
      return;
    }
    seen = run;
    if (idle <= kIdleTicks) {
      changed_.WaitUntil(lock, std::chrono::steady_clock::now() + kTick);
      continue;
    }
    awake_.store(false);
    if (run_.load() == run && !returned_) changed_.Wait(lock);
    awake_.store(true);
    idle = 0;
  }
}

}  // namespace dirty::worker
