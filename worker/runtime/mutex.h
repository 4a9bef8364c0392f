// A std::mutex that clang's -Wthread-safety understands. Not absl::Mutex: Debian's abseil is built without
// ThreadSanitizer, which then cannot see its locks.
#pragma once

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"

namespace dirty::worker {

class ABSL_LOCKABLE Mutex {
 private:
  friend class MutexLock;
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : lock_(mutex.mutex_) {}
  ~MutexLock() ABSL_UNLOCK_FUNCTION() {}

 private:
  friend class Condition;
  std::unique_lock<std::mutex> lock_;
};

// Something that holders of a Mutex wait for. Wake-ups may be spurious: wait in a loop.
class Condition {
 public:
  // What std::condition_variable::wait does, but in code that is ours: ThreadSanitizer sees nothing inside libstdc++.
  void Wait(MutexLock& lock) { pthread_cond_wait(condition_.native_handle(), lock.lock_.mutex()->native_handle()); }

  // False after `deadline`.
  bool WaitUntil(MutexLock& lock, std::chrono::steady_clock::time_point deadline) {
    return condition_.wait_until(lock.lock_, deadline) == std::cv_status::no_timeout;
  }

  void NotifyOne() { condition_.notify_one(); }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace dirty::worker
