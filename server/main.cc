// dirtyd: wiring only. Builds everything from top to bottom, runs the loop, takes it down in the opposite order.

#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <signal.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "grpc/health/v1/health.pb.h"
#include "grpc/reflection/v1/reflection.pb.h"
#include "grpc/reflection/v1alpha/reflection.pb.h"
#include "server/arbiter.h"
#include "server/config/config.h"
#include "server/config_reader.h"
#include "server/loop/heap.h"
#include "server/loop/loop.h"
#include "server/loop/process_signals.h"
#include "server/loop/start_thread.h"
#include "server/loop/watcher.h"
#include "server/observe/log.h"
#include "server/observe/loop_lag.h"
#include "server/observe/metrics.h"
#include "server/observe/metrics_server.h"
#include "server/observe/process_title.h"
#include "server/observe/systemd.h"
#include "server/rpc/admin.h"
#include "server/rpc/execute.h"
#include "server/rpc/grpc_log.h"
#include "server/rpc/health.h"
#include "server/rpc/listener.h"
#include "server/rpc/network.h"
#include "server/rpc/network_drain.h"
#include "server/rpc/network_files.h"
#include "server/rpc/passed_sockets.h"
#include "server/rpc/reflection.h"
#include "server/rpc/runtime_dir.h"
#include "server/supervise/accounts.h"
#include "server/supervise/exec_hooks.h"
#include "server/supervise/grpc_links.h"
#include "server/supervise/posix_launcher.h"
#include "server/supervise/python_hooks.h"
#include "server/supervise/workers_directory.h"

namespace dirty {
namespace {

constexpr int kExitCannotStart = 1;
constexpr int kExitUsage = 2;
// gRPC's own limit is above ours, so that TOO_LARGE can be told.
constexpr uint64_t kTransportRoom = 1 << 20;
// At the end, for clients to take their answers; then their connections are cut.
constexpr absl::Duration kLastAnswers = absl::Milliseconds(500);
// Until a thread that could not be had is asked for again, and until the end does without.
constexpr absl::Duration kNextThread = absl::Milliseconds(100);
constexpr absl::Duration kLastThread = absl::Seconds(5);

int Fail(int code, absl::string_view message) {
  for (absl::string_view line : absl::StrSplit(message, '\n', absl::SkipEmpty())) {
    fprintf(stderr, "dirtyd: %.*s\n", static_cast<int>(line.size()), line.data());
  }
  return code;
}

// Where this program's companions are: the same layout in the build tree and after an installation.
std::string Prefix() {
  std::error_code error;
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return self.parent_path().parent_path().string();
}

Logger::Options LogOptions(const Settings& settings) {
  Logger::Options options;
  ParseLogLevel(settings.log_level, &options.level);
  options.format = settings.log_json ? LogFormat::kJson : LogFormat::kText;
  options.file = settings.log_file;
  return options;
}

// Programs and functions each have their own.
class Hooks final : public HookRunner {
 public:
  Hooks(ExecHooks& programs, PythonHooks& functions) : programs_(programs), functions_(functions) {}
  void Run(const HookSettings& hook, const v1::HookEvent& event, absl::Duration timeout,
           std::function<void(absl::Status)> done) override {
    HookRunner& runner = hook.exec.empty() ? static_cast<HookRunner&>(functions_) : programs_;
    runner.Run(hook, event, timeout, std::move(done));
  }
  bool Owns(pid_t pid) const { return programs_.Owns(pid) || functions_.Owns(pid); }
  void WhenIdle(std::function<void()> idle) {
    programs_.WhenIdle([this, idle = std::move(idle)] { functions_.WhenIdle(idle); });
  }

 private:
  ExecHooks& programs_;
  PythonHooks& functions_;
};

// Of which pool Python hooks have their interpreter: the first that has Python apps, else the first.
const PoolSettings& PoolOfHooks(const Settings& settings) {
  for (const PoolSettings& pool : settings.pools) {
    if (pool.runtime == WorkerRuntime::kPython) return pool;
  }
  return settings.pools.front();
}

class ArbiterHealth final : public HealthSource {
 public:
  explicit ArbiterHealth(const Arbiter& arbiter) : arbiter_(arbiter) {}
  std::optional<bool> Serving(absl::string_view service) override { return arbiter_.Serving(service); }

 private:
  const Arbiter& arbiter_;
};

int Run(const Settings& settings, const CommandLine& command_line, const ConfigContext& context,
        const std::string& prefix, ServiceEnvironment manager, LogWriter& log) {
  if (!settings.pools.empty() && geteuid() != 0) {
    for (const PoolSettings& pool : settings.pools) {
      if (!pool.user.empty() || !pool.group.empty()) {
        return Fail(kExitCannotStart, "user and group need root: start dirtyd as root, or leave them out");
      }
    }
  }
  for (const std::string& path : {settings.socket, settings.admin_socket}) {
    if (absl::Status status = RuntimeDir::CheckSocketPath(path); !status.ok()) {
      return Fail(kExitCannotStart, status.message());
    }
  }
  absl::StatusOr<PassedSockets> passed =
      AssignSockets(std::move(manager.descriptors), settings.socket, settings.admin_socket);
  if (!passed.ok()) return Fail(kExitCannotStart, passed.status().message());
  std::vector<std::string> own_sockets;
  if (!passed->client.ok()) own_sockets.push_back(settings.socket);
  if (!passed->admin.ok()) own_sockets.push_back(settings.admin_socket);
  absl::string_view metrics_path = settings.metrics;
  if (absl::ConsumePrefix(&metrics_path, "unix:")) own_sockets.emplace_back(metrics_path);
  absl::StatusOr<std::unique_ptr<RuntimeDir>> runtime_dir = RuntimeDir::Take(settings.runtime_dir, own_sockets);
  if (!runtime_dir.ok()) {
    const absl::string_view why = runtime_dir.status().message();
    const bool of_metrics = metrics_path != settings.metrics && absl::StrContains(why, metrics_path);
    return Fail(kExitCannotStart, absl::StrCat(of_metrics ? "metrics: " : "", why));
  }
  const PoolSettings& first = settings.pools.front();
  if (absl::Status status = PrepareWorkersDirectory(settings.runtime_dir, first.user, first.group); !status.ok()) {
    return Fail(kExitCannotStart, status.message());
  }
  std::optional<gid_t> group;
  if (!settings.socket_group.empty()) {
    absl::StatusOr<gid_t> found = FindGroup(settings.socket_group);
    if (!found.ok()) return Fail(kExitCannotStart, absl::StrCat("socket_group: ", found.status().message()));
    group = *found;
  }
  UniqueFd metrics_listener;
  if (!settings.metrics.empty()) {
    absl::StatusOr<UniqueFd> listening = MetricsServer::Listen(settings.metrics, group);
    if (!listening.ok()) return Fail(kExitCannotStart, listening.status().message());
    metrics_listener = *std::move(listening);
  }
  rlim_t descriptors = RaiseDescriptorLimit();

  SteadyClock clock;
  std::optional<Watcher> watching;
  if (absl::Status started = StartThreads([&] { watching.emplace(); }); !started.ok()) {
    return Fail(kExitCannotStart, started.message());
  }
  Watcher& watcher = *watching;

  const GrpcLog grpc_log(clock, log);

  // The server, with everything that it serves.
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(
      static_cast<int>(std::min<uint64_t>(settings.max_message_size + kTransportRoom, INT_MAX)));
  builder.SetMaxSendMessageSize(-1);  // workers check their results
  // A small message could become gigabytes, which gRPC unpacks before it looks at the size.
  for (grpc_compression_algorithm algorithm : {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP}) {
    builder.SetCompressionAlgorithmSupportStatus(algorithm, false);
  }
  if (settings.max_memory_in_flight != UINT64_MAX) {
    grpc::ResourceQuota quota("dirtyd");
    quota.Resize(settings.max_memory_in_flight);
    builder.SetResourceQuota(quota);
  }
  builder.AddChannelArgument("grpc.enable_channelz", 0);
  builder.AddChannelArgument("grpc.http2.bdp_probe", 0);
  // The answers to pings are bounded anyway. For each that comes too often gRPC would set up the connection's end anew,
  // a kilobyte and more, as long as the same read has more of them.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  std::unique_ptr<NetworkAccess> network;
  if (settings.network.enabled()) {
    absl::StatusOr<NetworkFiles> files = ReadNetworkFiles(settings.network);
    if (!files.ok()) return Fail(kExitCannotStart, files.status().message());
    network = std::make_unique<NetworkAccess>(settings.network, NetworkFiles());
    UseFiles(*network, *std::move(files), log);
    NetworkAccess::Configure(builder);
  }
  Listener listener(watcher, clock, log);
  Listener::ClientSocket client_socket{.path = settings.socket, .mode = settings.socket_mode, .group = group};
  listener.SetAllowed(settings.allow_uids, settings.allow_gids);
  for (const absl::Status& status :
       {listener.AddClientSocket(client_socket, builder, std::move(passed->client)),
        listener.AddAdminSocket(settings.admin_socket, builder, std::move(passed->admin))}) {
    if (!status.ok()) return Fail(kExitCannotStart, status.message());
  }
  std::string network_address;  // with the port that it got
  if (network != nullptr) {
    absl::StatusOr<TcpSocket> socket = ListenOnNetwork(settings.network.address);
    if (!socket.ok()) return Fail(kExitCannotStart, socket.status().message());
    network_address = socket->address;
    listener.AddNetworkSocket(*std::move(socket), *network, builder);
  }

  Loop loop(builder.AddCompletionQueue(), clock);
  std::function<void()> reap_strangers = [] {};
  PosixLauncher launcher(
      {
          .runtime_dir = settings.runtime_dir,
          .client_socket = settings.socket,
          .bin_folder = absl::StrCat(prefix, "/bin"),
          .libexec_folder = absl::StrCat(prefix, "/" DIRTY_LIBEXEC_DIR),
          .python_folder = absl::StrCat(prefix, "/" DIRTY_PYTHON_DIR),
          .environment = Environment(),
          .descriptor_limit = descriptors,
          .after_reap = [&] { reap_strangers(); },
          .control_groups = {},
      },
      watcher, loop, log);
  GrpcLinks links(loop, {
                            .socket_path = [&](WorkerId id) { return WorkerSocketPath(settings.runtime_dir, id); },
                            .locate =
                                [](const AppSettings& app, const PoolSettings& pool) {
                                  return LocateApp(app.path, pool.library_path, [](const std::string& path) {
                                    return access(path.c_str(), F_OK) == 0;
                                  });
                                },
                            .max_message_size = settings.max_message_size,
                            .max_json_depth = settings.max_json_depth,
                            .arbiter_start_time = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()),
                        });
  ExecHooks programs(
      {
          .libexec_folder = absl::StrCat(prefix, "/" DIRTY_LIBEXEC_DIR),
          .client_socket = settings.socket,
          .admin_socket = settings.admin_socket,
          .environment = Environment(),
          .descriptor_limit = descriptors,
          .after_reap = [&] { reap_strangers(); },
      },
      watcher, loop, loop.timers(), log);
  Settings current = settings;  // as the last reload left it
  PythonHooks functions({
                            .libexec_folder = absl::StrCat(prefix, "/" DIRTY_LIBEXEC_DIR),
                            .python_folder = absl::StrCat(prefix, "/" DIRTY_PYTHON_DIR),
                            .client_socket = settings.socket,
                            .admin_socket = settings.admin_socket,
                            .environment = Environment(),
                            .descriptor_limit = descriptors,
                            .pool = [&current]() -> const PoolSettings& { return PoolOfHooks(current); },
                            .after_reap = [&] { reap_strangers(); },
                        },
                        watcher, loop, loop.timers(), log);
  Hooks hooks(programs, functions);
  ServiceNotifier notifier(manager);
  notifier.StartWatchdog(loop.timers());
  Heap heap(loop.timers());
  std::mt19937_64 random(std::random_device{}());
  std::function<void()> on_changed;
  ConfigReader reader(command_line, context, network.get(), log, loop);
  NetworkDrain drain(loop.timers(), [&listener] { return listener.network_count(); });
  bool only_hooks_left = false;
  Arbiter arbiter({.timers = loop.timers(), .launcher = launcher, .links = links, .hooks = hooks, .log = log},
                  {
                      .version = DIRTY_VERSION,
                      .pid = getpid(),
                      .id_prefix = absl::StrCat(absl::Hex(absl::ToUnixSeconds(absl::Now())), "-"),
                      .chance = [&random] { return std::uniform_real_distribution<double>(0, 1)(random); },
                  },
                  {
                      .on_changed = [&on_changed] { on_changed(); },
                      .on_settled = [&notifier] { notifier.Ready(); },
                      .on_stopped =
                          [&] {
                            only_hooks_left = true;
                            hooks.WhenIdle([&] {
                              drain.Begin(arbiter.ends_at_once() ? absl::ZeroDuration() : current.graceful_timeout);
                              drain.WhenOver([&loop] { loop.Quit(); });
                            });
                          },
                      .read_settings =
                          [&](auto done) {
                            functions.Renew();
                            reader.Read(std::move(done));
                          },
                      .on_settings =
                          [&](const Settings& next) {
                            current = next;
                            reader.Accept();
                            log.SetOptions(LogOptions(next));
                            listener.SetAllowed(next.allow_uids, next.allow_gids);
                          },
                      .set_log_level = [&log](LogLevel level) { log.SetLevel(level); },
                      .reopen_logs = [&log] { log.Reopen(); },
                  });
  launcher.SetEvents(links.BeforeExits(&arbiter.supervisor()));
  reap_strangers = [&] { ReapStrangers([&](pid_t pid) { return launcher.Owns(pid) || hooks.Owns(pid); }); };
  links.SetEvents(&arbiter.supervisor(), &arbiter.dispatcher());
  ArbiterHealth health_source(arbiter);
  HealthService health(health_source);
  // By descriptors, not by name: they make the linker keep the files that describe the services.
  std::vector<std::string> services;
  for (const google::protobuf::Descriptor* message :
       {v1::SessionHello::descriptor(), v1::StatusRequest::descriptor(),
        grpc::health::v1::HealthCheckRequest::descriptor(), grpc::reflection::v1::ServerReflectionRequest::descriptor(),
        grpc::reflection::v1alpha::ServerReflectionRequest::descriptor()}) {
    services.push_back(message->file()->service(0)->full_name());
  }
  ReflectionService reflection(services);
  ArbiterService arbiter_service(arbiter.dispatcher(), current);
  LoopLag loop_lag(loop.timers());
  auto metrics = [&] {
    MetricsSnapshot snapshot = arbiter.Metrics();
    snapshot.loop_lag = loop_lag.histogram();
    snapshot.sessions = arbiter_service.sessions();
    snapshot.connections = listener.count();
    snapshot.log_lines_dropped = log.dropped();
    return snapshot;
  };
  AdminService admin_service(arbiter, metrics);
  builder.RegisterService(&arbiter_service.service());
  builder.RegisterService(&admin_service.service());
  builder.RegisterService(&health.service());
  for (grpc::Service* service : reflection.services()) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return Fail(kExitCannotStart, "gRPC refused to start the server");

  bool told_reloading = false, told_stopping = false;
  on_changed = [&] {
    SetProcessTitle(arbiter.Title());
    health.Changed();
    notifier.Status(arbiter.Title());
    if (arbiter.shutting_down()) {
      drain.Begin(arbiter.ends_at_once() ? absl::ZeroDuration() : current.graceful_timeout);
      if (!std::exchange(told_stopping, true)) notifier.Stopping();
    } else if (std::exchange(told_reloading, arbiter.reloading()) != arbiter.reloading()) {
      arbiter.reloading() ? notifier.Reloading() : notifier.ReloadDone();
    }
  };
  ProcessSignals signals(watcher, loop, [&](int signal) {
    bool ending = signal == SIGTERM || signal == SIGINT || signal == SIGQUIT;
    if (ending && only_hooks_left) return loop.Quit();  // asked twice
    switch (signal) {
      case SIGTERM:
        return arbiter.Shutdown(false, "SIGTERM");
      case SIGINT:
        return arbiter.Shutdown(false, "SIGINT");
      case SIGQUIT:
        return arbiter.Shutdown(true, "SIGQUIT");
      case SIGHUP:
        return arbiter.ReloadSoon("SIGHUP");
      case SIGTTIN:
        return arbiter.ScaleBy(1, "SIGTTIN");
      case SIGTTOU:
        return arbiter.ScaleBy(-1, "SIGTTOU");
      case SIGUSR1:
        return arbiter.ReopenLogs("SIGUSR1");
      case SIGCHLD:
        return reap_strangers();
      default:
        return;
    }
  });

  log.Info(absl::StrCat("dirtyd ", DIRTY_VERSION, ", pid ", getpid(), ", configuration ",
                        command_line.config_file.empty() ? "from the command line" : command_line.config_file));
  log.Info(absl::StrCat("clients: ", settings.socket, ", operators: ", settings.admin_socket));
  if (network != nullptr) log.Info(absl::StrCat("network: ", network_address, ", ", network->Describe()));
  std::optional<MetricsServer> metrics_server;
  if (metrics_listener.ok()) {
    absl::Status started = StartThreads([&] {
      metrics_server.emplace(std::move(metrics_listener), [&](auto done) {
        loop.Post([&, done = std::move(done)] { done(std::make_shared<MetricsSnapshot>(metrics())); });
      });
    });
    if (started.ok()) {
      log.Info(absl::StrCat("metrics: ", settings.metrics));
    } else {
      log.Error(absl::StrCat("metrics: not served: ", started.message()));
    }
  }
  health.Start(loop);
  reflection.Start(loop);
  arbiter_service.Start(loop);
  admin_service.Start(loop);
  auto start = [&] {
    listener.Start();
    arbiter.Start(settings);
  };
  int exit_code = 0;
  if (const HookSettings& hook = settings.hooks.on_dirty_starting; !hook.empty()) {
    v1::HookEvent event;
    event.set_hook("on_dirty_starting");
    event.set_arbiter_pid(getpid());
    event.set_version(DIRTY_VERSION);
    for (const PoolSettings& pool : settings.pools) {
      for (const AppSettings& app : pool.apps) event.add_apps(app.name);
    }
    hooks.Run(hook, event, settings.hook_timeout, [&](const absl::Status& status) {
      if (arbiter.shutting_down()) return;
      if (status.ok()) return start();
      exit_code = kExitCannotStart;
      arbiter.Shutdown(true, "hook on_dirty_starting failed");
    });
  } else {
    start();
  }
  loop.Run();

  // Down again. Connections are cut first where a client does not take its answer: gRPC would wait for it.
  log.Info("stopped: no worker is left");
  // What these threads post is an answer: it is run below, while it can be sent.
  reader.Join();
  admin_service.Stop();
  listener.StopAccepting();
  health.Shutdown();
  reflection.Shutdown();
  // The last answers are still on their way out.
  loop.timers().ScheduleIn(kLastAnswers, [&] { loop.Quit(); });
  arbiter_service.WhenIdle([&] { loop.Quit(); });
  loop.Run();
  listener.ShutdownConnections();
  // Shutdown waits for the transport, which only the loop drives. Also after another signal, or a timer of before,
  // which quit the loop too. Where no thread can be had, one may be soon: nothing of ours is left. If not, gRPC is left
  // as it is.
  bool down = false, told_to_wait = false;
  const absl::Time last_thread = loop.timers().Now() + kLastThread;
  auto remove_metrics_socket = [&] {
    if (metrics_path != settings.metrics) unlink(std::string(metrics_path).c_str());
  };
  absl::StatusOr<std::thread> shutdown;
  std::function<void()> shut_down = [&] {
    shutdown = StartThread([&] {
      server->Shutdown(std::chrono::system_clock::now());
      loop.Post([&] {
        down = true;
        loop.Quit();
      });
    });
    if (shutdown.ok()) return;
    if (loop.timers().Now() > last_thread) {
      log.Error(absl::StrCat("ended without closing the server: ", shutdown.status().message()));
      log.Flush();
      remove_metrics_socket();
      runtime_dir->reset();
      _exit(exit_code);
    }
    if (!std::exchange(told_to_wait, true)) {
      log.Warning(absl::StrCat("the end has to wait: ", shutdown.status().message()));
    }
    loop.timers().ScheduleIn(kNextThread, shut_down);
  };
  shut_down();
  while (!down) loop.Run();
  shutdown->join();
  remove_metrics_socket();  // while nobody else can have it
  if (metrics_server) metrics_server->Stop();
  watcher.Stop();
  loop.Drain();
  runtime_dir->reset();
  return exit_code;
}

int Main(int argc, char** argv) {
  // Debian's abseil is built with its deadlock detector on: microseconds on every lock.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  Heap::Keep();
  ServiceEnvironment service = TakeServiceEnvironment();
  absl::StatusOr<CommandLine> command_line = ParseCommandLine({argv + 1, argv + argc});
  if (!command_line.ok()) return Fail(kExitUsage, command_line.status().message());
  switch (command_line->action) {
    case CommandLine::Action::kHelp:
      fputs(HelpText().c_str(), stdout);
      return 0;
    case CommandLine::Action::kVersion:
      puts("dirtyd " DIRTY_VERSION);
      return 0;
    case CommandLine::Action::kRun:
    case CommandLine::Action::kCheck:
      break;
  }
  std::string prefix = Prefix();
  const ConfigContext context = MakeConfigContext(prefix, *command_line);
  absl::StatusOr<LoadedConfig> loaded = LoadConfig(*command_line, context);
  if (!loaded.ok()) return Fail(kExitUsage, loaded.status().message());
  if (command_line->action == CommandLine::Action::kCheck) {
    fputs(ToYaml(loaded->config).c_str(), stdout);
    return 0;
  }
  BlockSignals();
  InitProcessTitle(argc, argv);
  // After both: it starts threads. For good: gRPC's own last shutdown may wait ten seconds for a poller of its own.
  grpc_init();
  absl::StatusOr<std::unique_ptr<LogWriter>> log = MakeLogger(LogOptions(loaded->settings));
  if (!log.ok()) return Fail(kExitCannotStart, log.status().message());
  return Run(loaded->settings, *command_line, context, prefix, std::move(service), **log);
}

}  // namespace
}  // namespace dirty

int main(int argc, char** argv) { return dirty::Main(argc, argv); }
