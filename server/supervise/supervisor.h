// The supervisor: desired workers against actual ones.
//
// Every pool has seats, one for each worker it should have. Reconcile compares what a seat should hold (which apps, and
// nothing outdated) with the worker that sits there, and starts, replaces or retires workers until they agree. Crash
// respawn, retries of failing apps, recycling, scaling and reloads are all that one comparison. Replacements are ready
// before the old worker drains, unless `surge` is 0.
//
// Pure: processes, links, hooks, time and chance are arguments. Loop-confined. The arbiter owns it.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "dirty/v1/admin.pb.h"
#include "server/config/settings.h"
#include "server/dispatch/dispatcher.h"
#include "server/loop/timers.h"
#include "server/observe/log.h"
#include "server/supervise/app_health.h"
#include "server/supervise/hook_runner.h"
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
    // Something happened to a worker, an app or a pool. `time` is not set.
    virtual void OnEvent(v1::Event event) = 0;
  };

  // What the supervisor is made of; all of it outlives it.
  struct World {
    TimerQueue& timers;
    WorkerLauncher& launcher;
    WorkerLinks& links;
    HookRunner& hooks;
    Dispatcher& dispatcher;
    Events& events;
    Logger& log;
    std::function<double()> chance;  // random, in [0, 1)
    v1::HookEvent hook_event;        // what every hook is told of the arbiter
  };
  explicit Supervisor(World world);
  ~Supervisor() override;

  // Sets what is desired, here and in the dispatcher, and starts towards it. Once; Replace changes it.
  void Start(const Settings& settings);

  // A rolling change.
  struct Rollout {
    bool reload = false;                 // makes a new generation; apps that fail get a new chance
    const Settings* settings = nullptr;  // of a reload: what is desired from now on; null: as before
    // Whose workers are replaced. Nothing named: all.
    std::vector<std::string> pools = {};
    std::vector<std::string> apps = {};
    WorkerId worker = 0;
  };
  struct RolloutResult {
    // FailedPrecondition: a new worker did not become ready, what ran before still does. Aborted: a shutdown.
    absl::Status status;
    uint32_t replaced = 0;
    std::vector<std::string> still_failing;  // apps that did not start before, and do not now: a line each
  };
  // Replaces workers by new ones, each ready before an old one drains (`surge` 0: the other way round). `done` is
  // called once, not from within: every new worker is ready and no old one takes calls, or why not. Its own error, for
  // which `done` is not called: NotFound (which pool, app or worker), Aborted (one is under way, or a shutdown).
  absl::Status Replace(const Rollout& rollout, std::function<void(const RolloutResult&)> done);
  bool Replacing() const { return rollout_ != nullptr; }
  uint64_t generation() const { return generation_; }

  // Sets the workers of a pool until the next reload of the configuration. Returns how many there were.
  // NotFound: no such pool. InvalidArgument: fewer than an app of it wants.
  absl::StatusOr<uint32_t> Scale(absl::string_view pool, uint32_t workers);
  // The fewest workers that Scale accepts beside 0, at least 1; the pool must exist.
  uint32_t FewestWorkers(absl::string_view pool) const;

  // Every worker's own log files are opened again.
  void ReopenLogs();

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
  void OnAppReady(WorkerId worker, absl::string_view app, absl::Duration init_time, uint32_t workers) override;
  void OnAppSkipped(WorkerId worker, absl::string_view app, uint32_t workers) override;
  void OnAppFailed(WorkerId worker, absl::string_view app, const v1::Error& error) override;
  void OnWorkerReady(WorkerId worker) override;
  void OnWorkerEnding(WorkerId worker) override;
  void OnPong(WorkerId worker, uint64_t sequence) override;
  void OnLinkBroken(WorkerId worker, const std::string& why) override;

  // --- Looking ---

  // Fills generation, pools, workers, exits and the apps' names, pools, states and reasons.
  void Describe(v1::StatusResponse& status) const;
  // Every app is READY or FAILED; or, where no app is ever given up, backs off.
  bool EveryAppTried() const;
  // At least one app is READY.
  bool AnyAppReady() const;
  // Nullopt: no such app.
  std::optional<bool> HasReadyWorker(absl::string_view app) const;
  uint32_t ReadyWorkers() const;
  uint32_t StartingWorkers() const;
  uint32_t DesiredWorkers() const;
  uint32_t DesiredWorkers(absl::string_view pool) const;  // 0: none, or no such pool
  uint32_t Processes() const { return static_cast<uint32_t>(workers_.size()); }

 private:
  enum class Phase;
  struct Worker;
  struct Pool;
  struct Seat;
  struct RolloutState;

  struct App {
    AppHealth health;
    Pool* pool = nullptr;
    uint32_t workers = 0;   // how many it wants itself, where the configuration does not say; 0: nor does it
    Seat* probe = nullptr;  // where it is being retried
    v1::AppStatus::State told = v1::AppStatus::STARTING;  // by the last event
    TimerQueue::TimerId retry_timer = 0;
    TimerQueue::TimerId lasted_timer = 0;
  };

  Worker* Find(WorkerId id);
  const Worker* Find(WorkerId id) const;
  const AppSettings* FindSettings(const Pool& pool, absl::string_view app) const;
  bool Assigned(const Pool& pool, const Seat& seat, const AppSettings& app) const;
  std::vector<AppSettings> Wanted(const Pool& pool, const Seat& seat) const;
  bool IsStale(const Pool& pool, const Seat& seat, const Worker& worker, const std::vector<AppSettings>& wanted) const;
  bool HasUnwanted(const Pool& pool, const Seat& seat, const Worker& worker) const;  // an app that is not for it
  uint32_t ProcessesOf(const Pool& pool) const;
  uint32_t Places(const Pool& pool) const;
  bool IsLastOfAny(const Pool& pool, const Worker& worker) const;
  bool RecyclingLoses(const Pool& pool, const Seat& seat, const Worker& worker,
                      const std::vector<AppSettings>& successor) const;

  Pool* FindPool(absl::string_view name) const;  // of those that are configured
  // A ready worker has it, another than `but`.
  bool Serves(absl::string_view app, const Worker* but = nullptr) const;

  // Makes `settings` what is desired. Pools and apps that it does not have go at once, or when LetGo is called.
  void Configure(const Settings& settings, bool let_go);
  void LetGo();
  void GiveNewChance(App& app, const Pool& pool);
  void Reconcile();
  void ReconcilePool(Pool& pool);
  absl::Status CheckScope(const Rollout& rollout) const;
  bool InScope(const Rollout& rollout, const Worker& worker) const;
  void CheckRollout();
  bool RolloutIsComplete() const;
  bool RolloutFailed() const;
  void FailRollout(std::string why);
  void EndRollout();
  void RollBack();
  void ChooseProbes(Pool& pool);
  void UpdateAvailability();
  WorkerId Spawn(Pool& pool, Seat& seat, std::vector<AppSettings> apps);
  // Takes it off its seat and lets it finish. `reason` as WorkerExit.reason.
  void Retire(Worker& worker, absl::string_view reason);
  // Takes no more calls and is killed after `grace`.
  void End(Worker& worker, absl::string_view reason, std::string detail, absl::Duration grace);
  // Of one that was told to go.
  void KillAfter(Worker& worker, absl::Duration time, const char* why);
  // Who boots and tells of an app that it was given to load; null: what it says means nothing.
  Worker* FindBooting(WorkerId id, absl::string_view app);
  void EndInit(Worker& worker);  // of the app that it told of
  void FinishBoot(Worker& worker);
  void EnterReady(Worker& worker);
  void Dispatch(Worker& worker);
  void AppBootFailed(absl::string_view app, const Worker& worker, std::string reason);
  // A worker ended before it was ready: whose fault it was.
  void ChargeFailedStart(const Worker& worker, const std::string& what);
  // When the next one may take its seat: later, if one after the other did not last. Counts its end, once.
  absl::Time ReplaceAt(Worker& worker);
  absl::Duration BootLimit(const Worker& worker) const;  // the longest boot_timeout of its apps
  void ArmBootTimer(Worker& worker, absl::Duration limit, std::string what);
  void ArmNotice(WorkerId id);
  void SendPing(WorkerId id);
  void CancelTimers(Worker& worker);
  void RecordExit(Worker& worker, const ExitStatus& status, const std::string& reason);
  std::string Name(const Worker& worker) const;  // "worker 1 (pid 12)"
  void Describe(const Worker& worker, v1::WorkerStatus& out) const;
  v1::Event EventOf(const Worker& worker, std::string message, v1::WorkerStatus* (v1::Event::*kind)()) const;
  v1::AppStatus::State StateOf(absl::string_view name, const App& app) const;
  void TellApps();
  v1::HookEvent HookEventOf(const Worker& worker, const char* hook) const;

  TimerQueue& timers_;
  WorkerLauncher& launcher_;
  WorkerLinks& links_;
  HookRunner& hooks_;
  Dispatcher& dispatcher_;
  Events& events_;
  Logger& log_;
  std::function<double()> chance_;
  const v1::HookEvent hook_event_;

  Settings settings_;
  uint64_t generation_ = 0;       // of what runs, or is being rolled out
  uint64_t last_generation_ = 0;  // never used twice
  WorkerId next_id_ = 1;
  bool stopping_ = false;
  std::unique_ptr<RolloutState> rollout_;
  std::vector<std::unique_ptr<Pool>> pools_;
  std::map<std::string, App, std::less<>> apps_;
  std::vector<std::string> app_order_;
  std::map<WorkerId, std::unique_ptr<Worker>> workers_;
};

}  // namespace dirty
