// What dirtyd works with once its configuration was read: every value defaulted and inherited, every path absolute.
//
// Immutable values, compared with == (a rolling reload replaces the pools that differ). "No limit" is already the
// largest value of its type, so that callers compare and never ask whether a limit exists; the few fields where 0
// keeps a meaning of its own say so.

#ifndef DIRTY_SERVER_CONFIG_SETTINGS_H_
#define DIRTY_SERVER_CONFIG_SETTINGS_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "dirty/v1/config.pb.h"

namespace dirty {

// Where a path of a Unix socket must end: sockaddr_un holds 107 bytes and a zero.
inline constexpr size_t kMaxSocketPath = 107;

// What the runtime directory keeps free for a worker's socket below it, such as "/workers/worker-4294967295.sock".
inline constexpr size_t kWorkerSocketRoom = 32;

// Limits of the calls of one app.
struct LimitSettings {
  absl::Duration timeout;              // InfiniteDuration: none
  absl::Duration queue_timeout;        // InfiniteDuration: none
  uint32_t queue_size = 0;             // UINT32_MAX: no limit
  absl::Duration boot_timeout;         // InfiniteDuration: none
  absl::Duration kill_after;           // 0: at once
  absl::Duration stream_idle_timeout;  // InfiniteDuration: none
  absl::Duration slow_call;            // InfiniteDuration: none is slow
  uint32_t max_requests = 0;           // 0: never recycled
  uint32_t max_requests_jitter = 0;
  uint64_t max_memory = 0;  // bytes above the level after init; 0: never recycled

  bool operator==(const LimitSettings&) const = default;
};

// One app of a pool.
struct AppSettings {
  std::string name;  // what calls use; unique over all pools
  std::string path;  // what to load, "module:Class" or "lib.so:Class"; absolute if it was configured with a slash
  std::optional<uint32_t> workers;  // how many workers load it; nullopt: all
  LimitSettings limits;
  std::map<std::string, std::string> env;  // its own, beyond the pool's; never differs between apps of a pool

  bool operator==(const AppSettings&) const = default;
};

enum class WorkerRuntime { kNative, kPython, kExec };

// A group of workers that load the same apps.
struct PoolSettings {
  std::string name;
  uint32_t workers = 0;  // 0: disabled
  WorkerRuntime runtime = WorkerRuntime::kPython;
  std::vector<std::string> command;  // of kExec only
  uint32_t threads = 0;              // at least 1
  uint32_t surge = 0;
  std::string python;                     // absolute, or a name to be found on PATH
  std::vector<std::string> pythonpath;    // absolute
  std::vector<std::string> library_path;  // absolute; the last is <libdir>/dirty/apps
  std::string chdir;                      // absolute
  std::map<std::string, std::string> env;
  std::map<std::string, int64_t> rlimits;  // by setrlimit(2)'s name in lower case without RLIMIT_; -1: no limit
  std::optional<int32_t> oom_score_adj;    // nullopt: left alone
  uint64_t memory_limit = 0;               // bytes, enforced by the kernel; 0: none
  std::string user;                        // empty: dirtyd's own
  std::string group;                       // empty: the user's
  std::vector<AppSettings> apps;           // at least one

  bool operator==(const PoolSettings&) const = default;
};

// A hook: `exec` or `python` is set, or neither (no hook).
struct HookSettings {
  std::vector<std::string> exec;
  std::string python;  // "module:function"

  bool empty() const { return exec.empty() && python.empty(); }
  bool operator==(const HookSettings&) const = default;
};

struct HooksSettings {
  HookSettings on_dirty_starting;
  HookSettings dirty_post_fork;
  HookSettings dirty_worker_init;
  HookSettings dirty_worker_exit;

  bool operator==(const HooksSettings&) const = default;
};

struct RestartSettings {
  absl::Duration initial_backoff;  // above 0
  absl::Duration max_backoff;      // at least initial_backoff
  uint32_t give_up_after = 0;      // UINT32_MAX: never

  bool operator==(const RestartSettings&) const = default;
};

// A TCP listener for clients.
struct NetworkSettings {
  std::string address;      // "HOST:PORT", "[HOST]:PORT"; empty: none
  std::string certificate;  // files, absolute; empty: none. With `key`
  std::string key;
  std::string client_ca;
  std::string token_file;
  bool insecure = false;  // unencrypted beyond loopback

  bool enabled() const { return !address.empty(); }
  bool operator==(const NetworkSettings&) const = default;
};

struct Settings {
  std::string runtime_dir;
  std::string socket;
  mode_t socket_mode = 0;
  std::string socket_group;  // empty: left alone
  std::string admin_socket;
  std::vector<uint32_t> allow_uids;  // both lists empty: whoever the mode lets in
  std::vector<uint32_t> allow_gids;
  absl::Duration graceful_timeout;     // InfiniteDuration: no bound
  absl::Duration heartbeat_interval;   // InfiniteDuration: never
  absl::Duration heartbeat_timeout;    // InfiniteDuration: never killed for silence
  uint64_t max_message_size = 0;       // at most kLargestMessage, which also stands for "no limit"
  uint64_t max_memory_in_flight = 0;   // UINT64_MAX: no limit
  uint32_t max_json_depth = 0;         // UINT32_MAX: no limit
  uint32_t max_calls_per_session = 0;  // UINT32_MAX: no limit
  RestartSettings restart;
  std::string log_level;  // debug, info, warning, error
  bool log_json = false;
  std::string log_file;         // "-": standard error
  absl::Duration hook_timeout;  // InfiniteDuration: none
  std::string metrics;          // "HOST:PORT", "unix:/PATH"; empty: nowhere
  NetworkSettings network;
  HooksSettings hooks;
  std::vector<PoolSettings> pools;  // at least one; "default" first if there is one

  bool operator==(const Settings&) const = default;
};

// The largest message that the transport can be told to take: gRPC counts in int, and its own limit is 1 MiB higher
// than ours.
inline constexpr uint64_t kLargestMessage = 2046ull << 20;

// Turns a complete configuration (LoadConfig's) into settings. `apps_folder` is <libdir>/dirty/apps. Pure.
Settings Resolve(const v1::Config& config, absl::string_view apps_folder);

// `path` with its library replaced by the first that `exists` in `library_path`; as it is if the app is no library,
// is a path already or is nowhere: the worker then says which folders were searched.
std::string LocateApp(absl::string_view path, const std::vector<std::string>& library_path,
                      const std::function<bool(const std::string&)>& exists);

}  // namespace dirty

#endif  // DIRTY_SERVER_CONFIG_SETTINGS_H_
