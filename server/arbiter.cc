#include "server/arbiter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/dispatch/errors.h"
#include "server/dispatch/proto_time.h"

namespace dirty {
namespace {

constexpr uint32_t kProtocolVersion = 1;
// At the end of the grace: for workers that have nothing to run, to close their apps.
constexpr absl::Duration kLastClose = absl::Seconds(1);

v1::HookEvent HookEvent(const Arbiter::Options& options) {
  v1::HookEvent event;
  event.set_arbiter_pid(options.pid);
  event.set_version(options.version);
  return event;
}

}  // namespace

Arbiter::Arbiter(World world, Options options, Host host)
    : timers_(world.timers),
      log_(world.log),
      options_(std::move(options)),
      host_(std::move(host)),
      started_at_(timers_.Now()),
      started_wall_(absl::Now()),
      call_log_(timers_, log_),
      dispatcher_(timers_, *this, {.id_prefix = options_.id_prefix}),
      supervisor_({.timers = timers_,
                   .launcher = world.launcher,
                   .links = world.links,
                   .hooks = world.hooks,
                   .dispatcher = dispatcher_,
                   .events = *this,
                   .log = log_,
                   .chance = options_.chance,
                   .hook_event = HookEvent(options_)}) {}

void Arbiter::Start(const Settings& settings) {
  settings_ = settings;
  log_level_ = settings.log_level;
  supervisor_.Start(settings);
}

// --- Shutdown ---

void Arbiter::Shutdown(bool immediate, absl::string_view why) {
  if (shutdown_ == ShutdownPhase::kStopped) return;
  if (shutdown_ == ShutdownPhase::kNone) {
    log_.Info(absl::StrCat("shutting down", immediate ? " at once" : ""), {{"because", std::string(why)}});
  } else if (!immediate) {
    log_.Info("shutting down at once: asked twice", {{"because", std::string(why)}});
    immediate = true;
  }
  if (immediate) {
    ends_at_once_ = true;
    timers_.Cancel(grace_timer_);
    shutdown_ = ShutdownPhase::kStopping;
    dispatcher_.CloseAdmission();
    dispatcher_.EndAllCalls();
    supervisor_.Stop();
    supervisor_.KillAll("shutdown");
  } else {
    shutdown_ = ShutdownPhase::kFinishing;
    grace_timer_ = timers_.ScheduleIn(settings_.graceful_timeout, [this] {
      grace_timer_ = 0;
      OnGraceOver();
    });
    dispatcher_.CloseAdmission();
  }
  if (host_.on_changed) host_.on_changed();
}

void Arbiter::OnAllCallsEnded() {
  if (shutdown_ == ShutdownPhase::kFinishing) StopWorkers();
}

void Arbiter::StopWorkers() {
  shutdown_ = ShutdownPhase::kStopping;
  supervisor_.Stop();
}

void Arbiter::OnGraceOver() {
  log_.Warning(absl::StrCat("graceful_timeout of ", errors::Seconds(settings_.graceful_timeout),
                            " is over: ending what still runs"));
  dispatcher_.EndAllCalls();
  StopWorkers();
  grace_timer_ = timers_.ScheduleIn(kLastClose, [this] {
    grace_timer_ = 0;
    supervisor_.KillAll("shutdown");
  });
}

void Arbiter::OnWorkersStopped() {
  if (shutdown_ == ShutdownPhase::kStopped) return;
  shutdown_ = ShutdownPhase::kStopped;
  timers_.Cancel(grace_timer_);
  call_log_.Flush();
  if (host_.on_stopped) host_.on_stopped();
}

// --- Looking ---

void Arbiter::OnSupervisorChanged() {
  tried_ = tried_ || supervisor_.EveryAppTried();
  bool disabled = supervisor_.DesiredWorkers() == 0;
  bool settled = tried_ && supervisor_.StartingWorkers() == 0;
  if (!settled_ && shutdown_ == ShutdownPhase::kNone && (disabled || settled)) {
    settled_ = true;
    if (host_.on_settled) host_.on_settled();
  }
  if (!ready_ && shutdown_ == ShutdownPhase::kNone && settled && supervisor_.ReadyWorkers() == 0 && !disabled) {
    if (!std::exchange(told_unready_, true)) {
      log_.Error(absl::StrCat("not ready: no app could be started; each is tried again at least every ",
                              errors::Seconds(settings_.restart.max_backoff)));
    }
  } else if (!ready_ && shutdown_ == ShutdownPhase::kNone && (disabled || settled)) {
    ready_ = true;
    v1::StatusResponse status = Status();
    auto good = std::count_if(status.apps().begin(), status.apps().end(),
                              [](auto& app) { return app.state() == v1::AppStatus::READY; });
    std::string apps = good == status.apps_size() ? absl::StrCat(good) : absl::StrCat(good, "/", status.apps_size());
    log_.Info(disabled ? std::string("ready: workers is 0, calls get NO_WORKERS")
                       : absl::StrCat("ready: ", supervisor_.ReadyWorkers(), "/", supervisor_.DesiredWorkers(),
                                      " workers, ", apps, status.apps_size() == 1 ? " app, " : " apps, ",
                                      errors::Seconds(timers_.Now() - started_at_)));
  }
  if (host_.on_changed) host_.on_changed();
}

void Arbiter::OnCallRecord(const CallRecord& record) {
  if (record.error != nullptr && record.error->reason() == v1::REASON_QUEUE_FULL) TellQueueFull(record);
  call_log_.Add(record);
}

v1::StatusResponse Arbiter::Status() const {
  v1::StatusResponse status;
  status.set_version(options_.version);
  status.set_protocol_version(kProtocolVersion);
  status.set_pid(options_.pid);
  status.set_state(shutting_down() ? v1::StatusResponse::SHUTTING_DOWN
                   : reloading_    ? v1::StatusResponse::RELOADING
                   : tried_        ? v1::StatusResponse::RUNNING
                                   : v1::StatusResponse::STARTING);
  ToProto(started_wall_, status.mutable_start_time());
  if (last_reload_.has_value()) *status.mutable_last_reload() = *last_reload_;
  supervisor_.Describe(status);
  for (v1::WorkerStatus& worker : *status.mutable_workers()) dispatcher_.Describe(worker);
  for (v1::AppStatus& app : *status.mutable_apps()) dispatcher_.Describe(app);
  return status;
}

MetricsSnapshot Arbiter::Metrics() const {
  MetricsSnapshot metrics = counted_;
  metrics.status = Status();
  for (const v1::PoolStatus& pool : metrics.status.pools()) metrics.worker_starts.try_emplace(pool.name(), 0);
  dispatcher_.Describe(metrics);
  return metrics;
}

std::optional<bool> Arbiter::Serving(absl::string_view service) const {
  if (service.empty()) return true;
  if (service == "dirty.v1.Arbiter") {
    return !shutting_down() && tried_ && supervisor_.AnyAppReady();
  }
  std::optional<bool> app = supervisor_.HasReadyWorker(service);
  if (app.has_value() && shutting_down()) return false;
  return app;
}

std::string Arbiter::Title() const {
  return absl::StrCat("dirtyd [", supervisor_.ReadyWorkers(), "/", supervisor_.DesiredWorkers(), " workers",
                      shutting_down() ? ", shutting down"
                      : reloading_    ? ", reloading"
                                      : "",
                      "]");
}

}  // namespace dirty
