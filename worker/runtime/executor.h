// Runs calls on a fixed number of threads, the slots. Owned by Worker.
//
// Calls may be submitted before Start; they wait. Submit, Cancel, AddCredit and CancelAll belong to the thread that
// leads, which polls the link, and never wait for user code. It is the I/O thread, which hands calls to the slots; a
// slot that is the only one may lead itself (lead.h), and then runs what it reads.
#pragma once

#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "dirty/v1/worker.pb.h"
#include "worker/runtime/app_host.h"
#include "worker/runtime/call.h"
#include "worker/runtime/lead.h"
#include "worker/runtime/link.h"
#include "worker/runtime/mutex.h"

namespace dirty::worker {

class Executor {
 public:
  // Both outlive the executor.
  Executor(AppHost& host, Link& link) : host_(host), link_(link) {}
  ~Executor() { Drain(); }

  // Starts the threads. Main thread, at most once.
  void Start(uint32_t slots);

  // Serves the link until it is closed. The I/O thread.
  void Serve();

  // Nothing happens once Drain has begun: no arbiter sends calls then.
  void Submit(std::shared_ptr<Call> call);

  // A call that is unknown has ended: ignored.
  void Cancel(uint64_t number, v1::CancelReason reason);
  void AddCredit(uint64_t number, uint32_t chunks);
  void CancelAll(v1::CancelReason reason);

  // Takes no more calls, waits until those it has ended and joins the threads. Those that wait without a thread (Start
  // never came) are dropped. Main thread, before the link's Close; again is harmless.
  void Drain();

 private:
  void RunCalls(uint32_t slot);
  // The only slot's thread, with the lead: polls for a call. Null: there will be none, and the lead is given back.
  std::shared_ptr<Call> PollForCall();
  std::shared_ptr<Call> WaitForCall();  // null: draining, and none is left
  bool HandOver();                      // the I/O thread: the call that waits, and the lead. False: it was taken
  std::shared_ptr<Call> Find(uint64_t number);

  AppHost& host_;
  Link& link_;
  Lead lead_;
  std::vector<std::thread> threads_;
  Mutex mutex_;
  Condition work_;  // a call waits, or draining
  std::deque<std::shared_ptr<Call>> waiting_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);  // waiting and running
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  // Of the only slot:
  bool only_ ABSL_GUARDED_BY(mutex_) = false;     // there is one
  bool free_ ABSL_GUARDED_BY(mutex_) = false;     // it waits for a call, without the lead
  bool leads_ ABSL_GUARDED_BY(mutex_) = false;    // the lead is its own, or is on its way to it
  bool handing_ ABSL_GUARDED_BY(mutex_) = false;  // the I/O thread has a call for it
};

}  // namespace dirty::worker
