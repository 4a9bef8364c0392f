#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/arbiter.h"
#include "tests/unit/core_fakes.h"

namespace dirty {
namespace {

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
      arbiter_.supervisor().OnAppReady(id, "a", {});
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
  CallNumber Submit(FakeCaller& caller) {
    Submission submission;
    submission.request = std::make_unique<v1::ExecuteRequest>();
    submission.request->set_app("a");
    submission.request->set_action("act");
    submission.listener = &caller;
    return arbiter_.dispatcher().Submit(std::move(submission)).call;
  }
  void Done(WorkerId worker, CallNumber call) {
    v1::CallDone done;
    done.set_call(call);
    arbiter_.dispatcher().OnCallDone(worker, done);
    time_.Settle();
  }

  Arbiter::Host Host() {
    Arbiter::Host host;
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

}  // namespace
}  // namespace dirty
