// Rolling changes: reloads and restarts. A rollout marks workers as outdated and lets Reconcile replace them; it is
// over when none is left, and rolled back when a new worker, or an app in it, does not start.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/supervise/supervisor.h"
#include "server/supervise/supervisor_state.h"

namespace dirty {

absl::Status Supervisor::CheckScope(const Rollout& rollout) const {
  for (const std::string& pool : rollout.pools) {
    if (FindPool(pool) == nullptr) return absl::NotFoundError(absl::StrCat("there is no pool ", pool));
  }
  for (const std::string& app : rollout.apps) {
    if (!apps_.contains(app)) return absl::NotFoundError(absl::StrCat("there is no app ", app));
  }
  if (rollout.worker == 0) return absl::OkStatus();
  const Worker* worker = Find(rollout.worker);
  if (worker == nullptr) return absl::NotFoundError(absl::StrCat("there is no worker ", rollout.worker));
  if (worker->seat == nullptr) {
    return absl::NotFoundError(absl::StrCat("worker ", rollout.worker, " is on its way out already"));
  }
  return absl::OkStatus();
}

bool Supervisor::InScope(const Rollout& rollout, const Worker& worker) const {
  if (rollout.worker != 0) return worker.spec.id == rollout.worker;
  if (rollout.pools.empty() && rollout.apps.empty()) return true;
  if (std::find(rollout.pools.begin(), rollout.pools.end(), worker.spec.pool->name) != rollout.pools.end()) return true;
  return std::any_of(worker.spec.apps.begin(), worker.spec.apps.end(), [&](const AppSettings& app) {
    return std::find(rollout.apps.begin(), rollout.apps.end(), app.name) != rollout.apps.end();
  });
}

void Supervisor::GiveNewChance(App& app, const Pool& pool) {
  if (pool.desired == 0 || !app.health.waits_for_retry()) return;
  timers_.Cancel(app.retry_timer);
  app.probe = nullptr;
  app.health.Reset();
}

absl::Status Supervisor::Replace(const Rollout& rollout, std::function<void(const RolloutResult&)> done) {
  if (stopping_) return absl::AbortedError("dirtyd is shutting down");
  if (rollout_ != nullptr) return absl::AbortedError("another reload or restart is under way");
  if (absl::Status status = CheckScope(rollout); !status.ok()) return status;

  rollout_ = std::make_unique<RolloutState>();
  RolloutState& state = *rollout_;
  for (const auto& [name, app] : apps_) {
    state.app_workers[name] = app.workers;
    if (app.health.waits_for_retry() && !app.health.disabled() && !Serves(name)) state.failing.insert(name);
  }
  state.before = settings_;
  for (PoolSettings& pool : state.before->pools) pool.workers = DesiredWorkers(pool.name);
  state.generation_before = generation_;
  state.done = std::move(done);
  if (rollout.reload) generation_ = ++last_generation_;
  if (rollout.settings != nullptr) Configure(*rollout.settings, /*let_go=*/false);
  for (auto& [id, worker] : workers_) {
    worker->of_rollout = false;
    if (worker->seat == nullptr || worker->pool->leaving || !InScope(rollout, *worker)) continue;
    worker->outdated = true;
    state.pools.insert(worker->pool);
    if (rollout.worker != 0) state.seat = worker->seat;
    // One that still starts is of no use to anybody.
    if (worker->phase == Phase::kSpawned || worker->phase == Phase::kInitialising) Retire(*worker, "drained");
  }
  for (auto& pool : pools_) {
    if (pool->leaving || pool->removed) continue;
    bool everything = rollout.worker == 0 && rollout.pools.empty() && rollout.apps.empty();
    bool named = std::find(rollout.pools.begin(), rollout.pools.end(), pool->settings->name) != rollout.pools.end();
    if (everything || named) state.pools.insert(pool.get());
    for (const AppSettings& settings : pool->settings->apps) {
      bool app_named = std::find(rollout.apps.begin(), rollout.apps.end(), settings.name) != rollout.apps.end();
      if (app_named) state.pools.insert(pool.get());
      if (everything || named || app_named) GiveNewChance(apps_.find(settings.name)->second, *pool);
    }
    if (!state.pools.contains(pool.get())) continue;
    for (auto& seat : pool->seats) {
      timers_.Cancel(seat->respawn_timer);
      seat->respawn_timer = 0;
      seat->early_ends = 0;
    }
  }
  v1::Event event;
  event.set_rolling(rollout.reload ? generation_ : 0);
  event.set_message(rollout.reload ? absl::StrCat("rolling out generation ", generation_)
                                   : std::string("restarting workers, new ones first"));
  log_.Info(event.message());
  events_.OnEvent(std::move(event));
  Reconcile();
  return absl::OkStatus();
}

bool Supervisor::RolloutIsComplete() const {
  for (const auto& pool : pools_) {
    if (!rollout_->pools.contains(pool.get()) || pool->removed || pool->leaving) continue;
    for (const auto& seat : pool->seats) {
      if (seat->index >= pool->desired || (rollout_->seat != nullptr && rollout_->seat != seat.get())) continue;
      const Worker* current = Find(seat->current);
      bool hopeless = current == nullptr && Wanted(*pool, *seat).empty();  // none of its apps starts
      if (!hopeless && (current == nullptr || current->phase != Phase::kReady || current->outdated)) return false;
    }
  }
  return true;
}

bool Supervisor::RolloutFailed() const { return rollout_ != nullptr && !rollout_->failure.empty(); }

void Supervisor::FailRollout(std::string why) {
  if (rollout_->failure.empty()) rollout_->failure = std::move(why);
  CheckRollout();
}

// Its end is told later: whoever brought it about is still at work.
void Supervisor::CheckRollout() {
  if (rollout_ == nullptr || rollout_->end_timer != 0) return;
  if (rollout_->failure.empty() && !RolloutIsComplete()) return;
  rollout_->end_timer = timers_.Schedule(timers_.Now(), [this] {
    rollout_->end_timer = 0;
    if (!rollout_->failure.empty() || RolloutIsComplete()) EndRollout();
  });
}

void Supervisor::EndRollout() {
  std::unique_ptr<RolloutState> state = std::move(rollout_);
  RolloutResult result;
  result.replaced = state->replaced;
  if (stopping_) {
    result.status = absl::AbortedError("dirtyd is shutting down");
  } else if (!state->failure.empty()) {
    result.status = absl::FailedPreconditionError(state->failure);
    generation_ = state->generation_before;
    Configure(*state->before, /*let_go=*/true);
    for (const auto& [name, workers] : state->app_workers) {
      if (auto it = apps_.find(name); it != apps_.end()) it->second.workers = workers;
    }
    RollBack();
    Reconcile();
  } else {
    LetGo();
    for (const auto& [name, app] : apps_) {
      if (state->failing.contains(name) && app.health.waits_for_retry()) {
        result.still_failing.push_back(absl::StrCat(name, " does not start: ", app.health.reason()));
      }
    }
    Reconcile();
  }
  state->done(result);
}

// With the settings of before: the workers of before are as they should be; a new one is if its settings did not
// differ.
void Supervisor::RollBack() {
  std::vector<WorkerId> starting;
  for (auto& [id, worker] : workers_) {
    if (worker->seat == nullptr) continue;
    PoolSettings its = *worker->spec.pool;
    its.workers = worker->pool->settings->workers;  // Scale changes it without replacing anybody
    worker->outdated = worker->of_rollout && !(its == *worker->pool->settings);
    bool booting = worker->phase == Phase::kSpawned || worker->phase == Phase::kInitialising;
    if (worker->of_rollout && booting) starting.push_back(id);
    worker->of_rollout = false;
  }
  for (WorkerId id : starting) Retire(*Find(id), "reload failed");
}

}  // namespace dirty
