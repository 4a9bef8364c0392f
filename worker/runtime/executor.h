// Runs calls on a fixed number of threads, the slots. Owned by Worker.
//
// Calls may be submitted before Start; they wait. Submit, Cancel, AddCredit and CancelAll belong to the I/O thread and
// never wait for user code. A hand-off to a slot is one lock and one wake-up.
#pragma once

#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "dirty/v1/worker.pb.h"
#include "worker/runtime/app_host.h"
#include "worker/runtime/call.h"
#include "worker/runtime/mutex.h"

namespace dirty::worker {

class Executor {
 public:
  // `host` outlives the executor.
  explicit Executor(AppHost& host) : host_(host) {}
  ~Executor() { Drain(); }

  // Starts the threads. Main thread, at most once.
  void Start(uint32_t slots);

  // False, and nothing happens: Drain has begun.
  bool Submit(std::shared_ptr<Call> call);

  // A call that is unknown has ended: ignored.
  void Cancel(uint64_t number, v1::CancelReason reason);
  void AddCredit(uint64_t number, uint32_t chunks);
  void CancelAll(v1::CancelReason reason);

  // Takes no more calls, waits until those it has ended and joins the threads. Those that wait without a thread (Start
  // never came) are dropped. Main thread; again is harmless.
  void Drain();

 private:
  void RunCalls(uint32_t slot);
  std::shared_ptr<Call> Find(uint64_t number);

  AppHost& host_;
  std::vector<std::thread> threads_;
  Mutex mutex_;
  Condition work_;  // a call waits, or draining
  std::deque<std::shared_ptr<Call>> waiting_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);  // waiting and running
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace dirty::worker
