// What Status, errors and counters tell of calls.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/dispatch/dispatcher_state.h"
#include "server/dispatch/proto_time.h"
#include "server/loop/check.h"

namespace dirty {

std::string Dispatcher::WhyNothingIsFree(const App& app) const {
  if (app.workers.empty()) return app.why.empty() ? "no worker is ready" : app.why;
  const Call* longest = nullptr;
  for (const Worker* worker : app.workers) {
    for (const Call* call : worker->running) {
      if (longest == nullptr || call->started_at < longest->started_at) longest = call;
    }
  }
  std::string why = app.slots == 1 ? "the only slot is busy"
                                   : absl::StrCat("all ", app.slots, " slots of ", app.workers.size(),
                                                  app.workers.size() == 1 ? " worker" : " workers", " are busy");
  if (longest != nullptr) {
    absl::StrAppend(&why, ", the longest with ", longest->app->name, " ", longest->action, " (call ", longest->call_id,
                    ") for ", errors::Seconds(timers_.Now() - longest->started_at));
  }
  return why;
}

absl::Duration Dispatcher::RetryDelay(const App& app) const {
  // A place in the queue is free once one call has ended somewhere: the mean time between two ends.
  absl::Duration delay = app.service_time / std::max<uint32_t>(app.slots, 1);
  return std::clamp(delay, absl::Milliseconds(50), absl::Seconds(60));
}

void Dispatcher::Describe(v1::AppStatus& status) const {
  auto it = std::find_if(apps_.begin(), apps_.end(), [&](auto& app) { return app->name == status.name(); });
  if (it == apps_.end()) return;
  const App& app = **it;
  auto serves = [](const Worker* worker) { return !worker->draining; };
  status.set_ready_workers(static_cast<uint32_t>(std::count_if(app.workers.begin(), app.workers.end(), serves)));
  status.set_queued(app.queued);
  status.set_running(app.running);
  *status.mutable_counters() = app.counters;
  app.waited.Describe(timers_.Now(), *status.mutable_waited());
  app.ran.Describe(timers_.Now(), *status.mutable_ran());
}

void Dispatcher::Describe(v1::WorkerStatus& status) const {
  const Worker* worker = FindWorker(status.id());
  if (worker == nullptr) return;
  status.set_calls(worker->calls);
  std::vector<Call*> running = worker->running;
  std::sort(running.begin(), running.end(), [](Call* a, Call* b) { return a->started_at < b->started_at; });
  for (const Call* call : running) {
    v1::RunningCall* out = status.add_running();
    out->set_call_id(call->call_id);
    out->set_request_id(call->request_id);
    out->set_app(call->app->name);
    out->set_action(call->action);
    ToProto(timers_.Now() - call->started_at, out->mutable_elapsed());
  }
}

void Dispatcher::Describe(MetricsSnapshot& metrics) const {
  metrics.calls_without_app = calls_without_app_;
  for (const auto& app : apps_) {
    if (!app->configured) continue;
    metrics.apps.push_back({.name = app->name,
                            .chunks = app->chunks,
                            .queue_capacity = app->limits.queue_size,
                            .actions = app->times.Describe()});
  }
}

uint64_t Dispatcher::CallsEnded(WorkerId worker) const {
  const Worker* found = FindWorker(worker);
  return found == nullptr ? 0 : found->calls;
}

size_t Dispatcher::RunningCalls(WorkerId worker) const {
  const Worker* found = FindWorker(worker);
  return found == nullptr ? 0 : found->running.size();
}

std::vector<std::string> Dispatcher::AppNames() const {
  std::vector<std::string> names;
  for (const auto& app : apps_) {
    if (app->configured) names.push_back(app->name);
  }
  return names;
}

void Dispatcher::Count(App* app, v1::Reason reason) {
  v1::Counters& counters = app->counters;
  switch (reason) {
#define DIRTY_COUNT(REASON, field)              \
  case v1::REASON_##REASON:                     \
    counters.set_##field(counters.field() + 1); \
    return
    DIRTY_COUNT(INVALID_REQUEST, invalid_request);
    DIRTY_COUNT(APP_NOT_FOUND, app_not_found);
    DIRTY_COUNT(NO_WORKERS, no_workers);
    DIRTY_COUNT(QUEUE_FULL, queue_full);
    DIRTY_COUNT(QUEUE_TIMEOUT, queue_timeout);
    DIRTY_COUNT(TIMEOUT, timeout);
    DIRTY_COUNT(CANCELLED, cancelled);
    DIRTY_COUNT(APP_ERROR, app_error);
    DIRTY_COUNT(WORKER_LOST, worker_lost);
    DIRTY_COUNT(TOO_LARGE, too_large);
    DIRTY_COUNT(SHUTTING_DOWN, shutting_down);
    DIRTY_COUNT(PERMISSION_DENIED, permission_denied);
#undef DIRTY_COUNT
    case v1::REASON_UNSPECIFIED:
    case v1::Reason_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::Reason_INT_MAX_SENTINEL_DO_NOT_USE_:
      break;
  }
  DIRTY_CHECK(false, "an error without a reason: ", static_cast<int>(reason));
}

}  // namespace dirty
