#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/supervise/exec_hooks.h"
#include "tests/unit/launch_hooks_support.h"

namespace dirty {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

class ExecHooksTest : public ::testing::Test {
 protected:
  ExecHooksTest() {
    signal(SIGPIPE, SIG_IGN);  // as BlockSignals does
    options_.libexec_folder = DIRTY_TEST_LIBEXEC;
    options_.client_socket = "/rt/dirty.sock";
    options_.admin_socket = "/rt/admin.sock";
    options_.environment = {"PATH=/usr/bin:/bin", "NOTIFY_SOCKET=/run/x", "LISTEN_FDS=1", "KEPT=yes",
                            "DIRTY_SOCKET=/another"};
  }

  ExecHooks& hooks() {
    if (!hooks_) hooks_ = std::make_unique<ExecHooks>(options_, watcher_, loop_, timers_, log_);
    return *hooks_;
  }

  static v1::HookEvent Event(const std::string& hook, WorkerId worker = 0) {
    v1::HookEvent event;
    event.set_hook(hook);
    event.set_arbiter_pid(getpid());
    if (worker != 0) event.mutable_worker()->set_id(worker);
    return event;
  }

  // Runs a hook; its outcome comes to results_ at the place returned.
  size_t Run(const HookSettings& hook, const v1::HookEvent& event, absl::Duration timeout = absl::Seconds(10)) {
    size_t place = results_.size();
    results_.emplace_back();
    *within_ = true;
    hooks().Run(hook, event, timeout, [this, place, within = within_](absl::Status status) {
      EXPECT_FALSE(*within) << "called from within Run";
      EXPECT_FALSE(results_[place].has_value()) << "called twice";
      results_[place] = std::move(status);
      order_.push_back(place);
    });
    *within_ = false;
    return place;
  }
  size_t RunShell(const std::string& script, const v1::HookEvent& event, absl::Duration timeout = absl::Seconds(10)) {
    return Run({.exec = {"/bin/sh", "-c", script}, .python = ""}, event, timeout);
  }

  absl::Status Wait(size_t place) {
    EXPECT_TRUE(loop_.RunUntil([&] { return results_[place].has_value(); }));
    return results_[place].value_or(absl::UnknownError("it does not end"));
  }
  bool WaitForLine(absl::string_view fields, absl::string_view line) {
    return loop_.RunUntil([&] {
      std::vector<std::string> lines = log_.Lines(fields);
      return std::count(lines.begin(), lines.end(), line) > 0;
    });
  }

  TestFolder folder_;
  ExecHooks::Options options_;
  TestLoop loop_;
  StillClock clock_;
  TimerQueue timers_{clock_};
  WakingLog log_{loop_};
  Watcher watcher_;
  std::unique_ptr<ExecHooks> hooks_;
  std::shared_ptr<bool> within_ = std::make_shared<bool>(false);
  std::vector<std::optional<absl::Status>> results_;
  std::vector<size_t> order_;
};

TEST_F(ExecHooksTest, GetsItsEventAsOneLineOfJson) {
  v1::HookEvent event = Event("dirty_worker_exit", 7);
  event.mutable_worker()->set_pool("gpu");
  event.mutable_exit()->set_reason("crash");
  EXPECT_TRUE(Wait(RunShell("cat", event)).ok());
  std::vector<std::string> lines = log_.Lines("hook=dirty_worker_exit worker=7 stream=stdout");
  ASSERT_EQ(lines.size(), 1u);
  nlohmann::json json = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(json["hook"], "dirty_worker_exit");
  EXPECT_EQ(json["arbiter_pid"], getpid());
  EXPECT_EQ(json["worker"]["id"], 7);
  EXPECT_EQ(json["worker"]["pool"], "gpu");
  EXPECT_EQ(json["exit"]["reason"], "crash");
  EXPECT_EQ(json["version"], "") << "defaults are printed";
}

TEST_F(ExecHooksTest, AnEventLargerThanAPipeArrives) {
  v1::HookEvent event = Event("on_dirty_starting");
  for (int i = 0; i < 2000; ++i) event.add_apps(absl::StrCat("app-", i, std::string(1000, 'x')));
  EXPECT_TRUE(Wait(RunShell("wc -c; echo over >&2", event)).ok());
  std::vector<std::string> lines = log_.Lines("hook=on_dirty_starting stream=stdout");
  size_t size = 0;
  ASSERT_EQ(lines.size(), 1u);
  ASSERT_TRUE(absl::SimpleAtoi(lines[0], &size));
  EXPECT_GT(size, 2'000'000u);
  EXPECT_THAT(log_.Lines("hook=on_dirty_starting stream=stderr"), ElementsAre("over"));
}

TEST_F(ExecHooksTest, OneThatDoesNotReadIsNoFailure) {
  v1::HookEvent event = Event("on_dirty_starting");
  event.add_apps(std::string(1'000'000, 'x'));
  EXPECT_TRUE(Wait(RunShell("true", event)).ok());
  EXPECT_TRUE(Wait(RunShell("exec 0<&-; ls / >/dev/null", event)).ok());
}

TEST_F(ExecHooksTest, HasOnlyItsDescriptorsItsGroupAndItsEnvironment) {
  std::ofstream(folder_ / "script") << "ls /proc/self/fd | tr '\\n' ' '; echo; ps -o pid=,pgid=,sid= -p $$; env";
  EXPECT_TRUE(Wait(RunShell("exec sh " + (folder_ / "script"), Event("dirty_post_fork", 3))).ok());
  std::vector<std::string> lines = log_.Lines("hook=dirty_post_fork worker=3 stream=stdout");
  ASSERT_GE(lines.size(), 2u);
  EXPECT_EQ(lines[0], "0 1 2 3 ") << "3 is what ls reads the folder with";
  std::vector<std::string> ids = absl::StrSplit(lines[1], ' ', absl::SkipEmpty());
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_EQ(ids[0], ids[2]);
  EXPECT_THAT(lines, IsSupersetOf({"PATH=/usr/bin:/bin", "KEPT=yes", "DIRTY_SOCKET=/rt/dirty.sock",
                                   "DIRTY_ADMIN_SOCKET=/rt/admin.sock"}));
  for (const std::string& line : lines) {
    EXPECT_THAT(line, Not(testing::AnyOf(HasSubstr("NOTIFY_SOCKET"), HasSubstr("LISTEN_FDS"), HasSubstr("/another"))));
  }
}

TEST_F(ExecHooksTest, FailureIsToldOnceWithTheLastLine) {
  absl::Status status = Wait(RunShell("echo first >&2; echo no disk >&2; exit 3", Event("dirty_worker_init", 4)));
  EXPECT_EQ(status.message(), "hook dirty_worker_init failed: exited with 3: no disk");
  std::vector<std::string> lines = log_.Lines("hook=dirty_worker_init worker=4");
  EXPECT_EQ(std::count(lines.begin(), lines.end(), std::string(status.message())), 1);
  EXPECT_EQ(Wait(RunShell("kill -SEGV $$", Event("on_dirty_starting"))).message(),
            "hook on_dirty_starting failed: killed by SIGSEGV");
}

TEST_F(ExecHooksTest, SaysWhatCannotBeRun) {
  absl::Status status = Wait(Run({.exec = {"no-such-program", "x"}, .python = ""}, Event("on_dirty_starting")));
  EXPECT_EQ(status.message(),
            "hook on_dirty_starting failed: cannot run no-such-program: not found in PATH=/usr/bin:/bin");
  options_.libexec_folder = "/nowhere";
  hooks_.reset();
  status = Wait(Run({.exec = {"true"}, .python = ""}, Event("on_dirty_starting")));
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot run /nowhere/dirty-exec"));
}

TEST_F(ExecHooksTest, TimeoutKillsTheWholeGroup) {
  size_t slow =
      RunShell("sleep 1000 & echo $!; echo waiting >&2; wait", Event("dirty_worker_exit", 5), absl::Seconds(2));
  ASSERT_TRUE(WaitForLine("hook=dirty_worker_exit worker=5 stream=stderr", "waiting"));
  clock_.Advance(absl::Milliseconds(1999));
  timers_.RunDue();
  EXPECT_FALSE(results_[slow].has_value());
  clock_.Advance(absl::Milliseconds(1));
  timers_.RunDue();
  absl::Status status = Wait(slow);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_EQ(status.message(), "hook dirty_worker_exit failed: killed after its timeout of 2s: waiting");
  pid_t child = 0;
  std::vector<std::string> out = log_.Lines("hook=dirty_worker_exit worker=5 stream=stdout");
  ASSERT_EQ(out.size(), 1u);
  ASSERT_TRUE(absl::SimpleAtoi(out[0], &child));
  EXPECT_TRUE(IsDeadSoon(child));
  EXPECT_EQ(timers_.size(), 0u);
}

TEST_F(ExecHooksTest, TakesItsTurnPerWorkerAndRunsBesideOthers) {
  // The first of worker 1 ends only once worker 2's has run; the second of worker 1 must not have run by then.
  std::string go = folder_ / "go", second = folder_ / "second";
  ASSERT_EQ(mkfifo(go.c_str(), 0600), 0);
  size_t first = RunShell("read line < " + go + "; test ! -e " + second, Event("dirty_post_fork", 1));
  size_t after = RunShell("touch " + second, Event("dirty_worker_exit", 1));
  size_t other = RunShell("test ! -e " + second + " && echo > " + go, Event("dirty_post_fork", 2));
  EXPECT_TRUE(Wait(other).ok());
  EXPECT_TRUE(Wait(after).ok());
  EXPECT_TRUE(Wait(first).ok());
  EXPECT_LT(std::find(order_.begin(), order_.end(), first), std::find(order_.begin(), order_.end(), after));
}

TEST_F(ExecHooksTest, GoesOnAfterAFailureAndWhenAskedFromDone) {
  size_t failing = Run({.exec = {"no-such-program"}, .python = ""}, Event("dirty_post_fork", 1));
  size_t next = RunShell("exit 0", Event("dirty_worker_exit", 1));
  EXPECT_FALSE(Wait(failing).ok());
  EXPECT_TRUE(Wait(next).ok());
  bool nested = false;
  hooks().Run({.exec = {"true"}, .python = ""}, Event("dirty_post_fork", 1), absl::Seconds(10),
              [&](const absl::Status&) {
                hooks().Run({.exec = {"true"}, .python = ""}, Event("dirty_post_fork", 1), absl::Seconds(10),
                            [&](const absl::Status& status) { nested = status.ok(); });
              });
  EXPECT_TRUE(loop_.RunUntil([&] { return nested; }));
}

TEST_F(ExecHooksTest, OwnsItsProcessesUntilTheyAreReaped) {
  int reaped = 0;
  options_.after_reap = [&reaped] { ++reaped; };
  size_t hook = RunShell("echo $$; read line; read never", Event("dirty_post_fork", 1));
  ASSERT_TRUE(loop_.RunUntil([&] { return !log_.Lines("stream=stdout").empty(); }));
  pid_t pid = 0;
  ASSERT_TRUE(absl::SimpleAtoi(log_.Lines("stream=stdout")[0], &pid));
  EXPECT_FALSE(Wait(hook).ok()) << "standard input ends after the event";
  EXPECT_FALSE(hooks().Owns(pid));
  EXPECT_EQ(reaped, 1);
  RunShell("echo again $$; exec sleep 1000", Event("dirty_post_fork", 1));
  ASSERT_TRUE(loop_.RunUntil([&] { return log_.Lines("stream=stdout").size() == 2; }));
  ASSERT_TRUE(absl::SimpleAtoi(log_.Lines("stream=stdout")[1].substr(6), &pid));
  EXPECT_TRUE(hooks().Owns(pid));
  EXPECT_FALSE(hooks().Owns(getpid()));
  hooks_.reset();
  EXPECT_EQ(kill(pid, 0), -1) << "killed and reaped with its owner";
  EXPECT_FALSE(results_.back().has_value());
}

TEST_F(ExecHooksTest, TellsWhenTheLastOneIsDone) {
  std::string go = folder_ / "go";
  ASSERT_EQ(mkfifo(go.c_str(), 0600), 0);
  int idle = 0;
  hooks().WhenIdle([&idle] { ++idle; });
  EXPECT_EQ(idle, 0) << "never from within";
  EXPECT_TRUE(loop_.RunUntil([&] { return idle == 1; })) << "nothing runs";
  RunShell("read line < " + go, Event("dirty_worker_exit", 1));
  size_t last = RunShell("true", Event("dirty_worker_exit", 1));
  hooks().WhenIdle([&] {
    EXPECT_TRUE(results_[last].has_value());
    ++idle;
  });
  size_t other = RunShell("echo > " + go, Event("dirty_worker_exit", 2));
  EXPECT_TRUE(Wait(other).ok());
  EXPECT_TRUE(loop_.RunUntil([&] { return idle == 2; }));
}

TEST_F(ExecHooksTest, LeaksNoDescriptors) {
  EXPECT_TRUE(Wait(RunShell("true", Event("dirty_post_fork", 1))).ok());
  auto settled = [this] {
    bool done = false;
    watcher_.Run([this, &done] { loop_.Post([&done] { done = true; }); });
    EXPECT_TRUE(loop_.RunUntil([&done] { return done; }));
    return OpenDescriptors();
  };
  settled();
  size_t before = settled();
  for (WorkerId worker = 1; worker <= 50; ++worker) RunShell("cat >/dev/null", Event("dirty_post_fork", worker));
  for (size_t i = 0; i < results_.size(); ++i) EXPECT_TRUE(Wait(i).ok());
  settled();
  EXPECT_EQ(settled(), before);
}

}  // namespace
}  // namespace dirty
