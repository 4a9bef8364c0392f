// The arbiter: the dispatcher and the supervisor, and what is between them. It says when everything is ready, answers
// operators and health, tells watchers what happens, and takes the two through reloads and a shutdown.
//
// Pure: sockets, processes and links are behind interfaces. Loop-confined. main.cc owns it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "dirty/v1/admin.pb.h"
#include "server/config/settings.h"
#include "server/dispatch/call_log.h"
#include "server/dispatch/dispatcher.h"
#include "server/loop/timers.h"
#include "server/observe/log.h"
#include "server/observe/metrics.h"
#include "server/supervise/supervisor.h"

namespace dirty {

class Arbiter final : private Dispatcher::Events, private Supervisor::Events {
 public:
  // What the process around it does for it. All of it optional, all of it called on the loop.
  struct Host {
    std::function<void()> on_changed;  // something that health, the process title or systemd shows
    std::function<void()> on_settled;  // once: every app was tried, the start is over
    std::function<void()> on_stopped;  // after a shutdown: no call and no worker is left
    // Reads the configuration again, not on the loop; `done` is called on it. InvalidArgument: a line per error.
    std::function<void(std::function<void(absl::StatusOr<Settings>)> done)> read_settings;
    std::function<void(const Settings&)> on_settings;  // a reload was applied: log, listeners
    std::function<void(LogLevel)> set_log_level;
    std::function<void()> reopen_logs;
  };
  struct Options {
    std::string version;
    int32_t pid = 0;
    std::string id_prefix;           // of call ids
    std::function<double()> chance;  // random, in [0, 1)
  };
  // What it is made of; all of it outlives it.
  struct World {
    TimerQueue& timers;
    WorkerLauncher& launcher;
    WorkerLinks& links;
    HookRunner& hooks;
    Logger& log;
  };

  // Whoever watches what happens (Admin.Watch). On the loop.
  class Watcher {
   public:
    virtual ~Watcher() = default;
    virtual void OnEvent(const std::shared_ptr<const v1::Event>& event) = 0;
  };

  Arbiter(World world, Options options, Host host);

  Dispatcher& dispatcher() { return dispatcher_; }
  Supervisor& supervisor() { return supervisor_; }

  // Starts workers. Once.
  void Start(const Settings& settings);

  // --- Operators (arbiter_operations.cc); codes as in admin.proto ---

  template <typename Response>
  using Done = std::function<void(absl::StatusOr<Response>)>;

  // `why` is for the log. `done` may be called from within.
  void Reload(const v1::ReloadRequest& request, absl::string_view why, Done<v1::ReloadResponse> done);
  // As SIGHUP asks: if a reload is under way, another one follows it.
  void ReloadSoon(absl::string_view why);
  void Restart(const v1::RestartRequest& request, Done<v1::RestartResponse> done);
  absl::StatusOr<v1::ScaleResponse> Scale(const v1::ScaleRequest& request);
  // One worker more or less, in the pool "default" or else the first; never below what its apps want, nor 1.
  void ScaleBy(int workers, absl::string_view why);
  absl::StatusOr<v1::CancelResponse> Cancel(const v1::CancelRequest& request);
  absl::StatusOr<v1::SetLogLevelResponse> SetLogLevel(const v1::SetLogLevelRequest& request);
  void ReopenLogs(absl::string_view why);
  void AddWatcher(Watcher* watcher) { watchers_.push_back(watcher); }
  void RemoveWatcher(Watcher* watcher) { std::erase(watchers_, watcher); }

  // --- Shutdown ---

  // Graceful: new calls are refused, the others have `graceful_timeout`. Immediate: they end now. A second one, of
  // either kind, is immediate. `why` is for the log.
  void Shutdown(bool immediate, absl::string_view why);
  // Nothing is waited for any more.
  bool ends_at_once() const { return ends_at_once_; }
  bool shutting_down() const { return shutdown_ != ShutdownPhase::kNone; }
  bool reloading() const { return reloading_; }

  // --- Looking ---

  v1::StatusResponse Status() const;
  // What it knows of the metrics: all but loop_lag, sessions, connections and log_lines_dropped.
  MetricsSnapshot Metrics() const;

  // As grpc.health.v1 names services: "" is liveness, "dirty.v1.Arbiter" readiness, others are apps. Nullopt: unknown.
  std::optional<bool> Serving(absl::string_view service) const;

  // `dirtyd [2/2 workers]`.
  std::string Title() const;

 private:
  enum class ShutdownPhase {
    kNone,
    kFinishing,  // calls go on
    kStopping,   // workers end
    kStopped,
  };

  // Dispatcher::Events
  void OnWorkerIdle(WorkerId worker) override { supervisor_.OnWorkerIdle(worker); }
  void OnSlotFree(WorkerId worker, uint64_t calls) override { supervisor_.OnSlotFree(worker, calls); }
  void OnCallStuck(WorkerId worker, CallNumber call, const std::string& what) override {
    supervisor_.OnCallStuck(worker, call, what);
  }
  void OnAllCallsEnded() override;
  void OnCallRecord(const CallRecord& record) override;

  // Supervisor::Events
  void OnSupervisorChanged() override;
  void OnWorkersStopped() override;
  void OnEvent(v1::Event event) override;
  void CountEvent(const v1::Event& event);

  void OnGraceOver();
  void StopWorkers();

  void OnSettingsRead(absl::StatusOr<Settings> read, Done<v1::ReloadResponse> done);
  void RollOut(const v1::ReloadRequest& request, std::optional<Settings> settings, v1::ReloadResponse response,
               Done<v1::ReloadResponse> done);
  void EndReload(const absl::StatusOr<v1::ReloadResponse>& result, const Done<v1::ReloadResponse>& done);
  std::string DefaultPool() const;
  void TellQueueFull(const CallRecord& record);

  TimerQueue& timers_;
  Logger& log_;
  Options options_;
  Host host_;
  absl::Time started_at_;
  absl::Time started_wall_;
  Settings settings_;
  // Every app was tried, once since the start: what comes or fails later takes nothing from those that serve.
  bool tried_ = false;
  bool settled_ = false;       // and no worker starts: `on_settled` was called
  bool ready_ = false;         // the line was printed
  bool told_unready_ = false;  // likewise
  bool reloading_ = false;
  bool reload_again_ = false;
  std::optional<v1::ReloadOutcome> last_reload_;
  std::string log_level_;
  std::vector<Watcher*> watchers_;
  MetricsSnapshot counted_;                                       // reloads, worker_starts and worker_exits
  absl::flat_hash_map<std::string, absl::Time> queue_full_told_;  // by app
  CallLog call_log_;
  ShutdownPhase shutdown_ = ShutdownPhase::kNone;
  bool ends_at_once_ = false;
  TimerQueue::TimerId grace_timer_ = 0;
  Dispatcher dispatcher_;
  Supervisor supervisor_;
};

}  // namespace dirty
