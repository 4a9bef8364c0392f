// The watcher: one small thread that waits on descriptors which gRPC does not know (listeners, signals, pidfds, ready
// descriptors, log pipes), so that the loop has a single thing to wait for. Callbacks run on the watcher's thread, do
// bounded, non-blocking work and post the rest to the loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "server/loop/mutex.h"
#include "server/loop/timers.h"
#include "server/loop/unique_fd.h"

namespace dirty {

class Watcher {
 public:
  enum class Next {
    kKeep,   // go on watching
    kPause,  // stop for 100 ms, such as when no descriptor is free to accept with
    kClose,  // forget it and close the descriptor
  };
  // `events` are epoll's. On the watcher's thread.
  using Callback = std::function<Next(int fd, uint32_t events)>;
  using Id = uint64_t;

  Watcher();
  // Joins the thread, then closes every descriptor.
  ~Watcher();

  // Thread-safe. Takes the descriptor over and calls back whenever one of `events` (EPOLLIN ...) holds.
  Id Watch(UniqueFd fd, uint32_t events, Callback callback);

  // Thread-safe. The descriptor is closed on the watcher's thread; when `closed` runs there (if given), no callback of
  // it runs any more. An id that is gone is ignored, but `closed` runs.
  void Forget(Id id, std::function<void()> closed = nullptr);

  // Thread-safe. Runs `work` on the watcher's thread, in the order of posting.
  void Run(std::function<void()> work);

  // Stops the thread and closes every descriptor: no callback runs any more. Idempotent.
  void Stop();

 private:
  struct Entry {
    UniqueFd fd;
    uint32_t events = 0;
    Callback callback;
    absl::Time paused_until = absl::InfinitePast();
  };

  void Main();
  void Dispatch(Id id, uint32_t events);
  void Erase(Id id);
  void ResumePaused();

  const SteadyClock clock_;
  UniqueFd epoll_;
  UniqueFd wake_;  // an eventfd
  std::atomic<Id> next_id_{1};
  absl::flat_hash_map<Id, std::unique_ptr<Entry>> entries_;  // of the thread only
  std::vector<Id> paused_;                                   // of the thread only
  Mutex mutex_;
  std::vector<std::function<void()>> work_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace dirty
