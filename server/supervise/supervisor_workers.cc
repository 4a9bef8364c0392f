// The life of one worker: from its spawn to its exit, and what it means for its seat and its apps.

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "server/dispatch/errors.h"
#include "server/dispatch/proto_time.h"
#include "server/supervise/supervisor.h"
#include "server/supervise/supervisor_state.h"

namespace dirty {
namespace {

// "initialising ..." is repeated this often.
constexpr absl::Duration kNoticeInterval = absl::Seconds(10);
// A worker or an app that lived this long was a success.
constexpr absl::Duration kLasting = absl::Seconds(10);
// For close() of every app, once a worker has nothing to run; at a shutdown the arbiter's own bound is shorter.
constexpr absl::Duration kCloseTimeout = absl::Seconds(60);
// From the end of the link of a worker that was drained, when its apps are closed, until it is gone.
constexpr absl::Duration kExitTimeout = absl::Seconds(10);
// Between a link that broke and the kill: a process that is crashing says by its exit how.
constexpr absl::Duration kBrokenLinkGrace = absl::Seconds(1);
// Between asking for a stack dump and the kill.
constexpr absl::Duration kDumpGrace = absl::Seconds(1);
constexpr size_t kExitsKept = 20;
// The reason of an end by the hook dirty_worker_init, which charges the apps itself.
constexpr char kCouldNotStart[] = "could not start";
// Of a traceback, in the log.
constexpr size_t kMostLines = 50;

std::vector<absl::string_view> LastLines(absl::string_view text) {
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  if (lines.size() > kMostLines) lines.erase(lines.begin(), lines.end() - kMostLines);
  return lines;
}

}  // namespace

void Supervisor::OnListening(WorkerId id) {
  Worker* worker = Find(id);
  if (worker == nullptr || worker->phase != Phase::kSpawned) return;
  worker->phase = Phase::kInitialising;
  links_.Open(worker->spec);
  SendPing(id);
  events_.OnSupervisorChanged();
}

Supervisor::Worker* Supervisor::FindBooting(WorkerId id, absl::string_view app) {
  Worker* worker = Find(id);
  if (worker == nullptr || worker->phase != Phase::kInitialising || worker->booted) return nullptr;
  const std::vector<AppSettings>& given = worker->spec.apps;
  bool has = std::any_of(given.begin(), given.end(), [&](const AppSettings& its) { return its.name == app; });
  bool ended = worker->ready_apps.contains(std::string(app)) || worker->failed_apps.contains(std::string(app));
  return has && !ended ? worker : nullptr;
}

void Supervisor::OnAppStarting(WorkerId id, absl::string_view app) {
  Worker* worker = FindBooting(id, app);
  if (worker == nullptr || !worker->started_apps.insert(std::string(app)).second) return;  // once: it has so much time
  const AppSettings* settings = FindSettings(*worker->pool, app);
  worker->initialising = std::string(app);
  worker->phase_since = timers_.Now();
  log_.Info(absl::StrCat(Name(*worker), ": initialising ", app));
  ArmNotice(id);
  ArmBootTimer(*worker, settings == nullptr ? BootLimit(*worker) : settings->limits.boot_timeout,
               absl::StrCat("to initialise ", app));
}

void Supervisor::EndInit(Worker& worker) {
  ArmBootTimer(worker, BootLimit(worker), "to get ready");
  timers_.Cancel(worker.notice_timer);
  worker.initialising.clear();
}

void Supervisor::OnAppReady(WorkerId id, absl::string_view app, absl::Duration init_time, uint32_t workers) {
  Worker* worker = FindBooting(id, app);
  if (worker == nullptr || worker->initialising != app) return;
  EndInit(*worker);
  worker->ready_apps.insert(std::string(app));
  worker->app_workers[std::string(app)] = workers;
  log_.Info(absl::StrCat(Name(*worker), ": ", app, " is ready"), {{"init", errors::Seconds(init_time)}});
}

void Supervisor::OnAppSkipped(WorkerId id, absl::string_view app, uint32_t workers) {
  Worker* worker = FindBooting(id, app);
  // One that says so without being asked has failed silently.
  if (worker == nullptr || workers == 0 || workers > worker->spec.index) return;
  auto skipped = [&](const AppSettings& its) { return its.name == app && !its.workers.has_value(); };
  if (std::erase_if(worker->spec.apps, skipped) == 0) return;
  EndInit(*worker);
  worker->app_workers[std::string(app)] = workers;
  auto it = apps_.find(app);
  if (it != apps_.end() && it->second.probe == worker->seat) it->second.probe = nullptr;
  log_.Info(absl::StrCat(Name(*worker), ": ", app, " wants ", workers, workers == 1 ? " worker" : " workers",
                         ", and this is another"));
}

void Supervisor::OnAppFailed(WorkerId id, absl::string_view app, const v1::Error& error) {
  Worker* worker = FindBooting(id, app);
  if (worker == nullptr) return;
  EndInit(*worker);
  worker->failed_apps.insert(std::string(app));
  std::string what =
      error.exception_type().empty() ? error.message() : absl::StrCat(error.exception_type(), ": ", error.message());
  auto it = apps_.find(app);
  if (it == apps_.end() || it->second.health.reason() != what) {  // else it is as the last time
    for (absl::string_view line : LastLines(error.traceback())) {
      log_.Warning(absl::StrCat(Name(*worker), ": ", app, ": ", line));
    }
  }
  AppBootFailed(app, *worker, std::move(what));
}

void Supervisor::AppBootFailed(absl::string_view name, const Worker& worker, std::string reason) {
  auto it = apps_.find(name);
  if (it == apps_.end() || it->second.health.state() == v1::AppStatus::STATE_UNSPECIFIED) return;
  App& app = it->second;
  if (rollout_ != nullptr && worker.of_rollout && !rollout_->failing.contains(it->first)) {
    // The old ones go on: the app as it runs is not to blame.
    std::string what = absl::StrCat(Name(worker), ": ", name, " failed to start: ", reason);
    log_.Error(what);
    FailRollout(std::move(what));
    return;
  }
  if (app.probe != nullptr && app.probe == worker.seat) app.probe = nullptr;
  if (!app.health.Failed(timers_.Now(), worker.spawned_at, reason, settings_.restart, chance_())) return;
  timers_.Cancel(app.lasted_timer);
  timers_.Cancel(app.retry_timer);
  log_.Error(absl::StrCat(Name(worker), ": ", name, " failed to start: ", reason),
             {{"failures", absl::StrCat(app.health.failures())},
              {"state", v1::AppStatus::State_Name(StateOf(name, app))},
              {"retry_in", errors::Seconds(app.health.retry_at() - timers_.Now())}});
}

void Supervisor::OnWorkerReady(WorkerId id) {
  Worker* worker = Find(id);
  if (worker == nullptr || worker->phase != Phase::kInitialising || std::exchange(worker->booted, true)) return;
  timers_.Cancel(worker->boot_timer);
  timers_.Cancel(worker->notice_timer);
  // An app that the worker never mentioned has failed silently.
  for (const AppSettings& app : worker->spec.apps) {
    if (worker->ready_apps.contains(app.name) || worker->failed_apps.contains(app.name)) continue;
    worker->failed_apps.insert(app.name);
    AppBootFailed(app.name, *worker, "the worker did not load it");
  }
  if (worker->of_rollout && RolloutFailed()) return;  // it is about to go
  const HookSettings& hook = settings_.hooks.dirty_worker_init;
  if (hook.exec.empty() || worker->ready_apps.empty()) return FinishBoot(*worker);
  hooks_.Run(hook, HookEventOf(*worker, "dirty_worker_init"), settings_.hook_timeout,
             [this, id](const absl::Status& ok) {
               Worker* ready = Find(id);
               if (ready == nullptr || ready->phase != Phase::kInitialising || (ready->of_rollout && RolloutFailed()))
                 return;
               if (ready->link_broken) return;  // it is about to die or to be killed
               if (ok.ok()) return FinishBoot(*ready);
               std::string why = absl::StrCat("its hook dirty_worker_init failed: ", ok.message());
               for (const std::string& app : ready->ready_apps) AppBootFailed(app, *ready, why);
               End(*ready, kCouldNotStart, absl::StrCat("was ended because ", why), absl::ZeroDuration());
               Reconcile();
             });
}

void Supervisor::FinishBoot(Worker& worker) {
  for (const std::string& name : worker.ready_apps) {
    auto it = apps_.find(name);
    if (it == apps_.end()) continue;
    App& app = it->second;
    // Another seat may have failed meanwhile: a success of one that was probed, or of all, ends the back-off.
    if (app.probe == worker.seat) app.probe = nullptr;
    app.health.Succeeded();
    timers_.Cancel(app.retry_timer);
    timers_.Cancel(app.lasted_timer);
    app.lasted_timer = timers_.ScheduleIn(kLasting, [&app] {
      app.lasted_timer = 0;
      app.health.Lasted();
    });
  }
  EnterReady(worker);
  if (std::exchange(worker.told_to_end, false)) OnWorkerEnding(worker.spec.id);
  Reconcile();
}

void Supervisor::EnterReady(Worker& worker) {
  Seat* seat = worker.seat;
  worker.phase = Phase::kReady;
  worker.ready_at = timers_.Now();
  for (const auto& [name, workers] : worker.app_workers) {
    if (auto it = apps_.find(name); it != apps_.end()) it->second.workers = workers;
  }
  if (worker.ready_apps.empty()) {  // nothing to serve: those that failed are retried by a new one
    Retire(worker, worker.failed_apps.empty() ? "drained" : "no app started");
    return;
  }
  if (seat->incoming == worker.spec.id) {
    Worker& old = *Find(seat->current);
    bool better = old.recycle || old.outdated || HasUnwanted(*old.pool, *seat, old) ||
                  !std::includes(old.ready_apps.begin(), old.ready_apps.end(), worker.ready_apps.begin(),
                                 worker.ready_apps.end());
    // Serving less than before is no improvement, unless what is missing is not wanted any more.
    for (const std::string& name : old.ready_apps) {
      if (worker.failed_apps.contains(name)) better = false;
    }
    if (RecyclingLoses(*old.pool, *seat, old, worker.spec.apps)) better = false;
    if (!better) {
      Retire(worker, "retry failed");
      return;
    }
    seat->incoming = 0;
    seat->current = worker.spec.id;
    old.seat = nullptr;
    if (old.outdated && rollout_ != nullptr) ++rollout_->replaced;
    Dispatch(worker);
    Retire(old, old.recycle ? "recycled" : "drained");
  } else {
    Dispatch(worker);
  }
  uint64_t limit = 0;
  for (const AppSettings& app : worker.spec.apps) {
    if (app.limits.max_requests == 0) continue;
    uint64_t mine = app.limits.max_requests +
                    static_cast<uint64_t>(chance_() * (static_cast<double>(app.limits.max_requests_jitter) + 1));
    limit = limit == 0 ? mine : std::min(limit, mine);
  }
  worker.calls_limit = limit;
  worker.memory_baseline = launcher_.Usage(worker.spec.id).resident_bytes;
  log_.Info(absl::StrCat(Name(worker), ": ready"), {{"apps", absl::StrJoin(worker.ready_apps, ",")},
                                                    {"after", errors::Seconds(worker.ready_at - worker.spawned_at)}});
  events_.OnEvent(EventOf(worker, "ready", &v1::Event::mutable_worker_ready));
}

void Supervisor::Dispatch(Worker& worker) {
  worker.dispatched = true;
  dispatcher_.AddWorker(worker.spec.id, worker.spec.pool->threads, {worker.ready_apps.begin(), worker.ready_apps.end()},
                        links_.Port(worker.spec.id));
}

void Supervisor::OnSlotFree(WorkerId id, uint64_t calls) {
  Worker* worker = Find(id);
  if (worker == nullptr || worker->phase != Phase::kReady || worker->recycle) return;
  uint64_t memory = std::numeric_limits<uint64_t>::max();
  for (const AppSettings& app : worker->spec.apps) {
    if (app.limits.max_memory > 0) memory = std::min(memory, app.limits.max_memory);
  }
  std::string why;
  if (worker->calls_limit > 0 && calls >= worker->calls_limit) why = absl::StrCat("max_requests: ", calls, " calls");
  if (why.empty() && memory != std::numeric_limits<uint64_t>::max()) {
    uint64_t now = launcher_.Usage(id).resident_bytes;
    if (now > worker->memory_baseline && now - worker->memory_baseline > memory) {
      why = absl::StrCat("max_memory: ", (now - worker->memory_baseline) >> 20, " MiB more than after init");
    }
  }
  if (why.empty()) return;
  worker->recycle = true;
  log_.Info(absl::StrCat(Name(*worker), ": recycling, ", why));
  // Not from within the dispatcher.
  timers_.Schedule(timers_.Now(), [this] { Reconcile(); });
}

void Supervisor::OnWorkerEnding(WorkerId id) {
  Worker* worker = Find(id);
  if (worker != nullptr && worker->phase == Phase::kInitialising && worker->booted) {  // its hook runs
    worker->told_to_end = true;
    return;
  }
  if (worker == nullptr || !worker->serves() || worker->seat == nullptr) return;
  if (worker->recycle || std::exchange(worker->told_to_end, true)) return;
  log_.Info(absl::StrCat(Name(*worker), ": recycling, somebody else told it to end"));
  worker->recycle_timer = timers_.Schedule(ReplaceAt(*worker), [this, id] {
    Worker& ready = *Find(id);
    ready.recycle_timer = 0;
    if (!ready.serves() || ready.seat == nullptr) return;  // it is on its way out
    ready.recycle = true;
    Reconcile();
  });
}

absl::Time Supervisor::ReplaceAt(Worker& worker) {
  if (!worker.replace_at.has_value()) {
    uint32_t& ends = worker.seat->early_ends;
    if (timers_.Now() - worker.ready_at >= kLasting) ends = 0;
    worker.replace_at = timers_.Now();
    if (ends++ > 0) *worker.replace_at += Backoff(settings_.restart, ends - 1, chance_());
  }
  return *worker.replace_at;
}

void Supervisor::Retire(Worker& worker, absl::string_view reason) {
  if (worker.seat != nullptr) {
    if (worker.seat->current == worker.spec.id) worker.seat->current = 0;
    if (worker.seat->incoming == worker.spec.id) worker.seat->incoming = 0;
    worker.seat = nullptr;
  }
  switch (worker.phase) {
    case Phase::kSpawned:
    case Phase::kInitialising:
      End(worker, reason, absl::StrCat("was ended (", reason, ")"), absl::ZeroDuration());
      break;
    case Phase::kReady:
      worker.phase = Phase::kDraining;
      worker.end_reason = std::string(reason);
      log_.Info(absl::StrCat(Name(worker), ": draining"), {{"reason", std::string(reason)}});
      events_.OnEvent(EventOf(worker, "draining", &v1::Event::mutable_worker_draining));
      dispatcher_.DrainWorker(worker.spec.id);
      if (!worker.dispatched) timers_.Schedule(timers_.Now(), [this, id = worker.spec.id] { OnWorkerIdle(id); });
      break;
    case Phase::kDraining:
    case Phase::kStopping:
      break;
  }
}

void Supervisor::OnWorkerIdle(WorkerId id) {
  Worker* worker = Find(id);
  // One without a link is told nothing: it is about to die or to be killed.
  if (worker == nullptr || worker->phase != Phase::kDraining || worker->link_broken) return;
  worker->phase = Phase::kStopping;
  links_.Drain(id);
  KillAfter(*worker, kCloseTimeout, "close() took too long");
  events_.OnSupervisorChanged();
}

void Supervisor::KillAfter(Worker& worker, absl::Duration time, const char* why) {
  timers_.Cancel(worker.end_timer);
  worker.end_timer = timers_.ScheduleIn(time, [this, id = worker.spec.id, time, why] {
    Worker* late = Find(id);
    late->end_timer = 0;
    log_.Warning(absl::StrCat(Name(*late), ": killed: ", why, ", ", errors::Seconds(time)));
    launcher_.Kill(id);
  });
}

void Supervisor::End(Worker& worker, absl::string_view reason, std::string detail, absl::Duration grace) {
  WorkerId id = worker.spec.id;
  dispatcher_.CutOffWorker(id);
  worker.phase = Phase::kStopping;
  // The first reason is the true one.
  if (worker.end_reason.empty()) {
    worker.end_reason = std::string(reason);
    worker.end_detail = std::move(detail);
  }
  timers_.Cancel(worker.boot_timer);
  timers_.Cancel(worker.notice_timer);
  timers_.Cancel(worker.ping_timer);
  timers_.Cancel(worker.end_timer);
  if (grace == absl::ZeroDuration()) {
    launcher_.Kill(id);
    return;
  }
  worker.end_timer = timers_.ScheduleIn(grace, [this, id] {
    Find(id)->end_timer = 0;
    launcher_.Kill(id);
  });
}

void Supervisor::OnCallStuck(WorkerId id, CallNumber call, const std::string& what) {
  Worker* worker = Find(id);
  if (worker == nullptr || worker->phase == Phase::kStopping) return;
  log_.Warning(absl::StrCat(Name(*worker), ": killed: ", what));
  worker->end_reason.clear();
  links_.DumpStacks(id, call);
  End(*worker, "timeout", absl::StrCat("was killed because ", what), kDumpGrace);
  events_.OnSupervisorChanged();
}

void Supervisor::OnLinkBroken(WorkerId id, const std::string& why) {
  Worker* worker = Find(id);
  if (worker == nullptr) return;
  timers_.Cancel(worker->ping_timer);
  if (worker->phase == Phase::kStopping) {
    // No ping tells any more whether it lives.
    if (worker->end_detail.empty()) KillAfter(*worker, kExitTimeout, "it did not exit after its apps were closed");
    return;
  }
  log_.Debug(absl::StrCat(Name(*worker), ": link broken: ", why));
  worker->link_broken = true;
  // If it is dying by itself, its exit says more than we know.
  dispatcher_.CutOffWorker(id);
  timers_.Cancel(worker->end_timer);
  worker->end_timer = timers_.ScheduleIn(kBrokenLinkGrace, [this, id, why] {
    Worker* alive = Find(id);
    alive->end_timer = 0;
    log_.Warning(absl::StrCat(Name(*alive), ": killed: its link broke: ", why));
    End(*alive, "link broken", absl::StrCat("was killed because its link broke (", why, ")"), absl::ZeroDuration());
  });
  events_.OnSupervisorChanged();
}

void Supervisor::OnExit(WorkerId id, const ExitStatus& status) {
  Worker* worker = Find(id);
  if (worker == nullptr) return;
  bool was_ready = worker->ready_at != absl::InfiniteFuture();
  bool expected = worker->phase == Phase::kStopping && worker->end_detail.empty();
  std::string how = worker->end_detail.empty()
                        ? absl::StrCat(status.signal != 0 ? "was " : "",
                                       status.out_of_memory ? "killed: out of memory" : status.Describe())
                        : worker->end_detail;
  std::string reason = worker->end_reason;
  if (status.out_of_memory && !expected) reason = "out of memory";
  if (reason.empty()) reason = !was_ready ? kCouldNotStart : status.signal != 0 ? "killed" : "exited";
  RecordExit(*worker, status, reason);

  v1::Error details;
  if (status.exit_code.has_value()) details.set_exit_code(*status.exit_code);
  details.set_signal(status.SignalName());
  for (const std::string& line : status.stderr_tail) details.add_stderr_tail(line);
  dispatcher_.LoseWorker(id, how, details);
  links_.Close(id);
  CancelTimers(*worker);

  // A hook that failed was charged already.
  if (!was_ready && !expected && !stopping_ && worker->end_reason != kCouldNotStart && worker->seat != nullptr) {
    std::string what =
        absl::StrCat("the worker ", how, worker->initialising.empty() ? " before its apps were ready" : "");
    if (!status.last_words.empty()) absl::StrAppend(&what, ": ", status.last_words);
    ChargeFailedStart(*worker, what);
  }
  if (Seat* seat = worker->seat) {
    if (seat->incoming == id) seat->incoming = 0;
    if (seat->current == id) {
      seat->current = 0;
      if (seat->incoming != 0) {
        // Its replacement is on the way already.
        seat->current = std::exchange(seat->incoming, 0);
      } else if (was_ready && !stopping_) {
        if (const absl::Time next = ReplaceAt(*worker); next > timers_.Now()) {
          seat->respawn_timer = timers_.Schedule(next, [this, seat] {
            seat->respawn_timer = 0;
            Reconcile();
          });
        }
      }
    }
  }
  // What it was to retry is retried elsewhere or again.
  for (const AppSettings& settings : worker->spec.apps) {
    auto it = apps_.find(settings.name);
    if (it != apps_.end() && it->second.probe == worker->seat) it->second.probe = nullptr;
  }
  workers_.erase(id);
  Reconcile();
  if (stopping_ && workers_.empty()) timers_.Schedule(timers_.Now(), [this] { events_.OnWorkersStopped(); });
}

void Supervisor::ChargeFailedStart(const Worker& worker, const std::string& what) {
  if (!worker.initialising.empty()) {
    AppBootFailed(worker.initialising, worker, what);
    return;
  }
  // Inits go in order, and the last frame of a process that crashes may be lost: after one app's init it is the next.
  if (!worker.ready_apps.empty() || !worker.failed_apps.empty()) {
    for (const AppSettings& app : worker.spec.apps) {
      if (worker.ready_apps.contains(app.name) || worker.failed_apps.contains(app.name)) continue;
      AppBootFailed(app.name, worker, what);
      return;
    }
  }
  // Before the first init, or after the last, nobody in particular is to blame: none of them could start. But where an
  // app is being retried, which has failed before, it is that one: what a process that crashes at once has told may be
  // lost altogether.
  auto suspect = [&](const AppSettings& app) {
    auto it = apps_.find(app.name);
    return it != apps_.end() && it->second.health.waits_for_retry();
  };
  const std::vector<AppSettings>& apps = worker.spec.apps;
  const bool retries = std::any_of(apps.begin(), apps.end(), suspect);
  for (const AppSettings& app : apps) {
    if (worker.failed_apps.contains(app.name) || (retries && !suspect(app))) continue;
    AppBootFailed(app.name, worker, what);
  }
}

void Supervisor::RecordExit(Worker& worker, const ExitStatus& status, const std::string& reason) {
  v1::WorkerExit exit;
  exit.set_worker_id(worker.spec.id);
  exit.set_pid(worker.pid);
  ToProto(absl::Now(), exit.mutable_time());
  exit.set_reason(reason);
  if (status.exit_code.has_value()) exit.set_exit_code(*status.exit_code);
  exit.set_signal(status.SignalName());
  ToProto(timers_.Now() - worker.spawned_at, exit.mutable_uptime());
  exit.set_calls(dispatcher_.CallsEnded(worker.spec.id));
  for (const std::string& line : status.stderr_tail) exit.add_stderr_tail(line);
  exit.set_last_words(status.last_words);
  exit.set_pool(worker.spec.pool->name);
  exit.set_index(worker.spec.index);
  // One that is not needed any more is killed where it has not started yet.
  const bool not_needed = worker.ready_at == absl::InfiniteFuture() && (reason == "drained" || reason == "shutdown");
  bool clean = worker.phase == Phase::kStopping && (status.exit_code == 0 || not_needed);
  v1::Event event;
  event.set_message(absl::StrCat(Name(worker), ": ", status.Describe(), " (", reason, ")"));
  *event.mutable_worker_exited() = exit;
  events_.OnEvent(std::move(event));
  if (!settings_.hooks.dirty_worker_exit.empty()) {
    v1::HookEvent told = HookEventOf(worker, "dirty_worker_exit");
    *told.mutable_exit() = exit;
    hooks_.Run(settings_.hooks.dirty_worker_exit, told, settings_.hook_timeout, [](const absl::Status&) {});
  }
  log_.Log(clean ? LogLevel::kInfo : LogLevel::kWarning,
           absl::StrCat(Name(worker), ": ", not_needed ? "stopped before it was ready" : status.Describe()),
           {{"reason", reason},
            {"uptime", errors::Seconds(timers_.Now() - worker.spawned_at)},
            {"calls", absl::StrCat(exit.calls())}});
  if (worker.spec.index >= worker.pool->seats.size()) return;
  std::deque<v1::WorkerExit>& exits = worker.pool->seats[worker.spec.index]->exits;
  exits.push_front(std::move(exit));
  if (exits.size() > kExitsKept) exits.pop_back();
}

// --- Timers of a worker ---

absl::Duration Supervisor::BootLimit(const Worker& worker) const {
  absl::Duration limit = absl::ZeroDuration();
  for (const AppSettings& app : worker.spec.apps) limit = std::max(limit, app.limits.boot_timeout);
  return limit;
}

void Supervisor::ArmBootTimer(Worker& worker, absl::Duration limit, std::string what) {
  timers_.Cancel(worker.boot_timer);
  worker.boot_timer = timers_.ScheduleIn(limit, [this, id = worker.spec.id, limit, what = std::move(what)] {
    Worker& late = *Find(id);
    late.boot_timer = 0;
    std::string detail =
        absl::StrCat("was killed because it took longer than boot_timeout (", errors::Seconds(limit), ") ", what);
    log_.Error(absl::StrCat(Name(late), ": ", detail));
    links_.DumpStacks(id, 0);
    End(late, "boot timeout", std::move(detail), kDumpGrace);
  });
}

void Supervisor::ArmNotice(WorkerId id) {
  Worker* worker = Find(id);
  timers_.Cancel(worker->notice_timer);
  worker->notice_timer = timers_.ScheduleIn(kNoticeInterval, [this, id] {
    Worker& slow = *Find(id);
    slow.notice_timer = 0;
    log_.Info(absl::StrCat(Name(slow), ": initialising ", slow.initialising, ", ",
                           errors::Seconds(timers_.Now() - slow.phase_since)));
    ArmNotice(id);
  });
}

void Supervisor::SendPing(WorkerId id) {
  Worker* worker = Find(id);
  worker->ping_timer = timers_.ScheduleIn(settings_.heartbeat_interval, [this, id] {
    Worker& target = *Find(id);
    target.ping_timer = 0;
    // Counted in intervals, not by the clock: if this process was stopped itself, nobody else is to blame.
    absl::Duration silent = settings_.heartbeat_interval * static_cast<double>(target.pings_unanswered);
    if (silent >= settings_.heartbeat_timeout) {
      std::string detail = absl::StrCat("was killed because it answered no heartbeat for ", errors::Seconds(silent));
      log_.Error(absl::StrCat(Name(target), ": ", detail));
      target.end_reason.clear();  // more than that it drains
      End(target, "heartbeat", std::move(detail), absl::ZeroDuration());
      return;
    }
    ++target.pings_unanswered;
    links_.Ping(id, target.pings_unanswered);
    SendPing(id);
  });
}

void Supervisor::OnPong(WorkerId id, uint64_t) {
  if (Worker* worker = Find(id)) worker->pings_unanswered = 0;
}

void Supervisor::CancelTimers(Worker& worker) {
  timers_.Cancel(worker.boot_timer);
  timers_.Cancel(worker.notice_timer);
  timers_.Cancel(worker.ping_timer);
  timers_.Cancel(worker.end_timer);
  timers_.Cancel(worker.recycle_timer);
}

}  // namespace dirty
