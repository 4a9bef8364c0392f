#include "server/supervise/supervisor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/supervise/supervisor_state.h"

namespace dirty {
namespace {

// Each is a process: a slip of the finger must not take the machine down.
constexpr uint32_t kMostWorkers = 10'000;

}  // namespace

Supervisor::Supervisor(World world)
    : timers_(world.timers),
      launcher_(world.launcher),
      links_(world.links),
      hooks_(world.hooks),
      dispatcher_(world.dispatcher),
      events_(world.events),
      log_(world.log),
      chance_(std::move(world.chance)),
      hook_event_(std::move(world.hook_event)) {}

Supervisor::~Supervisor() {
  for (auto& [id, worker] : workers_) CancelTimers(*worker);
  for (auto& pool : pools_) {
    for (auto& seat : pool->seats) timers_.Cancel(seat->respawn_timer);
  }
  for (auto& [name, app] : apps_) {
    timers_.Cancel(app.retry_timer);
    timers_.Cancel(app.lasted_timer);
  }
  if (rollout_ != nullptr) timers_.Cancel(rollout_->end_timer);
}

// --- What is desired ---

void Supervisor::Start(const Settings& settings) {
  generation_ = ++last_generation_;
  Configure(settings, /*let_go=*/true);
  Reconcile();
}

void Supervisor::Configure(const Settings& settings, bool let_go) {
  settings_ = settings;
  for (auto& pool : pools_) pool->leaving = true;
  app_order_.clear();
  std::vector<std::unique_ptr<Pool>> order;
  for (const PoolSettings& wanted : settings.pools) {
    auto it = std::find_if(pools_.begin(), pools_.end(),
                           [&](auto& pool) { return pool != nullptr && pool->settings->name == wanted.name; });
    order.push_back(it == pools_.end() ? std::make_unique<Pool>() : std::move(*it));
    Pool& pool = *order.back();
    pool.leaving = pool.removed = false;
    pool.settings = std::make_shared<const PoolSettings>(wanted);
    pool.desired = wanted.workers;
    for (const AppSettings& app : wanted.apps) {
      app_order_.push_back(app.name);
      App& entry = apps_[app.name];
      entry.pool = &pool;
      entry.probe = nullptr;
      if (wanted.workers == 0) {
        entry.health.Disable("workers is 0");
      } else if (entry.health.disabled()) {
        entry.health.Reset();
      }
    }
  }
  for (auto& pool : pools_) {
    if (pool != nullptr) order.push_back(std::move(pool));
  }
  pools_ = std::move(order);
  std::set<std::string> leaving;
  for (auto it = apps_.begin(); it != apps_.end();) {
    if (std::find(app_order_.begin(), app_order_.end(), it->first) != app_order_.end()) {
      ++it;
      continue;
    }
    leaving.insert(it->first);
    timers_.Cancel(it->second.retry_timer);
    timers_.Cancel(it->second.lasted_timer);
    it = apps_.erase(it);
  }
  dispatcher_.Configure(settings.pools, settings.max_message_size, leaving);
  if (let_go) LetGo();
}

// What is not configured any more goes.
void Supervisor::LetGo() {
  dispatcher_.Configure(settings_.pools, settings_.max_message_size);
  for (auto& pool : pools_) {
    if (!pool->leaving) continue;
    pool->leaving = false;
    pool->removed = true;
    pool->desired = 0;
  }
}

Supervisor::Pool* Supervisor::FindPool(absl::string_view name) const {
  for (auto& pool : pools_) {
    if (!pool->removed && !pool->leaving && pool->settings->name == name) return pool.get();
  }
  return nullptr;
}

absl::StatusOr<uint32_t> Supervisor::Scale(absl::string_view name, uint32_t workers) {
  Pool* pool = FindPool(name);
  if (pool == nullptr) return absl::NotFoundError(absl::StrCat("there is no pool ", name));
  if (workers > kMostWorkers) return absl::InvalidArgumentError(absl::StrCat("at most ", kMostWorkers, " workers"));
  for (const AppSettings& app : pool->settings->apps) {
    if (workers > 0 && app.workers.value_or(0) > workers) {
      return absl::InvalidArgumentError(absl::StrCat("pool ", name, ": ", workers,
                                                     workers == 1 ? " worker is" : " workers are", " fewer than the ",
                                                     *app.workers, " of app ", app.name));
    }
  }
  uint32_t before = std::exchange(pool->desired, workers);
  if (before == workers) return before;
  if (rollout_ != nullptr) {  // one that is rolled back keeps this
    for (PoolSettings& old : rollout_->before->pools) {
      if (old.name == name) old.workers = workers;
    }
  }
  for (const AppSettings& app : pool->settings->apps) {
    AppHealth& health = apps_.find(app.name)->second.health;
    if (workers == 0) health.Disable("workers is 0");
    if (before == 0) health.Reset();
  }
  v1::Event event;
  event.set_message(absl::StrCat("pool ", name, ": workers ", before, " -> ", workers));
  event.mutable_scaled()->set_name(std::string(name));
  event.mutable_scaled()->set_desired_workers(workers);
  log_.Info(event.message());
  events_.OnEvent(std::move(event));
  Reconcile();
  return before;
}

uint32_t Supervisor::FewestWorkers(absl::string_view name) const {
  uint32_t fewest = 1;
  for (const AppSettings& app : FindPool(name)->settings->apps) fewest = std::max(fewest, app.workers.value_or(0));
  return fewest;
}

void Supervisor::ReopenLogs() {
  for (auto& [id, worker] : workers_) {
    if (worker->phase != Phase::kSpawned) links_.ReopenLogs(id);
  }
}

bool Supervisor::Assigned(const Pool& pool, const Seat& seat, const AppSettings& app) const {
  if (!app.workers.has_value()) {
    uint32_t its_own = apps_.find(app.name)->second.workers;
    return its_own == 0 || seat.index < its_own;
  }
  if (*app.workers >= pool.desired) return true;
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
  if (worker.recycle || worker.outdated) return true;
  for (const AppSettings& app : wanted) {
    if (!worker.ready_apps.contains(app.name)) return true;
  }
  return HasUnwanted(pool, seat, worker);
}

bool Supervisor::HasUnwanted(const Pool& pool, const Seat& seat, const Worker& worker) const {
  return std::any_of(worker.ready_apps.begin(), worker.ready_apps.end(), [&](const std::string& name) {
    const AppSettings* app = FindSettings(pool, name);
    return app == nullptr || !Assigned(pool, seat, *app);
  });
}

// --- Reconciling ---

void Supervisor::Reconcile() {
  // What a failed rollout had begun is about to be taken back.
  if (!stopping_ && !RolloutFailed()) {
    for (auto& pool : pools_) ReconcilePool(*pool);
  }
  std::erase_if(pools_, [&](auto& pool) { return pool->removed && ProcessesOf(*pool) == 0; });
  UpdateAvailability();
  TellApps();
  CheckRollout();
  events_.OnSupervisorChanged();
}

void Supervisor::ChooseProbes(Pool& pool) {
  for (const AppSettings& settings : pool.settings->apps) {
    App& app = apps_.find(settings.name)->second;
    if (app.pool != &pool || !app.health.waits_for_retry() || app.health.disabled()) continue;
    std::vector<Seat*> lacking;  // the seats that should have it and do not, or not for long
    for (auto& seat : pool.seats) {
      if (seat->index >= pool.desired || !Assigned(pool, *seat, settings)) continue;
      const Worker* current = Find(seat->current);
      if (current == nullptr || current->phase != Phase::kReady || current->recycle || current->outdated ||
          !current->ready_apps.contains(settings.name)) {
        lacking.push_back(seat.get());
      }
    }
    // Seats come and go with scaling.
    if (std::find(lacking.begin(), lacking.end(), app.probe) == lacking.end()) app.probe = nullptr;
    if (app.probe != nullptr) continue;
    if (lacking.empty()) {  // where it failed it is not wanted any more
      timers_.Cancel(app.retry_timer);
      app.health.Succeeded();
      continue;
    }
    if (app.health.retry_at() > timers_.Now()) {
      if (app.retry_timer == 0) {
        app.retry_timer = timers_.Schedule(app.health.retry_at(), [this, &app] {
          app.retry_timer = 0;
          Reconcile();
        });
      }
      continue;
    }
    for (Seat* seat : lacking) {
      // An empty seat costs nobody anything.
      if (app.probe == nullptr || (app.probe->current != 0 && seat->current == 0)) app.probe = seat;
    }
  }
}

void Supervisor::ReconcilePool(Pool& pool) {
  if (pool.leaving) return;
  while (pool.seats.size() < pool.desired) {
    pool.seats.push_back(std::make_unique<Seat>());
    pool.seats.back()->index = static_cast<uint32_t>(pool.seats.size() - 1);
  }
  const uint32_t places = Places(pool);
  for (auto& seat : pool.seats) {
    if (seat->index < pool.desired) continue;
    if (Worker* worker = Find(seat->incoming)) Retire(*worker, "drained");
    Worker* worker = Find(seat->current);
    if (worker != nullptr && seat->index >= places && !IsLastOfAny(pool, *worker)) Retire(*worker, "drained");
    timers_.Cancel(seat->respawn_timer);
  }
  if (pool.removed) return;
  ChooseProbes(pool);

  // Those that run least are replaced first: they leave sooner, and make room for the next replacement.
  std::vector<std::pair<size_t, Seat*>> order;
  for (auto& seat : pool.seats) order.emplace_back(dispatcher_.RunningCalls(seat->current), seat.get());
  std::stable_sort(order.begin(), order.end(), [](auto& a, auto& b) { return a.first < b.first; });

  uint32_t surge = pool.settings->surge;
  for (auto& [running, owned] : order) {
    Seat& seat = *owned;
    if (seat.index >= pool.desired) continue;
    std::vector<AppSettings> wanted = Wanted(pool, seat);
    if (wanted.empty()) {
      // None is for this seat any more, as against: those that are do not start.
      bool for_none = std::none_of(pool.settings->apps.begin(), pool.settings->apps.end(),
                                   [&](const AppSettings& app) { return Assigned(pool, seat, app); });
      if (Worker* current = Find(seat.current); for_none && current != nullptr && current->phase == Phase::kReady) {
        if (Worker* incoming = Find(seat.incoming)) Retire(*incoming, "drained");
        Retire(*current, "drained");
      }
      continue;
    }
    if (seat.current == 0) {
      if (seat.respawn_timer == 0 && ProcessesOf(pool) < places + surge) {
        seat.current = Spawn(pool, seat, std::move(wanted));
      }
      continue;
    }
    Worker& current = *Find(seat.current);
    if (current.phase != Phase::kReady || seat.incoming != 0 || !IsStale(pool, seat, current, wanted)) continue;
    if (RecyclingLoses(pool, seat, current, wanted)) continue;  // until the retry
    if (surge > 0) {
      if (ProcessesOf(pool) < places + surge) seat.incoming = Spawn(pool, seat, std::move(wanted));
      continue;
    }
    // Without surge one worker at a time makes room, while all the others are ready.
    bool others_ready = std::all_of(pool.seats.begin(), pool.seats.end(), [&](auto& other) {
      const Worker* worker = Find(other->current);
      return other->index >= pool.desired || (worker != nullptr && worker->phase == Phase::kReady) ||
             Wanted(pool, *other).empty();
    });
    if (others_ready && ProcessesOf(pool) <= places) Retire(current, current.recycle ? "recycled" : "drained");
  }
}

// How many workers the pool may keep: those that a reload would have go stay until it has succeeded.
uint32_t Supervisor::Places(const Pool& pool) const {
  uint32_t places = pool.desired;
  if (rollout_ == nullptr) return places;
  for (const PoolSettings& before : rollout_->before->pools) {
    if (before.name == pool.settings->name) places = std::max(places, before.workers);
  }
  return places;
}

// Whether it is not wanted any more and yet nobody else serves some app of the pool: it goes once somebody does.
bool Supervisor::IsLastOfAny(const Pool& pool, const Worker& worker) const {
  if (pool.desired == 0 || pool.removed || pool.settings->surge == 0 || !worker.serves()) return false;
  return std::any_of(worker.ready_apps.begin(), worker.ready_apps.end(), [&](const std::string& name) {
    return FindSettings(pool, name) != nullptr && !Serves(name, &worker);
  });
}

// Whether it is only to be recycled, and a successor with these apps would leave nobody who serves one that is for the
// seat and backs off.
bool Supervisor::RecyclingLoses(const Pool& pool, const Seat& seat, const Worker& worker,
                                const std::vector<AppSettings>& successor) const {
  if (!worker.recycle || worker.outdated) return false;
  return std::any_of(worker.ready_apps.begin(), worker.ready_apps.end(), [&](const std::string& name) {
    const AppSettings* app = FindSettings(pool, name);
    auto it =
        std::find_if(successor.begin(), successor.end(), [&](const AppSettings& its) { return its.name == name; });
    return app != nullptr && Assigned(pool, seat, *app) && it == successor.end() && !Serves(name, &worker);
  });
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
  worker.spec.generation = generation_;
  worker.of_rollout = rollout_ != nullptr;
  worker.spec.pool = pool.settings;
  worker.spec.apps = std::move(apps);
  worker.spec.init_hook = settings_.hooks.dirty_worker_init.python;
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
      status.stderr_tail = {status.last_words = message};
      OnExit(id, status);
    });
    return id;
  }
  worker.pid = *pid;
  log_.Info(absl::StrCat(Name(worker), ": spawned"),
            {{"pool", pool.settings->name}, {"index", absl::StrCat(seat.index)}});
  events_.OnEvent(EventOf(worker, "spawned", &v1::Event::mutable_worker_spawned));
  ArmBootTimer(worker, BootLimit(worker), "to listen on its socket");
  if (!settings_.hooks.dirty_post_fork.empty()) {
    hooks_.Run(settings_.hooks.dirty_post_fork, HookEventOf(worker, "dirty_post_fork"), settings_.hook_timeout,
               [](const absl::Status&) {});
  }
  return id;
}

// --- Shutdown ---

void Supervisor::Stop() {
  if (std::exchange(stopping_, true)) return;
  if (rollout_ != nullptr) {
    rollout_->failure = "dirtyd is shutting down";
    CheckRollout();
  }
  for (auto& pool : pools_) {
    for (auto& seat : pool->seats) timers_.Cancel(seat->respawn_timer);
  }
  std::vector<WorkerId> ids;
  for (auto& [id, worker] : workers_) ids.push_back(id);
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
