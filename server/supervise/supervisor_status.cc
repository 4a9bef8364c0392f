// What Status, health and the process title show of the supervisor.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/dispatch/proto_time.h"
#include "server/supervise/supervisor.h"
#include "server/supervise/supervisor_state.h"

namespace dirty {
namespace {

v1::WorkerStatus::State ToState(bool ready, bool draining, bool stopping) {
  if (stopping) return v1::WorkerStatus::STOPPING;
  if (draining) return v1::WorkerStatus::DRAINING;
  return ready ? v1::WorkerStatus::READY : v1::WorkerStatus::STARTING;
}

}  // namespace

// As users see it: an app that some workers serve is ready, even if it does not start, or not yet, in others.
v1::AppStatus::State Supervisor::StateOf(absl::string_view name, const App& app) const {
  return !app.health.disabled() && Serves(name) ? v1::AppStatus::READY : app.health.state();
}

bool Supervisor::EveryAppTried() const {
  const bool none_is_given_up = settings_.restart.give_up_after == UINT32_MAX;
  return std::all_of(apps_.begin(), apps_.end(), [&](auto& entry) {
    const v1::AppStatus::State state = StateOf(entry.first, entry.second);
    return state == v1::AppStatus::READY || state == v1::AppStatus::FAILED ||
           (state == v1::AppStatus::BACKOFF && none_is_given_up);
  });
}

bool Supervisor::Serves(absl::string_view name, const Worker* but) const {
  return std::any_of(workers_.begin(), workers_.end(), [&](auto& entry) {
    return entry.second.get() != but && entry.second->serves() && entry.second->ready_apps.contains(std::string(name));
  });
}

bool Supervisor::AnyAppReady() const {
  return std::any_of(apps_.begin(), apps_.end(),
                     [this](auto& entry) { return StateOf(entry.first, entry.second) == v1::AppStatus::READY; });
}

std::optional<bool> Supervisor::HasReadyWorker(absl::string_view name) const {
  if (!apps_.contains(name)) return std::nullopt;
  return Serves(name);
}

uint32_t Supervisor::ReadyWorkers() const {
  return static_cast<uint32_t>(
      std::count_if(workers_.begin(), workers_.end(), [](auto& entry) { return entry.second->serves(); }));
}

uint32_t Supervisor::StartingWorkers() const {
  return static_cast<uint32_t>(std::count_if(workers_.begin(), workers_.end(), [](auto& entry) {
    return entry.second->phase == Phase::kSpawned || entry.second->phase == Phase::kInitialising;
  }));
}

uint32_t Supervisor::DesiredWorkers() const {
  uint32_t desired = 0;
  for (const auto& pool : pools_) desired += pool->desired;
  return desired;
}

uint32_t Supervisor::DesiredWorkers(absl::string_view name) const {
  const Pool* pool = FindPool(name);
  return pool == nullptr ? 0 : pool->desired;
}

void Supervisor::Describe(const Worker& worker, v1::WorkerStatus& out) const {
  out.set_id(worker.spec.id);
  out.set_index(worker.spec.index);
  out.set_pid(worker.pid);
  out.set_pool(worker.spec.pool->name);
  out.set_state(ToState(worker.serves(), worker.phase == Phase::kDraining,
                        worker.phase == Phase::kStopping || worker.link_broken));
  out.set_generation(worker.spec.generation);
  bool tried = worker.ready_at != absl::InfiniteFuture();
  for (const AppSettings& app : worker.spec.apps) {
    if (!tried || worker.ready_apps.contains(app.name)) out.add_apps(app.name);
  }
  ToProto(worker.spawned_wall, out.mutable_start_time());
  ProcessUsage usage = launcher_.Usage(worker.spec.id);
  out.set_rss_bytes(usage.resident_bytes);
  if (usage.resident_bytes > 0) ToProto(usage.cpu_time, out.mutable_cpu_time());
  out.set_threads(worker.spec.pool->threads);
}

v1::Event Supervisor::EventOf(const Worker& worker, std::string message, v1::WorkerStatus* (v1::Event::*kind)()) const {
  v1::Event event;
  event.set_message(absl::StrCat(Name(worker), ": ", message));
  Describe(worker, *(event.*kind)());
  return event;
}

v1::HookEvent Supervisor::HookEventOf(const Worker& worker, const char* hook) const {
  v1::HookEvent event = hook_event_;
  event.set_hook(hook);
  event.mutable_apps()->Assign(app_order_.begin(), app_order_.end());
  Describe(worker, *event.mutable_worker());
  return event;
}

// Tells what has changed since the last time.
void Supervisor::TellApps() {
  for (const std::string& name : app_order_) {
    App& app = apps_.find(name)->second;
    const v1::AppStatus::State state = StateOf(name, app);
    if (std::exchange(app.told, state) == state) continue;
    v1::Event event;
    v1::AppStatus& status = *event.mutable_app_changed();
    status.set_name(name);
    status.set_pool(app.pool->settings->name);
    status.set_state(state);
    status.set_reason(app.health.reason());
    dispatcher_.Describe(status);
    event.set_message(absl::StrCat("app ", name, ": ", v1::AppStatus::State_Name(status.state()),
                                   status.reason().empty() ? "" : ": ", status.reason()));
    events_.OnEvent(std::move(event));
  }
}

void Supervisor::Describe(v1::StatusResponse& status) const {
  status.set_generation(generation_);
  std::vector<const v1::WorkerExit*> exits;
  for (const auto& pool : pools_) {
    for (const auto& seat : pool->seats) {
      for (const v1::WorkerExit& exit : seat->exits) exits.push_back(&exit);
    }
    if (pool->removed || pool->leaving) continue;
    v1::PoolStatus* out = status.add_pools();
    out->set_name(pool->settings->name);
    out->set_desired_workers(pool->desired);
  }
  std::sort(exits.begin(), exits.end(), [](const v1::WorkerExit* a, const v1::WorkerExit* b) {
    return std::make_pair(a->time().seconds(), a->time().nanos()) >
           std::make_pair(b->time().seconds(), b->time().nanos());
  });
  for (const v1::WorkerExit* exit : exits) *status.add_exits() = *exit;

  for (const auto& [id, worker] : workers_) Describe(*worker, *status.add_workers());
  for (const std::string& name : app_order_) {
    const App& app = apps_.find(name)->second;
    v1::AppStatus* out = status.add_apps();
    out->set_name(name);
    out->set_pool(app.pool->settings->name);
    out->set_state(StateOf(name, app));
    out->set_reason(app.health.reason());
  }
}

}  // namespace dirty
