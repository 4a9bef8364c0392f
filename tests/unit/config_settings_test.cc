// Defaults, inheritance, and the way back to YAML.

#include <limits>

#include "config_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dirty {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Defaults, AreTheContracts) {
  Settings settings = Args({"a:B"}).MustLoad();
  EXPECT_EQ(settings.runtime_dir, "/run/dirty");
  EXPECT_EQ(settings.socket, "/run/dirty/dirty.sock");
  EXPECT_EQ(settings.admin_socket, "/run/dirty/admin.sock");
  EXPECT_EQ(settings.socket_mode, 0660u);
  EXPECT_EQ(settings.socket_group, "");
  EXPECT_EQ(settings.graceful_timeout, absl::Seconds(30));
  EXPECT_EQ(settings.heartbeat_interval, absl::Seconds(5));
  EXPECT_EQ(settings.heartbeat_timeout, absl::Seconds(30));
  EXPECT_EQ(settings.max_message_size, 64u << 20);
  EXPECT_EQ(settings.max_memory_in_flight, 1u << 30);
  EXPECT_EQ(settings.max_json_depth, 128u);
  EXPECT_EQ(settings.max_calls_per_session, 10000u);
  EXPECT_EQ(settings.restart, (RestartSettings{absl::Milliseconds(100), absl::Seconds(30), 5}));
  EXPECT_EQ(settings.log_level, "info");
  EXPECT_FALSE(settings.log_json);
  EXPECT_EQ(settings.log_file, "-");
  EXPECT_EQ(settings.hook_timeout, absl::Seconds(10));
  EXPECT_EQ(settings.metrics, "");
  EXPECT_TRUE(settings.hooks.dirty_worker_init.empty());
  ASSERT_EQ(settings.pools.size(), 1u);
  const PoolSettings& pool = settings.pools[0];
  EXPECT_EQ(pool.name, "default");
  EXPECT_EQ(pool.workers, 1u);
  EXPECT_EQ(pool.runtime, WorkerRuntime::kPython);
  EXPECT_EQ(pool.threads, 1u);
  EXPECT_EQ(pool.surge, 1u);
  EXPECT_EQ(pool.python, "python3");
  EXPECT_EQ(pool.chdir, "/srv");
  EXPECT_EQ(pool.oom_score_adj, std::nullopt);
  EXPECT_THAT(pool.library_path, ElementsAre("/usr/lib/dirty/apps"));
  ASSERT_EQ(pool.apps.size(), 1u);
  const LimitSettings& limits = pool.apps[0].limits;
  EXPECT_EQ(limits.timeout, absl::Seconds(300));
  EXPECT_EQ(limits.queue_timeout, absl::Seconds(60));
  EXPECT_EQ(limits.queue_size, 1000u);
  EXPECT_EQ(limits.boot_timeout, absl::Seconds(300));
  EXPECT_EQ(limits.kill_after, absl::Seconds(5));
  EXPECT_EQ(limits.stream_idle_timeout, absl::InfiniteDuration());
  EXPECT_EQ(limits.slow_call, absl::Seconds(30));
  EXPECT_EQ(limits.max_requests, 0u);
  EXPECT_EQ(limits.max_memory, 0u);
  EXPECT_EQ(pool.apps[0].workers, std::nullopt);
}

TEST(Zero, MeansNoLimitButForKillAfter) {
  Settings settings = File(
                          "apps: [a:B]\ntimeout: 0\nqueue_timeout: 0\nboot_timeout: 0\nkill_after: 0\nslow_call: 0\n"
                          "queue_size: 0\ngraceful_timeout: 0\nheartbeat_interval: 0\nheartbeat_timeout: 0\n"
                          "hook_timeout: 0\nmax_message_size: 0\nmax_memory_in_flight: 0\nmax_json_depth: 0\n"
                          "max_calls_per_session: 0\nrestart: {give_up_after: 0}\n")
                          .MustLoad();
  const LimitSettings& limits = settings.pools.at(0).apps.at(0).limits;
  for (absl::Duration duration :
       {limits.timeout, limits.queue_timeout, limits.boot_timeout, limits.slow_call, settings.graceful_timeout,
        settings.heartbeat_interval, settings.heartbeat_timeout, settings.hook_timeout}) {
    EXPECT_EQ(duration, absl::InfiniteDuration());
  }
  EXPECT_EQ(limits.kill_after, absl::ZeroDuration());
  EXPECT_EQ(limits.queue_size, UINT32_MAX);
  EXPECT_EQ(settings.max_message_size, kLargestMessage);
  EXPECT_EQ(settings.max_memory_in_flight, UINT64_MAX);
  EXPECT_EQ(settings.max_json_depth, UINT32_MAX);
  EXPECT_EQ(settings.max_calls_per_session, UINT32_MAX);
  EXPECT_EQ(settings.restart.give_up_after, UINT32_MAX);
}

TEST(Inheritance, GoesFromAppToPoolToTopLevel) {
  Settings settings = File(
                          "timeout: 10s\nqueue_size: 5\nkill_after: 3s\nthreads: 4\nenv: {A: top, B: top}\n"
                          "pythonpath: [/top]\nrlimits: {nofile: 1, core: 0}\nuser: www-data\n"
                          "apps:\n"
                          "- a:B\n"
                          "- {app: a:C, timeout: 0, queue_size: 7}\n"
                          "pools:\n"
                          "- name: p\n"
                          "  workers: 3\n"
                          "  timeout: 20s\n"
                          "  kill_after: 0\n"
                          "  threads: 2\n"
                          "  env: {B: pool, C: pool}\n"
                          "  pythonpath: [/pool]\n"
                          "  rlimits: {nofile: 2}\n"
                          "  oom_score_adj: 5\n"
                          "  apps:\n"
                          "  - p:A\n"
                          "  - {app: p:B, timeout: 30s, max_requests: 9, env: {D: app}}\n")
                          .MustLoad();
  ASSERT_EQ(settings.pools.size(), 2u);
  const PoolSettings& top = settings.pools[0];
  EXPECT_EQ(top.workers, 1u);
  EXPECT_EQ(top.threads, 4u);
  EXPECT_EQ(top.user, "www-data");
  EXPECT_EQ(top.apps[0].limits.timeout, absl::Seconds(10));
  EXPECT_EQ(top.apps[1].limits.timeout, absl::InfiniteDuration());
  EXPECT_EQ(top.apps[1].limits.queue_size, 7u);
  EXPECT_EQ(top.apps[1].limits.kill_after, absl::Seconds(3));
  const PoolSettings& pool = settings.pools[1];
  EXPECT_EQ(pool.workers, 3u);
  EXPECT_EQ(pool.threads, 2u);
  EXPECT_EQ(pool.surge, 1u);
  EXPECT_EQ(pool.user, "www-data");
  EXPECT_EQ(pool.env, (std::map<std::string, std::string>{{"A", "top"}, {"B", "pool"}, {"C", "pool"}}));
  EXPECT_EQ(pool.rlimits, (std::map<std::string, int64_t>{{"core", 0}, {"nofile", 2}}));
  EXPECT_THAT(pool.pythonpath, ElementsAre("/pool"));
  EXPECT_EQ(pool.oom_score_adj, 5);
  EXPECT_EQ(pool.apps[0].limits.timeout, absl::Seconds(20));
  EXPECT_EQ(pool.apps[0].limits.queue_size, 5u);
  EXPECT_EQ(pool.apps[0].limits.kill_after, absl::ZeroDuration());
  EXPECT_EQ(pool.apps[1].limits.timeout, absl::Seconds(30));
  EXPECT_EQ(pool.apps[1].limits.max_requests, 9u);
  EXPECT_EQ(pool.apps[1].env, (std::map<std::string, std::string>{{"D", "app"}}));
}

TEST(Runtime, IsChosenByTheApps) {
  Settings settings = File(
                          "apps: [libx.so:X]\npools:\n- {name: p, apps: [a:B]}\n"
                          "- {name: e, runtime: exec, command: [node], apps: [x.so:A]}\n")
                          .MustLoad();
  EXPECT_EQ(settings.pools.at(0).runtime, WorkerRuntime::kNative);
  EXPECT_EQ(settings.pools.at(1).runtime, WorkerRuntime::kPython);
  EXPECT_EQ(settings.pools.at(2).runtime, WorkerRuntime::kExec);
}

TEST(DefaultPool, IsThereOnlyIfItHasApps) {
  Settings settings = File("pools: [{name: p, apps: [a:B]}]\n").MustLoad();
  ASSERT_EQ(settings.pools.size(), 1u);
  EXPECT_EQ(settings.pools[0].name, "p");
}

TEST(Names, AreAliasOrPathOrFileName) {
  Settings settings = File("apps: [/opt/a/libx.so:X, liby.so:Y, {app: /opt/libz.so:Z, name: zed}]\n").MustLoad();
  const auto& apps = settings.pools.at(0).apps;
  EXPECT_EQ(apps.at(0).name, "libx.so:X");
  EXPECT_EQ(apps.at(0).path, "/opt/a/libx.so:X");
  EXPECT_EQ(apps.at(1).name, "liby.so:Y");
  EXPECT_EQ(apps.at(2).name, "zed");
}

TEST(RuntimeDir, IsTheUsersOwnWithoutRoot) {
  TestWorld world = Args({"a:B"});
  world.uid = 1000;
  world.variables = {{"XDG_RUNTIME_DIR", "/run/user/1000"}};
  EXPECT_EQ(world.MustLoad().socket, "/run/user/1000/dirty/dirty.sock");
  for (const char* unusable : {"", "relative"}) {
    world.variables = {{"XDG_RUNTIME_DIR", unusable}};
    EXPECT_THAT(world.Errors(), ElementsAre("runtime_dir: no default: /run/dirty is root's (this is uid 1000) and "
                                            "$XDG_RUNTIME_DIR is not set; give --runtime_dir"));
  }
  world.args.push_back("--runtime_dir=/tmp/d");
  EXPECT_EQ(world.MustLoad().runtime_dir, "/tmp/d");
}

TEST(LocateApp, TakesTheFirstFolderThatHasTheLibrary) {
  std::vector<std::string> asked;
  auto in_b = [&](const std::string& path) {
    asked.push_back(path);
    return path == "/b/libx.so";
  };
  EXPECT_EQ(LocateApp("libx.so:X", {"/a", "/b", "/c"}, in_b), "/b/libx.so:X");
  EXPECT_THAT(asked, ElementsAre("/a/libx.so", "/b/libx.so"));
  EXPECT_EQ(LocateApp("liby.so:Y", {"/a", "/b"}, in_b), "liby.so:Y");
  asked.clear();
  EXPECT_EQ(LocateApp("/x/libx.so:X", {"/b"}, in_b), "/x/libx.so:X");
  EXPECT_EQ(LocateApp("a:B", {"/b"}, in_b), "a:B");
  EXPECT_THAT(asked, ElementsAre());
}

// What --check prints loads back to the same settings, wherever that file lies and whatever the variables are.
TEST(Check, PrintsWhatLoadsBackToTheSame) {
  TestWorld first = File(
      "runtime_dir: run\nworkers: 3\ntimeout: 1.5\nqueue_timeout: 100ms\nmax_memory: 3000\n"
      "log_level: debug\nlog_file: log\nsocket_mode: 0600\nallow_uids: [1, 2]\noom_score_adj: -5\n"
      "env: {A: '$${X} $ $$ ${HOME}', B: '', C: 'null', D: \"two\\nlines: \\u00e9 # \\\"'\", "
      "'E F': ' x '}\n"
      "rlimits: {core: -1, as: 4GiB}\n"
      "restart: {initial_backoff: 250ms}\n"
      "apps: ['a:B:2', {app: c:D, name: d, timeout: 0, env: {Z: '{worker_index}'}}]\n"
      "hooks: {dirty_worker_init: {python: 'a:b'}, dirty_worker_exit: {exec: [./x, '', '~']}}\n"
      "pools:\n- {name: n, surge: 0, library_path: [x], apps: [./liby.so:Y]}\n"
      "- {name: js, runtime: exec, command: [node, '${HOME}/w.js'], apps: ['app.js:A']}\n");
  first.variables = {{"HOME", "/home/${X}"}};
  first.args = {"--dirty-threads=2"};
  auto loaded = first.Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  std::string yaml = ToYaml(loaded->config);

  TestWorld second = File(yaml);
  auto again = second.Load();
  ASSERT_TRUE(again.ok()) << again.status() << "\n" << yaml;
  EXPECT_EQ(again->settings, loaded->settings) << yaml;
  EXPECT_EQ(ToYaml(again->config), yaml);
  EXPECT_EQ(loaded->settings.pools[0].env.at("A"), "${X} $ $$ /home/${X}");
}

TEST(Check, PrintsTheEffectiveConfiguration) {
  auto loaded = File("apps: [{app: a:B, timeout: 5m}]\nenv: {KEY: value}\n").Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  std::string yaml = ToYaml(loaded->config);
  for (const char* part : {"\nworkers: 1\n", "\ntimeout: 300s\n", "\nmax_message_size: 64MiB\n", "\nchdir: /etc/app\n",
                           "\napps:\n  - app: a:B\n    timeout: 300s\n", "\nenv:\n  KEY: value\n"}) {
    EXPECT_THAT(yaml, HasSubstr(part));
  }
}

TEST(Settings, DifferWhereTheConfigurationDoes) {
  Settings settings = Args({"a:B"}).MustLoad();
  EXPECT_EQ(settings, Args({"a:B", "--workers=1"}).MustLoad());
  Settings other = Args({"a:B", "--kill_after=6s"}).MustLoad();
  EXPECT_FALSE(settings == other);
  EXPECT_FALSE(settings.pools[0] == other.pools[0]);
  EXPECT_TRUE(settings.restart == other.restart);
}

TEST(ReadFile, GivesTheTextOrTheReason) {
  auto text = ReadFile(DIRTY_CONFIGURATION_DOC);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("# Configuration"));
  EXPECT_EQ(ReadFile("/nope/nope").status().message(), "No such file or directory");
  EXPECT_EQ(ReadFile("/").status().message(), "Is a directory");
}

}  // namespace
}  // namespace dirty
