#include "server/observe/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "server/observe/metrics_text.h"

namespace dirty {
namespace {

using Type = MetricsText::Type;

// Every WorkerExit.reason of admin.proto: each starts at zero, so that the first exit is seen as an increase.
constexpr std::array kExitReasons = {
    "exited",        "killed",   "timeout",     "boot timeout",    "heartbeat",      "drained",      "recycled",
    "out of memory", "shutdown", "link broken", "could not start", "no app started", "retry failed", "reload failed"};

double Seconds(const google::protobuf::Duration& time) {
  return static_cast<double>(time.seconds()) + static_cast<double>(time.nanos()) * 1e-9;
}

double Seconds(const google::protobuf::Timestamp& time) {
  return static_cast<double>(time.seconds()) + static_cast<double>(time.nanos()) * 1e-9;
}

// A sample for each value of a message's enum: 1 for the one that it is.
template <typename Enum>
void States(MetricsText& text, absl::string_view app, const google::protobuf::EnumDescriptor& states, Enum is) {
  for (int i = 0; i < states.value_count(); ++i) {
    const google::protobuf::EnumValueDescriptor& state = *states.value(i);
    if (state.number() == 0) continue;
    const std::string name = absl::AsciiStrToLower(state.name());
    const uint64_t value = state.number() == is ? 1 : 0;
    app.empty() ? text.Sample({{"state", name}}, value) : text.Sample({{"app", app}, {"state", name}}, value);
  }
}

void RenderArbiter(MetricsText& text, const MetricsSnapshot& snapshot) {
  const v1::StatusResponse& status = snapshot.status;
  text.Family("dirty_build_info", Type::kGauge, "The version of dirtyd. Always 1.");
  text.Sample({{"version", status.version()}}, uint64_t{1});
  text.Family("dirty_state", Type::kGauge, "What dirtyd is doing: 1 for the one state that holds.");
  States(text, "", *v1::StatusResponse::State_descriptor(), status.state());
  text.Single("dirty_generation", Type::kGauge, "The configuration's generation; grows by one with every reload.",
              uint64_t{status.generation()});
  text.Family("dirty_reloads_total", Type::kCounter, "Reloads that ended, by outcome.");
  text.Sample({{"outcome", "ok"}}, snapshot.reloads);
  text.Sample({{"outcome", "failed"}}, snapshot.failed_reloads);
  if (status.has_last_reload()) {
    text.Single("dirty_last_reload_successful", Type::kGauge, "Whether the last reload was applied.",
                uint64_t{status.last_reload().ok() ? 1U : 0U});
    text.Single("dirty_last_reload_timestamp_seconds", Type::kGauge, "When the last reload ended.",
                Seconds(status.last_reload().time()));
  }
  text.Single("dirty_sessions", Type::kGauge, "Sessions of clients that are open.", snapshot.sessions);
  text.Single("dirty_connections", Type::kGauge, "Connections to the clients' and the operators' sockets.",
              snapshot.connections);
  text.Single("dirty_log_lines_dropped_total", Type::kCounter,
              "Lines of dirtyd's log that were lost because it could not be written.", snapshot.log_lines_dropped);
  text.Single("dirty_loop_lag_seconds", Type::kHistogram,
              "How much later than asked a timer of the event loop fired, twice a second.", snapshot.loop_lag);
}

void RenderCalls(MetricsText& text, const MetricsSnapshot& snapshot) {
  const v1::StatusResponse& status = snapshot.status;
  text.Family("dirty_calls_received_total", Type::kCounter, "Calls that named this app, refused ones too.");
  for (const v1::AppStatus& app : status.apps()) {
    text.Sample({{"app", app.name()}}, uint64_t{app.counters().received()});
  }
  text.Family("dirty_calls_total", Type::kCounter, "Calls whose callers have an answer, by outcome.");
  const google::protobuf::Descriptor& counters = *v1::Counters::descriptor();
  for (const v1::AppStatus& app : status.apps()) {
    for (int i = 0; i < counters.field_count(); ++i) {
      const google::protobuf::FieldDescriptor* field = counters.field(i);
      if (field->number() == v1::Counters::kReceivedFieldNumber) continue;
      text.Sample({{"app", app.name()}, {"outcome", field->name()}},
                  uint64_t{app.counters().GetReflection()->GetUInt64(app.counters(), field)});
    }
  }
  text.Single("dirty_calls_without_app_total", Type::kCounter,
              "Calls that named no app, or none that is configured, and were refused.", snapshot.calls_without_app);
  text.Family("dirty_calls_running", Type::kGauge, "Calls that run and whose callers wait.");
  for (const v1::AppStatus& app : status.apps()) text.Sample({{"app", app.name()}}, uint64_t{app.running()});
  text.Family("dirty_queue_depth", Type::kGauge, "Calls that wait for a slot.");
  for (const v1::AppStatus& app : status.apps()) text.Sample({{"app", app.name()}}, uint64_t{app.queued()});
  text.Family("dirty_queue_capacity", Type::kGauge, "How many calls may wait: queue_size of the configuration.");
  for (const AppMetrics& app : snapshot.apps) {
    const bool unlimited = app.queue_capacity == std::numeric_limits<uint32_t>::max();
    text.Sample({{"app", app.name}}, unlimited ? HUGE_VAL : static_cast<double>(app.queue_capacity));
  }
  text.Family("dirty_call_wait_duration_seconds", Type::kHistogram,
              "How long calls waited for a slot, those that started.");
  for (const AppMetrics& app : snapshot.apps) {
    for (const ActionMetrics& action : app.actions) {
      text.Sample({{"app", app.name}, {"action", action.action}}, action.waited);
    }
  }
  text.Family("dirty_call_run_duration_seconds", Type::kHistogram,
              "How long calls ran until their callers had an answer.");
  for (const AppMetrics& app : snapshot.apps) {
    for (const ActionMetrics& action : app.actions) {
      text.Sample({{"app", app.name}, {"action", action.action}}, action.ran);
    }
  }
  text.Family("dirty_chunks_total", Type::kCounter, "Values of streamed results that were passed on.");
  for (const AppMetrics& app : snapshot.apps) text.Sample({{"app", app.name}}, app.chunks);
}

void RenderApps(MetricsText& text, const v1::StatusResponse& status) {
  text.Family("dirty_app_state", Type::kGauge, "Whether an app can serve: 1 for the one state that holds.");
  for (const v1::AppStatus& app : status.apps()) {
    States(text, app.name(), *v1::AppStatus::State_descriptor(), app.state());
  }
  text.Family("dirty_app_ready_workers", Type::kGauge, "Workers that serve the app now.");
  for (const v1::AppStatus& app : status.apps()) text.Sample({{"app", app.name()}}, uint64_t{app.ready_workers()});
}

// The processes at one place of a pool: more than one while one is being replaced.
struct Place {
  uint64_t resident_bytes = 0;
  const v1::WorkerStatus* newest = nullptr;
};

struct PoolNumbers {
  uint64_t desired = 0;
  std::map<int, uint64_t> by_state;
  uint64_t slots = 0;
  uint64_t busy = 0;
  std::map<uint32_t, Place> places;
};

std::map<std::string, PoolNumbers> ByPool(const v1::StatusResponse& status) {
  std::map<std::string, PoolNumbers> pools;
  for (const v1::PoolStatus& pool : status.pools()) pools[pool.name()].desired = pool.desired_workers();
  for (const v1::WorkerStatus& worker : status.workers()) {
    PoolNumbers& pool = pools[worker.pool()];
    ++pool.by_state[worker.state()];
    if (worker.state() == v1::WorkerStatus::READY) pool.slots += worker.threads();
    pool.busy += static_cast<uint64_t>(worker.running_size());
    Place& place = pool.places[worker.index()];
    place.resident_bytes += worker.rss_bytes();
    if (place.newest == nullptr || place.newest->id() < worker.id()) place.newest = &worker;
  }
  return pools;
}

void RenderWorkers(MetricsText& text, const MetricsSnapshot& snapshot) {
  const std::map<std::string, PoolNumbers> pools = ByPool(snapshot.status);
  text.Family("dirty_pool_workers_desired", Type::kGauge, "How many workers the pool should have.");
  for (const auto& [name, pool] : pools) text.Sample({{"pool", name}}, pool.desired);
  text.Family("dirty_workers", Type::kGauge, "Worker processes by what they are doing.");
  const google::protobuf::EnumDescriptor& states = *v1::WorkerStatus::State_descriptor();
  for (const auto& [name, pool] : pools) {
    for (int i = 0; i < states.value_count(); ++i) {
      const google::protobuf::EnumValueDescriptor& state = *states.value(i);
      if (state.number() == 0) continue;
      auto found = pool.by_state.find(state.number());
      text.Sample({{"pool", name}, {"state", absl::AsciiStrToLower(state.name())}},
                  found == pool.by_state.end() ? uint64_t{0} : found->second);
    }
  }
  text.Family("dirty_slots", Type::kGauge, "Calls that the pool's ready workers can run at once.");
  for (const auto& [name, pool] : pools) text.Sample({{"pool", name}}, pool.slots);
  text.Family("dirty_slots_busy", Type::kGauge,
              "Slots that are taken, also of workers that drain, and by calls that nobody waits for any more.");
  for (const auto& [name, pool] : pools) text.Sample({{"pool", name}}, pool.busy);
  text.Family("dirty_worker_starts_total", Type::kCounter, "Worker processes that were started.");
  for (const auto& [pool, count] : snapshot.worker_starts) text.Sample({{"pool", pool}}, count);
  std::map<std::pair<std::string, std::string>, uint64_t> exits = snapshot.worker_exits;
  for (const auto& [pool, count] : snapshot.worker_starts) {
    for (const char* reason : kExitReasons) exits.try_emplace({pool, reason}, 0);
  }
  text.Family("dirty_worker_exits_total", Type::kCounter, "Worker processes that ended, by reason.");
  for (const auto& [place, count] : exits) {
    text.Sample({{"pool", place.first}, {"reason", absl::StrReplaceAll(place.second, {{" ", "_"}})}}, count);
  }
  text.Family("dirty_worker_resident_memory_bytes", Type::kGauge,
              "Resident memory of the worker at this place of its pool, and of the one that replaces it.");
  for (const auto& [name, pool] : pools) {
    for (const auto& [index, place] : pool.places) {
      text.Sample({{"pool", name}, {"index", absl::StrCat(index)}}, place.resident_bytes);
    }
  }
  text.Family("dirty_worker_cpu_seconds_total", Type::kCounter,
              "Processor time of the newest worker at this place of its pool.");
  for (const auto& [name, pool] : pools) {
    for (const auto& [index, place] : pool.places) {
      text.Sample({{"pool", name}, {"index", absl::StrCat(index)}}, Seconds(place.newest->cpu_time()));
    }
  }
}

void RenderProcess(MetricsText& text, const ProcessMetrics& process) {
  text.Single("process_cpu_seconds_total", Type::kCounter, "Processor time of dirtyd, user and system.",
              process.cpu_seconds);
  text.Single("process_resident_memory_bytes", Type::kGauge, "Resident memory of dirtyd.", process.resident_bytes);
  text.Single("process_virtual_memory_bytes", Type::kGauge, "Virtual memory of dirtyd.", process.virtual_bytes);
  text.Single("process_open_fds", Type::kGauge, "Open descriptors of dirtyd.", process.open_descriptors);
  text.Single("process_max_fds", Type::kGauge, "How many descriptors dirtyd may open.", process.max_descriptors);
  text.Single("process_threads", Type::kGauge, "Threads of dirtyd.", process.threads);
  text.Single("process_start_time_seconds", Type::kGauge, "When dirtyd started.", process.start_time_seconds);
}

}  // namespace

std::string RenderMetrics(const MetricsSnapshot& snapshot, const ProcessMetrics& process) {
  MetricsText text;
  RenderArbiter(text, snapshot);
  RenderCalls(text, snapshot);
  RenderApps(text, snapshot.status);
  RenderWorkers(text, snapshot);
  RenderProcess(text, process);
  return text.Take();
}

}  // namespace dirty
