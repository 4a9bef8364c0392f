#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/config/keys.h"
#include "server/config/settings.h"
#include "server/config/validate.h"
#include "server/config/values.h"

namespace dirty {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Gives `child` what it does not set itself: values and lists whole, maps entry by entry.
template <typename T>
void Inherit(const T& parent, T& child) {
  T merged = parent;
  const Reflection& reflection = *merged.GetReflection();
  std::vector<const FieldDescriptor*> set;
  reflection.ListFields(child, &set);
  for (const FieldDescriptor* field : set) {
    if (!field->is_map()) reflection.ClearField(&merged, field);
  }
  merged.MergeFrom(child);
  child = std::move(merged);
}

absl::Duration ToAbsl(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

// 0 means that there is no limit.
absl::Duration Limit(const google::protobuf::Duration& duration) {
  absl::Duration value = ToAbsl(duration);
  return value == absl::ZeroDuration() ? absl::InfiniteDuration() : value;
}

template <typename T>
T Limit(T value) {
  return value == 0 ? std::numeric_limits<T>::max() : value;
}

template <typename List>
std::vector<typename List::value_type> Values(const List& list) {
  return {list.begin(), list.end()};
}

template <typename Value>
std::map<std::string, Value> Values(const google::protobuf::Map<std::string, Value>& map) {
  return {map.begin(), map.end()};
}

LimitSettings ResolveLimits(const v1::Limits& limits) {
  LimitSettings out;
  out.timeout = Limit(limits.timeout());
  out.queue_timeout = Limit(limits.queue_timeout());
  out.queue_size = Limit(limits.queue_size());
  out.boot_timeout = Limit(limits.boot_timeout());
  out.kill_after = ToAbsl(limits.kill_after());
  out.stream_idle_timeout = Limit(limits.stream_idle_timeout());
  out.slow_call = Limit(limits.slow_call());
  out.max_requests = limits.max_requests();
  out.max_requests_jitter = limits.max_requests_jitter();
  out.max_memory = limits.max_memory();
  return out;
}

WorkerRuntime ResolveRuntime(const v1::Pool& pool) {
  switch (pool.runtime()) {
    case v1::RUNTIME_NATIVE:
      return WorkerRuntime::kNative;
    case v1::RUNTIME_PYTHON:
      return WorkerRuntime::kPython;
    case v1::RUNTIME_EXEC:
      return WorkerRuntime::kExec;
    default:
      return IsLibrary(SplitApp(pool.apps(0).app()).module) ? WorkerRuntime::kNative : WorkerRuntime::kPython;
  }
}

PoolSettings ResolvePool(const v1::Config& config, v1::Pool pool, absl::string_view apps_folder) {
  Inherit(config.limits(), *pool.mutable_limits());
  Inherit(config.worker(), *pool.mutable_worker());
  const v1::WorkerSettings& worker = pool.worker();
  PoolSettings out;
  out.name = pool.name();
  out.workers = pool.has_workers() ? pool.workers() : 1;
  out.runtime = ResolveRuntime(pool);
  out.command = Values(pool.command());
  out.threads = worker.threads();
  out.surge = worker.surge();
  out.python = worker.python();
  out.pythonpath = Values(worker.pythonpath());
  out.library_path = Values(worker.library_path());
  out.library_path.emplace_back(apps_folder);
  out.chdir = worker.chdir();
  out.env = Values(worker.env());
  out.rlimits = Values(worker.rlimits());
  if (worker.has_oom_score_adj()) out.oom_score_adj = worker.oom_score_adj();
  out.memory_limit = worker.memory_limit();
  out.user = config.user();
  out.group = config.group();
  for (v1::App& app : *pool.mutable_apps()) {
    Inherit(pool.limits(), *app.mutable_limits());
    AppSettings resolved;
    resolved.name = AppName(app);
    resolved.path = app.app();
    if (app.has_workers()) resolved.workers = app.workers();
    resolved.limits = ResolveLimits(app.limits());
    resolved.env = Values(app.env());
    out.apps.push_back(std::move(resolved));
  }
  return out;
}

HookSettings ResolveHook(const v1::Hook& hook) { return {Values(hook.exec()), hook.python()}; }

}  // namespace

Settings Resolve(const v1::Config& config, absl::string_view apps_folder) {
  Settings out;
  out.runtime_dir = config.runtime_dir();
  out.socket = config.socket();
  out.socket_mode = static_cast<mode_t>(std::stoul(config.socket_mode(), nullptr, 8));
  out.socket_group = config.socket_group();
  out.admin_socket = config.admin_socket();
  out.allow_uids = Values(config.allow_uids());
  out.allow_gids = Values(config.allow_gids());
  out.graceful_timeout = Limit(config.graceful_timeout());
  out.heartbeat_interval = Limit(config.heartbeat_interval());
  out.heartbeat_timeout = Limit(config.heartbeat_timeout());
  out.max_message_size = config.max_message_size() == 0 ? kLargestMessage : config.max_message_size();
  out.max_memory_in_flight = Limit(uint64_t{config.max_memory_in_flight()});
  out.max_json_depth = Limit(config.max_json_depth());
  out.max_calls_per_session = Limit(config.max_calls_per_session());
  out.restart.initial_backoff = ToAbsl(config.restart().initial_backoff());
  out.restart.max_backoff = ToAbsl(config.restart().max_backoff());
  out.restart.give_up_after = Limit(config.restart().give_up_after());
  out.log_level = config.log_level();
  out.log_json = config.log_format() == "json";
  out.log_file = config.log_file();
  out.hook_timeout = Limit(config.hook_timeout());
  out.metrics = config.metrics();
  const v1::NetworkListener& network = config.network();
  out.network = {network.address(),   network.certificate(), network.key(),
                 network.client_ca(), network.token_file(),  network.insecure()};
  out.hooks.on_dirty_starting = ResolveHook(config.hooks().on_dirty_starting());
  out.hooks.dirty_post_fork = ResolveHook(config.hooks().dirty_post_fork());
  out.hooks.dirty_worker_init = ResolveHook(config.hooks().dirty_worker_init());
  out.hooks.dirty_worker_exit = ResolveHook(config.hooks().dirty_worker_exit());
  if (!config.apps().empty()) {
    v1::Pool pool;
    pool.set_name("default");
    pool.set_workers(config.workers());
    *pool.mutable_apps() = config.apps();
    out.pools.push_back(ResolvePool(config, std::move(pool), apps_folder));
  }
  for (const v1::Pool& pool : config.pools()) out.pools.push_back(ResolvePool(config, pool, apps_folder));
  return out;
}

std::string LocateApp(absl::string_view path, const std::vector<std::string>& library_path,
                      const std::function<bool(const std::string&)>& exists) {
  AppParts parts = SplitApp(path);
  if (!IsLibrary(parts.module) || absl::StrContains(parts.module, "/")) return std::string(path);
  for (const std::string& folder : library_path) {
    std::string file = AbsolutePath(parts.module, folder);
    if (exists(file)) return absl::StrCat(file, ":", parts.class_name);
  }
  return std::string(path);
}

}  // namespace dirty
