#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "tests/unit/core_supervisor_fixture.h"

namespace dirty {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(SupervisorTest, StartsEveryWorkerAtOnce) {
  Start(TestSettings({TestPool("p", 3, {TestApp("a")})}));
  EXPECT_THAT(Alive(), ElementsAre(1, 2, 3));
  Obey();
  EXPECT_EQ(supervisor_.ReadyWorkers(), 3u);
  EXPECT_TRUE(supervisor_.EveryAppTried());
  EXPECT_EQ(AppStatusOf("a").ready_workers(), 3u);
}

TEST_F(SupervisorTest, RestartsAfterACrashAtOnceAndThenWithBackoff) {
  Start(TestSettings({TestPool("p", 1, {TestApp("a")})}));
  Obey();
  Die(1);
  EXPECT_THAT(Alive(), ElementsAre(2));
  Obey();
  Die(2);
  EXPECT_THAT(Alive(), ElementsAre());
  time_.Advance(absl::Milliseconds(100));
  EXPECT_THAT(Alive(), ElementsAre(3));
  Obey();
  Die(3);
  time_.Advance(absl::Milliseconds(100));
  EXPECT_THAT(Alive(), ElementsAre());
  time_.Advance(absl::Milliseconds(100));
  EXPECT_THAT(Alive(), ElementsAre(4));
  // One that lasted starts the count again.
  Obey();
  time_.Advance(absl::Seconds(10));
  Die(4);
  EXPECT_THAT(Alive(), ElementsAre(5));
}

TEST_F(SupervisorTest, QueuedCallsRunOnTheReplacement) {
  Start(TestSettings({TestPool("p", 1, {TestApp("a")})}));
  Obey();
  FakeCaller running, waiting;
  Submit(running);
  Submit(waiting);
  Die(1);
  EXPECT_EQ(running.reason(), v1::REASON_WORKER_LOST);
  EXPECT_EQ(running.outcome.error->signal(), "SIGKILL");
  EXPECT_THAT(running.outcome.error->message(), HasSubstr("was killed by SIGKILL"));
  EXPECT_EQ(running.outcome.error->stderr_tail(0), "last words");
  Obey();
  ASSERT_EQ(workers_.alive[2].port.started.size(), 1u);
  Done(2, workers_.alive[2].port.started[0]->call());
  EXPECT_TRUE(waiting.ok());
}

TEST_F(SupervisorTest, AnAppThatRaisesCostsTheOthersNothing) {
  Start(TestSettings({TestPool("p", 2, {TestApp("bad"), TestApp("good")})}));
  Obey({"bad"});
  // Two workers that started together are one failure.
  EXPECT_EQ(AppStatusOf("bad").state(), v1::AppStatus::BACKOFF);
  EXPECT_EQ(AppStatusOf("good").state(), v1::AppStatus::READY);
  EXPECT_EQ(AppStatusOf("good").ready_workers(), 2u);
  EXPECT_THAT(AppStatusOf("bad").reason(), HasSubstr("ValueError: no model"));
  int before = workers_.launches;
  // 100, 200, 400, 800 ms: four retries, each one extra worker, then FAILED.
  for (int i = 0; i < 200; ++i) {
    time_.Advance(absl::Milliseconds(50));
    Obey({"bad"});
    ASSERT_LE(workers_.alive.size(), 3u);
    ASSERT_EQ(AppStatusOf("good").ready_workers(), 2u);
  }
  EXPECT_EQ(workers_.launches - before, 4);
  EXPECT_EQ(AppStatusOf("bad").state(), v1::AppStatus::FAILED);
  EXPECT_LE(workers_.most, 3u);
  FakeCaller caller;
  Admission refused = Submit(caller, "bad");
  EXPECT_EQ(refused.refused->reason(), v1::REASON_NO_WORKERS);
  EXPECT_THAT(refused.refused->message(), HasSubstr("no model"));
  EXPECT_TRUE(supervisor_.EveryAppTried());
  EXPECT_EQ(supervisor_.HasReadyWorker("bad"), std::optional<bool>(false));
}

TEST_F(SupervisorTest, AHealedAppReachesEveryWorkerAndNobodyNotices) {
  Start(TestSettings({TestPool("p", 2, {TestApp("bad"), TestApp("good")})}));
  Obey({"bad"});
  FakeCaller waiting;
  Submit(waiting, "bad");
  time_.Advance(absl::Milliseconds(100));
  Obey();
  EXPECT_EQ(AppStatusOf("bad").state(), v1::AppStatus::READY);
  EXPECT_EQ(AppStatusOf("bad").ready_workers(), 2u);
  EXPECT_EQ(AppStatusOf("good").ready_workers(), 2u);
  EXPECT_EQ(workers_.alive.size(), 2u);
  EXPECT_LE(workers_.most, 3u);
  EXPECT_EQ(AppStatusOf("bad").running(), 1u);
}

TEST_F(SupervisorTest, AnInitThatKillsTheProcessCountsAgainstThatAppAlone) {
  Start(TestSettings({TestPool("p", 1, {TestApp("good"), TestApp("bad")})}));
  supervisor_.OnListening(1);
  supervisor_.OnAppStarting(1, "good");
  supervisor_.OnAppReady(1, "good", {}, 0);
  supervisor_.OnAppStarting(1, "bad");
  Die(1, 11);
  EXPECT_EQ(AppStatusOf("bad").state(), v1::AppStatus::BACKOFF);
  EXPECT_THAT(AppStatusOf("bad").reason(), HasSubstr("SIGSEGV"));
  EXPECT_THAT(AppStatusOf("bad").reason(), HasSubstr("last words"));
  EXPECT_EQ(AppStatusOf("good").state(), v1::AppStatus::STARTING);
  EXPECT_THAT(AppsOf(2), ElementsAre("good"));
}

TEST_F(SupervisorTest, ACrashWhoseLastFrameWasLostIsTheNextAppsAlone) {
  Start(TestSettings({TestPool("p", 1, {TestApp("good"), TestApp("bad"), TestApp("later")})}));
  supervisor_.OnListening(1);
  supervisor_.OnAppStarting(1, "good");
  supervisor_.OnAppReady(1, "good", {}, 0);
  Die(1, 11);
  EXPECT_EQ(AppStatusOf("good").state(), v1::AppStatus::STARTING);
  EXPECT_EQ(AppStatusOf("bad").state(), v1::AppStatus::BACKOFF);
  EXPECT_EQ(AppStatusOf("later").state(), v1::AppStatus::STARTING);
}

TEST_F(SupervisorTest, ACrashThatToldNothingIsTheAppsThatIsBeingRetried) {
  Start(TestSettings({TestPool("p", 1, {TestApp("good"), TestApp("bad")})}));
  Boot(1, {"bad"});
  EXPECT_EQ(AppStatusOf("bad").state(), v1::AppStatus::BACKOFF);
  time_.Advance(absl::Milliseconds(100));
  ASSERT_TRUE(workers_.alive.contains(2)) << "the retry";
  supervisor_.OnListening(2);
  const size_t lines = log_.lines.size();
  Die(2, 11);
  EXPECT_EQ(AppStatusOf("good").state(), v1::AppStatus::READY);
  for (size_t i = lines; i < log_.lines.size(); ++i) EXPECT_THAT(log_.lines[i], Not(HasSubstr("good failed to start")));
  EXPECT_TRUE(log_.Has("bad failed to start: the worker was killed by SIGSEGV before its apps were ready"));
}

TEST_F(SupervisorTest, AnAppThatAReadyWorkerNeitherLoadedNorMaySkipHasFailed) {
  Start(TestSettings({TestPool("p", 1, {TestApp("good"), TestApp("skipped"), TestApp("silent")})}));
  supervisor_.OnListening(1);
  supervisor_.OnAppStarting(1, "good");
  supervisor_.OnAppReady(1, "good", {}, 0);
  supervisor_.OnAppStarting(1, "skipped");
  supervisor_.OnAppSkipped(1, "skipped", 3);  // it is the first of the three
  supervisor_.OnWorkerReady(1);
  time_.Settle();
  EXPECT_EQ(AppStatusOf("good").state(), v1::AppStatus::READY);
  for (const char* app : {"skipped", "silent"}) {
    EXPECT_EQ(AppStatusOf(app).state(), v1::AppStatus::BACKOFF);
    EXPECT_EQ(AppStatusOf(app).reason(), "the worker did not load it");
  }
}

TEST_F(SupervisorTest, AnInitThatOverrunsItsBootTimeoutIsKilled) {
  AppSettings app = TestApp("a");
  app.limits.boot_timeout = absl::Seconds(20);
  Start(TestSettings({TestPool("p", 1, {app})}));
  supervisor_.OnListening(1);
  supervisor_.OnAppStarting(1, "a");
  time_.Advance(absl::Seconds(19));
  EXPECT_TRUE(log_.Has("initialising a, 10.0 s"));
  EXPECT_FALSE(workers_.alive[1].killed);
  time_.Advance(absl::Seconds(3));
  EXPECT_EQ(workers_.alive[1].dumps, 1);
  EXPECT_TRUE(workers_.alive[1].killed);
  Die(1);
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::BACKOFF);
  EXPECT_THAT(AppStatusOf("a").reason(), HasSubstr("boot_timeout"));
  EXPECT_EQ(Status().exits(0).reason(), "boot timeout");
}

TEST_F(SupervisorTest, AWorkerThatCannotEvenStartFailsItsAppsWithTheReason) {
  workers_.launch_error = absl::NotFoundError("no such program: python9");
  Start(TestSettings({TestPool("p", 2, {TestApp("a"), TestApp("b")})}));
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::BACKOFF);
  EXPECT_THAT(AppStatusOf("b").reason(), HasSubstr("python9"));
  time_.Advance(absl::Seconds(10));
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::FAILED);
  EXPECT_LE(workers_.launches, 8);
  // It is tried again at the longest interval, and heals.
  workers_.launch_error = absl::OkStatus();
  time_.Advance(absl::Seconds(31));
  Obey();
  EXPECT_EQ(AppStatusOf("a").ready_workers(), 2u);
}

TEST_F(SupervisorTest, NoWorkersAtAllIsAValidWish) {
  Start(TestSettings({TestPool("p", 0, {TestApp("a")})}));
  EXPECT_EQ(workers_.launches, 0);
  FakeCaller caller;
  EXPECT_THAT(Submit(caller).refused->message(), HasSubstr("workers is 0"));
}

TEST_F(SupervisorTest, AStuckCallEndsItsWorkerWithADump) {
  AppSettings app = TestApp("a");
  app.limits.timeout = absl::Seconds(2);
  Start(TestSettings({TestPool("p", 1, {app})}));
  Obey();
  FakeCaller stuck, waiting;
  Submit(stuck);
  Submit(waiting);
  time_.Advance(absl::Seconds(2));
  EXPECT_EQ(stuck.reason(), v1::REASON_TIMEOUT);
  time_.Advance(absl::Seconds(5));
  EXPECT_EQ(workers_.alive[1].dumps, 1);
  EXPECT_FALSE(workers_.alive[1].killed);
  time_.Advance(absl::Seconds(1));
  EXPECT_TRUE(workers_.alive[1].killed);
  Obey();
  EXPECT_EQ(Status().exits(0).reason(), "timeout");
  EXPECT_EQ(workers_.alive[2].port.started.size(), 1u);
}

TEST_F(SupervisorTest, AWorkerThatAnswersNoHeartbeatIsReplaced) {
  Start(TestSettings({TestPool("p", 1, {TestApp("a")})}));
  Obey();
  for (int i = 0; i < 12; ++i) {
    time_.Advance(absl::Seconds(5));
    supervisor_.OnPong(1, 0);
  }
  EXPECT_FALSE(workers_.alive[1].killed);
  time_.Advance(absl::Seconds(36));
  EXPECT_TRUE(workers_.alive[1].killed);
  Obey();
  EXPECT_EQ(Status().exits(0).reason(), "heartbeat");
  EXPECT_THAT(Alive(), ElementsAre(2));
}

TEST_F(SupervisorTest, ABrokenLinkEndsTheWorkerUnlessItDiesByItself) {
  Start(TestSettings({TestPool("p", 2, {TestApp("a")})}));
  Obey();
  supervisor_.OnLinkBroken(1, "reset");
  supervisor_.OnLinkBroken(2, "reset");
  FakeCaller caller;
  Submit(caller);
  EXPECT_TRUE(workers_.alive[1].port.started.empty());
  Die(1, 11);
  EXPECT_EQ(Status().exits(0).signal(), "SIGSEGV");
  EXPECT_FALSE(workers_.alive[2].killed);
  time_.Advance(absl::Seconds(1));
  EXPECT_TRUE(workers_.alive[2].killed);
  Obey();
  EXPECT_EQ(Status().exits(0).reason(), "link broken");
}

TEST_F(SupervisorTest, AWorkerWhoseLinkBrokeIsNotReadyAnyMore) {
  Start(TestSettings({TestPool("p", 1, {TestApp("a")})}));
  Obey();
  supervisor_.OnLinkBroken(1, "reset");
  EXPECT_EQ(Status().workers(0).state(), v1::WorkerStatus::STOPPING);
  EXPECT_EQ(supervisor_.ReadyWorkers(), 0u);
  EXPECT_EQ(supervisor_.HasReadyWorker("a"), std::optional<bool>(false));
}

TEST_F(SupervisorTest, AWorkerThatLosesAnAppToAnotherIsReplacedOnce) {
  AppSettings a = TestApp("a"), b = TestApp("b");
  a.workers = b.workers = 1;
  Start(TestSettings({TestPool("p", 1, {a, b})}));
  Obey();
  ASSERT_TRUE(supervisor_.Scale("p", 2).ok());  // one each from now on
  time_.Settle();
  Obey();
  EXPECT_THAT(AppsOf(2), ElementsAre("a"));
  EXPECT_THAT(AppsOf(3), ElementsAre("b"));
  EXPECT_EQ(workers_.launches, 3);
}

TEST_F(SupervisorTest, AWorkerThatSomebodyElseToldToEndGoesOnUntilAnotherIsReady) {
  Start(TestSettings({TestPool("p", 1, {TestApp("a")})}));
  Obey();
  FakeCaller running, waiting;
  const CallNumber first = Submit(running).call;
  Submit(waiting);
  supervisor_.OnWorkerEnding(1);
  time_.Settle();
  ASSERT_TRUE(workers_.alive.contains(2));
  Done(1, first);
  EXPECT_TRUE(running.ok());
  ASSERT_EQ(workers_.alive[1].port.started.size(), 2u) << "it takes calls until then";
  EXPECT_FALSE(workers_.alive[1].draining);
  Boot(2);
  Done(1, workers_.alive[1].port.started[1]->call());
  EXPECT_TRUE(waiting.ok());
  time_.Settle();
  EXPECT_TRUE(workers_.alive[1].draining);
  ExitCleanly(1);
  EXPECT_EQ(Status().exits(0).reason(), "recycled");
}

TEST_F(SupervisorTest, AWorkerThatIsToldToEndWhileItsHookRunsIsReplacedAfterwards) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a")})});
  settings.hooks.dirty_worker_init.exec = {"hook"};
  Start(settings);
  Boot(1);
  supervisor_.OnWorkerEnding(1);
  time_.Settle();
  EXPECT_THAT(Alive(), ElementsAre(1));
  ASSERT_EQ(hooks_.runs.size(), 1u);
  hooks_.runs[0].done(absl::OkStatus());
  time_.Settle();
  EXPECT_THAT(Alive(), ElementsAre(1, 2));
  EXPECT_FALSE(workers_.alive[1].draining) << "it goes on until then";
}

TEST_F(SupervisorTest, AWorkerThatIsToldToEndAgainAndAgainIsReplacedLessOften) {
  Start(TestSettings({TestPool("p", 1, {TestApp("a")})}));
  Obey();
  for (int i = 0; i < 100; ++i) supervisor_.OnWorkerEnding(1);  // once is enough
  time_.Settle();
  Obey();
  supervisor_.OnWorkerEnding(2);
  time_.Settle();
  EXPECT_THAT(Alive(), ElementsAre(2));
  time_.Advance(absl::Milliseconds(100));
  EXPECT_THAT(Alive(), ElementsAre(2, 3));
  Obey();
  supervisor_.OnWorkerEnding(3);
  time_.Advance(absl::Milliseconds(100));
  EXPECT_THAT(Alive(), ElementsAre(3));
  // One that dies before its turn has come is replaced when it would have been, and counts once.
  Die(3);
  EXPECT_THAT(Alive(), ElementsAre());
  time_.Advance(absl::Milliseconds(100));
  EXPECT_THAT(Alive(), ElementsAre(4));
  // One that lasted is replaced at once, and one that does not serve yet is not asked.
  supervisor_.OnWorkerEnding(4);
  Obey();
  time_.Advance(absl::Seconds(10));
  EXPECT_THAT(Alive(), ElementsAre(4));
  supervisor_.OnWorkerEnding(4);
  time_.Settle();
  EXPECT_THAT(Alive(), ElementsAre(4, 5));
}

TEST_F(SupervisorTest, AnAppThatIsWhereItShouldBeIsNotToBeRetried) {
  Start(TestSettings({TestPool("p", 2, {TestApp("a"), TestApp("b")})}));
  Boot(1);
  Boot(2, {"a"});
  EXPECT_THAT(AppStatusOf("a").reason(), HasSubstr("ValueError"));
  ASSERT_TRUE(supervisor_.Scale("p", 1).ok());  // the seat where it failed is gone
  time_.Settle();
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::READY);
  EXPECT_EQ(AppStatusOf("a").reason(), "");
  const int before = workers_.launches;
  time_.Advance(absl::Minutes(1));
  EXPECT_EQ(workers_.launches, before);
}

TEST_F(SupervisorTest, TheLastThatServesStaysAlthoughFewerAreWanted) {
  Settings settings = TestSettings({TestPool("p", 3, {TestApp("a")})});
  settings.restart.max_backoff = absl::Seconds(5);
  Start(settings);
  Obey();
  Die(1, 9);
  Obey({"a"});
  ASSERT_TRUE(supervisor_.Scale("p", 1).ok());
  for (int i = 0; i < 100; ++i) {
    time_.Advance(absl::Milliseconds(100));
    Obey({"a"});
    ASSERT_EQ(AppStatusOf("a").ready_workers(), 1u);
  }
  time_.Advance(absl::Seconds(5));
  Obey();
  EXPECT_EQ(AppStatusOf("a").ready_workers(), 1u);
  ASSERT_EQ(workers_.alive.size(), 1u);
  EXPECT_EQ(Status().workers(0).index(), 0u);
  EXPECT_FALSE(log_.Has("heartbeat"));
}

TEST_F(SupervisorTest, AWorkerIsNotRecycledWhileNobodyElseCouldServeOneOfItsApps) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a"), TestApp("b")})});
  settings.restart.max_backoff = absl::Seconds(5);
  Start(settings);
  Obey();
  supervisor_.OnWorkerEnding(1);
  for (int i = 0; i < 200; ++i) {
    time_.Advance(absl::Milliseconds(100));
    Obey({"b"});
    ASSERT_EQ(AppStatusOf("a").ready_workers(), 1u);
    ASSERT_EQ(AppStatusOf("b").ready_workers(), 1u);
    ASSERT_EQ(AppStatusOf("b").state(), v1::AppStatus::READY);
  }
  EXPECT_LE(workers_.launches, 10) << "tried as often as an app that backs off";
  EXPECT_FALSE(workers_.alive[1].draining);
  time_.Advance(absl::Seconds(5));
  Obey();
  EXPECT_FALSE(workers_.alive.contains(1));
  EXPECT_EQ(AppStatusOf("b").ready_workers(), 1u);
  EXPECT_FALSE(log_.Has("heartbeat"));
}

TEST_F(SupervisorTest, ATracebackIsToldLineByLineAndNotAgainForTheSameFailure) {
  Start(TestSettings({TestPool("p", 1, {TestApp("a")})}));
  auto fail = [this](WorkerId id, const std::string& message) {
    supervisor_.OnListening(id);
    supervisor_.OnAppStarting(id, "a");
    v1::Error error;
    error.set_exception_type("ValueError");
    error.set_message(message);
    error.set_traceback(absl::StrCat("Traceback:\n  line 1\nValueError: ", message, "\n"));
    const size_t before = log_.lines.size();
    supervisor_.OnAppFailed(id, "a", error);
    std::vector<std::string> lines(log_.lines.begin() + static_cast<ptrdiff_t>(before), log_.lines.end());
    supervisor_.OnWorkerReady(id);
    Die(id);
    time_.Advance(absl::Seconds(31));
    return lines;
  };
  EXPECT_THAT(fail(1, "no model"), ElementsAre(HasSubstr(": a: Traceback:"), HasSubstr(": a:   line 1"),
                                               HasSubstr(": a: ValueError"), HasSubstr("a failed to start")));
  EXPECT_THAT(fail(2, "no model"), ElementsAre(HasSubstr("a failed to start")));
  EXPECT_EQ(fail(3, "no other model").size(), 4u);
}

TEST_F(SupervisorTest, AnAppThatSomeWorkersServeIsReadyThoughItDoesNotStartInOthers) {
  Start(TestSettings({TestPool("p", 2, {TestApp("a")})}));
  Obey();
  Die(2, 9);
  for (int i = 0; i < 100; ++i) {  // until long after it would have been given up
    time_.Advance(absl::Milliseconds(100));
    Obey({"a"});
    ASSERT_EQ(AppStatusOf("a").state(), v1::AppStatus::READY);
    ASSERT_TRUE(supervisor_.EveryAppTried() && supervisor_.AnyAppReady());
  }
  EXPECT_THAT(AppStatusOf("a").reason(), HasSubstr("ValueError: no model"));
  EXPECT_EQ(AppStatusOf("a").ready_workers(), 1u);
  // The last one goes too.
  Die(1, 9);
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::FAILED);
  EXPECT_FALSE(supervisor_.AnyAppReady());
  time_.Advance(absl::Seconds(31));
  Obey();
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::READY);
  EXPECT_EQ(AppStatusOf("a").reason(), "");
  EXPECT_EQ(AppStatusOf("a").ready_workers(), 2u);
}

TEST_F(SupervisorTest, ARetryMovesOnFromASeatThatIsGone) {
  Start(TestSettings({TestPool("p", 3, {TestApp("a"), TestApp("b")})}));
  Boot(1, {"a"});
  Boot(2, {"a"});
  Die(3);  // an empty seat is where it is retried
  time_.Advance(absl::Seconds(1));
  ASSERT_TRUE(supervisor_.Scale("p", 2).ok());
  for (int i = 0; i < 10; ++i) {
    time_.Advance(absl::Seconds(1));
    Obey();
  }
  EXPECT_EQ(AppStatusOf("a").state(), v1::AppStatus::READY);
  EXPECT_EQ(AppStatusOf("a").ready_workers(), 2u);
}

TEST_F(SupervisorTest, RecyclesReplacementFirst) {
  AppSettings app = TestApp("a");
  app.limits.max_requests = 2;
  Start(TestSettings({TestPool("p", 1, {app})}));
  Obey();
  FakeCaller one, two, three;
  Done(1, Submit(one).call);
  EXPECT_EQ(workers_.alive.size(), 1u);
  Done(1, Submit(two).call);
  EXPECT_THAT(Alive(), ElementsAre(1, 2));
  // The old one serves until the new one is ready.
  Done(1, Submit(three).call);
  EXPECT_TRUE(three.ok());
  Obey();
  EXPECT_THAT(Alive(), ElementsAre(2));
  EXPECT_EQ(Status().exits(0).reason(), "recycled");
  EXPECT_EQ(Status().exits(0).calls(), 3u);
}

TEST_F(SupervisorTest, RecyclesByMemoryAboveItsLevelAfterInit) {
  AppSettings app = TestApp("a");
  app.limits.max_memory = 10 << 20;
  workers_.memory[1] = 500 << 20;
  Start(TestSettings({TestPool("p", 1, {app})}));
  Obey();
  FakeCaller one, two;
  workers_.memory[1] = 509 << 20;
  Done(1, Submit(one).call);
  EXPECT_THAT(Alive(), ElementsAre(1));
  workers_.memory[1] = 511 << 20;
  Done(1, Submit(two).call);
  EXPECT_THAT(Alive(), ElementsAre(1, 2));
}

TEST_F(SupervisorTest, ScalesUpAtOnceAndDownByDraining) {
  Start(TestSettings({TestPool("p", 2, {TestApp("a")})}));
  Obey();
  EXPECT_EQ(supervisor_.Scale("p", 4).value(), 2u);
  Obey();
  EXPECT_EQ(supervisor_.ReadyWorkers(), 4u);
  FakeCaller callers[4];
  CallNumber calls[4];
  for (int i = 0; i < 4; ++i) calls[i] = Submit(callers[i]).call;
  EXPECT_EQ(supervisor_.Scale("p", 1).value(), 4u);
  time_.Settle();
  Obey();
  EXPECT_EQ(workers_.alive.size(), 4u);  // their calls run on
  for (auto& [id, process] :
       std::map<WorkerId, CallNumber>{{1, calls[0]}, {2, calls[1]}, {3, calls[2]}, {4, calls[3]}}) {
    Done(id, process);
  }
  Obey();
  EXPECT_THAT(Alive(), ElementsAre(1));
  for (FakeCaller& caller : callers) EXPECT_TRUE(caller.ok());
  EXPECT_TRUE(absl::IsNotFound(supervisor_.Scale("q", 1).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(supervisor_.Scale("p", 1'000'000).status()));
}

TEST_F(SupervisorTest, AChangedPoolIsReplacedOneByOneAndNeverServesLess) {
  Settings settings = TestSettings({TestPool("p", 3, {TestApp("a")})});
  Start(settings);
  Obey();
  settings.pools[0].env["X"] = "1";
  workers_.most = 0;
  EXPECT_TRUE(Reload(settings).ok());
  EXPECT_EQ(workers_.alive.size(), 4u);
  EXPECT_EQ(AppStatusOf("a").ready_workers(), 3u);
  Obey();
  EXPECT_THAT(Alive(), ElementsAre(4, 5, 6));
  EXPECT_LE(workers_.most, 4u);
}

TEST_F(SupervisorTest, WithoutSurgeTheOldWorkerMakesRoomFirst) {
  Settings settings = TestSettings({TestPool("p", 2, {TestApp("a")})});
  settings.pools[0].surge = 0;
  Start(settings);
  Obey();
  settings.pools[0].env["X"] = "1";
  workers_.most = 0;
  EXPECT_TRUE(Reload(settings).ok());
  EXPECT_EQ(AppStatusOf("a").ready_workers(), 1u);
  Obey();
  EXPECT_THAT(Alive(), ElementsAre(3, 4));
  EXPECT_LE(workers_.most, 2u);
}

TEST_F(SupervisorTest, AppsWithFewWorkersKeepTheirSeats) {
  AppSettings one = TestApp("one"), two = TestApp("two");
  one.workers = 1;
  two.workers = 2;
  Start(TestSettings({TestPool("p", 3, {one, two, TestApp("all")})}));
  EXPECT_THAT(AppsOf(1), ElementsAre("one", "all"));
  EXPECT_THAT(AppsOf(2), ElementsAre("two", "all"));
  EXPECT_THAT(AppsOf(3), ElementsAre("two", "all"));
  Obey();
  Die(1);
  EXPECT_THAT(AppsOf(4), ElementsAre("one", "all"));
}

TEST_F(SupervisorTest, AnAppThatWantsFewWorkersIsInTheFirstOnes) {
  wants_["heavy"] = 1;
  Start(TestSettings({TestPool("p", 3, {TestApp("heavy"), TestApp("light")})}));
  Boot(2);  // before the one that gets it: nobody is to blame, and nothing is ready too early
  EXPECT_EQ(AppStatusOf("heavy").state(), v1::AppStatus::STARTING);
  Obey();
  EXPECT_THAT(Alive(), ElementsAre(1, 2, 3));
  EXPECT_EQ(AppStatusOf("heavy").ready_workers(), 1u);
  EXPECT_EQ(AppStatusOf("light").ready_workers(), 3u);
  // Whoever replaces that worker gets it again, and new ones do not.
  Die(1);
  Obey();
  ASSERT_TRUE(supervisor_.Scale("p", 5).ok());
  Obey();
  EXPECT_EQ(supervisor_.ReadyWorkers(), 5u);
  EXPECT_THAT(AppsOf(4), ElementsAre("heavy", "light"));
  EXPECT_THAT(AppsOf(6), ElementsAre("light"));
  EXPECT_EQ(workers_.launches, 6);
}

TEST_F(SupervisorTest, AWorkerWhoseAppsAllWantOthersGoes) {
  wants_["heavy"] = 1;
  Start(TestSettings({TestPool("p", 3, {TestApp("heavy")})}));
  Obey();
  EXPECT_THAT(Alive(), ElementsAre(1));
  EXPECT_EQ(workers_.launches, 3);
  time_.Advance(absl::Minutes(1));
  EXPECT_EQ(workers_.launches, 3);
}

TEST_F(SupervisorTest, TheConfigurationWinsOverWhatAnAppWants) {
  wants_["heavy"] = 1;
  AppSettings app = TestApp("heavy");
  app.workers = 2;
  Start(TestSettings({TestPool("p", 3, {app, TestApp("light")})}));
  Obey();
  EXPECT_EQ(AppStatusOf("heavy").ready_workers(), 2u);
}

TEST_F(SupervisorTest, AnAppThatWantsFewWorkersIsRetriedWhereItBelongs) {
  wants_["heavy"] = 1;
  Start(TestSettings({TestPool("p", 2, {TestApp("heavy"), TestApp("light")})}));
  Obey({"heavy"});
  EXPECT_EQ(AppStatusOf("heavy").state(), v1::AppStatus::BACKOFF);
  for (int i = 0; i < 20; ++i) {
    time_.Advance(absl::Milliseconds(50));
    Obey();
  }
  EXPECT_EQ(AppStatusOf("heavy").state(), v1::AppStatus::READY);
  EXPECT_EQ(AppStatusOf("heavy").ready_workers(), 1u);
  EXPECT_EQ(AppStatusOf("light").ready_workers(), 2u);
}

TEST_F(SupervisorTest, AWorkerThatIsSilentWhileItClosesIsKilledAsAnyOther) {
  Start(TestSettings({TestPool("p", 1, {TestApp("a")})}));
  Boot(1);
  EXPECT_TRUE(supervisor_.Scale("p", 0).ok());
  time_.Settle();
  EXPECT_TRUE(workers_.alive[1].draining);
  time_.Advance(absl::Seconds(36));
  EXPECT_TRUE(workers_.alive[1].killed);
  Die(1);
  EXPECT_EQ(Status().exits(0).reason(), "heartbeat");
}

TEST_F(SupervisorTest, AWorkerThatDoesNotExitAfterItsLinkHasEndedIsKilledSoon) {
  Start(TestSettings({TestPool("p", 1, {TestApp("a")})}));
  Boot(1);
  EXPECT_TRUE(supervisor_.Scale("p", 0).ok());
  time_.Settle();
  supervisor_.OnLinkBroken(1, "the worker ended it");  // its apps are closed, and no ping tells any more
  time_.Advance(absl::Seconds(9));
  EXPECT_FALSE(workers_.alive[1].killed);
  time_.Advance(absl::Seconds(2));
  EXPECT_TRUE(workers_.alive[1].killed);
  Die(1);
  EXPECT_EQ(Status().exits(0).reason(), "drained");
}

TEST_F(SupervisorTest, WhatIsNotNeededAnyMoreBeforeItHasStartedIsNoWarning) {
  Start(TestSettings({TestPool("p", 2, {TestApp("a")})}));
  EXPECT_TRUE(supervisor_.Scale("p", 1).ok());
  time_.Settle();
  EXPECT_TRUE(workers_.alive[2].killed);
  Die(2);
  EXPECT_EQ(log_.LevelOf("stopped before it was ready"), LogLevel::kInfo);
  EXPECT_EQ(log_.last_fields.at("reason"), "drained");
  Boot(1);
  Die(1);
  EXPECT_EQ(log_.LevelOf("killed by SIGKILL"), LogLevel::kWarning);
}

TEST_F(SupervisorTest, StopDrainsTheReadyAndKillsTheStarting) {
  Start(TestSettings({TestPool("p", 2, {TestApp("a")})}));
  Boot(1);
  supervisor_.Stop();
  time_.Settle();
  EXPECT_TRUE(workers_.alive[1].draining);
  EXPECT_TRUE(workers_.alive[2].killed);
  ExitCleanly(1);
  EXPECT_EQ(stopped_, 0);
  Die(2);
  EXPECT_EQ(stopped_, 1);
  EXPECT_EQ(workers_.launches, 2);
}

TEST_F(SupervisorTest, KeepsTheLastTwentyExitsOfASeat) {
  Settings settings = TestSettings({TestPool("p", 1, {TestApp("a")})});
  settings.restart.initial_backoff = settings.restart.max_backoff = absl::Milliseconds(1);
  Start(settings);
  for (WorkerId id = 1; id <= 30; ++id) {
    Obey();
    Die(id);
    time_.Advance(absl::Milliseconds(1));
  }
  EXPECT_EQ(Status().exits_size(), 20);
  EXPECT_EQ(Status().exits(0).worker_id(), 30u);
}

// Random deaths, broken links, silent workers, failing inits, scalings and changes: once faults stop, there is exactly
// what there should be.
class SupervisorUnderFaults : public SupervisorTest, public ::testing::WithParamInterface<uint32_t> {};

TEST_P(SupervisorUnderFaults, ReachesWhatIsDesiredOnceTheyStop) {
  std::mt19937 random(GetParam());
  Settings settings = TestSettings({TestPool("p", 3, {TestApp("a"), TestApp("b")}), TestPool("q", 1, {TestApp("c")})});
  settings.pools[0].surge = random() % 2;
  settings.restart.max_backoff = absl::Seconds(2);
  Start(settings);
  for (int step = 0; step < 400; ++step) {
    std::vector<WorkerId> ids = Alive();
    WorkerId id = ids.empty() ? 0 : ids[random() % ids.size()];
    switch (random() % 10) {
      case 0:
        if (id != 0) Die(id, random() % 2 == 0 ? 9 : 11);
        break;
      case 1:
        if (id != 0 && workers_.alive[id].attached) supervisor_.OnLinkBroken(id, "reset");
        break;
      case 2:
        (void)supervisor_.Scale("p", static_cast<uint32_t>(random() % 5));
        break;
      case 3:
        settings.pools[random() % 2].env["X"] = absl::StrCat(random());
        (void)Reload(settings);  // refused while one is under way
        break;
      case 4:
      case 5:
        time_.Advance(absl::Milliseconds(random() % 2000));
        break;
      default:
        Obey(random() % 4 == 0 ? std::vector<std::string>{"a"} : std::vector<std::string>{});
        break;
    }
    if (HasFatalFailure()) return;
  }
  settings.pools[0].workers = 3;
  while (supervisor_.Replacing()) {
    Obey();
    time_.Advance(absl::Milliseconds(500));
    for (WorkerId alive : Alive()) supervisor_.OnPong(alive, 0);
  }
  ASSERT_TRUE(Reload(settings).ok());
  for (int i = 0; i < 100; ++i) {
    Obey();
    time_.Advance(absl::Milliseconds(500));
    for (WorkerId id : Alive()) supervisor_.OnPong(id, 0);
  }
  ASSERT_EQ(supervisor_.ReadyWorkers(), 4u);
  ASSERT_EQ(workers_.alive.size(), 4u);
  for (const char* app : {"a", "b"}) ASSERT_EQ(AppStatusOf(app).ready_workers(), 3u) << app;
  ASSERT_EQ(AppStatusOf("c").ready_workers(), 1u);
  ASSERT_TRUE(result_.has_value() && result_->status.ok()) << result_->status;
  ASSERT_EQ(supervisor_.Scale("p", 0).value(), 3u);
  ASSERT_EQ(supervisor_.Scale("q", 0).value(), 1u);
  time_.Settle();
  Obey();
  ASSERT_TRUE(workers_.alive.empty());
}

INSTANTIATE_TEST_SUITE_P(Seeds, SupervisorUnderFaults, ::testing::Range(1u, 31u));

}  // namespace
}  // namespace dirty
