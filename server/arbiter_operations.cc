// What operators ask of the arbiter, and what they are told: reloads, restarts, scaling, cancels, logs, events.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "server/arbiter.h"
#include "server/config/changes.h"
#include "server/dispatch/proto_time.h"

namespace dirty {
namespace {

// Of QUEUE_FULL there may be thousands a second.
constexpr absl::Duration kQueueFullInterval = absl::Seconds(1);

}  // namespace

// --- Reload ---

void Arbiter::Reload(const v1::ReloadRequest& request, absl::string_view why, Done<v1::ReloadResponse> done) {
  if (shutting_down()) return done(absl::AbortedError("dirtyd is shutting down"));
  if (reloading_ || supervisor_.Replacing()) {
    return done(absl::AbortedError("another reload or restart is under way; dirtyctl watch shows it"));
  }
  bool everything = request.pools().empty() && request.apps().empty();
  log_.Info("reloading", {{"because", std::string(why)}});
  reloading_ = true;
  if (host_.on_changed) host_.on_changed();
  if (!everything || !host_.read_settings) return RollOut(request, std::nullopt, {}, std::move(done));
  host_.read_settings([this, done = std::move(done)](absl::StatusOr<Settings> read) mutable {
    OnSettingsRead(std::move(read), std::move(done));
  });
}

void Arbiter::OnSettingsRead(absl::StatusOr<Settings> read, Done<v1::ReloadResponse> done) {
  if (shutting_down()) return EndReload(absl::AbortedError("dirtyd is shutting down"), done);
  if (!read.ok()) return EndReload(read.status(), done);
  Settings running = settings_;
  v1::ReloadResponse response;
  for (PoolSettings& pool : running.pools) {
    uint32_t scaled = supervisor_.DesiredWorkers(pool.name);
    if (std::exchange(pool.workers, scaled) == scaled) continue;
    response.add_changes(absl::StrCat("pool ", pool.name, ": what scale had set (", scaled, ") ends"));
  }
  Changes changes = Compare(running, *read);
  response.mutable_changes()->Add(changes.applied.begin(), changes.applied.end());
  response.mutable_needs_restart()->Assign(changes.needs_restart.begin(), changes.needs_restart.end());
  RollOut({}, std::move(changes.settings), std::move(response), std::move(done));
}

void Arbiter::RollOut(const v1::ReloadRequest& request, std::optional<Settings> settings, v1::ReloadResponse response,
                      Done<v1::ReloadResponse> done) {
  Supervisor::Rollout rollout;
  rollout.reload = true;
  rollout.settings = settings.has_value() ? &*settings : nullptr;
  rollout.pools.assign(request.pools().begin(), request.pools().end());
  rollout.apps.assign(request.apps().begin(), request.apps().end());
  absl::Status begun = supervisor_.Replace(
      rollout, [this, settings, response = std::move(response), done](const Supervisor::RolloutResult& result) mutable {
        if (!result.status.ok()) return EndReload(result.status, done);
        if (settings.has_value()) {
          settings_ = *settings;
          log_level_ = settings_.log_level;
          if (host_.on_settings) host_.on_settings(settings_);
        }
        response.set_generation(supervisor_.generation());
        for (const std::string& line : result.still_failing) response.add_changes(line);
        response.add_changes(absl::StrCat("workers replaced: ", result.replaced));
        EndReload(std::move(response), done);
      });
  if (!begun.ok()) EndReload(begun, done);
}

void Arbiter::EndReload(const absl::StatusOr<v1::ReloadResponse>& result, const Done<v1::ReloadResponse>& done) {
  reloading_ = false;
  v1::ReloadOutcome& outcome = last_reload_.emplace();
  ToProto(absl::Now(), outcome.mutable_time());
  outcome.set_ok(result.ok());
  v1::Event event;
  if (result.ok()) {
    std::vector<std::string> lines(result->changes().begin(), result->changes().end());
    for (const std::string& line : result->needs_restart()) {
      log_.Warning(absl::StrCat("changed in the configuration, but needs a restart of dirtyd: ", line));
      lines.push_back(absl::StrCat("needs a restart: ", line));
    }
    outcome.set_message(absl::StrJoin(lines, "; "));
    event.set_message(absl::StrCat("reloaded, generation ", result->generation(), ": ", outcome.message()));
    log_.Info(event.message());
  } else {
    outcome.set_message(std::string(result.status().message()));
    event.set_message(absl::StrCat("reload failed, everything goes on as before: ",
                                   absl::StrReplaceAll(outcome.message(), {{"\n", "; "}})));
    log_.Error("reload failed, everything goes on as before");
    for (absl::string_view line : absl::StrSplit(outcome.message(), '\n', absl::SkipEmpty())) log_.Error(line);
  }
  *event.mutable_reloaded() = outcome;
  OnEvent(std::move(event));
  if (host_.on_changed) host_.on_changed();
  done(result);
  if (std::exchange(reload_again_, false) && !shutting_down()) ReloadSoon("asked again meanwhile");
}

void Arbiter::ReloadSoon(absl::string_view why) {
  if (reloading_ || supervisor_.Replacing()) {
    reload_again_ = true;
    return log_.Info("another reload follows the one under way", {{"because", std::string(why)}});
  }
  Reload({}, why, [](const absl::StatusOr<v1::ReloadResponse>&) {});
}

// --- Workers ---

void Arbiter::Restart(const v1::RestartRequest& request, Done<v1::RestartResponse> done) {
  if (reloading_) return done(absl::AbortedError("a reload is under way; dirtyctl watch shows it"));
  Supervisor::Rollout rollout;
  rollout.worker = request.worker_id();
  absl::Status begun = supervisor_.Replace(rollout, [this, done](const Supervisor::RolloutResult& result) {
    v1::RestartResponse response;
    response.set_replaced(result.replaced);
    response.mutable_still_failing()->Assign(result.still_failing.begin(), result.still_failing.end());
    done(result.status.ok() ? absl::StatusOr<v1::RestartResponse>(response) : result.status);
    if (std::exchange(reload_again_, false) && !shutting_down()) ReloadSoon("asked meanwhile");
  });
  if (!begun.ok()) done(begun);
}

std::string Arbiter::DefaultPool() const {
  for (const PoolSettings& pool : settings_.pools) {
    if (pool.name == "default") return pool.name;
  }
  return settings_.pools.front().name;
}

absl::StatusOr<v1::ScaleResponse> Arbiter::Scale(const v1::ScaleRequest& request) {
  if (shutting_down()) return absl::AbortedError("dirtyd is shutting down");
  absl::StatusOr<uint32_t> before =
      supervisor_.Scale(request.pool().empty() ? DefaultPool() : request.pool(), request.workers());
  if (!before.ok()) return before.status();
  v1::ScaleResponse response;
  response.set_previous_workers(*before);
  response.set_workers(request.workers());
  return response;
}

void Arbiter::ScaleBy(int workers, absl::string_view why) {
  std::string pool = DefaultPool();
  uint32_t now = supervisor_.DesiredWorkers(pool);
  uint32_t fewest = supervisor_.FewestWorkers(pool);
  v1::ScaleRequest request;
  request.set_pool(pool);
  request.set_workers(
      std::max<uint32_t>(fewest, now + static_cast<uint32_t>(std::max(workers, -static_cast<int>(now)))));
  if (workers < 0 && now <= fewest) {
    return log_.Info(absl::StrCat("pool ", pool, ": stays at ", now, ", the fewest workers for its apps"),
                     {{"because", std::string(why)}});
  }
  if (absl::StatusOr<v1::ScaleResponse> scaled = Scale(request); !scaled.ok()) {
    log_.Warning(absl::StrCat("not scaled: ", scaled.status().message()), {{"because", std::string(why)}});
  }
}

absl::StatusOr<v1::CancelResponse> Arbiter::Cancel(const v1::CancelRequest& request) {
  bool was_running = false;
  if (!dispatcher_.Cancel(request.call_id(), &was_running)) {
    return absl::NotFoundError(absl::StrCat("there is no call ", request.call_id(), ", or it has ended"));
  }
  log_.Info("call cancelled by an operator", {{"call", request.call_id()}});
  v1::CancelResponse response;
  response.set_was_running(was_running);
  return response;
}

// --- Logs and events ---

absl::StatusOr<v1::SetLogLevelResponse> Arbiter::SetLogLevel(const v1::SetLogLevelRequest& request) {
  LogLevel level;
  if (!ParseLogLevel(request.level(), &level)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", request.level().substr(0, 64), "\" is not a level; use debug, info, warning or error"));
  }
  v1::SetLogLevelResponse response;
  response.set_previous_level(std::exchange(log_level_, request.level()));
  if (host_.set_log_level) host_.set_log_level(level);
  log_.Info(absl::StrCat("log level: ", response.previous_level(), " -> ", log_level_));
  return response;
}

void Arbiter::ReopenLogs(absl::string_view why) {
  if (host_.reopen_logs) host_.reopen_logs();
  supervisor_.ReopenLogs();
  log_.Info("logs reopened", {{"because", std::string(why)}});
}

void Arbiter::CountEvent(const v1::Event& event) {
  if (event.has_worker_spawned()) ++counted_.worker_starts[event.worker_spawned().pool()];
  if (event.has_worker_exited()) {
    const v1::WorkerExit& exit = event.worker_exited();
    ++counted_.worker_exits[{exit.pool(), exit.reason()}];
  }
  if (event.has_reloaded()) ++(event.reloaded().ok() ? counted_.reloads : counted_.failed_reloads);
}

void Arbiter::OnEvent(v1::Event event) {
  CountEvent(event);
  if (watchers_.empty()) return;
  ToProto(absl::Now(), event.mutable_time());
  auto shared = std::make_shared<const v1::Event>(std::move(event));
  for (Watcher* watcher : std::vector<Watcher*>(watchers_)) watcher->OnEvent(shared);
}

void Arbiter::TellQueueFull(const CallRecord& record) {
  if (watchers_.empty()) return;
  absl::Time now = timers_.Now();
  absl::Time& told = queue_full_told_.try_emplace(record.error->app(), absl::InfinitePast()).first->second;
  if (now - told < kQueueFullInterval) return;
  told = now;
  v1::Event event;
  event.set_message(absl::StrCat("queue full: ", record.error->message(), record.trace_id.empty() ? "" : "; trace ",
                                 record.trace_id));
  *event.mutable_queue_full() = *record.error;
  OnEvent(std::move(event));
}

}  // namespace dirty
