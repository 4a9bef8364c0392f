// The dispatcher: every call from admission to outcome.
//
// Calls wait in a bounded queue per app and are pulled by free slots: nothing is ever pushed to a busy worker. The head
// that has waited longest among a worker's apps goes first; under overload, those that could not end in time any more
// are passed over (load_shedder.h). Deadlines are enforced from outside: at the deadline the caller has its answer, the
// worker is asked to cancel, and the slot stays taken until the worker says it is free or is killed.
//
// Pure: it knows clocks, ports and listeners, no gRPC and no process. Loop-confined, no locks. main.cc owns it.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "dirty/v1/admin.pb.h"
#include "dirty/v1/call.pb.h"
#include "dirty/v1/worker.pb.h"
#include "server/config/settings.h"
#include "server/dispatch/errors.h"
#include "server/loop/timers.h"
#include "server/observe/metrics.h"

namespace dirty {

using CallNumber = uint64_t;  // grows, never reused; 0: none
using WorkerId = uint32_t;

// How a call ended: exactly one of the two is set.
struct Outcome {
  std::unique_ptr<v1::ExecuteResponse> response;
  std::unique_ptr<v1::Error> error;
};

// Whoever waits for a call. Must outlive it, or Abandon it.
class CallListener {
 public:
  virtual ~CallListener() = default;
  // One value of a streaming call. Never after OnDone.
  virtual void OnChunk(std::unique_ptr<v1::Chunk> chunk) = 0;
  // Exactly once for an admitted call, never from within Submit.
  virtual void OnDone(Outcome outcome) = 0;
};

// The dispatcher's way to one worker: its link.
class WorkerPort {
 public:
  virtual ~WorkerPort() = default;
  virtual void Start(std::unique_ptr<v1::StartCall> start) = 0;
  virtual void Cancel(CallNumber call, v1::CancelReason reason) = 0;
  virtual void Credit(CallNumber call, uint32_t chunks) = 0;
};

// A call to be admitted.
struct Submission {
  std::unique_ptr<v1::ExecuteRequest> request;
  absl::Time client_deadline = absl::InfiniteFuture();  // the RPC's own
  bool stream = false;
  uint32_t credits = 0;     // streaming: chunks before more credit is needed
  std::string traceparent;  // W3C; one that is none is dropped
  CallListener* listener = nullptr;
};

// What Submit says: a number, or why not.
struct Admission {
  CallNumber call = 0;
  std::unique_ptr<v1::Error> refused;
};

// What is worth a line in the log and a point in the metrics about a call that has ended.
struct CallRecord {
  absl::string_view call_id;
  absl::string_view request_id;
  absl::string_view app;
  absl::string_view action;
  absl::string_view trace_id;  // empty: the caller gave none
  WorkerId worker = 0;
  absl::Duration waited;
  absl::Duration ran;                // zero if it never started
  const v1::Error* error = nullptr;  // null: it succeeded
  absl::Duration slow_call;          // the app's limit
};

class Dispatcher {
 public:
  // What others do about calls. Called on the loop, never from within a call to the dispatcher but for OnCallRecord
  // and OnSlotFree.
  class Events {
   public:
    virtual ~Events() = default;
    // A draining worker runs nothing any more (also where it ran nothing when it was told to drain).
    virtual void OnWorkerIdle(WorkerId worker) = 0;
    // A slot is free again; the worker has ended so many calls.
    virtual void OnSlotFree(WorkerId worker, uint64_t calls) = 0;
    // `kill_after` has passed and the call still holds its slot: the worker must go.
    virtual void OnCallStuck(WorkerId worker, CallNumber call, const std::string& what) = 0;
    // Admission is closed, and no call waits or holds a listener any more.
    virtual void OnAllCallsEnded() = 0;
    virtual void OnCallRecord(const CallRecord& record) = 0;
  };

  struct Options {
    // First part of every call id: distinguishes the calls of one arbiter process from the next one's in logs.
    std::string id_prefix;
    uint64_t max_message_size = kLargestMessage;
  };

  Dispatcher(TimerQueue& timers, Events& events, Options options);
  ~Dispatcher();

  // Replaces the set of apps. Apps that are `leaving`, although in no pool any more, take calls until their last worker
  // drains. Calls that wait for an app that is gone still run where a worker has it, else get APP_NOT_FOUND.
  void Configure(const std::vector<PoolSettings>& pools, uint64_t max_message_size,
                 const std::set<std::string>& leaving = {});

  // --- Callers ---

  // Admits a call, or says why not. A free slot takes it at once.
  Admission Submit(Submission submission);
  // Counts and logs a call that whoever took it refuses. Returns the error, completed.
  errors::ErrorPtr Refuse(const Submission& submission, errors::ErrorPtr error);
  // The caller cancelled, or is gone. Its listener is not called any more. A call that waits is dropped; one that runs
  // is asked to stop and may run on to its own limit: a caller that leaves must not cost the others a worker.
  // `number` may have ended.
  void Abandon(CallNumber number);
  // The same, but the listener is told: CANCELLED, from within this call.
  void CancelByCaller(CallNumber number);
  // An operator cancels: the caller gets CANCELLED, and what ignores it is killed after `kill_after`.
  // False: no such call, or it has ended. `was_running` may be null.
  bool Cancel(absl::string_view call_id, bool* was_running);
  // The reader of a streaming call has room for more chunks.
  void Credit(CallNumber number, uint32_t chunks);

  // --- Workers ---

  // From now on the worker takes calls of these apps. `port` must live until DrainWorker's OnWorkerIdle or LoseWorker.
  void AddWorker(WorkerId worker, uint32_t slots, const std::vector<std::string>& apps, WorkerPort* port);
  // It takes no new calls, but runs those that wait for removed apps that only it has; OnWorkerIdle follows.
  void DrainWorker(WorkerId worker);
  // It takes no calls at all any more: it cannot be reached, or is about to be killed. LoseWorker follows.
  void CutOffWorker(WorkerId worker);
  // It is gone: what it ran is WORKER_LOST. `how` as errors::WorkerLost; exit code, signal and stderr lines of
  // `details` are passed on. A worker that is not known is ignored.
  void LoseWorker(WorkerId worker, absl::string_view how, const v1::Error& details);
  void OnCallDone(WorkerId worker, v1::CallDone& done);     // moves out of it
  void OnCallChunk(WorkerId worker, v1::CallChunk& chunk);  // likewise

  // Whether an app may have workers at all. Not available: its calls, also those that wait, fail with NO_WORKERS and
  // `why`. Available but without a worker: they wait; `why` is what QUEUE_TIMEOUT then says.
  void SetAvailable(absl::string_view app, bool available, const std::string& why);

  // --- Shutdown ---

  // New calls get SHUTTING_DOWN. OnAllCallsEnded follows.
  void CloseAdmission();
  // Queued calls get SHUTTING_DOWN, running ones WORKER_LOST, now.
  void EndAllCalls();

  // --- Looking ---

  // Fills queued, running, ready_workers and counters of the app named in `status`.
  void Describe(v1::AppStatus& status) const;
  // Fills calls and running of the worker with this id.
  void Describe(v1::WorkerStatus& status) const;
  // Fills apps and calls_without_app.
  void Describe(MetricsSnapshot& metrics) const;
  uint64_t CallsEnded(WorkerId worker) const;
  size_t RunningCalls(WorkerId worker) const;
  // Names of all configured apps.
  std::vector<std::string> AppNames() const;

 private:
  struct Call;
  struct App;
  struct Worker;

  App* FindApp(absl::string_view name);
  Worker* FindWorker(WorkerId id) const;
  Admission Refuse(App* app, const Submission& submission, errors::ErrorPtr error);
  void Leave(CallNumber number, bool tell);
  void Enqueue(Call* call);
  void Dequeue(Call* call);
  void StartCall(Call* call, Worker* worker);
  void PullWork(Worker* worker);
  // Whether it is to be started now; if not, its caller has an answer.
  bool IsWorthStarting(Call* call);
  void OnQueueDeadline(Call* call);
  // A running call's time is over, or the next chunk is late, or it is time to look again.
  void OnRunTimer(Call* call);
  void ScheduleRunTimer(Call* call);
  void AskToStop(Call* call, v1::CancelReason reason, bool kill);
  void Stop(Call* call, errors::ErrorPtr error);
  void EndWaiting(Call* call, Outcome outcome);  // of one that never started
  // Tells the listener, counts and logs; the call may go on to hold its slot.
  void Answer(Call* call, Outcome outcome);
  void Count(App* app, v1::Reason reason);
  void FreeSlot(Call* call);
  void Forget(Call* call, bool erase_app = true);
  void EndQueueOfRemoved(App* app);
  void LetGoOfDraining(App* app);
  void TakeAppFrom(Worker* worker, App* app);
  void TellIfIdle(Worker* worker);
  void CheckAllEnded();
  std::string WhyNothingIsFree(const App& app) const;
  absl::Duration RetryDelay(const App& app) const;
  void MaybeErase(App* app);

  TimerQueue& timers_;
  Events& events_;
  Options options_;
  bool closed_ = false;
  bool told_all_ended_ = false;
  CallNumber next_number_ = 1;
  size_t unanswered_ = 0;
  uint64_t calls_without_app_ = 0;
  absl::flat_hash_map<CallNumber, std::unique_ptr<Call>> calls_;
  absl::flat_hash_map<std::string, App*> names_;  // names and import paths
  std::vector<std::unique_ptr<App>> apps_;
  absl::flat_hash_map<WorkerId, std::unique_ptr<Worker>> workers_;
};

}  // namespace dirty
