#include "server/config/changes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace dirty {
namespace {

std::string Spell(const std::string& value) { return value.empty() ? "\"\"" : value; }
std::string Spell(bool value) { return value ? "true" : "false"; }
std::string Spell(uint64_t value) { return value == UINT64_MAX ? "0" : absl::StrCat(value); }
std::string Spell(uint32_t value) { return value == UINT32_MAX ? "0" : absl::StrCat(value); }

// The names of keys whose values differ.
class Differences {
 public:
  template <typename T>
  void Compare(absl::string_view key, const T& before, const T& after) {
    if (!(before == after)) keys_.emplace_back(key);
  }
  // "pool gpu: threads, env"; nothing if nothing differs.
  void Tell(absl::string_view what, std::vector<std::string>& lines) const {
    if (!keys_.empty()) lines.push_back(absl::StrCat(what, what.empty() ? "" : ": ", absl::StrJoin(keys_, ", ")));
  }

 private:
  std::vector<std::string> keys_;
};

template <typename Named>
const Named* FindByName(const std::vector<Named>& list, const std::string& name) {
  auto it = std::find_if(list.begin(), list.end(), [&](const Named& entry) { return entry.name == name; });
  return it == list.end() ? nullptr : &*it;
}

std::string Names(const std::vector<AppSettings>& apps) {
  return absl::StrJoin(apps, ", ", [](std::string* out, const AppSettings& app) { out->append(app.name); });
}

void CompareApp(const AppSettings& before, const AppSettings& after, std::vector<std::string>& lines) {
  Differences keys;
  const LimitSettings& was = before.limits;
  const LimitSettings& is = after.limits;
  keys.Compare("app", before.path, after.path);
  keys.Compare("workers", before.workers, after.workers);
  keys.Compare("timeout", was.timeout, is.timeout);
  keys.Compare("queue_timeout", was.queue_timeout, is.queue_timeout);
  keys.Compare("queue_size", was.queue_size, is.queue_size);
  keys.Compare("boot_timeout", was.boot_timeout, is.boot_timeout);
  keys.Compare("kill_after", was.kill_after, is.kill_after);
  keys.Compare("stream_idle_timeout", was.stream_idle_timeout, is.stream_idle_timeout);
  keys.Compare("slow_call", was.slow_call, is.slow_call);
  keys.Compare("max_requests", was.max_requests, is.max_requests);
  keys.Compare("max_requests_jitter", was.max_requests_jitter, is.max_requests_jitter);
  keys.Compare("max_memory", was.max_memory, is.max_memory);
  keys.Compare("env", before.env, after.env);
  keys.Tell(absl::StrCat("app ", after.name), lines);
}

void ComparePool(const PoolSettings& before, const PoolSettings& after, std::vector<std::string>& lines) {
  std::string pool = absl::StrCat("pool ", after.name);
  if (before.workers != after.workers) {
    lines.push_back(absl::StrCat(pool, ": workers ", before.workers, " -> ", after.workers));
  }
  Differences keys;
  keys.Compare("runtime", before.runtime, after.runtime);
  keys.Compare("command", before.command, after.command);
  keys.Compare("threads", before.threads, after.threads);
  keys.Compare("surge", before.surge, after.surge);
  keys.Compare("python", before.python, after.python);
  keys.Compare("pythonpath", before.pythonpath, after.pythonpath);
  keys.Compare("library_path", before.library_path, after.library_path);
  keys.Compare("chdir", before.chdir, after.chdir);
  keys.Compare("env", before.env, after.env);
  keys.Compare("rlimits", before.rlimits, after.rlimits);
  keys.Compare("oom_score_adj", before.oom_score_adj, after.oom_score_adj);
  keys.Compare("memory_limit", before.memory_limit, after.memory_limit);
  keys.Tell(pool, lines);
  for (const AppSettings& app : after.apps) {
    const AppSettings* was = FindByName(before.apps, app.name);
    if (was == nullptr) {
      lines.push_back(absl::StrCat(pool, ": app ", app.name, " added"));
    } else {
      CompareApp(*was, app, lines);
    }
  }
  for (const AppSettings& app : before.apps) {
    if (FindByName(after.apps, app.name) == nullptr)
      lines.push_back(absl::StrCat(pool, ": app ", app.name, " removed"));
  }
}

}  // namespace

Changes Compare(const Settings& running, const Settings& read) {
  Changes changes;
  changes.settings = read;
  Settings& next = changes.settings;

  auto keep = [&](absl::string_view key, const auto& value, auto& read_value) {
    if (value == read_value) return;
    changes.needs_restart.push_back(absl::StrCat(key, ": ", Spell(value), " -> ", Spell(read_value)));
    read_value = value;
  };
  keep("runtime_dir", running.runtime_dir, next.runtime_dir);
  keep("socket", running.socket, next.socket);
  if (running.socket_mode != next.socket_mode) {
    changes.needs_restart.push_back(
        absl::StrFormat("socket_mode: %04o -> %04o", running.socket_mode, next.socket_mode));
    next.socket_mode = running.socket_mode;
  }
  keep("socket_group", running.socket_group, next.socket_group);
  keep("admin_socket", running.admin_socket, next.admin_socket);
  keep("max_message_size", running.max_message_size, next.max_message_size);
  keep("max_memory_in_flight", running.max_memory_in_flight, next.max_memory_in_flight);
  keep("max_json_depth", running.max_json_depth, next.max_json_depth);
  keep("metrics", running.metrics, next.metrics);
  keep("network.address", running.network.address, next.network.address);
  keep("network.certificate", running.network.certificate, next.network.certificate);
  keep("network.key", running.network.key, next.network.key);
  keep("network.client_ca", running.network.client_ca, next.network.client_ca);
  keep("network.token_file", running.network.token_file, next.network.token_file);
  keep("network.insecure", running.network.insecure, next.network.insecure);
  if (!running.pools.empty() && !next.pools.empty()) {
    // The same in every pool.
    std::string user = next.pools[0].user, group = next.pools[0].group;
    keep("user", running.pools[0].user, user);
    keep("group", running.pools[0].group, group);
    for (PoolSettings& pool : next.pools) {
      pool.user = user;
      pool.group = group;
    }
  }

  Differences keys;
  keys.Compare("allow_uids", running.allow_uids, next.allow_uids);
  keys.Compare("allow_gids", running.allow_gids, next.allow_gids);
  keys.Compare("graceful_timeout", running.graceful_timeout, next.graceful_timeout);
  keys.Compare("heartbeat_interval", running.heartbeat_interval, next.heartbeat_interval);
  keys.Compare("heartbeat_timeout", running.heartbeat_timeout, next.heartbeat_timeout);
  keys.Compare("max_calls_per_session", running.max_calls_per_session, next.max_calls_per_session);
  keys.Compare("restart", running.restart, next.restart);
  keys.Compare("log_level", running.log_level, next.log_level);
  keys.Compare("log_format", running.log_json, next.log_json);
  keys.Compare("log_file", running.log_file, next.log_file);
  keys.Compare("hook_timeout", running.hook_timeout, next.hook_timeout);
  keys.Compare("hooks", running.hooks, next.hooks);
  keys.Tell("", changes.applied);
  for (const PoolSettings& pool : next.pools) {
    const PoolSettings* was = FindByName(running.pools, pool.name);
    if (was == nullptr) {
      changes.applied.push_back(
          absl::StrCat("pool ", pool.name, " added, workers ", pool.workers, ", apps ", Names(pool.apps)));
    } else {
      ComparePool(*was, pool, changes.applied);
    }
  }
  for (const PoolSettings& pool : running.pools) {
    if (FindByName(next.pools, pool.name) == nullptr) {
      changes.applied.push_back(absl::StrCat("pool ", pool.name, " removed"));
    }
  }
  return changes;
}

}  // namespace dirty
