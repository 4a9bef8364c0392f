// Starting: what stops dirtyd from it, and what must not.

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/integration/harness.h"

namespace dirty::integration {
namespace {

using client::Json;
using client::Reason;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr uid_t kNobody = 65534;

// --- Command line and configuration ---

TEST(CommandLine, EveryProgramHasAVersionAndHelp) {
  for (const char* program : {"dirtyd", "dirtyctl", "dirty-worker"}) {
    SCOPED_TRACE(program);
    Ran version = RunProgram({Program(program), "--version"});
    EXPECT_EQ(version.code, 0);
    EXPECT_EQ(version.out, absl::StrCat(program, " ", DIRTY_VERSION, "\n"));
    EXPECT_EQ(version.err, "");
    Ran help = RunProgram({Program(program), "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_THAT(help.out, HasSubstr(program));
    EXPECT_EQ(help.err, "");
    Ran wrong = RunProgram({Program(program), "--no-such-flag"});
    EXPECT_EQ(wrong.code, 2);
    EXPECT_EQ(wrong.out, "");
    EXPECT_THAT(wrong.err, HasSubstr("no-such-flag"));
  }
}

TEST(Configuration, CheckNamesEveryMistakeAtItsPlace) {
  Folder folder;
  const std::string file = folder / "dirty.yaml";
  std::ofstream(file) << "workerz: 2\n"
                         "threads: many\n"
                         "apps:\n"
                         "  - app: libfaults.so:Echo\n"
                         "    timeout: -1s\n";
  for (const Words& mode : {Words{"--check"}, Words{}}) {
    Words command = {Program("dirtyd"), "--config", file, "--runtime_dir", folder / "rt"};
    command.insert(command.end(), mode.begin(), mode.end());
    Ran ran = RunProgram(command);
    EXPECT_EQ(ran.code, 2);
    EXPECT_EQ(ran.out, "");
    EXPECT_THAT(ran.err, HasSubstr(file + ":1:1: unknown key \"workerz\"; did you mean \"workers\"?"));
    EXPECT_THAT(ran.err, HasSubstr(file + ":2:"));
    EXPECT_THAT(ran.err, HasSubstr(file + ":5:"));
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 3) << ran.err;
  }
  EXPECT_FALSE(Exists(folder / "rt"));
}

TEST(Configuration, CheckPrintsWhatWouldRun) {
  Folder folder;
  std::ofstream(folder / "dirty.yaml") << "workers: 3\napps: [libfaults.so:Echo]\n";
  Ran ran = RunProgram(
      {Program("dirtyd"), "--config", folder / "dirty.yaml", "--check", "--threads=5", "--runtime-dir", folder / "rt"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.err, "");
  EXPECT_THAT(ran.out, AllOf(HasSubstr("workers: 3"), HasSubstr("threads: 5"), HasSubstr(kEcho)));
  std::ofstream(folder / "again.yaml") << ran.out;
  Ran again = RunProgram({Program("dirtyd"), "--config", folder / "again.yaml", "--check"});
  EXPECT_EQ(again.out, ran.out);
}

TEST(Configuration, AFileThatIsNotThereIsNamed) {
  Ran ran = RunProgram({Program("dirtyd"), "--config", "/nonexistent/dirty.yaml"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("/nonexistent/dirty.yaml"));
}

// --- Sockets and the runtime directory ---

TEST(Socket, APathThatIsTooLongIsAClearError) {
  Folder folder;
  const std::string path = folder / std::string(200 - folder.path().size() - 1, 'x');
  for (const char* flag : {"--socket", "--admin_socket", "--runtime_dir"}) {
    SCOPED_TRACE(flag);
    Words command = {Program("dirtyd"), kEcho, flag, path};
    if (flag != absl::string_view("--runtime_dir")) command.insert(command.end(), {"--runtime_dir", folder / "rt"});
    Ran ran = RunProgram(command);
    EXPECT_NE(ran.code, 0);
    EXPECT_THAT(ran.err, AllOf(HasSubstr("200"), HasSubstr("107"), HasSubstr(flag)));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Socket, AGroupThatIsNoneIsAClearError) {
  Folder folder;
  // The second would be root's if it were cut to 32 bits.
  for (const char* group : {"no-such-group", "4294967295", "4294967296", "99999999999999999999"}) {
    Ran ran = RunProgram({Program("dirtyd"), kEcho, "--runtime_dir", folder / "rt", "--socket_group", group});
    EXPECT_EQ(ran.code, 2);
    EXPECT_THAT(ran.err, HasSubstr(absl::StrCat("socket_group: there is no group \"", group, "\"")));
  }
}

TEST(Configuration, UsersAndGroupsAreCheckedAtTheirPlacesWithAllElse) {
  Folder folder;
  std::ofstream(folder / "dirty.yaml") << "apps: [" << kEcho << "]\nuser: nobody-here\ngroup: none-such\nworkers: -1\n";
  Ran ran = RunProgram({Program("dirtyd"), "--check", "--config", folder / "dirty.yaml"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("dirty.yaml:2:1: user: there is no user \"nobody-here\""),
                             HasSubstr("dirty.yaml:3:1: group: there is no group \"none-such\""),
                             HasSubstr("dirty.yaml:4:1: workers: ")));
}

TEST(Configuration, AnEmptyUserIsNotRoot) {  // as of a variable that is not set
  for (const char* key : {"--user", "--group", "--socket_group"}) {
    const Ran ran = RunProgram({Program("dirtyd"), "--check", kEcho, key, ""});
    EXPECT_EQ(ran.code, 2);
    EXPECT_THAT(ran.err, AllOf(HasSubstr(key + 2), HasSubstr("is empty: name one, or leave it out")));
  }
}

TEST(Configuration, AUserOfWhomTheDatabaseKnowsNothingNeedsAGroup) {
  Ran ran = RunProgram({Program("dirtyd"), "--check", kEcho, "--user", "54321"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("54321 is not in the user database: set `group` too"));
  EXPECT_EQ(RunProgram({Program("dirtyd"), "--check", kEcho, "--user", "54321", "--group", "54321"}).code, 0);
}

TEST(Configuration, CheckLooksForUsersAndGroups) {
  for (const char* key : {"user", "group", "socket_group"}) {
    Ran ran = RunProgram({Program("dirtyd"), "--check", kEcho, absl::StrCat("--", key), "nobody-here"});
    EXPECT_EQ(ran.code, 2);
    EXPECT_THAT(ran.err,
                HasSubstr(absl::StrCat(key, ": there is no ", key[0] == 'u' ? "user" : "group", " \"nobody-here\"")));
    EXPECT_EQ(ran.out, "");
  }
}

TEST(RuntimeDir, ASecondDirtydIsToldWhoHoldsIt) {
  Dirtyd dirtyd({kEcho});
  Ran second = RunProgram(dirtyd.Arguments({}));
  EXPECT_EQ(second.code, 1);
  EXPECT_THAT(second.err, AllOf(HasSubstr(dirtyd.runtime_dir()), HasSubstr(absl::StrCat("pid ", dirtyd.pid()))));
  // On another directory, but the same socket.
  Folder other;
  Ran third = RunProgram({Program("dirtyd"), kEcho, "--runtime_dir", other / "rt", "--socket", dirtyd.socket()});
  EXPECT_EQ(third.code, 1);
  EXPECT_THAT(third.err, AllOf(HasSubstr(dirtyd.socket()), HasSubstr(absl::StrCat("pid ", dirtyd.pid()))));
  // The first does not notice.
  EXPECT_TRUE(dirtyd.NewClient().Execute(kEcho, "pid").ok());
  dirtyd.Stop(SIGTERM);
}

TEST(RuntimeDir, WhatAKilledDirtydLeftIsInNobodysWay) {
  Dirtyd dirtyd({kEcho});
  for (int i = 0; i < 3; ++i) {
    dirtyd.process().Signal(SIGKILL);
    ASSERT_EQ(dirtyd.process().WaitExit().signal, SIGKILL);
    EXPECT_TRUE(Exists(dirtyd.socket()));
    dirtyd.Start();
    ASSERT_TRUE(dirtyd.NewClient().Execute(kEcho, "pid").ok());
  }
  dirtyd.Stop(SIGTERM);  // also removes the directory that the first one made
}

TEST(RuntimeDir, OneThatIsNotWritableIsAClearError) {
  if (!IsRoot()) GTEST_SKIP() << "needs root, to be somebody else";
  Folder folder;
  std::filesystem::create_directory(folder / "ours");
  chmod((folder / "ours").c_str(), 0755);
  for (const char* name : {"ours", "ours/below"}) {
    SCOPED_TRACE(name);
    Ran ran = RunProgram({Program("dirtyd"), kEcho, "--runtime_dir", folder / name}, {.uid = kNobody});
    EXPECT_EQ(ran.code, 1);
    EXPECT_THAT(ran.err, AllOf(HasSubstr(folder / "ours"), HasSubstr("Permission denied"), HasSubstr("uid 65534"),
                               HasSubstr("--runtime_dir")));
  }
  Ran ran = RunProgram({Program("dirtyd"), kEcho}, {.environment = {"XDG_RUNTIME_DIR="}, .uid = kNobody});
  EXPECT_NE(ran.code, 0);
  EXPECT_THAT(ran.err, HasSubstr("--runtime_dir"));
}

TEST(RuntimeDir, ServesSomebodyWhoIsNotRoot) {
  if (!IsRoot()) GTEST_SKIP() << "needs root, to be somebody else";
  Folder folder;
  chmod(folder.path().c_str(), 0777);
  Process dirtyd({Program("dirtyd"), kEcho, "--library_path", TestApps(), "--runtime_dir", folder / "rt"},
                 {.uid = kNobody});
  ASSERT_NE(dirtyd.WaitForLine("ready: "), "");
  Ran ran = RunProgram({Program("dirtyctl"), "--socket", folder / "rt/dirty.sock", "call", kEcho, "add", "1", "2"},
                       {.uid = kNobody});
  EXPECT_EQ(ran.code, 0) << ran.err;
  dirtyd.Signal(SIGTERM);
  EXPECT_EQ(dirtyd.WaitExit().code, 0);
  EXPECT_FALSE(Exists(folder / "rt"));
}

// --- Apps that do not start ---

// Quick to give up, and slow to try again.
const Words kGiveUp = {"--restart_give_up_after", "2", "--restart_initial_backoff", "1ms",
                       "--restart_max_backoff",   "1h"};

Words With(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

struct BadApp {
  const char *app, *says;
};

class AppThatDoesNotStart : public ::testing::TestWithParam<BadApp> {};

TEST_P(AppThatDoesNotStart, FailsAloneAndSaysWhy) {
  const auto [name, says] = GetParam();
  Dirtyd dirtyd(With({kEcho, name}, kGiveUp));
  EXPECT_THAT(dirtyd.process().err(), AllOf(HasSubstr("state=BACKOFF"), HasSubstr("state=FAILED")));
  v1::AppStatus app = dirtyd.App(name);
  EXPECT_EQ(app.state(), v1::AppStatus::FAILED);
  EXPECT_THAT(app.reason(), HasSubstr(says));
  client::Client client = dirtyd.NewClient();
  auto refused = client.Execute(name, "call");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().reason, Reason::kNoWorkers);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr(name), HasSubstr(says)));
  // Its neighbour in the same worker is none the worse for it.
  EXPECT_EQ(dirtyd.App(kEcho).state(), v1::AppStatus::READY);
  EXPECT_THAT(dirtyd.process().err(), Not(HasSubstr(absl::StrCat(kEcho, " failed to start"))));
  auto echo = client.Execute(kEcho, "add", Json::array({1, 2}));
  ASSERT_TRUE(echo.ok()) << echo.error().message;
  EXPECT_EQ(RunProgram(dirtyd.Ctl({"health"})).code, 0);
  EXPECT_EQ(RunProgram(dirtyd.Ctl({"health", kEcho})).code, 0);
  EXPECT_EQ(RunProgram(dirtyd.Ctl({"health", name})).code, 1);
  dirtyd.Stop(SIGTERM);
}

INSTANTIATE_TEST_SUITE_P(
    All, AppThatDoesNotStart,
    ::testing::Values(BadApp{"libmissing.so:App", "libmissing.so"}, BadApp{"libfaults.so:Nope", "no app Nope"},
                      BadApp{"libempty.so:App", "libempty.so"}, BadApp{"libwrongabi.so:App", "libwrongabi.so"},
                      BadApp{"libfaults.so:BadInit", "std::invalid_argument: BadInit has no model"},
                      BadApp{"libfaults.so:CrashInit",
                             kSanitized ? "the worker" : "killed by SIGSEGV: CrashInit is about to crash"}),
    [](const auto& bad) {
      std::string name = bad.param.app;
      std::erase_if(name, [](char c) { return !isalnum(static_cast<unsigned char>(c)); });
      return name;
    });

TEST(AppsThatDoNotStart, LeaveDirtydUpEvenIfAllOfThemDo) {
  Dirtyd dirtyd(With({"libfaults.so:BadInit"}, kGiveUp), {.ready = false});
  dirtyd.process().WaitForLine("state=FAILED");
  ASSERT_TRUE(WaitUntil([&] { return dirtyd.App("libfaults.so:BadInit").state() == v1::AppStatus::FAILED; }));
  Ran health = RunProgram(dirtyd.Ctl({"health"}));
  EXPECT_EQ(health.code, 1) << health.out << health.err;
  EXPECT_EQ(RunProgram(dirtyd.Ctl({"health", "--live"})).code, 0);
  auto refused = dirtyd.NewClient().Execute("libfaults.so:BadInit", "call");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().reason, Reason::kNoWorkers);
  dirtyd.Stop(SIGTERM);
}

TEST(AppsThatDoNotStart, AreTriedAgainAndTheirCallsWaited) {
  Folder folder;
  Dirtyd dirtyd({"libfaults.so:FlakyInit", "--env", absl::StrCat("DIRTY_TEST_OK_FILE=", folder / "ok"),
                 "--restart_initial_backoff", "10ms", "--restart_max_backoff", "100ms", "--restart_give_up_after", "0"},
                {.ready = false});
  dirtyd.process().WaitForLine("failures=3");
  client::Client client = dirtyd.NewClient();
  client::Call waiting = client.ExecuteAsync("libfaults.so:FlakyInit", "x", Json::array({1}), {});
  ASSERT_TRUE(dirtyd.WaitForQueued("libfaults.so:FlakyInit", 1));
  EXPECT_EQ(dirtyd.App("libfaults.so:FlakyInit").state(), v1::AppStatus::BACKOFF);
  Touch(folder / "ok");
  auto result = waiting.Get();
  ASSERT_TRUE(result.ok()) << result.error().message;
  dirtyd.process().WaitForLine("ready: 1/1 workers");
  dirtyd.Stop(SIGTERM);
}

// As when new code is half deployed and a worker has to be replaced.
TEST(AppsThatDoNotStart, AreReadyWhereOtherWorkersServeThem) {
  constexpr const char* kFlaky = "libfaults.so:FlakyInit";
  Folder folder;
  Touch(folder / "ok");
  Dirtyd dirtyd({kFlaky, "--workers", "2", "--env", absl::StrCat("DIRTY_TEST_OK_FILE=", folder / "ok"),
                 "--restart_initial_backoff", "10ms", "--restart_max_backoff", "20ms", "--restart_give_up_after", "2"});
  std::filesystem::remove(folder / "ok");
  kill(static_cast<pid_t>(dirtyd.Status().workers(0).pid()), SIGKILL);
  dirtyd.process().WaitForLine("failures=3");
  EXPECT_THAT(dirtyd.process().err(), AllOf(HasSubstr("state=READY"), Not(HasSubstr("state=FAILED"))));
  const v1::StatusResponse status = dirtyd.Status();
  EXPECT_EQ(status.state(), v1::StatusResponse::RUNNING);
  EXPECT_EQ(status.apps(0).state(), v1::AppStatus::READY);
  EXPECT_EQ(status.apps(0).ready_workers(), 1u);
  EXPECT_THAT(status.apps(0).reason(), HasSubstr("no file"));
  EXPECT_EQ(RunProgram(dirtyd.Ctl({"health"})).code, 0);
  EXPECT_TRUE(dirtyd.NewClient().Execute(kFlaky, "x", Json::array({1})).ok());
  Touch(folder / "ok");
  ASSERT_TRUE(WaitUntil([&] { return dirtyd.App(kFlaky).ready_workers() == 2; }));
  EXPECT_EQ(dirtyd.App(kFlaky).reason(), "");
  dirtyd.Stop(SIGTERM);
}

TEST(AppsThatDoNotStart, AreBlamedAloneHoweverFastTheyCrash) {
  const int crashes = Repetitions(50, 10);
  Dirtyd dirtyd({kEcho, "libfaults.so:CrashInit", "--restart_give_up_after", "0", "--restart_initial_backoff", "1ms",
                 "--restart_max_backoff", "1ms"},
                {.ready = false});
  dirtyd.process().WaitForLine(absl::StrCat("failures=", crashes, " "));
  EXPECT_THAT(dirtyd.process().err(), Not(HasSubstr(absl::StrCat(kEcho, " failed to start"))));
  dirtyd.Stop(SIGTERM);
}

TEST(Boot, AnInitThatTakesTooLongIsEndedAndCharged) {
  Folder folder;
  Dirtyd dirtyd(With({kEcho, "libfaults.so:SlowInit", "--env", absl::StrCat("DIRTY_TEST_INIT_FILE=", folder / "never"),
                      "--boot_timeout", kSanitized ? "5s" : "1s"},
                     kGiveUp));
  EXPECT_THAT(dirtyd.process().err(), HasSubstr("boot_timeout"));
  EXPECT_EQ(dirtyd.App("libfaults.so:SlowInit").state(), v1::AppStatus::FAILED);
  EXPECT_TRUE(dirtyd.NewClient().Execute(kEcho, "pid").ok());
  dirtyd.Stop(SIGTERM);
}

TEST(Boot, CallsWaitForTheFirstWorker) {
  Folder folder;
  Dirtyd dirtyd({"libfaults.so:SlowInit", "--env", absl::StrCat("DIRTY_TEST_INIT_FILE=", folder / "go")},
                {.ready = false});
  EXPECT_THAT(dirtyd.process().WaitForLine("initialising"),
              ContainsRegex(R"(worker 1 \(pid [0-9]+\): initialising libfaults.so:SlowInit)"));
  client::Client client = dirtyd.NewClient();
  client::Call waiting = client.ExecuteAsync("libfaults.so:SlowInit", "x", Json::array({1}), {});
  ASSERT_TRUE(dirtyd.WaitForQueued("libfaults.so:SlowInit", 1));
  EXPECT_EQ(dirtyd.Status().state(), v1::StatusResponse::STARTING);
  EXPECT_EQ(RunProgram(dirtyd.Ctl({"health"})).code, 1);
  Touch(folder / "go");
  EXPECT_TRUE(waiting.Get().ok());
  dirtyd.process().WaitForLine("ready: 1/1 workers, 1 app");
  EXPECT_EQ(dirtyd.Status().state(), v1::StatusResponse::RUNNING);
  dirtyd.Stop(SIGTERM);
}

TEST(Boot, SaysWhoItIsAndNamesItsProcesses) {
  Dirtyd dirtyd({kEcho, "libfaults.so:Slow", "--workers", "2"});
  const std::string log = dirtyd.process().err();
  EXPECT_THAT(log, HasSubstr(absl::StrCat("dirtyd ", DIRTY_VERSION, ", pid ", dirtyd.pid())));
  EXPECT_THAT(log, AllOf(HasSubstr(dirtyd.socket()), HasSubstr(dirtyd.admin_socket()),
                         HasSubstr("ready: 2/2 workers, 2 apps, ")));
  EXPECT_TRUE(WaitUntil([&] { return Title(dirtyd.pid()) == "dirtyd [2/2 workers]"; })) << Title(dirtyd.pid());
  for (const v1::WorkerStatus& worker : dirtyd.WaitForWorkers(2)) {
    EXPECT_EQ(Title(worker.pid()),
              absl::StrCat("dirty-worker ", worker.id(), " default [libfaults.so:Echo, libfaults.so:Slow]"));
  }
  struct stat entry;
  ASSERT_EQ(stat(dirtyd.runtime_dir().c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0755u);
  ASSERT_EQ(stat(dirtyd.socket().c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0660u);
  ASSERT_EQ(stat(dirtyd.admin_socket().c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0600u);
  dirtyd.Stop(SIGTERM);
}

TEST(Boot, NoWorkersAreValidAndServeNothing) {
  Dirtyd dirtyd({kEcho, "--workers", "0"});
  auto refused = dirtyd.NewClient().Execute(kEcho, "pid");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().reason, Reason::kNoWorkers);
  EXPECT_THAT(refused.error().message, HasSubstr("workers is 0"));
  EXPECT_EQ(RunProgram(dirtyd.Ctl({"health"})).code, 1);
  EXPECT_EQ(RunProgram(dirtyd.Ctl({"health", "--live"})).code, 0);
  EXPECT_EQ(RunProgram(dirtyd.Ctl({"health", kEcho})).code, 1);
  EXPECT_TRUE(WaitUntil([&] { return Title(dirtyd.pid()) == "dirtyd [0/0 workers]"; })) << Title(dirtyd.pid());
  dirtyd.Stop(SIGTERM);
}

// --- dirtyctl ---

TEST(Dirtyctl, StatusIsATableAndJson) {
  Dirtyd dirtyd({kEcho});
  ASSERT_TRUE(dirtyd.NewClient().Execute(kEcho, "pid").ok());
  Ran table = RunProgram(dirtyd.Ctl({"status"}));
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr(absl::StrCat("pid ", dirtyd.pid())), HasSubstr(kEcho), HasSubstr("READY")));
  Ran json = RunProgram(dirtyd.Ctl({"status", "--json"}));
  ASSERT_EQ(json.code, 0) << json.err;
  Json status = Json::parse(json.out);
  for (const char* key : {"version", "protocol_version", "pid", "state", "start_time", "generation", "pools", "workers",
                          "exits", "apps"}) {
    EXPECT_TRUE(status.contains(key)) << key;
  }
  EXPECT_EQ(status["pid"], dirtyd.pid());
  EXPECT_EQ(status["state"], "RUNNING");
  const Json& worker = status["workers"].at(0);
  EXPECT_EQ(worker["state"], "READY");
  EXPECT_EQ(worker["apps"], Json::array({kEcho}));
  EXPECT_EQ(worker["calls"], "1");
  EXPECT_NE(worker["rss_bytes"], "0");
  EXPECT_EQ(worker["running"], Json::array());
  const Json& counters = status["apps"].at(0)["counters"];
  EXPECT_EQ(counters["received"], "1");
  EXPECT_EQ(counters["worker_lost"], "0");
  dirtyd.Stop(SIGTERM);
}

TEST(Dirtyctl, SaysWhyTheArbiterCannotBeReached) {
  Folder folder;
  Ran ran =
      RunProgram({Program("dirtyctl"), "--socket", folder / "none.sock", "call", "a", "b", "--connect-timeout", "0"});
  EXPECT_EQ(ran.code, 3);
  EXPECT_THAT(ran.err, AllOf(HasSubstr(folder / "none.sock"), HasSubstr("absent")));
  ran = RunProgram({Program("dirtyctl"), "--admin_socket", folder / "none.sock", "status"});
  EXPECT_EQ(ran.code, 3);
  EXPECT_THAT(ran.err, HasSubstr(folder / "none.sock"));
}

TEST(Dirtyctl, RefusesAnArgumentThatIsNotJson) {
  Ran ran = RunProgram({Program("dirtyctl"), "call", "a", "b", "gpt-4"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr(R"(gpt-4 is not JSON; for a string: '"gpt-4"')"));
}

}  // namespace
}  // namespace dirty::integration
