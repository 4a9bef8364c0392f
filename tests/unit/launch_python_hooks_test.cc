// The helper of Python hooks, played by a shell: one that obeys, and those that do not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "absl/strings/match.h"
#include "server/supervise/python_hooks.h"
#include "tests/unit/launch_hooks_support.h"

namespace dirty {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::SizeIs;

// Tells its pid and each request, and that all went well.
constexpr char kObeys[] = "while read -r line; do echo \"$$ $line\" >&2; echo '{}' >&0; done";

class PythonHooksTest : public ::testing::Test {
 protected:
  PythonHooksTest() {
    signal(SIGPIPE, SIG_IGN);  // as BlockSignals does
    options_.libexec_folder = DIRTY_TEST_LIBEXEC;
    options_.python_folder = "/python";
    options_.client_socket = "/rt/dirty.sock";
    options_.admin_socket = "/rt/admin.sock";
    options_.environment = {"PATH=/usr/bin:/bin", "NOTIFY_SOCKET=/run/x", "KEPT=yes", "DIRTY_SOCKET=/another"};
    options_.pool = [this]() -> const PoolSettings& { return pool_; };
    Play(kObeys);
  }

  // The interpreter from the next helper on.
  void Play(const std::string& script) {
    pool_.python = folder_ / "python";
    std::ofstream(pool_.python) << "#!/bin/sh\n" << script << "\n";
    chmod(pool_.python.c_str(), 0755);
  }

  PythonHooks& hooks() {
    if (!hooks_) hooks_ = std::make_unique<PythonHooks>(options_, watcher_, loop_, timers_, log_);
    return *hooks_;
  }

  // Runs a hook; its outcome comes to results_ at the place returned.
  size_t Run(const std::string& name, absl::Duration timeout = absl::Seconds(10)) {
    size_t place = results_.size();
    results_.emplace_back();
    v1::HookEvent event;
    event.set_hook(name);
    event.mutable_worker()->set_id(7);
    *within_ = true;
    hooks().Run({.exec = {}, .python = "hooks:" + name}, event, timeout,
                [this, place, within = within_](absl::Status status) {
                  EXPECT_FALSE(*within) << "called from within Run";
                  EXPECT_FALSE(results_[place].has_value()) << "called twice";
                  results_[place] = std::move(status);
                });
    *within_ = false;
    return place;
  }
  absl::Status Wait(size_t place) {
    EXPECT_TRUE(loop_.RunUntil([&] { return results_[place].has_value(); }));
    return results_[place].value_or(absl::UnknownError("it does not end"));
  }

  // What helpers told on standard error, once there are so many lines.
  std::vector<std::string> Told(size_t lines) {
    EXPECT_TRUE(loop_.RunUntil([&] { return log_.Lines("hook=python stream=stderr").size() >= lines; }));
    return log_.Lines("hook=python stream=stderr");
  }
  static std::string PidOf(const std::string& told) { return told.substr(0, told.find(' ')); }

  TestFolder folder_;
  PoolSettings pool_;
  PythonHooks::Options options_;
  TestLoop loop_;
  StillClock clock_;
  TimerQueue timers_{clock_};
  WakingLog log_{loop_};
  Watcher watcher_;
  std::unique_ptr<PythonHooks> hooks_;
  std::shared_ptr<bool> within_ = std::make_shared<bool>(false);
  std::vector<std::optional<absl::Status>> results_;
};

TEST_F(PythonHooksTest, RunInTurnInOneHelperThatLives) {
  hooks();
  clock_.Advance(absl::Seconds(90));
  Run("first");
  EXPECT_TRUE(Wait(Run("second")).ok());
  EXPECT_TRUE(results_[0]->ok());
  std::vector<std::string> told = Told(2);
  ASSERT_THAT(told, SizeIs(2));
  EXPECT_EQ(PidOf(told[0]), PidOf(told[1]));
  nlohmann::json request = nlohmann::json::parse(told[1].substr(told[1].find(' ')));
  EXPECT_EQ(request["function"], "hooks:second");
  EXPECT_EQ(request["arbiter_age"], 90);
  EXPECT_EQ(request["event"]["hook"], "second");
  EXPECT_EQ(request["event"]["worker"]["id"], 7);
  EXPECT_EQ(timers_.size(), 0u);
}

TEST_F(PythonHooksTest, WhatAFunctionRaisesFailsItsHookAlone) {
  Play("read -r line; echo \"$$ 1\" >&2; echo '{\"error\":\"KeyError: no disk\"}' >&0; " + std::string(kObeys));
  absl::Status status = Wait(Run("dirty_worker_init"));
  EXPECT_EQ(status.message(), "hook dirty_worker_init failed: KeyError: no disk");
  EXPECT_THAT(log_.Lines("hook=dirty_worker_init worker=7"), SizeIs(1));
  EXPECT_TRUE(Wait(Run("dirty_worker_exit")).ok());
  std::vector<std::string> told = Told(2);
  EXPECT_EQ(PidOf(told[0]), PidOf(told[1])) << "in the same helper";
}

TEST_F(PythonHooksTest, AHelperThatDiesFailsItsHookAndIsReplaced) {
  int reaped = 0;
  options_.after_reap = [&reaped] { ++reaped; };
  Play("read -r line; echo no module >&2; exit 3");
  size_t dies = Run("first");
  size_t waits = Run("second");
  EXPECT_EQ(Wait(dies).message(), "hook first failed: the helper exited with 3: no module");
  EXPECT_EQ(reaped, 1);
  EXPECT_EQ(Wait(waits).message(), "hook second failed: the helper exited with 3: no module");
  Play(kObeys);
  EXPECT_TRUE(Wait(Run("third")).ok());
}

TEST_F(PythonHooksTest, WhatIsNoAnswerEndsTheHelper) {
  Play("read -r line; echo hello >&0; exec sleep 1000");
  EXPECT_EQ(Wait(Run("first")).message(), "hook first failed: the helper killed by SIGKILL");
}

TEST_F(PythonHooksTest, AnAnswerInPiecesIsOne) {
  Play("read -r line; printf '{\"err' >&0; printf 'or\":\"x\"}\\n' >&0; " + std::string(kObeys));
  EXPECT_EQ(Wait(Run("first")).message(), "hook first failed: x");
}

TEST_F(PythonHooksTest, TimeoutEndsTheHelperAndTheNextHookHasAnother) {
  Play("read -r line; echo \"$$ waiting\" >&2; exec sleep 1000");
  size_t slow = Run("first", absl::Seconds(2));
  std::string pid = PidOf(Told(1)[0]);
  clock_.Advance(absl::Milliseconds(1999));
  timers_.RunDue();
  EXPECT_FALSE(results_[slow].has_value());
  Play(kObeys);
  clock_.Advance(absl::Milliseconds(1));
  timers_.RunDue();
  absl::Status status = Wait(slow);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("hook first failed: killed after its timeout of 2s"));
  EXPECT_TRUE(Wait(Run("second")).ok());
  EXPECT_NE(PidOf(Told(2)[1]), pid);
  EXPECT_EQ(timers_.size(), 0u);
}

TEST_F(PythonHooksTest, ARenewedHelperHasTheCodeOfThenAndTheRunningHookEndsFirst) {
  EXPECT_TRUE(Wait(Run("first")).ok());
  hooks().Renew();  // nothing runs
  EXPECT_TRUE(Wait(Run("second")).ok());
  std::string go = folder_ / "go";
  ASSERT_EQ(mkfifo(go.c_str(), 0600), 0);
  Play("read -r line; echo \"$$ $line\" >&2; read x < " + go + "; echo '{}' >&0; " + kObeys);
  hooks().Renew();
  size_t running = Run("third");
  Told(3);
  hooks().Renew();
  Play(kObeys);
  size_t next = Run("fourth");
  std::ofstream(go) << "\n";
  EXPECT_TRUE(Wait(running).ok());
  EXPECT_TRUE(Wait(next).ok());
  std::vector<std::string> told = Told(4);
  ASSERT_THAT(told, SizeIs(4));
  EXPECT_THAT((std::set<std::string>{PidOf(told[0]), PidOf(told[1]), PidOf(told[2]), PidOf(told[3])}), SizeIs(4));
}

TEST_F(PythonHooksTest, SaysWhatCannotBeRun) {
  pool_.python = "/no/such/python";
  EXPECT_THAT(std::string(Wait(Run("first")).message()), HasSubstr("hook first failed: cannot run /no/such/python"));
  options_.libexec_folder = "/nowhere";
  hooks_.reset();
  EXPECT_THAT(std::string(Wait(Run("first")).message()), HasSubstr("cannot run /nowhere/dirty-exec"));
}

TEST_F(PythonHooksTest, HasItsPoolsFolderAndEnvironment) {
  pool_.chdir = folder_.path();
  pool_.env = {{"MODE", "x"}, {"CUDA_VISIBLE_DEVICES", "{worker_index}"}};
  pool_.pythonpath = {"/apps"};
  Play("{ pwd; echo \"$*\"; env; } >&2; " + std::string(kObeys));
  EXPECT_TRUE(Wait(Run("first")).ok());
  std::vector<std::string> told;
  ASSERT_TRUE(loop_.RunUntil([&] {
    told = log_.Lines("hook=python stream=stderr");
    return !told.empty() && absl::StrContains(told.back(), "hooks:first");
  }));
  EXPECT_EQ(told[0], folder_.path());
  EXPECT_EQ(told[1], "-m dirty_worker.hooks");
  EXPECT_THAT(told, IsSupersetOf(std::vector<std::string>{"MODE=x", "KEPT=yes", "DIRTY_SOCKET=/rt/dirty.sock",
                                                          "DIRTY_ADMIN_SOCKET=/rt/admin.sock",
                                                          "PYTHONPATH=" + folder_.path() + ":/apps:/python"}));
  EXPECT_THAT(told, Each(Not(HasSubstr("{worker_index}"))));
  EXPECT_THAT(told, Each(Not(HasSubstr("NOTIFY_SOCKET"))));
}

TEST_F(PythonHooksTest, TellsWhenTheLastOneIsDoneAndEndsWithItsOwner) {
  int idle = 0;
  hooks().WhenIdle([&idle] { ++idle; });
  EXPECT_EQ(idle, 0) << "never from within";
  EXPECT_TRUE(loop_.RunUntil([&] { return idle == 1; })) << "nothing runs";
  Run("first");
  size_t last = Run("second");
  hooks().WhenIdle([&] {
    EXPECT_TRUE(results_[last].has_value());
    ++idle;
  });
  EXPECT_TRUE(loop_.RunUntil([&] { return idle == 2; }));
  pid_t pid = static_cast<pid_t>(std::stol(PidOf(Told(1)[0])));
  EXPECT_TRUE(hooks().Owns(pid));
  hooks_.reset();
  EXPECT_EQ(kill(pid, 0), -1) << "killed and reaped with its owner";
}

}  // namespace
}  // namespace dirty
