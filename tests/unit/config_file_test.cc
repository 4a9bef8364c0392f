// What a YAML file means, and what each mistake in one is called.

#include <random>

#include "config_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dirty {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Mistake {
  const char* file;
  const char* error;
};

// Every one is the only error of its file.
constexpr Mistake kMistakes[] = {
    // Spelling of values.
    {"apps: [a:B]\ntimeout: 10 parsecs\n", "f:2:1: timeout: \"10 parsecs\" is not a duration; use 30, 30s, 5m, 100ms"},
    {"apps:\n  - a:B\n  - app: a:C\n    timeout: 10 parsecs\n",
     "f:4:5: apps[1].timeout: \"10 parsecs\" is not a duration; use 30, 30s, 5m, 100ms"},
    {"apps: [a:B]\ntimeout: -5s\n", "f:2:1: timeout: \"-5s\" is negative"},
    {"apps: [a:B]\nworkers: -1\n", "f:2:1: workers: \"-1\" is negative"},
    {"apps: [a:B]\nworkers: two\n", "f:2:1: workers: \"two\" is not a whole number"},
    {"apps: [a:B]\nworkers: 4294967296\n", "f:2:1: workers: \"4294967296\" is too large; at most 4294967295"},
    {"apps: [a:B]\nworkers: 99999999999999999999\n",
     "f:2:1: workers: \"99999999999999999999\" is too large; at most 4294967295"},
    {"apps: [a:B]\nmax_message_size: 64MB\n",
     "f:2:1: max_message_size: \"64MB\" is not a size; use 1048576, 64KiB, 64MiB, 1GiB"},
    {"apps: [a:B]\nsocket_mode: rw\n", "f:2:1: socket_mode: \"rw\" is not a mode; use octal digits such as 0660"},
    {"apps: [a:B]\nsocket_mode: 1777\n", "f:2:1: socket_mode: \"1777\" is not a mode; use octal digits such as 0660"},
    {"apps: [a:B]\nlog_level: wraning\n",
     "f:2:1: log_level: \"wraning\" is not one of debug, info, warning, error; did you mean \"warning\"?"},
    {"apps: [a:B]\nlog_format: xml\n", "f:2:1: log_format: \"xml\" is not one of text, json"},
    {"apps: [a:B]\nallow_uids: [33, www]\n", "f:2:18: allow_uids[1]: \"www\" is not a whole number"},
    {"apps: [a:B]\noom_score_adj: 1001\n", "f:2:1: oom_score_adj: 1001 is not within -1000 and 1000"},
    {"apps: [a:B]\nrlimits: {nofiles: 10}\n",
     "f:2:11: rlimits.nofiles: \"nofiles\" is not one of as, core, cpu, data, fsize, memlock, nofile, nproc, stack; "
     "did you mean \"nofile\"?"},
    {"apps: [a:B]\nrlimits: {nofile: -2}\n", "f:2:11: rlimits.nofile: -2 is negative; -1 means no limit"},
    {"apps: [a:B]\nmetrics: 9464\n", "f:2:1: metrics: \"9464\" is not an address; use HOST:PORT or unix:PATH"},
    {"apps: [a:B]\nmetrics: localhost:0\n",
     "f:2:1: metrics: \"localhost:0\" is not an address; use HOST:PORT or unix:PATH"},
    {"apps: [a:B]\nmetrics: 'unix:'\n", "f:2:1: metrics: \"unix:\" is not an address; use HOST:PORT or unix:PATH"},
    {"apps: [a:B]\nnetwork: {}\n", "f:2:1: network: needs address: HOST:PORT"},
    {"apps: [a:B]\nnetwork: {insecure: maybe, address: localhost:1}\n",
     "f:2:11: network.insecure: \"maybe\" is neither true nor false"},
    {"apps: [a:B]\nnetwork: {address: 8443}\n", "f:2:11: network.address: \"8443\" is not an address; use HOST:PORT"},
    {"apps: [a:B]\nnetwork: {address: 'localhost:65536'}\n",
     "f:2:11: network.address: \"localhost:65536\" is not an address; use HOST:PORT"},
    {"apps: [a:B]\nnetwork: {address: ':8443'}\n",
     "f:2:11: network.address: \":8443\" is not an address; use HOST:PORT"},
    {"apps: [a:B]\nnetwork: {address: 'localhost:1', certificate: x}\n", "f:2:1: network: certificate needs key"},
    {"apps: [a:B]\nnetwork: {address: 'localhost:1', key: x}\n", "f:2:1: network: key needs certificate"},
    {"apps: [a:B]\nnetwork: {address: 'localhost:1', client_ca: x}\n",
     "f:2:35: network.client_ca: needs certificate and key"},
    {"apps: [a:B]\nnetwork: {address: 'localhost:1', certificate: x, key: y, insecure: true}\n",
     "f:2:59: network.insecure: contradicts certificate; leave one of them out"},
    {"apps: [a:B]\nnetwork: {address: '0.0.0.0:8443'}\n",
     "f:2:11: network.address: 0.0.0.0:8443 is not loopback, and without certificate and key nothing is encrypted; "
     "give both, or insecure: true"},
    {"apps: [a:B]\nnetwork: {address: '127.evil.example:8443'}\n",
     "f:2:11: network.address: 127.evil.example:8443 is not loopback, and without certificate and key nothing is "
     "encrypted; give both, or insecure: true"},
    {"apps: [a:B]\nnetwork: {adress: x}\n", "f:2:11: network: unknown key \"adress\"; did you mean \"address\"?"},
    {"apps: [a:B]\npython: \"a\\0b\"\n", "f:2:1: python: \"a\\000b\" holds a zero byte"},
    {"apps: [a:B]\npythonpath: ['']\n", "f:2:14: pythonpath[0]: an empty path"},
    {"apps: [a:B]\nmax_message_size: 3GiB\n",
     "f:2:1: max_message_size: is more than 2046MiB, the most that the transport takes"},
    {"apps: [a:B]\nchdir: ${NOPE}\n",
     "f:2:1: chdir: the environment variable NOPE is not set; set it, or write ${NOPE:-default}"},
    // Shape.
    {"apps: [a:B]\nworker: 3\n", "f:2:1: unknown key \"worker\"; did you mean \"workers\"?"},
    {"apps: [a:B]\ncolour: red\n", "f:2:1: unknown key \"colour\""},
    {"apps: [a:B]\nlimits: {timeout: 3}\n", "f:2:1: unknown key \"limits\"; write its keys here, without this heading"},
    {"apps:\n- app: a:B\n  timeuot: 3\n", "f:3:3: apps[0]: unknown key \"timeuot\"; did you mean \"timeout\"?"},
    {"apps: [a:B]\nworkers: 1\nworkers: 2\n", "f:3:1: duplicate key \"workers\"; first at f:2:1"},
    {"apps: [a:B]\nenv: {A: 1, A: 2}\n", "f:2:13: env: duplicate key \"A\"; first at f:2:7"},
    {"apps: [a:B]\n[1]: 2\n", "f:2:1: a key must be a text, not a list"},
    {"apps: a:B\n", "f:1:1: apps: expected a list, not one value"},
    {"apps: [[a:B]]\n", "f:1:8: apps[0]: expected a mapping of keys, not a list"},
    {"apps: [a:B, ]\nthreads: [1]\n", "f:2:1: threads: expected a number, not a list"},
    {"apps: [a:B]\ntimeout: {a: b}\n", "f:2:1: timeout: expected a duration such as 30s, not a mapping"},
    {"apps: [a:B]\nenv: 3\n", "f:2:1: env: expected a mapping of names to values, not one value"},
    {"apps: [a:B]\nenv: {A: ~}\n", "f:2:7: env.A: expected a text, not nothing"},
    {"apps: [a:B]\nrestart: 3\n", "f:2:1: restart: expected a mapping of keys, not one value"},
    {"pools: [gpu]\n", "f:1:9: pools[0]: expected a mapping of keys, not one value"},
    {"just text\n", "f:1:1: expected a mapping of keys, not one value"},
    {"apps: [a:B]\n---\napps: [a:C]\n", "f:2:1: a second document starts here; a configuration is one"},
    {"\"a\" b \"c",
     "f:1:5: a second document starts here; a configuration is one"},  // yaml-cpp's LoadAll never returns
    {"apps: [a:B\nworkers: 2\n", "f:2:8: not YAML: end of sequence flow not found"},
    // Rules.
    {"", "no apps: give APP or apps:"},
    {"apps: [a:B]\nthreads: 0\n", "f:2:1: threads: must be at least 1"},
    {"apps: [a:B]\nadmin_socket: x.sock\nsocket: x.sock\n", "f:2:1: admin_socket: is the clients' socket too"},
    {"apps: [a:B]\nrestart: {initial_backoff: 0}\n",
     "f:2:11: restart.initial_backoff: must be above 0: failing workers would be started without a pause"},
    {"apps: [a:B]\nrestart: {max_backoff: 50ms}\n",
     "f:2:11: restart.max_backoff: is shorter than restart.initial_backoff"},
    {"apps: [a:B]\nenv: {DIRTY_SOCKET: x}\n", "f:2:7: env.DIRTY_SOCKET: is set by dirtyd itself"},
    {"apps: [a:B]\nenv: {'A=B': x}\n", "f:2:7: env.A=B: \"A=B\" is no name of an environment variable"},
    // Apps.
    {"apps: [a]\n", "f:1:8: apps[0].app: \"a\" is not an app; use module:Class or lib.so:Class"},
    {"apps: ['a:']\n", "f:1:8: apps[0].app: \"a:\" is not an app; use module:Class or lib.so:Class"},
    {"apps: [':B']\n", "f:1:8: apps[0].app: \":B\" is not an app; use module:Class or lib.so:Class"},
    {"apps: ['a:3']\n", "f:1:8: apps[0].app: \"a\" is not an app; use module:Class or lib.so:Class"},
    {"apps: ['..a:B']\n", "f:1:8: apps[0].app: \"..a:B\" is not an app; use module:Class or lib.so:Class"},
    {"apps: ['a..b:B']\n", "f:1:8: apps[0].app: \"a..b:B\" is not an app; use module:Class or lib.so:Class"},
    {"apps: ['a:B:C']\n", "f:1:8: apps[0].app: \"a:B:C\" is not an app; use module:Class or lib.so:Class"},
    {"apps: ['a:B C']\n", "f:1:8: apps[0].app: \"a:B C\" is not an app; use module:Class or lib.so:Class"},
    {"apps: ['x.so:a.B']\n", "f:1:8: apps[0].app: \"x.so:a.B\" is not an app; use module:Class or lib.so:Class"},
    {"apps: ['a/b.py:B']\n",
     "f:1:8: apps[0].app: \"a/b.py:B\" is a file; name a Python module as import does: package.module:Class"},
    {"apps: [{app: 'a:B:2'}]\n", "f:1:9: apps[0].app: \"a:B:2\" is not an app; use module:Class or lib.so:Class"},
    {"apps: [{name: x}]\n", "f:1:8: apps[0]: has no app: module:Class"},
    {"apps: [~]\n", "f:1:8: apps[0]: expected a mapping of keys, not nothing"},
    {"apps: [{app: 'a:B', name: 'x y'}]\n",
     "f:1:21: apps[0].name: \"x y\" is not a name; use 1 to 200 bytes without spaces"},
    {"apps: [{app: 'a:B', name: dirty.v1.Arbiter}]\n", "f:1:21: apps[0].name: names like dirty.v1.* belong to dirtyd"},
    {"apps: ['a:B:0']\n", "f:1:8: apps[0].workers: must be at least 1: an app that no worker loads cannot be called"},
    {"workers: 2\napps: ['a:B:3']\n", "f:2:8: apps[0].workers: 3 is more than the pool \"default\" has: workers is 2"},
    {"apps: ['a:B:2']\n", "f:1:8: apps[0].workers: 2 is more than the pool \"default\" has: workers is 1"},
    {"apps: [a:B, a:B]\n",
     "f:1:13: apps[1]: app \"a:B\" is in pool \"default\" already (f:1:8); remove one, or give it another name"},
    {"apps: [/a/x.so:X, /b/x.so:X]\n",
     "f:1:19: apps[1]: app \"x.so:X\" is in pool \"default\" already (f:1:8); remove one, or give it another name"},
    {"apps: [a:B, x.so:X]\n",
     "f:1:13: apps[1]: the pool \"default\" mixes libraries and Python apps, which no worker can; make a second pool"},
    {"apps:\n- {app: a:B, env: {A: 1}}\n- {app: a:C, env: {A: 2}}\n",
     "f:3:20: apps[1].env.A: differs from that of a:B, which shares its workers; make a second pool"},
    // Pools.
    {"pools: [{apps: [a:B]}]\n", "f:1:9: pools[0]: has no name"},
    {"pools: [{name: gpu}]\n", "f:1:9: pools[0]: has no apps"},
    {"pools: [{name: default, apps: [a:B]}]\n",
     "f:1:10: pools[0].name: \"default\" is the pool of the apps at the top level; choose another name"},
    {"pools: [{name: g p, apps: [a:B]}]\n",
     "f:1:10: pools[0].name: \"g p\" is not a name; use letters, digits and . _ -"},
    {"pools:\n- {name: p, apps: [a:B]}\n- {name: p, apps: [a:C]}\n",
     "f:3:4: pools[1].name: \"p\" is the pool at f:2:3 too"},
    {"apps: [a:B]\npools: [{name: p, apps: [a:B]}]\n",
     "f:2:26: pools[0].apps[0]: app \"a:B\" is in pool \"default\" already (f:1:8); remove one, or give it another "
     "name"},
    {"pools: [{name: p, workers: 2, apps: ['a:B:3']}]\n",
     "f:1:38: pools[0].apps[0].workers: 3 is more than the pool \"p\" has: workers is 2"},
    {"workers: 2\npools: [{name: p, apps: [a:B]}]\n",
     "f:1:1: workers: has no effect: it is of the pool \"default\", which has no apps; pools have their own"},
    {"pools: [{name: p, apps: [a:B], runtime: ruby}]\n",
     "f:1:32: pools[0].runtime: \"ruby\" is not one of native, python, exec"},
    {"pools: [{name: p, apps: [a:B], runtime: exec}]\n",
     "f:1:9: pools[0]: runtime exec needs command: [program, argument]"},
    {"pools: [{name: p, apps: [a:B], command: [x]}]\n", "f:1:32: pools[0].command: is for runtime: exec"},
    {"pools: [{name: p, apps: [a:B], runtime: native}]\n",
     "f:1:26: pools[0].apps[0].app: \"a:B\" is no library, but the pool's runtime is native"},
    {"pools: [{name: p, apps: [a.so:B], runtime: python}]\n",
     "f:1:26: pools[0].apps[0].app: \"a.so:B\" is a library, but the pool's runtime is python"},
    {"pools: [{name: p, apps: [../a.js:B], runtime: exec, command: [x]}]\n",
     "f:1:26: pools[0].apps[0].app: \"../a.js:B\" is not an app; use module:Class or lib.so:Class"},
    {"pools: [{name: p, threads: 0, apps: [a:B]}]\n", "f:1:19: pools[0].threads: must be at least 1"},
    // Hooks.
    {"apps: [a:B]\nhooks: {on_dirty_starting: {}}\n",
     "f:2:9: hooks.on_dirty_starting: needs exactly one of exec: [program, argument] and python: \"module:function\""},
    {"apps: [a:B]\nhooks: {dirty_post_fork: {exec: [a], python: 'a:b'}}\n",
     "f:2:9: hooks.dirty_post_fork: needs exactly one of exec: [program, argument] and python: \"module:function\""},
    {"apps: [a:B]\nhooks: {dirty_worker_exit: {python: a.b}}\n",
     "f:2:29: hooks.dirty_worker_exit.python: \"a.b\" is not a function; use module:function"},
    {"apps: [a:B]\nhooks: {worker_init: {exec: [a]}}\n", "f:2:9: hooks: unknown key \"worker_init\""},
};

TEST(File, SaysWhereAndWhatEachMistakeIs) {
  for (const Mistake& mistake : kMistakes) EXPECT_THAT(File(mistake.file).Errors(), ElementsAre(mistake.error));
}

TEST(File, ReportsEveryMistakeInItsOrder) {
  EXPECT_THAT(
      File("worker: 2\n"
           "threads: 0\n"
           "apps:\n"
           "  - a:B\n"
           "  - app: a:B\n"
           "    timeout: 10 parsecs\n")
          .Errors(),
      ElementsAre("f:1:1: unknown key \"worker\"; did you mean \"workers\"?", "f:2:1: threads: must be at least 1",
                  "f:5:5: apps[1]: app \"a:B\" is in pool \"default\" already (f:4:5); remove one, or give it "
                  "another name",
                  "f:6:5: apps[1].timeout: \"10 parsecs\" is not a duration; use 30, 30s, 5m, 100ms"));
}

TEST(File, ConcludesNothingFromAValueThatIsWrong) {
  // Not also: 3 workers are more than the pool has.
  EXPECT_THAT(File("workers: x\napps: ['a:B:3']\n").Errors(),
              ElementsAre("f:1:1: workers: \"x\" is not a whole number"));
  // Not also: no apps, no name.
  EXPECT_THAT(File("aps: [a:B]\n").Errors(), ElementsAre("f:1:1: unknown key \"aps\"; did you mean \"apps\"?"));
  EXPECT_THAT(File("pools: [{nam: p, apps: [a:B]}]\n").Errors(),
              ElementsAre("f:1:10: pools[0]: unknown key \"nam\"; did you mean \"name\"?"));
  // A wrong value that a flag replaces is still an error, and the flag's value is checked.
  TestWorld replaced = File("workers: x\napps: ['a:B:3']\n");
  replaced.args = {"--workers=2"};
  EXPECT_THAT(replaced.Errors(), ElementsAre("f:1:1: workers: \"x\" is not a whole number",
                                             "f:2:8: apps[0].workers: 3 is more than the pool \"default\" has: "
                                             "workers is 2"));
}

TEST(File, ThatCannotBeReadIsNamedWithTheReason) {
  TestWorld world = Args({"--config", "conf/nope.yaml", "a:B"});
  EXPECT_THAT(world.Errors(), ElementsAre("cannot read conf/nope.yaml: No such file or directory"));
}

TEST(File, MayBeEmpty) {
  for (const char* text : {"", "\n", "# nothing\n", "---\n", "{}"}) {
    TestWorld world = File(text);
    world.args = {"a:B"};
    EXPECT_EQ(world.MustLoad().pools.size(), 1u) << text;
  }
}

TEST(File, TakesAKeyWithoutAValueAsLeftOut) {
  Settings settings = File("timeout:\napps:\n- a:B\npools:\nenv:\n").MustLoad();
  EXPECT_EQ(settings.pools.at(0).apps.at(0).limits.timeout, absl::Seconds(300));
}

TEST(File, ExpandsVariables) {
  TestWorld world = File("apps: ['${MODULE}:B:${N:-2}']\nworkers: ${N:-2}\nenv: {A: '$${X} ${MODULE}'}\n");
  world.variables = {{"MODULE", "my.app"}};
  Settings settings = world.MustLoad();
  EXPECT_EQ(settings.pools[0].workers, 2u);
  EXPECT_EQ(settings.pools[0].apps[0].name, "my.app:B");
  EXPECT_EQ(settings.pools[0].apps[0].workers, 2u);
  EXPECT_EQ(settings.pools[0].env.at("A"), "${X} my.app");
}

TEST(File, IsUtf8) {
  EXPECT_THAT(File("apps: [m:A\xe0p]\n").Errors(), ElementsAre(R"(f:1:8: apps[0]: "m:A\340p" is not UTF-8)"));
  EXPECT_THAT(File("apps: [m:C]\nenv: {\"\xff\": x}\n").Errors(),
              ElementsAre(R"(f:2:7: env.\377: "\377" is not UTF-8)"));
  TestWorld world = File("apps: [m:C]\nenv: {A: \"${BYTES}\"}\n");
  world.variables["BYTES"] = "\xc0";
  EXPECT_THAT(world.Errors(), ElementsAre(R"(f:2:7: env.A: "\300" is not UTF-8)"));
  EXPECT_THAT(Args({"m:\xed\xa0\x80"}).Errors(), ElementsAre(HasSubstr("is not UTF-8")));
}

TEST(File, IsWhereRelativePathsStart) {
  Settings settings = File(
                          "runtime_dir: run\n"
                          "socket: s/d.sock\n"
                          "log_file: logs/x\n"
                          "metrics: unix:m.sock\n"
                          "network: {address: 'h:1', certificate: tls/c, key: ../k, client_ca: /ca, token_file: t}\n"
                          "chdir: work\n"
                          "hooks: {dirty_post_fork: {exec: [./hook, ./arg]}, dirty_worker_exit: {exec: [hook]}}\n"
                          "pools:\n"
                          "- {name: a, python: ../venv/bin/python, pythonpath: [., lib], apps: [a:B]}\n"
                          "- {name: b, library_path: [libs], apps: [libx.so:X, ./liby.so:Y]}\n"
                          "- {name: c, runtime: exec, command: [./run, ./arg], apps: [app.js:C]}\n")
                          .MustLoad();
  EXPECT_EQ(settings.runtime_dir, "/etc/app/run");
  EXPECT_EQ(settings.socket, "/etc/app/s/d.sock");
  EXPECT_EQ(settings.admin_socket, "/etc/app/run/admin.sock");
  EXPECT_EQ(settings.log_file, "/etc/app/logs/x");
  EXPECT_EQ(settings.metrics, "unix:/etc/app/m.sock");
  EXPECT_EQ(settings.network, (NetworkSettings{"h:1", "/etc/app/tls/c", "/etc/k", "/ca", "/etc/app/t", false}));
  EXPECT_THAT(settings.hooks.dirty_post_fork.exec, ElementsAre("/etc/app/hook", "./arg"));
  EXPECT_THAT(settings.hooks.dirty_worker_exit.exec, ElementsAre("hook"));
  ASSERT_EQ(settings.pools.size(), 3u);
  EXPECT_EQ(settings.pools[0].chdir, "/etc/app/work");
  EXPECT_EQ(settings.pools[0].python, "/etc/venv/bin/python");
  EXPECT_THAT(settings.pools[0].pythonpath, ElementsAre("/etc/app", "/etc/app/lib"));
  EXPECT_THAT(settings.pools[1].library_path, ElementsAre("/etc/app/libs", "/usr/lib/dirty/apps"));
  EXPECT_EQ(settings.pools[1].apps[0].path, "libx.so:X");
  EXPECT_EQ(settings.pools[1].apps[1].path, "/etc/app/liby.so:Y");
  EXPECT_EQ(settings.pools[1].apps[1].name, "liby.so:Y");
  EXPECT_THAT(settings.pools[2].command, ElementsAre("/etc/app/run", "./arg"));
  EXPECT_EQ(settings.pools[2].apps[0].path, "app.js:C");
}

TEST(File, LimitsTheLengthOfSocketPaths) {
  std::string longest(75 - 1, 'r');
  EXPECT_THAT(File("runtime_dir: /" + longest + "\napps: [a:B]\n").Errors(), ElementsAre());
  EXPECT_THAT(File("runtime_dir: /" + longest + "r\napps: [a:B]\n").Errors(),
              ElementsAre("f:1:1: runtime_dir: has 76 bytes, at most 75 leave room for the workers' sockets (a "
                          "socket's path has at most 107 bytes); give a shorter --runtime_dir"));
  EXPECT_THAT(File("socket: /" + std::string(106, 's') + "\napps: [a:B]\n").Errors(), ElementsAre());
  EXPECT_THAT(File("socket: /" + std::string(199, 's') + "\napps: [a:B]\n").Errors(),
              ElementsAre("f:1:1: socket: the path has 200 bytes, a socket's has at most 107; give a shorter "
                          "--socket or --runtime_dir"));
}

TEST(File, AcceptsWhatIsOddButRight) {
  for (const char* text : {
           "apps: ['a:B:3']\nworkers: 0\n",                                       // disabled: nothing to compare with
           "apps: [a:B, {app: a:B, name: other}]\n",                              // twice, under two names
           "apps: [{app: a:B, env: {A: 1}}, {app: a:C, env: {A: 1}}]\n",          // the same value
           "apps: [a.so:A, b.so.1:B]\n",                                          //
           "apps: [a:B]\nmetrics: '[::1]:9464'\n",                                //
           "apps: [a:B]\nuser: ''\nmetrics: ''\nsocket: ''\nsocket_mode: 600\n",  // empty: as if left out
           "apps: [a:B]\nnetwork: {address: '127.0.0.2:0'}\n",                    //
           "apps: [a:B]\nnetwork: {address: '[::1]:80', token_file: t}\n",        //
           "apps: [a:B]\nnetwork: {address: '[::]:80', insecure: true}\n",        //
           "apps: [a:B]\nnetwork: {address: 'h:80', certificate: c, key: k}\n",   //
           "apps: [a:B]\nnetwork:\n",                                             // without a value: as if left out
           "apps: [a:B]\nrlimits: {as: 4GiB, core: 0, nofile: -1}\n",             //
           "apps: [a:B]\nadmin_socket: x\nsocket: y\n",                           //
           "pools: [{name: p, runtime: exec, command: [x], apps: [a/b.js:A, c.so:C]}]\n",
       }) {
    EXPECT_THAT(File(text).Errors(), ElementsAre()) << text;
  }
}

// Whatever a file holds, the answer is settings or errors that start with a place, each on a line of its own.
TEST(File, OfAnyContentIsLoadedOrRefused) {
  const std::string valid =
      "workers: 2\ntimeout: 1.5h\nenv: {A: \"x${B:-y}\"}\nlog_file: |\n  log\napps:\n- &a a:B:2\n"
      "- {app: c.d:D, name: e}\nhooks: {dirty_post_fork: {exec: [x, *a]}}\npools:\n- name: p\n  runtime: exec\n"
      "  command: [x]\n  apps: [y:Z]\n";
  EXPECT_THAT(File(valid).Errors(), ElementsAre());
  const std::string alphabet = "\n \t:-,[]{}&*!|>'\"%@`#?~$0.9x:\\\x01\x7f\xc3\xff" + std::string(1, '\0');
  std::mt19937 random(3);
  size_t loaded = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string text = valid;
    for (size_t edits = random() % 4 + 1; edits > 0; --edits) {
      size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text.erase(at, random() % 5);
          break;
        case 1:
          text.insert(at, 1, alphabet[random() % alphabet.size()]);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 20));
      }
    }
    TestWorld world = File(text);
    if (world.Load().ok()) {
      ++loaded;
      continue;
    }
    for (const std::string& line : world.Errors()) {
      EXPECT_THAT(line, testing::AnyOf(testing::StartsWith("f:"), testing::StartsWith("no apps"))) << text;
    }
  }
  EXPECT_GT(loaded, 100u);
}

}  // namespace
}  // namespace dirty
