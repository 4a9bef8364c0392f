#include "server/config/validate.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/config/keys.h"
#include "server/config/settings.h"
#include "server/config/values.h"

namespace dirty {
namespace {

constexpr absl::string_view kAppSyntax = "is not an app; use module:Class or lib.so:Class";
constexpr absl::string_view kReserved[] = {"DIRTY_WORKER_SOCKET", "DIRTY_WORKER_ID", "DIRTY_READY_FD", "DIRTY_SOCKET"};

std::string At(absl::string_view parent, absl::string_view key) {
  return parent.empty() ? std::string(key) : absl::StrCat(parent, ".", key);
}

bool IsName(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-';
  });
}

bool IsPort(absl::string_view text, int least) {
  int port;
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
         absl::SimpleAtoi(text, &port) && port >= least && port <= 65535;
}

bool IsHostAndPort(absl::string_view address, int least_port) {
  size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos || !IsPort(address.substr(colon + 1), least_port)) return false;
  absl::string_view host = address.substr(0, colon);
  bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  return bracketed || IsName(host);
}

// Of a HOST:PORT: whether only this machine can reach it.
bool IsLoopback(absl::string_view address) {
  absl::string_view host = address.substr(0, address.rfind(':'));
  bool number = host.find_first_not_of("0123456789.") == absl::string_view::npos;
  return host == "localhost" || host == "[::1]" || (number && absl::StartsWith(host, "127."));
}

// Why `app` cannot be what a worker of `runtime` loads; empty: it can.
std::string AppFault(const std::string& app, v1::Runtime runtime) {
  auto [module, class_name] = SplitApp(app);
  auto wrong = [&](absl::string_view why) { return absl::StrCat(Quoted(app), " ", why); };
  bool library = IsLibrary(module);
  if (module.empty() || !IsDottedName(class_name)) return wrong(kAppSyntax);
  if (runtime == v1::RUNTIME_EXEC) {
    for (absl::string_view part : absl::StrSplit(module, '/')) {
      if (part.empty() || part == ".." || part == "." || absl::StrContains(part, ":")) return wrong(kAppSyntax);
    }
    return "";
  }
  if (runtime == v1::RUNTIME_NATIVE && !library) return wrong("is no library, but the pool's runtime is native");
  if (runtime == v1::RUNTIME_PYTHON && library) return wrong("is a library, but the pool's runtime is python");
  if (library) {
    return absl::StrContains(class_name, ".") || absl::StrContains(module, ":") ? wrong(kAppSyntax) : "";
  }
  if (absl::StrContains(module, "/") || absl::EndsWith(module, ".py")) {
    return wrong("is a file; name a Python module as import does: package.module:Class");
  }
  return IsDottedName(module) ? "" : wrong(kAppSyntax);
}

class Validator {
 public:
  Validator(const v1::Config& config, const ConfigContext& context, Diagnostics& diagnostics)
      : config_(config), context_(context), diagnostics_(diagnostics) {}

  void Run() {
    CheckSockets();
    CheckTopLevel();
    CheckAccounts();
    CheckHooks();
    CheckWorkerSettings("", config_.worker());
    if (config_.apps().empty() && config_.pools().empty() && !diagnostics_.Has("apps") && !diagnostics_.Has("pools")) {
      diagnostics_.Add("", "no apps: give APP or apps:");
    }
    if (config_.apps().empty() && !config_.pools().empty() && config_.has_workers() && !diagnostics_.Has("apps")) {
      Fault("workers", "has no effect: it is of the pool \"default\", which has no apps; pools have their own");
    }
    if (!config_.apps().empty()) {
      CheckApps("", "default", config_.apps(), v1::RUNTIME_UNSPECIFIED, config_.workers());
    }
    for (int i = 0; i < config_.pools_size(); ++i) CheckPool(absl::StrCat("pools[", i, "]"), config_.pools(i));
  }

 private:
  using Apps = google::protobuf::RepeatedPtrField<v1::App>;

  struct Known {
    std::string pool;
    Place place;
  };

  void Fault(const std::string& path, absl::string_view message) { diagnostics_.Add(path, message); }

  void OneOf(const std::string& path, const std::string& value, const std::vector<std::string>& allowed) {
    if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
    Fault(path,
          absl::StrCat(Quoted(value), " is not one of ", absl::StrJoin(allowed, ", "), DidYouMean(value, allowed)));
  }

  void CheckSockets() {
    if (!config_.has_runtime_dir()) return;  // said already
    const std::string& folder = config_.runtime_dir();
    if (folder.size() + kWorkerSocketRoom > kMaxSocketPath) {
      Fault("runtime_dir", absl::StrCat("has ", folder.size(), " bytes, at most ", kMaxSocketPath - kWorkerSocketRoom,
                                        " leave room for the workers' sockets (a socket's path has at most ",
                                        kMaxSocketPath, " bytes); give a shorter --runtime_dir"));
    } else {
      CheckSocket("socket", config_.socket());
      CheckSocket("admin_socket", config_.admin_socket());
      if (config_.socket() == config_.admin_socket()) Fault("admin_socket", "is the clients' socket too");
    }
    const std::string& mode = config_.socket_mode();
    bool octal = !mode.empty() && mode.size() <= 4 &&
                 std::all_of(mode.begin(), mode.end(), [](char c) { return c >= '0' && c <= '7'; }) &&
                 (mode.size() < 4 || mode[0] == '0');
    if (!octal) Fault("socket_mode", absl::StrCat(Quoted(mode), " is not a mode; use octal digits such as 0660"));
  }

  void CheckSocket(const std::string& path, const std::string& socket) {
    if (socket.size() <= kMaxSocketPath) return;
    Fault(path, absl::StrCat("the path has ", socket.size(), " bytes, a socket's has at most ", kMaxSocketPath,
                             "; give a shorter --", path, " or --runtime_dir"));
  }

  void CheckTopLevel() {
    OneOf("log_level", config_.log_level(), {"debug", "info", "warning", "error"});
    OneOf("log_format", config_.log_format(), {"text", "json"});
    if (config_.max_message_size() > kLargestMessage) {
      Fault("max_message_size",
            absl::StrCat("is more than ", SpellSize(kLargestMessage), ", the most that the transport takes"));
    }
    auto nanoseconds = [](const google::protobuf::Duration& d) { return d.seconds() * 1'000'000'000 + d.nanos(); };
    int64_t initial = nanoseconds(config_.restart().initial_backoff());
    if (initial == 0) {
      Fault("restart.initial_backoff", "must be above 0: failing workers would be started without a pause");
    }
    if (nanoseconds(config_.restart().max_backoff()) < initial && !diagnostics_.Has("restart.initial_backoff")) {
      Fault("restart.max_backoff", "is shorter than restart.initial_backoff");
    }
    CheckMetrics(config_.metrics());
    if (config_.has_network()) CheckNetwork(config_.network());
  }

  void CheckMetrics(absl::string_view address) {
    if (address.empty()) return;
    if (absl::ConsumePrefix(&address, "unix:") && !address.empty()) {
      if (address.size() > kMaxSocketPath) {
        Fault("metrics",
              absl::StrCat("the path has ", address.size(), " bytes, a socket's has at most ", kMaxSocketPath));
      }
      return;
    }
    if (!IsHostAndPort(address, /*least_port=*/1)) {
      Fault("metrics", absl::StrCat(Quoted(config_.metrics()), " is not an address; use HOST:PORT or unix:PATH"));
    }
  }

  void CheckNetwork(const v1::NetworkListener& network) {
    if (diagnostics_.Has("network")) return;
    if (network.address().empty()) {
      if (!diagnostics_.Has("network.address")) Fault("network", "needs address: HOST:PORT");
      return;
    }
    if (!IsHostAndPort(network.address(), /*least_port=*/0)) {
      return Fault("network.address", absl::StrCat(Quoted(network.address()), " is not an address; use HOST:PORT"));
    }
    if (network.has_certificate() != network.has_key()) {
      return Fault("network", network.has_key() ? "key needs certificate" : "certificate needs key");
    }
    if (network.has_certificate()) {
      if (network.insecure()) Fault("network.insecure", "contradicts certificate; leave one of them out");
      return;
    }
    if (network.has_client_ca()) return Fault("network.client_ca", "needs certificate and key");
    if (!network.insecure() && !IsLoopback(network.address())) {
      Fault("network.address", absl::StrCat(network.address(),
                                            " is not loopback, and without certificate and key nothing is encrypted; "
                                            "give both, or insecure: true"));
    }
  }

  void CheckAccounts() {
    auto check = [this](const std::string& key, const std::string& name, const auto& checked) {
      if (diagnostics_.Has(key)) return;
      if (name.empty()) return Fault(key, "is empty: name one, or leave it out");
      if (const absl::Status status = checked(); !status.ok()) Fault(key, status.message());
    };
    if (context_.check_user && config_.has_user()) {
      check("user", config_.user(), [&] { return context_.check_user(config_.user(), !config_.group().empty()); });
    }
    if (context_.check_group && config_.has_group()) {
      check("group", config_.group(), [&] { return context_.check_group(config_.group()); });
    }
    if (context_.check_group && config_.has_socket_group()) {
      check("socket_group", config_.socket_group(), [&] { return context_.check_group(config_.socket_group()); });
    }
  }

  void CheckHooks() {
    CheckHook("hooks.on_dirty_starting", config_.hooks().has_on_dirty_starting(), config_.hooks().on_dirty_starting());
    CheckHook("hooks.dirty_post_fork", config_.hooks().has_dirty_post_fork(), config_.hooks().dirty_post_fork());
    CheckHook("hooks.dirty_worker_init", config_.hooks().has_dirty_worker_init(), config_.hooks().dirty_worker_init());
    CheckHook("hooks.dirty_worker_exit", config_.hooks().has_dirty_worker_exit(), config_.hooks().dirty_worker_exit());
  }

  void CheckHook(const std::string& path, bool given, const v1::Hook& hook) {
    if (!given || diagnostics_.Has(At(path, "exec")) || diagnostics_.Has(At(path, "python"))) return;
    if (hook.exec().empty() == hook.python().empty()) {
      return Fault(path, "needs exactly one of exec: [program, argument] and python: \"module:function\"");
    }
    if (!hook.exec().empty() && hook.exec(0).empty()) Fault(At(path, "exec"), "names no program");
    if (!hook.python().empty()) {
      auto [module, function] = SplitApp(hook.python());
      bool file = absl::StartsWith(module, "/") && absl::EndsWith(module, ".py");  // of a gunicorn.conf.py
      if (!(file || IsDottedName(module)) || !IsDottedName(function)) {
        Fault(At(path, "python"), absl::StrCat(Quoted(hook.python()), " is not a function; use module:function"));
      }
    }
  }

  void CheckEnv(const std::string& path, const google::protobuf::Map<std::string, std::string>& env) {
    for (const auto& [name, value] : env) {
      std::string at = absl::StrCat(path, ".", name);
      if (name.empty() || absl::StrContains(name, "=") || absl::StrContains(name, absl::string_view("\0", 1))) {
        Fault(at, absl::StrCat(Quoted(name), " is no name of an environment variable"));
      } else if (std::find(std::begin(kReserved), std::end(kReserved), name) != std::end(kReserved)) {
        Fault(at, "is set by dirtyd itself");
      }
    }
  }

  void CheckWorkerSettings(const std::string& path, const v1::WorkerSettings& settings) {
    if (settings.has_threads() && settings.threads() == 0) Fault(At(path, "threads"), "must be at least 1");
    if (settings.oom_score_adj() < -1000 || settings.oom_score_adj() > 1000) {
      Fault(At(path, "oom_score_adj"), absl::StrCat(settings.oom_score_adj(), " is not within -1000 and 1000"));
    }
    CheckEnv(At(path, "env"), settings.env());
    const std::vector<std::string> known = {"as",      "core",   "cpu",   "data", "fsize",
                                            "memlock", "nofile", "nproc", "stack"};
    for (const auto& [name, value] : settings.rlimits()) {
      std::string at = At(path, absl::StrCat("rlimits.", name));
      OneOf(at, name, known);
      if (value < -1) Fault(at, absl::StrCat(value, " is negative; -1 means no limit"));
    }
  }

  void CheckPool(const std::string& path, const v1::Pool& pool) {
    if (diagnostics_.Has(path)) return;
    if (pool.name().empty()) {
      if (!diagnostics_.Has(At(path, "name"))) Fault(path, "has no name");
    } else if (pool.name() == "default") {
      Fault(At(path, "name"), "\"default\" is the pool of the apps at the top level; choose another name");
    } else if (!IsName(pool.name())) {
      Fault(At(path, "name"), absl::StrCat(Quoted(pool.name()), " is not a name; use letters, digits and . _ -"));
    } else if (auto [known, fresh] = pools_.emplace(pool.name(), diagnostics_.PlaceOf(path)); !fresh) {
      Fault(At(path, "name"), absl::StrCat(Quoted(pool.name()), " is the pool at ", known->second.text, " too"));
    }
    bool exec = pool.runtime() == v1::RUNTIME_EXEC;
    if (!diagnostics_.Has(At(path, "runtime"))) {
      if (exec && pool.command().empty() && !diagnostics_.Has(At(path, "command"))) {
        Fault(path, "runtime exec needs command: [program, argument]");
      } else if (!exec && !pool.command().empty()) {
        Fault(At(path, "command"), "is for runtime: exec");
      }
    }
    if (exec && !pool.command().empty() && pool.command(0).empty()) Fault(At(path, "command"), "names no program");
    CheckWorkerSettings(path, pool.worker());
    if (pool.apps().empty() && !diagnostics_.Has(At(path, "apps"))) Fault(path, "has no apps");
    CheckApps(path, pool.name(), pool.apps(), pool.runtime(), pool.has_workers() ? pool.workers() : 1);
  }

  // `workers` 0: any number of workers per app is fine.
  void CheckApps(const std::string& path, const std::string& pool, const Apps& apps, v1::Runtime runtime,
                 uint32_t workers) {
    if (diagnostics_.Has(At(path, "workers"))) workers = 0;
    std::map<std::string, std::pair<std::string, std::string>> env;  // name -> value, app
    int first_library = -1;
    int first_module = -1;
    for (int i = 0; i < apps.size(); ++i) {
      const v1::App& app = apps[i];
      std::string at = absl::StrCat(At(path, "apps"), "[", i, "]");
      if (diagnostics_.Has(at) || diagnostics_.Has(At(at, "app"))) continue;
      if (app.app().empty()) {
        Fault(at, "has no app: module:Class");
        continue;
      }
      if (std::string fault = AppFault(app.app(), runtime); !fault.empty()) {
        Fault(At(at, "app"), fault);
        continue;
      }
      (IsLibrary(SplitApp(app.app()).module) ? first_library : first_module) = i;
      CheckAppName(at, app, pool);
      CheckAppWorkers(at, app, pool, workers);
      CheckEnv(At(at, "env"), app.env());
      for (const auto& [name, value] : std::map<std::string, std::string>(app.env().begin(), app.env().end())) {
        auto [other, fresh] = env.emplace(name, std::make_pair(value, AppName(app)));
        if (fresh || other->second.first == value) continue;
        Fault(At(at, absl::StrCat("env.", name)), absl::StrCat("differs from that of ", other->second.second,
                                                               ", which shares its workers; make a second pool"));
      }
    }
    if (runtime == v1::RUNTIME_UNSPECIFIED && first_library >= 0 && first_module >= 0) {
      Fault(absl::StrCat(At(path, "apps"), "[", std::max(first_library, first_module), "]"),
            absl::StrCat("the pool ", Quoted(pool),
                         " mixes libraries and Python apps, which no worker can; make a second pool"));
    }
  }

  void CheckAppName(const std::string& at, const v1::App& app, const std::string& pool) {
    std::string name = AppName(app);
    std::string path = app.has_name() ? At(at, "name") : at;
    bool printable = std::all_of(name.begin(), name.end(), [](unsigned char c) { return c > ' ' && c != 0x7F; });
    if (name.empty() || name.size() > 200 || !printable) {
      return Fault(path, absl::StrCat(Quoted(name), " is not a name; use 1 to 200 bytes without spaces"));
    }
    if (absl::StartsWith(name, "dirty.v1.")) return Fault(path, "names like dirty.v1.* belong to dirtyd");
    auto [known, fresh] = apps_.emplace(name, Known{pool, diagnostics_.PlaceOf(at)});
    if (fresh) return;
    Fault(path, absl::StrCat("app ", Quoted(name), " is in pool ", Quoted(known->second.pool), " already (",
                             known->second.place.text, "); remove one, or give it another name"));
  }

  void CheckAppWorkers(const std::string& at, const v1::App& app, const std::string& pool, uint32_t workers) {
    if (!app.has_workers()) return;
    std::string path = At(at, "workers");
    if (app.workers() == 0) {
      Fault(path, "must be at least 1: an app that no worker loads cannot be called");
    } else if (workers != 0 && app.workers() > workers) {
      Fault(path, absl::StrCat(app.workers(), " is more than the pool ", Quoted(pool), " has: workers is ", workers));
    }
  }

  const v1::Config& config_;
  const ConfigContext& context_;
  Diagnostics& diagnostics_;
  std::map<std::string, Known> apps_;
  std::map<std::string, Place> pools_;
};

}  // namespace

void Validate(const v1::Config& config, const ConfigContext& context, Diagnostics& diagnostics) {
  Validator(config, context, diagnostics).Run();
}

std::string AppName(const v1::App& app) {
  if (app.has_name()) return app.name();
  AppParts parts = SplitApp(app.app());
  if (!IsLibrary(parts.module)) return app.app();
  return absl::StrCat(parts.module.substr(parts.module.rfind('/') + 1), ":", parts.class_name);
}

}  // namespace dirty
