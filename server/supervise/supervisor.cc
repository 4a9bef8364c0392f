#include "server/supervise/supervisor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace dirty {

Supervisor::Supervisor(TimerQueue& timers, WorkerLauncher& launcher, WorkerLinks& links, Dispatcher& dispatcher,
                       Events& events, Logger& log, std::function<double()> chance)
    : timers_(timers),
      launcher_(launcher),
      links_(links),
      dispatcher_(dispatcher),
      events_(events),
      log_(log),
      chance_(std::move(chance)) {}

Supervisor::~Supervisor() {
  for (auto& [id, worker] : workers_) CancelTimers(*worker);
  for (auto& pool : pools_) {
    for (auto& seat : pool->seats) timers_.Cancel(seat->respawn_timer);
  }
  for (auto& [name, app] : apps_) {
    timers_.Cancel(app.retry_timer);
    timers_.Cancel(app.lasted_timer);
  }
}

// --- What is desired ---

void Supervisor::Configure(const Settings& settings) {
  ++generation_;
  settings_ = settings;
  for (auto& pool : pools_) pool->removed = true;
  app_order_.clear();
  for (const PoolSettings& wanted : settings.pools) {
    auto it =
        std::find_if(pools_.begin(), pools_.end(), [&](auto& pool) { return pool->settings->name == wanted.name; });
    if (it == pools_.end()) it = pools_.insert(pools_.end(), std::make_unique<Pool>());
    Pool& pool = **it;
    pool.removed = false;
    if (pool.settings == nullptr || !(*pool.settings == wanted)) {
      pool.settings = std::make_shared<const PoolSettings>(wanted);
      pool.generation = generation_;
    }
    pool.desired = wanted.workers;
    for (const AppSettings& app : wanted.apps) {
      app_order_.push_back(app.name);
      App& entry = apps_[app.name];
      entry.pool = &pool;
      entry.probe = nullptr;
      if (wanted.workers == 0) {
        entry.health.Disable("workers is 0");
      } else if (entry.health.waits_for_retry()) {
        entry.health.Reset();
      }
    }
  }
  for (auto it = apps_.begin(); it != apps_.end();) {
    if (std::find(app_order_.begin(), app_order_.end(), it->first) != app_order_.end()) {
      ++it;
      continue;
    }
    timers_.Cancel(it->second.retry_timer);
    timers_.Cancel(it->second.lasted_timer);
    it = apps_.erase(it);
  }
  for (auto& pool : pools_) {
    if (pool->removed) pool->desired = 0;
  }
  Reconcile();
}

bool Supervisor::Scale(absl::string_view name, uint32_t workers) {
  for (auto& pool : pools_) {
    if (pool->removed || pool->settings->name != name) continue;
    pool->desired = workers;
    Reconcile();
    return true;
  }
  return false;
}

bool Supervisor::Assigned(const Pool& pool, const Seat& seat, const AppSettings& app) const {
  if (!app.workers.has_value() || *app.workers >= pool.desired) return true;
  // Apps that want few workers are laid out one after the other, so that they share seats as little as they can.
  uint64_t start = 0;
  for (const AppSettings& other : pool.settings->apps) {
    if (other.name == app.name) break;
    if (other.workers.has_value()) start += *other.workers;
  }
  return (seat.index + pool.desired - start % pool.desired) % pool.desired < *app.workers;
}

std::vector<AppSettings> Supervisor::Wanted(const Pool& pool, const Seat& seat) const {
  std::vector<AppSettings> wanted;
  for (const AppSettings& app : pool.settings->apps) {
    if (!Assigned(pool, seat, app)) continue;
    const App& entry = apps_.find(app.name)->second;
    if (entry.health.waits_for_retry() && entry.probe != &seat) continue;
    wanted.push_back(app);
  }
  return wanted;
}

bool Supervisor::IsStale(const Pool& pool, const Seat& seat, const Worker& worker,
                         const std::vector<AppSettings>& wanted) const {
  if (worker.recycle || worker.spec.generation != pool.generation) return true;
  for (const AppSettings& app : wanted) {
    if (!worker.ready_apps.contains(app.name)) return true;
  }
  for (const std::string& name : worker.ready_apps) {
    const AppSettings* app = FindSettings(pool, name);
    if (app == nullptr || !Assigned(pool, seat, *app)) return true;
  }
  return false;
}

// --- Reconciling ---

void Supervisor::Reconcile() {
  if (!stopping_) {
    for (auto& pool : pools_) ReconcilePool(*pool);
  }
  std::erase_if(pools_, [&](auto& pool) { return pool->removed && ProcessesOf(*pool) == 0; });
  UpdateAvailability();
  events_.OnSupervisorChanged();
}

void Supervisor::ChooseProbes(Pool& pool) {
  for (const AppSettings& settings : pool.settings->apps) {
    App& app = apps_.find(settings.name)->second;
    if (app.pool != &pool || !app.health.waits_for_retry() || app.probe != nullptr) continue;
    if (app.health.retry_at() > timers_.Now()) {
      if (app.retry_timer == 0) {
        app.retry_timer = timers_.Schedule(app.health.retry_at(), [this, &app] {
          app.retry_timer = 0;
          Reconcile();
        });
      }
      continue;
    }
    for (auto& seat : pool.seats) {
      if (seat->index >= pool.desired || !Assigned(pool, *seat, settings)) continue;
      // An empty seat costs nobody anything.
      if (app.probe == nullptr || (app.probe->current != 0 && seat->current == 0)) app.probe = seat.get();
    }
  }
}

void Supervisor::ReconcilePool(Pool& pool) {
  while (pool.seats.size() < pool.desired) {
    pool.seats.push_back(std::make_unique<Seat>());
    pool.seats.back()->index = static_cast<uint32_t>(pool.seats.size() - 1);
  }
  for (auto& seat : pool.seats) {
    if (seat->index < pool.desired) continue;
    if (Worker* worker = Find(seat->incoming)) Retire(*worker, "drained");
    if (Worker* worker = Find(seat->current)) Retire(*worker, "drained");
    timers_.Cancel(seat->respawn_timer);
  }
  if (pool.removed) return;
  ChooseProbes(pool);

  uint32_t surge = pool.settings->surge;
  for (auto& owned : pool.seats) {
    Seat& seat = *owned;
    if (seat.index >= pool.desired) continue;
    std::vector<AppSettings> wanted = Wanted(pool, seat);
    if (wanted.empty()) continue;
    if (seat.current == 0) {
      if (seat.respawn_timer == 0 && ProcessesOf(pool) < pool.desired + surge) {
        seat.current = Spawn(pool, seat, std::move(wanted));
      }
      continue;
    }
    Worker& current = *Find(seat.current);
    if (current.phase != Phase::kReady || seat.incoming != 0 || !IsStale(pool, seat, current, wanted)) continue;
    if (surge > 0) {
      if (ProcessesOf(pool) < pool.desired + surge) seat.incoming = Spawn(pool, seat, std::move(wanted));
      continue;
    }
    // Without surge one worker at a time makes room, while all the others are ready.
    bool others_ready = std::all_of(pool.seats.begin(), pool.seats.end(), [&](auto& other) {
      const Worker* worker = Find(other->current);
      return other->index >= pool.desired || (worker != nullptr && worker->phase == Phase::kReady) ||
             Wanted(pool, *other).empty();
    });
    if (others_ready && ProcessesOf(pool) <= pool.desired) Retire(current, current.recycle ? "recycled" : "drained");
  }
}

void Supervisor::UpdateAvailability() {
  for (auto& [name, app] : apps_) {
    bool served = HasReadyWorker(name).value_or(false);
    bool available = served || app.health.state() != v1::AppStatus::FAILED;
    std::string why = app.health.reason();
    if (why.empty() && !served) why = "no worker is ready yet";
    dispatcher_.SetAvailable(name, available, why);
  }
}

WorkerId Supervisor::Spawn(Pool& pool, Seat& seat, std::vector<AppSettings> apps) {
  auto owned = std::make_unique<Worker>();
  Worker& worker = *owned;
  WorkerId id = next_id_++;
  worker.spec.id = id;
  worker.spec.index = seat.index;
  worker.spec.generation = pool.generation;
  worker.spec.pool = pool.settings;
  worker.spec.apps = std::move(apps);
  worker.pool = &pool;
  worker.seat = &seat;
  worker.spawned_at = worker.phase_since = timers_.Now();
  worker.spawned_wall = absl::Now();
  absl::StatusOr<pid_t> pid = launcher_.Launch(worker.spec);
  workers_.emplace(id, std::move(owned));
  if (!pid.ok()) {
    // As if it had started and ended at once, but not from within this call.
    timers_.Schedule(timers_.Now(), [this, id, message = std::string(pid.status().message())] {
      ExitStatus status;
      status.exit_code = 127;
      status.stderr_tail = {message};
      OnExit(id, status);
    });
    return id;
  }
  worker.pid = *pid;
  log_.Info(absl::StrCat(Name(worker), ": spawned"),
            {{"pool", pool.settings->name}, {"index", absl::StrCat(seat.index)}});
  ArmBootTimer(worker, BootLimit(worker), "to listen on its socket");
  return id;
}

// --- Shutdown ---

void Supervisor::Stop() {
  if (std::exchange(stopping_, true)) return;
  for (auto& pool : pools_) {
    for (auto& seat : pool->seats) timers_.Cancel(seat->respawn_timer);
  }
  std::vector<WorkerId> ids;
  for (auto& [id, worker] : workers_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (WorkerId id : ids) Retire(*Find(id), "shutdown");
  if (workers_.empty()) timers_.Schedule(timers_.Now(), [this] { events_.OnWorkersStopped(); });
}

void Supervisor::KillAll(absl::string_view reason) {
  stopping_ = true;
  for (auto& [id, worker] : workers_) {
    End(*worker, reason, "was shut down", absl::ZeroDuration());
  }
}

// --- Finding ---

Supervisor::Worker* Supervisor::Find(WorkerId id) {
  auto it = workers_.find(id);
  return it == workers_.end() ? nullptr : it->second.get();
}

const Supervisor::Worker* Supervisor::Find(WorkerId id) const {
  auto it = workers_.find(id);
  return it == workers_.end() ? nullptr : it->second.get();
}

const AppSettings* Supervisor::FindSettings(const Pool& pool, absl::string_view app) const {
  for (const AppSettings& settings : pool.settings->apps) {
    if (settings.name == app) return &settings;
  }
  return nullptr;
}

uint32_t Supervisor::ProcessesOf(const Pool& pool) const {
  return static_cast<uint32_t>(
      std::count_if(workers_.begin(), workers_.end(), [&](auto& entry) { return entry.second->pool == &pool; }));
}

std::string Supervisor::Name(const Worker& worker) const {
  return absl::StrCat("worker ", worker.spec.id, " (pid ", worker.pid, ")");
}

}  // namespace dirty
