// The supervisor: desired workers against actual ones.
//
// Every pool has seats, one for each worker it should have. Reconcile compares what a seat should hold (which apps, of
// which generation) with the worker that sits there, and starts, replaces or retires workers until they agree. Crash
// respawn, retries of failing apps, recycling, scaling and reloads are all that one comparison. Replacements are ready
// before the old worker drains, unless `surge` is 0.
//
// Pure: processes, links, time and chance are arguments. Loop-confined. The arbiter owns it.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "dirty/v1/admin.pb.h"
#include "server/config/settings.h"
#include "server/dispatch/dispatcher.h"
#include "server/loop/timers.h"
#include "server/observe/log.h"
#include "server/supervise/app_health.h"
#include "server/supervise/worker_process.h"

namespace dirty {

class Supervisor final : public WorkerLauncher::Events, public WorkerLinks::Events {
 public:
  // What others learn. Called on the loop.
  class Events {
   public:
    virtual ~Events() = default;
    // Something that Status or health shows has changed.
    virtual void OnSupervisorChanged() = 0;
    // After Stop: no process is left.
    virtual void OnWorkersStopped() = 0;
  };

  Supervisor(TimerQueue& timers, WorkerLauncher& launcher, WorkerLinks& links, Dispatcher& dispatcher, Events& events,
             Logger& log, std::function<double()> chance);
  ~Supervisor() override;

  // Sets what is desired, and starts towards it. A pool that differs from before has all its workers replaced.
  void Configure(const Settings& settings);

  // Sets the workers of a pool. False: no such pool.
  bool Scale(absl::string_view pool, uint32_t workers);

  // Ends every worker: those that are ready drain, close their apps and exit; those that are still starting are killed.
  void Stop();
  // Kills whatever is left.
  void KillAll(absl::string_view reason);

  // From the dispatcher, by way of the arbiter.
  void OnWorkerIdle(WorkerId worker);
  void OnSlotFree(WorkerId worker, uint64_t calls);
  void OnCallStuck(WorkerId worker, CallNumber call, const std::string& what);

  // WorkerLauncher::Events
  void OnListening(WorkerId worker) override;
  void OnExit(WorkerId worker, const ExitStatus& status) override;

  // WorkerLinks::Events
  void OnAppStarting(WorkerId worker, absl::string_view app) override;
  void OnAppReady(WorkerId worker, absl::string_view app, absl::Duration init_time) override;
  void OnAppFailed(WorkerId worker, absl::string_view app, const v1::Error& error) override;
  void OnWorkerReady(WorkerId worker) override;
  void OnPong(WorkerId worker, uint64_t sequence) override;
  void OnLinkBroken(WorkerId worker, const std::string& why) override;

  // --- Looking ---

  // Fills generation, pools, workers, exits and the apps' names, pools, states and reasons.
  void Describe(v1::StatusResponse& status) const;
  // Every app is READY or FAILED.
  bool EveryAppTried() const;
  // At least one app is READY.
  bool AnyAppReady() const;
  // Nullopt: no such app.
  std::optional<bool> HasReadyWorker(absl::string_view app) const;
  uint32_t ReadyWorkers() const;
  uint32_t StartingWorkers() const;
  uint32_t DesiredWorkers() const;
  uint32_t Processes() const { return static_cast<uint32_t>(workers_.size()); }

 private:
  enum class Phase {
    kSpawned,       // until it listens
    kInitialising,  // from its link until every app was tried
    kReady,
    kDraining,  // its running calls go on
    kStopping,  // it closes its apps, or is being killed
  };
  struct Pool;
  struct Seat;

  struct Worker {
    WorkerSpec spec;
    Pool* pool = nullptr;
    Seat* seat = nullptr;  // null: retired
    Phase phase = Phase::kSpawned;
    pid_t pid = 0;
    absl::Time spawned_at;
    absl::Time spawned_wall;
    absl::Time phase_since;  // of the app being initialised
    absl::Time ready_at = absl::InfiniteFuture();
    std::string initialising;  // the app whose init runs
    std::set<std::string> ready_apps;
    std::set<std::string> failed_apps;
    bool recycle = false;     // to be replaced although nothing changed
    bool dispatched = false;  // the dispatcher knows it
    bool link_broken = false;
    std::string end_reason;    // why we end it; empty: it was not us
    std::string end_detail;    // for callers: "was killed because ..."
    uint64_t calls_limit = 0;  // 0: none
    uint64_t memory_baseline = 0;
    uint64_t pings_unanswered = 0;
    TimerQueue::TimerId boot_timer = 0;
    TimerQueue::TimerId notice_timer = 0;
    TimerQueue::TimerId ping_timer = 0;
    TimerQueue::TimerId end_timer = 0;
  };

  // A place in a pool.
  struct Seat {
    uint32_t index = 0;
    WorkerId current = 0;
    WorkerId incoming = 0;  // its replacement, until it is ready
    uint32_t crashes = 0;   // in a row, after having been ready
    TimerQueue::TimerId respawn_timer = 0;
    std::deque<v1::WorkerExit> exits;  // newest first
  };

  struct Pool {
    std::shared_ptr<const PoolSettings> settings;
    uint64_t generation = 1;
    uint32_t desired = 0;
    std::vector<std::unique_ptr<Seat>> seats;
    bool removed = false;
  };

  struct App {
    AppHealth health;
    Pool* pool = nullptr;
    Seat* probe = nullptr;  // where it is being retried
    TimerQueue::TimerId retry_timer = 0;
    TimerQueue::TimerId lasted_timer = 0;
  };

  Worker* Find(WorkerId id);
  const Worker* Find(WorkerId id) const;
  const AppSettings* FindSettings(const Pool& pool, absl::string_view app) const;
  bool Assigned(const Pool& pool, const Seat& seat, const AppSettings& app) const;
  std::vector<AppSettings> Wanted(const Pool& pool, const Seat& seat) const;
  bool IsStale(const Pool& pool, const Seat& seat, const Worker& worker, const std::vector<AppSettings>& wanted) const;
  uint32_t ProcessesOf(const Pool& pool) const;

  void Reconcile();
  void ReconcilePool(Pool& pool);
  void ChooseProbes(Pool& pool);
  void UpdateAvailability();
  WorkerId Spawn(Pool& pool, Seat& seat, std::vector<AppSettings> apps);
  // Takes it off its seat and lets it finish. `reason` as WorkerExit.reason.
  void Retire(Worker& worker, absl::string_view reason);
  // Takes no more calls and is killed after `grace`.
  void End(Worker& worker, absl::string_view reason, std::string detail, absl::Duration grace);
  void EnterReady(Worker& worker);
  void Dispatch(Worker& worker);
  void AppBootFailed(absl::string_view app, const Worker& worker, std::string reason);
  // A worker ended before it was ready: whose fault it was.
  void ChargeFailedStart(const Worker& worker, const std::string& what);
  absl::Duration BootLimit(const Worker& worker) const;  // the longest boot_timeout of its apps
  void ArmBootTimer(Worker& worker, absl::Duration limit, std::string what);
  void ArmNotice(WorkerId id);
  void SendPing(WorkerId id);
  void CancelTimers(Worker& worker);
  void RecordExit(Worker& worker, const ExitStatus& status, const std::string& reason);
  std::string Name(const Worker& worker) const;  // "worker 1 (pid 12)"

  TimerQueue& timers_;
  WorkerLauncher& launcher_;
  WorkerLinks& links_;
  Dispatcher& dispatcher_;
  Events& events_;
  Logger& log_;
  std::function<double()> chance_;

  Settings settings_;
  uint64_t generation_ = 0;
  WorkerId next_id_ = 1;
  bool stopping_ = false;
  std::vector<std::unique_ptr<Pool>> pools_;
  std::map<std::string, App, std::less<>> apps_;
  std::vector<std::string> app_order_;
  absl::flat_hash_map<WorkerId, std::unique_ptr<Worker>> workers_;
};

}  // namespace dirty
