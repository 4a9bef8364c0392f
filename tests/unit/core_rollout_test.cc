// Rolling changes: reloads, restarts, and what happens when they go wrong.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/core_supervisor_fixture.h"

namespace dirty {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using RolloutTest = SupervisorTest;

TEST_F(RolloutTest, ReloadReplacesEveryWorkerAndTellsOnceNoOldOneTakesCalls) {
  Settings settings = TestSettings({TestPool("p", 2, {TestApp("a")}), TestPool("q", 1, {TestApp("b")})});
  Start(settings);
  Obey();
  FakeCaller caller;
  CallNumber call = Submit(caller).call;  // the old worker has it until its end
  ASSERT_TRUE(Reload(settings).ok());
  EXPECT_FALSE(result_.has_value());
  Obey();
  // The one that is busy went last, and drains: nobody waits for it.
  ASSERT_TRUE(result_.has_value());
  EXPECT_TRUE(workers_.alive.contains(1));
  EXPECT_FALSE(workers_.alive[1].draining);
  Done(1, call);
  Obey();
  EXPECT_TRUE(result_->status.ok()) << result_->status;
  EXPECT_EQ(result_->replaced, 3u);
  EXPECT_TRUE(caller.ok());
  EXPECT_THAT(Alive(), ElementsAre(4, 5, 6));
  v1::StatusResponse status = Status();
  EXPECT_EQ(status.generation(), 2u);
  for (const v1::WorkerStatus& worker : status.workers()) EXPECT_EQ(worker.generation(), 2u);
  EXPECT_THAT(events_, Contains("rolling out generation 2"));
}

TEST_F(RolloutTest, ANewWorkerWhoseInitRaisesIsRolledBackAndTheAppStaysReady) {
  Settings settings = TestSettings({TestPool("p", 2, {TestApp("a")})});
  Start(settings);
  Obey();
  ASSERT_TRUE(Reload(settings).ok());
  Obey({"a"});
  ASSERT_TRUE(result_.has_value());
  EXPECT_TRUE(absl::IsFailedPrecondition(result_->status));
  EXPECT_THAT(result_->status.message(), HasSubstr("a failed to start: ValueError: no model"));
  EXPECT_THAT(Alive(), ElementsAre(1, 2));
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::READY);
  EXPECT_EQ(AppStatusOf("a").ready_workers(), 2u);
  EXPECT_EQ(Status().generation(), 1u);
  // And once it is mended, the next one works, with a generation of its own.
  ASSERT_TRUE(Reload(settings).ok());
  Obey();
  EXPECT_TRUE(result_->status.ok());
  EXPECT_EQ(Status().generation(), 3u);
  EXPECT_EQ(supervisor_.ReadyWorkers(), 2u);
}

TEST_F(RolloutTest, ANewVersionMayWantMoreOrFewerWorkers) {
  Settings settings = TestSettings({TestPool("p", 3, {TestApp("heavy"), TestApp("light")})});
  wants_["heavy"] = 1;
  Start(settings);
  Obey();
  for (uint32_t wants : {2u, 1u, 0u, 2u}) {
    wants_["heavy"] = wants;
    ASSERT_TRUE(Reload(settings).ok());
    Obey();
    ASSERT_TRUE(result_.has_value());
    EXPECT_TRUE(result_->status.ok()) << result_->status;
    EXPECT_EQ(AppStatusOf("heavy").ready_workers(), wants == 0 ? 3u : wants);
    EXPECT_EQ(AppStatusOf("light").ready_workers(), 3u);
    EXPECT_EQ(Alive().size(), 3u);
  }
}

TEST_F(RolloutTest, ASeatThatNoAppIsForAnyMoreIsGivenUp) {
  Settings settings = TestSettings({TestPool("p", 2, {TestApp("heavy")})});
  wants_["heavy"] = 2;
  Start(settings);
  Obey();
  wants_["heavy"] = 1;
  ASSERT_TRUE(Reload(settings).ok());
  Obey();
  ASSERT_TRUE(result_.has_value());
  EXPECT_TRUE(result_->status.ok()) << result_->status;
  EXPECT_EQ(Alive().size(), 1u);
  EXPECT_EQ(AppStatusOf("heavy").ready_workers(), 1u);
  // The same by the configuration.
  settings.pools[0].apps[0].workers = 2;
  ASSERT_TRUE(Reload(settings).ok());
  Obey();
  EXPECT_EQ(Alive().size(), 2u);
  settings.pools[0].apps[0].workers = 1;
  ASSERT_TRUE(Reload(settings).ok());
  Obey();
  ASSERT_TRUE(result_.has_value());
  EXPECT_TRUE(result_->status.ok()) << result_->status;
  EXPECT_EQ(Alive().size(), 1u);
}

TEST_F(RolloutTest, ARollbackForgetsHowManyWorkersTheNewVersionWanted) {
  Settings settings = TestSettings({TestPool("p", 2, {TestApp("heavy"), TestApp("light")})});
  wants_["heavy"] = 2;
  Start(settings);
  Obey();
  wants_["heavy"] = 1;
  ASSERT_TRUE(Reload(settings).ok());
  std::vector<WorkerId> fresh = Alive();
  Boot(fresh.back());  // the first seat's is as it should be, the second one's is not
  Obey({"light"});
  ASSERT_TRUE(result_.has_value());
  EXPECT_TRUE(absl::IsFailedPrecondition(result_->status)) << result_->status;
  for (int i = 0; i < 20; ++i) {
    time_.Advance(absl::Milliseconds(100));
    Obey({"light"});
  }
  EXPECT_EQ(AppStatusOf("light").state(), v1::AppStatus::READY);
  EXPECT_EQ(AppStatusOf("light").ready_workers(), 2u);
}

TEST_F(RolloutTest, ANewWorkerThatDiesBeforeItIsReadyIsRolledBack) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a")})});
  Start(settings);
  Obey();
  ASSERT_TRUE(Reload(settings).ok());
  Die(2, 11);
  ASSERT_TRUE(result_.has_value());
  EXPECT_THAT(result_->status.message(), HasSubstr("SIGSEGV"));
  EXPECT_THAT(Alive(), ElementsAre(1));
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::READY);
}

TEST_F(RolloutTest, ALaterFailureBringsBackTheOldSettingsForThoseAlreadyReplaced) {
  Settings settings = TestSettings({TestPool("p", 2, {TestApp("a")})});
  Start(settings);
  Obey();
  Settings changed = settings;
  changed.pools[0].env["X"] = "1";
  ASSERT_TRUE(Reload(changed).ok());
  Boot(3);         // the first is replaced
  ExitCleanly(1);  // it has drained
  Boot(4, {"a"});
  ASSERT_TRUE(result_.has_value());
  EXPECT_FALSE(result_->status.ok());
  Obey();
  std::vector<WorkerId> alive = Alive();
  ASSERT_EQ(alive.size(), 2u);
  for (WorkerId id : alive) EXPECT_THAT(workers_.alive[id].spec.pool->env, IsEmpty());
}

TEST_F(RolloutTest, AnAppThatDidNotStartBeforeDoesNotHoldUpTheOthers) {
  Settings settings = TestSettings({TestPool("p", 2, {TestApp("bad"), TestApp("good")})});
  Start(settings);
  Obey({"bad"});
  ASSERT_TRUE(Reload(settings).ok());
  Obey({"bad"});
  ASSERT_TRUE(result_.has_value());
  EXPECT_TRUE(result_->status.ok()) << result_->status;
  EXPECT_THAT(result_->still_failing, ElementsAre(HasSubstr("bad does not start: ValueError: no model")));
  EXPECT_EQ(AppStatusOf("good").ready_workers(), 2u);
  // Mended, it is served after the next one.
  ASSERT_TRUE(Reload(settings).ok());
  Obey();
  EXPECT_TRUE(result_->status.ok());
  EXPECT_THAT(result_->still_failing, IsEmpty());
  EXPECT_EQ(AppStatusOf("bad").ready_workers(), 2u);
  EXPECT_EQ(AppStatusOf("bad").state(), v1::AppStatus::READY);
}

TEST_F(RolloutTest, ANewAppThatDoesNotStartIsRolledBack) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a")})});
  Start(settings);
  Obey();
  Settings changed = settings;
  changed.pools[0].apps.push_back(TestApp("new"));
  ASSERT_TRUE(Reload(changed).ok());
  Obey({"new"});
  ASSERT_TRUE(result_.has_value());
  EXPECT_FALSE(result_->status.ok());
  EXPECT_THAT(Alive(), ElementsAre(1));
  FakeCaller caller;
  EXPECT_EQ(Submit(caller, "new").refused->reason(), v1::REASON_APP_NOT_FOUND);
}

TEST_F(RolloutTest, APoolThatIsAddedServesAndOneThatIsRemovedServesUntilItsEnd) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a")}), TestPool("q", 1, {TestApp("b")})});
  Start(settings);
  Obey();
  Settings changed = TestSettings({TestPool("p", 1, {TestApp("a")}), TestPool("r", 1, {TestApp("c")})});
  ASSERT_TRUE(Reload(changed).ok());
  FakeCaller early;
  CallNumber call = Submit(early, "b").call;
  ASSERT_NE(call, 0u);
  Done(2, call);
  EXPECT_TRUE(early.ok());
  Obey();
  ASSERT_TRUE(result_->status.ok());
  FakeCaller late, added;
  EXPECT_EQ(Submit(late, "b").refused->reason(), v1::REASON_APP_NOT_FOUND);
  EXPECT_NE(Submit(added, "c").call, 0u);
  EXPECT_EQ(Status().pools_size(), 2);
  EXPECT_EQ(workers_.alive.size(), 2u);
}

TEST_F(RolloutTest, FewerWorkersAreLetGoOnceItHasSucceeded) {
  for (const uint32_t surge : {1u, 0u}) {
    SCOPED_TRACE(surge);
    PoolSettings pool = TestPool("p", 3, {TestApp("a")});
    pool.surge = surge;
    Settings fewer = TestSettings({pool});
    fewer.restart.max_backoff = absl::Seconds(1);
    if (surge == 1)
      Start(fewer);
    else
      ASSERT_TRUE(Reload(fewer).ok());
    Obey();
    ASSERT_EQ(AppStatusOf("a").ready_workers(), 3u);
    fewer.pools[0].workers = 1;
    ASSERT_TRUE(Reload(fewer).ok());
    EXPECT_GE(AppStatusOf("a").ready_workers(), 2u);
    Obey({"a"});
    ASSERT_FALSE(result_->status.ok());
    EXPECT_EQ(supervisor_.DesiredWorkers(), 3u);
    EXPECT_GE(AppStatusOf("a").ready_workers(), 2u + surge);
    time_.Advance(absl::Seconds(1));
    Obey();
    EXPECT_EQ(AppStatusOf("a").ready_workers(), 3u);
    ASSERT_TRUE(Reload(fewer).ok());
    Obey();
    ASSERT_TRUE(result_->status.ok());
    EXPECT_EQ(AppStatusOf("a").ready_workers(), 1u);
    EXPECT_EQ(workers_.alive.size(), 1u);
    EXPECT_FALSE(log_.Has("heartbeat"));
  }
}

TEST_F(RolloutTest, AnAppThatIsServedStaysReadyWhileItGetsANewChance) {
  Start(TestSettings({TestPool("p", 2, {TestApp("a")})}));
  Obey();
  Die(2, 9);
  time_.Settle();
  Obey({"a"});
  EXPECT_NE(AppStatusOf("a").reason(), "");
  for (const bool reload : {true, false}) {
    ASSERT_TRUE(Replace({.reload = reload}).ok());
    EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::READY);
    EXPECT_TRUE(supervisor_.EveryAppTried() && supervisor_.AnyAppReady());
    Obey();
    time_.Settle();
    Obey();
    ASSERT_TRUE(result_->status.ok()) << result_->status;
    EXPECT_EQ(AppStatusOf("a").ready_workers(), 2u);
  }
}

TEST_F(RolloutTest, ARemovedPoolStaysWhenTheReloadFails) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a")}), TestPool("q", 1, {TestApp("b")})});
  Start(settings);
  Obey();
  ASSERT_TRUE(Reload(TestSettings({TestPool("p", 1, {TestApp("a")})})).ok());
  Obey({"a"});
  EXPECT_FALSE(result_->status.ok());
  EXPECT_THAT(Alive(), ElementsAre(1, 2));
  FakeCaller caller;
  EXPECT_NE(Submit(caller, "b").call, 0u);
  EXPECT_EQ(AppStatusOf("b").state(), v1::AppStatus::READY);
  EXPECT_EQ(Status().apps_size(), 2);
}

TEST_F(RolloutTest, QueuedCallsOfARemovedAppStillRun) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a"), TestApp("b")})});
  Start(settings);
  Obey();
  FakeCaller callers[3];
  CallNumber calls[3];
  for (int i = 0; i < 3; ++i) calls[i] = Submit(callers[i], "b").call;
  ASSERT_TRUE(Reload(TestSettings({TestPool("p", 1, {TestApp("a")})})).ok());
  Boot(2);
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(workers_.alive[1].draining);
    Done(1, calls[i]);
    EXPECT_TRUE(callers[i].ok());
  }
  EXPECT_TRUE(workers_.alive[1].draining);
  EXPECT_TRUE(result_->status.ok());
}

TEST_F(RolloutTest, QueuedCallsOfARemovedAppWhoseLastWorkerDiesAreTold) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a"), TestApp("b")})});
  Start(settings);
  Obey();
  FakeCaller running, waiting;
  Submit(running, "b");
  Submit(waiting, "b");
  ASSERT_TRUE(Reload(TestSettings({TestPool("p", 1, {TestApp("a")})})).ok());
  Boot(2);
  Die(1);
  EXPECT_EQ(running.reason(), v1::REASON_WORKER_LOST);
  EXPECT_EQ(waiting.reason(), v1::REASON_APP_NOT_FOUND);
}

TEST_F(RolloutTest, OnlyWhatWasNamedIsReplaced) {
  Start(TestSettings({TestPool("p", 1, {TestApp("a")}), TestPool("q", 1, {TestApp("b")})}));
  Obey();
  ASSERT_TRUE(Replace({.reload = true, .apps = {"b"}}).ok());
  Obey();
  EXPECT_TRUE(result_->status.ok());
  EXPECT_EQ(result_->replaced, 1u);
  EXPECT_THAT(Alive(), ElementsAre(1, 3));
  ASSERT_TRUE(Replace({.reload = true, .pools = {"p"}}).ok());
  Obey();
  EXPECT_THAT(Alive(), ElementsAre(3, 4));
  ASSERT_TRUE(Replace({.worker = 3}).ok());
  Obey();
  EXPECT_THAT(Alive(), ElementsAre(4, 5));
  EXPECT_EQ(result_->replaced, 1u);
  EXPECT_TRUE(absl::IsNotFound(Replace({.worker = 3})));
  EXPECT_TRUE(absl::IsNotFound(Replace({.pools = {"z"}})));
  EXPECT_TRUE(absl::IsNotFound(Replace({.apps = {"z"}})));
}

TEST_F(RolloutTest, OneAtATimeAndAShutdownEndsIt) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a")})});
  Start(settings);
  Obey();
  ASSERT_TRUE(Reload(settings).ok());
  auto first = result_;
  EXPECT_TRUE(absl::IsAborted(supervisor_.Replace({}, [](const auto&) { FAIL(); })));
  supervisor_.Stop();
  time_.Settle();
  ASSERT_TRUE(result_.has_value());
  EXPECT_TRUE(absl::IsAborted(result_->status));
  EXPECT_TRUE(absl::IsAborted(supervisor_.Replace({}, [](const auto&) { FAIL(); })));
}

TEST_F(RolloutTest, ScaleDuringOneSurvivesItsFailureAndEndsWithItsSuccess) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a")})});
  Start(settings);
  Obey();
  ASSERT_TRUE(Reload(settings).ok());
  ASSERT_TRUE(supervisor_.Scale("p", 3).ok());
  Obey({"a"});
  EXPECT_FALSE(result_->status.ok());
  EXPECT_EQ(Status().pools(0).desired_workers(), 3u);
  Obey();
  ASSERT_TRUE(Reload(settings).ok());
  Obey();
  EXPECT_TRUE(result_->status.ok());
  EXPECT_EQ(Status().pools(0).desired_workers(), 1u);
}

TEST_F(RolloutTest, ScaleStopsAtWhatAnAppWantsAndZeroDisables) {
  AppSettings two = TestApp("two");
  two.workers = 2;
  Start(TestSettings({TestPool("p", 3, {two, TestApp("a")})}));
  Obey();
  absl::Status refused = supervisor_.Scale("p", 1).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(refused.message(), HasSubstr("fewer than the 2 of app two"));
  EXPECT_EQ(supervisor_.FewestWorkers("p"), 2u);
  ASSERT_TRUE(supervisor_.Scale("p", 0).ok());
  Obey();
  FakeCaller caller;
  EXPECT_THAT(Submit(caller).refused->message(), HasSubstr("workers is 0"));
  ASSERT_TRUE(supervisor_.Scale("p", 2).ok());
  Obey();
  EXPECT_NE(Submit(caller).call, 0u);
}

TEST_F(RolloutTest, InitHookComesBeforeTheFirstCallAndItsFailureFailsTheStart) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a")})});
  settings.hooks.dirty_post_fork.exec = settings.hooks.dirty_worker_init.exec =
      settings.hooks.dirty_worker_exit.exec = {"hook"};
  Start(settings);
  Boot(1);
  ASSERT_EQ(hooks_.runs.size(), 2u);
  EXPECT_EQ(hooks_.runs[0].event.hook(), "dirty_post_fork");
  EXPECT_EQ(hooks_.runs[1].event.hook(), "dirty_worker_init");
  EXPECT_EQ(hooks_.runs[1].event.worker().id(), 1u);
  EXPECT_EQ(supervisor_.ReadyWorkers(), 0u);
  hooks_.runs[1].done(absl::UnknownError("exited with 3"));
  EXPECT_TRUE(workers_.alive[1].killed);
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::BACKOFF);
  EXPECT_THAT(AppStatusOf("a").reason(), HasSubstr("dirty_worker_init failed: exited with 3"));
  Die(1);
  ASSERT_EQ(hooks_.runs.size(), 3u);
  EXPECT_EQ(hooks_.runs[2].event.hook(), "dirty_worker_exit");
  EXPECT_EQ(hooks_.runs[2].event.exit().signal(), "SIGKILL");
  time_.Advance(absl::Seconds(1));
  Boot(2);
  hooks_.runs.back().done(absl::OkStatus());
  EXPECT_EQ(supervisor_.ReadyWorkers(), 1u);
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::READY);
}

TEST_F(RolloutTest, AWorkerThatIsLostWhileItsInitHookRunsNeverServesAndBacksOff) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a")})});
  settings.hooks.dirty_worker_init.exec = {"hook"};
  Start(settings);
  Boot(1);
  supervisor_.OnLinkBroken(1, "reset");
  ASSERT_EQ(hooks_.runs.size(), 1u);
  hooks_.runs[0].done(absl::OkStatus());
  EXPECT_EQ(supervisor_.ReadyWorkers(), 0u);
  FakeCaller caller;
  EXPECT_NE(Submit(caller).call, 0u);
  EXPECT_TRUE(workers_.alive[1].port.started.empty());  // it waits for the next worker
  Die(1, 11);
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::BACKOFF);
  EXPECT_THAT(Alive(), ElementsAre());
  time_.Advance(absl::Seconds(1));
  Boot(2);
  hooks_.runs.back().done(absl::OkStatus());
  EXPECT_EQ(workers_.alive[2].port.started.size(), 1u);
}

TEST_F(RolloutTest, ReopensTheLogsOfWorkersThatListen) {
  Start(TestSettings({TestPool("p", 2, {TestApp("a")})}));
  Boot(1);
  supervisor_.ReopenLogs();
  EXPECT_EQ(workers_.alive[1].reopened, 1);
  EXPECT_EQ(workers_.alive[2].reopened, 0);
}

}  // namespace
}  // namespace dirty
