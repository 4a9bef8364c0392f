#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "server/arbiter.h"
#include "tests/unit/core_fakes.h"

namespace dirty {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ArbiterTest : public ::testing::Test {
 protected:
  void Start(uint32_t workers = 2) {
    settings_ = TestSettings({TestPool("p", workers, {TestApp("a")})});
    arbiter_.Start(settings_);
    time_.Settle();
  }
  void BootAll() {
    for (auto& [id, process] : workers_.alive) {
      if (process.attached) continue;
      arbiter_.supervisor().OnListening(id);
      arbiter_.supervisor().OnAppStarting(id, "a");
      arbiter_.supervisor().OnAppReady(id, "a", {}, 0);
      arbiter_.supervisor().OnWorkerReady(id);
    }
    time_.Settle();
  }
  void Exit(WorkerId id, int signal = 0) {
    workers_.alive.erase(id);
    ExitStatus status;
    if (signal == 0) {
      status.exit_code = 0;
    } else {
      status.signal = signal;
    }
    arbiter_.supervisor().OnExit(id, status);
    time_.Settle();
  }
  CallNumber Submit(FakeCaller& caller) { return arbiter_.dispatcher().Submit(MakeSubmission(caller)).call; }
  void Done(WorkerId worker, CallNumber call) {
    v1::CallDone done;
    done.set_call(call);
    arbiter_.dispatcher().OnCallDone(worker, done);
    time_.Settle();
  }

  Arbiter::Host Host() {
    Arbiter::Host host;
    host.on_settled = [this] { ++settled_; };
    host.on_stopped = [this] { ++stopped_; };
    host.read_settings = [this](auto done) { read_done_ = std::move(done); };
    host.on_settings = [this](const Settings& settings) { applied_.push_back(settings); };
    return host;
  }

  FakeTime time_;
  FakeLog log_;
  FakeWorkers workers_;
  Settings settings_;
  std::function<void(absl::StatusOr<Settings>)> read_done_;
  std::vector<Settings> applied_;
  int settled_ = 0;
  int stopped_ = 0;
  FakeHooks hooks_;
  Arbiter arbiter_{{.timers = time_.timers, .launcher = workers_, .links = workers_, .hooks = hooks_, .log = log_},
                   {.version = "1", .pid = 5, .id_prefix = "x-", .chance = [] { return 0.0; }},
                   Host()};
};

TEST_F(ArbiterTest, SaysOnceThatItIsReadyAndHealthFollows) {
  Start();
  EXPECT_EQ(arbiter_.Serving(""), std::optional<bool>(true));
  EXPECT_EQ(arbiter_.Serving("dirty.v1.Arbiter"), std::optional<bool>(false));
  EXPECT_EQ(arbiter_.Serving("a"), std::optional<bool>(false));
  EXPECT_EQ(arbiter_.Serving("z"), std::nullopt);
  EXPECT_EQ(arbiter_.Status().state(), v1::StatusResponse::STARTING);
  time_.Advance(absl::Seconds(4));
  BootAll();
  EXPECT_TRUE(log_.Has("ready: 2/2 workers, 1 app, 4.0 s"));
  EXPECT_EQ(arbiter_.Serving("dirty.v1.Arbiter"), std::optional<bool>(true));
  EXPECT_EQ(arbiter_.Serving("a"), std::optional<bool>(true));
  EXPECT_EQ(arbiter_.Title(), "dirtyd [2/2 workers]");
  EXPECT_EQ(arbiter_.Status().state(), v1::StatusResponse::RUNNING);
}

TEST_F(ArbiterTest, WithoutWorkersItServesNothingButLives) {
  Start(0);
  EXPECT_TRUE(log_.Has("workers is 0"));
  EXPECT_EQ(arbiter_.Serving(""), std::optional<bool>(true));
  EXPECT_EQ(arbiter_.Serving("dirty.v1.Arbiter"), std::optional<bool>(false));
  arbiter_.Shutdown(false, "test");
  time_.Settle();
  EXPECT_EQ(stopped_, 1);
}

TEST_F(ArbiterTest, SaysOnceThatNothingCouldBeStarted) {
  workers_.launch_error = absl::NotFoundError("no such program");
  Start(1);
  time_.Advance(absl::Seconds(10));
  EXPECT_TRUE(log_.Has("not ready: no app could be started"));
  EXPECT_FALSE(log_.Has("ready: 0/"));
  EXPECT_EQ(arbiter_.Serving("dirty.v1.Arbiter"), std::optional<bool>(false));
  workers_.launch_error = absl::OkStatus();
  time_.Advance(absl::Seconds(31));
  BootAll();
  EXPECT_TRUE(log_.Has("ready: 1/1 workers"));
}

// It backs off for ever: what serves does not wait for it.
TEST_F(ArbiterTest, IsReadyBesideAnAppThatIsNeverGivenUp) {
  settings_ = TestSettings({TestPool("p", 1, {TestApp("a"), TestApp("b")})});
  settings_.restart.give_up_after = UINT32_MAX;
  arbiter_.Start(settings_);
  time_.Settle();
  arbiter_.supervisor().OnListening(1);
  arbiter_.supervisor().OnAppStarting(1, "a");
  arbiter_.supervisor().OnAppReady(1, "a", {}, 0);
  arbiter_.supervisor().OnAppStarting(1, "b");
  EXPECT_EQ(arbiter_.Serving("dirty.v1.Arbiter"), std::optional<bool>(false)) << "b was not tried yet";
  arbiter_.supervisor().OnAppFailed(1, "b", v1::Error());
  arbiter_.supervisor().OnWorkerReady(1);
  time_.Settle();
  EXPECT_EQ(arbiter_.Serving("dirty.v1.Arbiter"), std::optional<bool>(true));
  EXPECT_EQ(arbiter_.Serving("b"), std::optional<bool>(false));
  const v1::StatusResponse status = arbiter_.Status();
  EXPECT_EQ(status.state(), v1::StatusResponse::RUNNING);
  EXPECT_EQ(status.apps(1).state(), v1::AppStatus::BACKOFF);
  EXPECT_EQ(settled_, 1);
  EXPECT_TRUE(log_.Has("ready: 1/1 workers, 1/2 apps"));
}

TEST_F(ArbiterTest, AGracefulShutdownLetsCallsEndAndThenClosesTheWorkers) {
  Start(1);
  BootAll();
  FakeCaller running, waiting;
  CallNumber call = Submit(running);
  Submit(waiting);
  arbiter_.Shutdown(false, "test");
  time_.Settle();
  EXPECT_EQ(arbiter_.Serving("dirty.v1.Arbiter"), std::optional<bool>(false));
  EXPECT_EQ(arbiter_.Status().state(), v1::StatusResponse::SHUTTING_DOWN);
  FakeCaller late;
  EXPECT_EQ(Submit(late), 0u);
  EXPECT_FALSE(workers_.alive[1].draining);
  Done(1, call);
  Done(1, workers_.alive[1].port.started[1]->call());
  EXPECT_TRUE(running.ok());
  EXPECT_TRUE(waiting.ok());
  EXPECT_TRUE(workers_.alive[1].draining);
  Exit(1);
  EXPECT_EQ(stopped_, 1);
}

TEST_F(ArbiterTest, QueuedCallsOutliveAWorkerThatDiesDuringTheGrace) {
  Start(1);
  BootAll();
  FakeCaller running, waiting;
  Submit(running);
  Submit(waiting);
  arbiter_.Shutdown(false, "test");
  Exit(1, 9);
  EXPECT_EQ(running.reason(), v1::REASON_WORKER_LOST);
  ASSERT_TRUE(workers_.alive.contains(2));
  BootAll();
  Done(2, workers_.alive[2].port.started[0]->call());
  EXPECT_TRUE(waiting.ok());
  Exit(2);
  EXPECT_EQ(stopped_, 1);
}

TEST_F(ArbiterTest, TheGraceIsBounded) {
  Start(2);
  BootAll();
  FakeCaller running, waiting[2];
  Submit(running);
  Submit(waiting[0]);
  Submit(waiting[1]);
  arbiter_.Shutdown(false, "test");
  Done(2, workers_.alive[2].port.started[0]->call());
  Done(2, workers_.alive[2].port.started[1]->call());
  time_.Advance(absl::Seconds(30));
  EXPECT_EQ(running.reason(), v1::REASON_WORKER_LOST);
  EXPECT_TRUE(workers_.alive[2].draining);  // it may close its apps
  EXPECT_FALSE(workers_.alive[1].killed);
  time_.Advance(absl::Seconds(1));
  EXPECT_TRUE(workers_.alive[1].killed);
  Exit(2);
  Exit(1, 9);
  EXPECT_EQ(stopped_, 1);
}

TEST_F(ArbiterTest, ASecondShutdownIsImmediate) {
  Start(1);
  BootAll();
  FakeCaller running;
  Submit(running);
  arbiter_.Shutdown(false, "SIGTERM");
  EXPECT_FALSE(running.done());
  arbiter_.Shutdown(false, "SIGTERM");
  EXPECT_EQ(running.reason(), v1::REASON_WORKER_LOST);
  EXPECT_TRUE(workers_.alive[1].killed);
  Exit(1, 9);
  EXPECT_EQ(stopped_, 1);
}

class FakeWatcher final : public Arbiter::Watcher {
 public:
  void OnEvent(const std::shared_ptr<const v1::Event>& event) override { messages.push_back(event->message()); }
  std::vector<std::string> messages;
};

// Workers do what they are told until nothing changes any more.
class OperatorsTest : public ArbiterTest {
 protected:
  void Obey() {
    for (int round = 0; round < 20; ++round) {
      BootAll();
      std::vector<WorkerId> ids;
      for (auto& [id, process] : workers_.alive) ids.push_back(id);
      for (WorkerId id : ids) {
        if (workers_.alive[id].killed) {
          Exit(id, 9);
        } else if (workers_.alive[id].draining) {
          Exit(id);
        }
      }
    }
  }
  void Reload() {
    result_.reset();
    arbiter_.Reload({}, "test", [this](const absl::StatusOr<v1::ReloadResponse>& result) { result_ = result; });
    time_.Settle();
  }
  std::optional<absl::StatusOr<v1::ReloadResponse>> result_;
};

TEST_F(OperatorsTest, AReloadReadsReplacesAppliesAndTells) {
  Start(1);
  BootAll();
  FakeWatcher watcher;
  arbiter_.AddWatcher(&watcher);
  Reload();
  EXPECT_EQ(arbiter_.Status().state(), v1::StatusResponse::RELOADING);
  EXPECT_EQ(arbiter_.Title(), "dirtyd [1/1 workers, reloading]");
  Settings next = settings_;
  next.log_level = "debug";
  next.runtime_dir = "/elsewhere";
  next.pools[0].workers = 2;
  read_done_(next);
  Obey();
  ASSERT_TRUE(result_.has_value() && result_->ok()) << result_->status();
  EXPECT_EQ((*result_)->generation(), 2u);
  EXPECT_THAT((*result_)->changes(), ElementsAre("log_level", "pool p: workers 1 -> 2", "workers replaced: 1"));
  EXPECT_THAT((*result_)->needs_restart(), ElementsAre("runtime_dir: \"\" -> /elsewhere"));
  ASSERT_EQ(applied_.size(), 1u);
  EXPECT_EQ(applied_[0].log_level, "debug");
  v1::StatusResponse status = arbiter_.Status();
  EXPECT_EQ(status.state(), v1::StatusResponse::RUNNING);
  EXPECT_TRUE(status.last_reload().ok());
  EXPECT_EQ(arbiter_.supervisor().ReadyWorkers(), 2u);
  EXPECT_THAT(watcher.messages, Contains(HasSubstr("reloaded, generation 2: ")));
  arbiter_.RemoveWatcher(&watcher);
}

// Its init may take minutes; calls of the others succeed all the while.
TEST_F(OperatorsTest, AnAppThatAReloadAddsDoesNotMakeItUnready) {
  Start(1);
  BootAll();
  Reload();
  settings_.pools[0].apps.push_back(TestApp("b"));
  read_done_(settings_);
  time_.Settle();
  const WorkerId added = 2;
  ASSERT_TRUE(workers_.alive.contains(added));
  arbiter_.supervisor().OnListening(added);
  arbiter_.supervisor().OnAppStarting(added, "a");
  arbiter_.supervisor().OnAppReady(added, "a", {}, 0);
  arbiter_.supervisor().OnAppStarting(added, "b");
  time_.Settle();
  EXPECT_EQ(arbiter_.Serving("b"), std::optional<bool>(false));
  EXPECT_EQ(arbiter_.Serving("dirty.v1.Arbiter"), std::optional<bool>(true));
  // Nobody is left: that counts.
  Exit(added, 9);
  Exit(1, 9);
  for (int i = 0; i < 20; ++i) {
    time_.Advance(absl::Seconds(1));
    std::vector<WorkerId> ids;
    for (auto& [id, process] : workers_.alive) ids.push_back(id);
    for (WorkerId id : ids) Exit(id, 9);
  }
  EXPECT_EQ(arbiter_.Serving("dirty.v1.Arbiter"), std::optional<bool>(false));
}

TEST_F(OperatorsTest, ABadFileChangesNothingAndSaysWhy) {
  Start(1);
  BootAll();
  Reload();
  read_done_(absl::InvalidArgumentError("f:1:1: one\nf:2:1: two"));
  EXPECT_TRUE(absl::IsInvalidArgument(result_->status()));
  EXPECT_EQ(workers_.launches, 1);
  v1::StatusResponse status = arbiter_.Status();
  EXPECT_EQ(status.last_reload().message(), "f:1:1: one\nf:2:1: two");
  EXPECT_FALSE(status.last_reload().ok());
  EXPECT_EQ(status.generation(), 1u);
  EXPECT_TRUE(log_.Has("f:2:1: two"));
}

TEST_F(OperatorsTest, OneReloadAtATimeButAHangupIsRemembered) {
  Start(1);
  BootAll();
  arbiter_.ReloadSoon("SIGHUP");
  auto first = std::exchange(read_done_, nullptr);
  Reload();
  EXPECT_TRUE(absl::IsAborted(result_->status()));
  arbiter_.ReloadSoon("SIGHUP");
  arbiter_.ReloadSoon("SIGHUP");
  EXPECT_EQ(read_done_, nullptr);
  first(settings_);
  Obey();
  ASSERT_NE(read_done_, nullptr);  // one more, for all of them
  std::exchange(read_done_, nullptr)(settings_);
  Obey();
  EXPECT_EQ(read_done_, nullptr);
  EXPECT_EQ(arbiter_.Status().generation(), 3u);
}

TEST_F(OperatorsTest, AShutdownEndsAReload) {
  Start(1);
  BootAll();
  Reload();
  arbiter_.Shutdown(false, "test");
  read_done_(settings_);
  EXPECT_TRUE(absl::IsAborted(result_->status()));
  Reload();
  EXPECT_TRUE(absl::IsAborted(result_->status()));
  Obey();
  EXPECT_EQ(stopped_, 1);
}

TEST_F(OperatorsTest, WhatScaleHadSetEndsWithAReloadThatSaysSo) {
  Start(1);
  BootAll();
  v1::ScaleRequest request;  // no pool: the default one, or the first
  request.set_workers(3);
  absl::StatusOr<v1::ScaleResponse> scaled = arbiter_.Scale(request);
  ASSERT_TRUE(scaled.ok());
  EXPECT_EQ(scaled->previous_workers(), 1u);
  Obey();
  Reload();
  read_done_(settings_);
  Obey();
  ASSERT_TRUE(result_->ok());
  EXPECT_THAT((*result_)->changes(),
              ElementsAre("pool p: what scale had set (3) ends", "pool p: workers 3 -> 1", "workers replaced: 1"));
  EXPECT_EQ(arbiter_.supervisor().ReadyWorkers(), 1u);
}

TEST_F(OperatorsTest, SignalsScaleByOneAndNeverBelowOne) {
  Start(1);
  BootAll();
  arbiter_.ScaleBy(1, "SIGTTIN");
  EXPECT_EQ(arbiter_.supervisor().DesiredWorkers(), 2u);
  arbiter_.ScaleBy(-1, "SIGTTOU");
  arbiter_.ScaleBy(-1, "SIGTTOU");
  EXPECT_EQ(arbiter_.supervisor().DesiredWorkers(), 1u);
  EXPECT_TRUE(log_.Has("stays at 1"));
}

TEST_F(OperatorsTest, RestartAnswersWithHowMany) {
  Start(2);
  BootAll();
  std::optional<absl::StatusOr<v1::RestartResponse>> restarted;
  auto done = [&](const absl::StatusOr<v1::RestartResponse>& result) { restarted = result; };
  arbiter_.Restart({}, done);
  Obey();
  ASSERT_TRUE(restarted.has_value() && restarted->ok());
  EXPECT_EQ((*restarted)->replaced(), 2u);
  v1::RestartRequest nobody;
  nobody.set_worker_id(99);
  arbiter_.Restart(nobody, done);
  EXPECT_TRUE(absl::IsNotFound(restarted->status()));
}

TEST_F(OperatorsTest, RestartTellsWhichAppsStillDoNotStart) {
  settings_ = TestSettings({TestPool("p", 1, {TestApp("a"), TestApp("b")})});
  arbiter_.Start(settings_);
  time_.Settle();
  v1::Error error;
  error.set_message("no model");
  auto boot = [&](WorkerId id) {
    arbiter_.supervisor().OnListening(id);
    arbiter_.supervisor().OnAppStarting(id, "a");
    arbiter_.supervisor().OnAppReady(id, "a", {}, 0);
    arbiter_.supervisor().OnAppStarting(id, "b");
    arbiter_.supervisor().OnAppFailed(id, "b", error);
    arbiter_.supervisor().OnWorkerReady(id);
    time_.Settle();
  };
  boot(1);
  std::optional<absl::StatusOr<v1::RestartResponse>> restarted;
  arbiter_.Restart({}, [&](const absl::StatusOr<v1::RestartResponse>& result) { restarted = result; });
  time_.Settle();
  boot(2);
  ASSERT_TRUE(restarted.has_value() && restarted->ok());
  EXPECT_THAT((*restarted)->still_failing(), ElementsAre(HasSubstr("b does not start: ")));
}

TEST_F(OperatorsTest, CancelTellsWhetherItRan) {
  Start(1);
  BootAll();
  FakeCaller running, waiting;
  Submit(running);
  Submit(waiting);
  v1::CancelRequest request;
  request.set_call_id("x-2");
  EXPECT_FALSE(arbiter_.Cancel(request)->was_running());
  EXPECT_EQ(waiting.reason(), v1::REASON_CANCELLED);
  request.set_call_id("x-1");
  EXPECT_TRUE(arbiter_.Cancel(request)->was_running());
  EXPECT_EQ(workers_.alive[1].port.cancelled.size(), 1u);
  request.set_call_id("x-9");
  EXPECT_TRUE(absl::IsNotFound(arbiter_.Cancel(request).status()));
}

TEST_F(OperatorsTest, AFullQueueIsToldOnceASecond) {
  settings_ = TestSettings({TestPool("p", 1, {TestApp("a")})});
  settings_.pools[0].apps[0].limits.queue_size = 0;
  arbiter_.Start(settings_);
  BootAll();
  FakeWatcher watcher;
  arbiter_.AddWatcher(&watcher);
  FakeCaller callers[4];
  for (FakeCaller& caller : callers) Submit(caller);
  EXPECT_THAT(watcher.messages, ElementsAre(HasSubstr("queue full: ")));
  time_.Advance(absl::Seconds(1));
  Submit(callers[1]);
  EXPECT_EQ(watcher.messages.size(), 2u);
}

TEST_F(OperatorsTest, RefusalsAreLoggedOnceASecondWithHowManyThereWere) {
  Start(0);
  FakeCaller callers[50];
  for (FakeCaller& caller : callers) Submit(caller);
  auto lines = [&] {
    return std::count_if(log_.lines.begin(), log_.lines.end(),
                         [](const std::string& line) { return absl::StrContains(line, "call refused: "); });
  };
  EXPECT_EQ(lines(), 1);
  EXPECT_EQ(log_.last_fields.at("more"), "");
  time_.Advance(absl::Seconds(1));
  EXPECT_EQ(lines(), 2);
  EXPECT_EQ(log_.last_fields.at("more"), "48");
  time_.Advance(absl::Seconds(5));
  EXPECT_EQ(lines(), 2);
  FakeCaller late;
  Submit(late);
  EXPECT_EQ(lines(), 3);
  // What is left is told before the end.
  for (FakeCaller& caller : callers) Submit(caller);
  arbiter_.Shutdown(true, "test");
  time_.Settle();
  EXPECT_EQ(lines(), 4);
  EXPECT_EQ(log_.last_fields.at("more"), "49");
}

TEST_F(OperatorsTest, CallsOfAppsThatAreNotThereAreOneKindWhateverTheirNames) {
  Start(1);
  FakeCaller callers[50];
  for (int i = 0; i < 50; ++i) {
    arbiter_.dispatcher().Submit(MakeSubmission(callers[i], absl::StrCat("none-", i)));
  }
  time_.Advance(absl::Seconds(1));
  EXPECT_EQ(std::count_if(log_.lines.begin(), log_.lines.end(),
                          [](const std::string& line) { return absl::StrContains(line, "call refused: "); }),
            2);
  EXPECT_EQ(log_.last_fields.at("more"), "48");
}

TEST_F(OperatorsTest, CallsThatNeverRanAreLoggedOnceASecondToo) {
  settings_ = TestSettings({TestPool("p", 1, {TestApp("a")})});
  settings_.pools[0].apps[0].limits.queue_timeout = absl::Seconds(2);
  arbiter_.Start(settings_);
  BootAll();
  FakeCaller running, waiting[50];
  Submit(running);
  for (FakeCaller& caller : waiting) Submit(caller);
  time_.Advance(absl::Seconds(2));
  EXPECT_EQ(waiting[49].reason(), v1::REASON_QUEUE_TIMEOUT);
  auto lines = [&] {
    return std::count_if(log_.lines.begin(), log_.lines.end(),
                         [](const std::string& line) { return absl::StartsWith(line, "call not run: waited 2.0 s"); });
  };
  EXPECT_EQ(lines(), 1);
  EXPECT_EQ(log_.last_fields.at("call"), "x-2");
  EXPECT_EQ(log_.last_fields.at("waited"), "2.0 s");
  EXPECT_EQ(log_.last_fields.count("worker"), 0u);
  time_.Advance(absl::Seconds(1));
  EXPECT_EQ(lines(), 2);
  EXPECT_EQ(log_.last_fields.at("call"), "x-3");
  EXPECT_EQ(log_.last_fields.at("more"), "48");
}

TEST_F(OperatorsTest, LogLevelsAreCheckedAndTold) {
  Start(1);
  v1::SetLogLevelRequest request;
  request.set_level("verbose");
  EXPECT_TRUE(absl::IsInvalidArgument(arbiter_.SetLogLevel(request).status()));
  request.set_level("debug");
  ASSERT_TRUE(arbiter_.SetLogLevel(request).ok());
  EXPECT_EQ(arbiter_.SetLogLevel(request)->previous_level(), "debug");
}

}  // namespace
}  // namespace dirty
