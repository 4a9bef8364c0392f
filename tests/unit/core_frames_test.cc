// Frames that a worker must not send: what they say counts for nobody.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "server/supervise/worker_frames.h"
#include "tests/unit/core_supervisor_fixture.h"

namespace dirty {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class WorkerFramesTest : public SupervisorTest {
 protected:
  // Without heartbeats, which nobody here answers.
  static Settings QuietSettings(std::vector<PoolSettings> pools) {
    Settings settings = TestSettings(std::move(pools));
    settings.heartbeat_interval = absl::InfiniteDuration();
    return settings;
  }

  // What the worker 1 says.
  absl::Status Send(const std::function<void(v1::WorkerFrame&)>& fill) {
    v1::WorkerFrame frame;
    fill(frame);
    absl::Status status = frames_.Handle(frame);
    time_.Settle();
    return status;
  }
  absl::Status Hello(uint32_t version = 1) {
    return Send([&](v1::WorkerFrame& frame) { frame.mutable_hello()->set_protocol_version(version); });
  }
  void Starting(const std::string& app) {
    EXPECT_TRUE(Send([&](v1::WorkerFrame& frame) { frame.mutable_app_starting()->set_app(app); }).ok());
  }
  void Ready(const std::string& app) {
    EXPECT_TRUE(Send([&](v1::WorkerFrame& frame) { frame.mutable_app_ready()->set_app(app); }).ok());
  }
  void Failed(const std::string& app) {
    EXPECT_TRUE(Send([&](v1::WorkerFrame& frame) { frame.mutable_app_failed()->set_app(app); }).ok());
  }
  void Ready() {
    EXPECT_TRUE(Send([](v1::WorkerFrame& frame) { frame.mutable_ready(); }).ok());
  }

  WorkerFrames frames_{1, supervisor_, dispatcher_};
};

TEST_F(WorkerFramesTest, StartWithAHello) {
  EXPECT_THAT(Send([](v1::WorkerFrame& frame) { frame.mutable_ready(); }).message(), HasSubstr("was no hello"));
}

TEST_F(WorkerFramesTest, OfAnotherVersionAreRefused) {
  EXPECT_EQ(Hello(7).message(), "the worker speaks protocol version 7, this dirtyd 1");
}

TEST_F(WorkerFramesTest, CountForNothingAfterAViolation) {
  Start(QuietSettings({TestPool("p", 1, {TestApp("a")})}));
  supervisor_.OnListening(1);
  EXPECT_FALSE(Hello(7).ok());
  supervisor_.OnLinkBroken(1, "it speaks version 7");
  EXPECT_TRUE(Hello().ok());
  Starting("a");
  Ready("a");
  Ready();
  FakeCaller caller;
  Submit(caller);
  EXPECT_TRUE(workers_.alive[1].port.started.empty()) << "a call was given to a worker that cannot be reached";
}

TEST_F(WorkerFramesTest, OfAnAppThatItWasNotGivenDoNotReplaceItForEver) {
  Start(QuietSettings({TestPool("p", 1, {TestApp("a")})}));
  supervisor_.OnListening(1);
  EXPECT_TRUE(Hello().ok());
  for (const char* app : {"x", "a"}) {
    Starting(app);
    Ready(app);
  }
  Ready();
  EXPECT_THAT(Alive(), ElementsAre(1));
  EXPECT_EQ(supervisor_.ReadyWorkers(), 1u);
}

TEST_F(WorkerFramesTest, OfAnAppThatItWasNotGivenDoNotStopTheBootTimer) {
  Start(QuietSettings({TestPool("p", 1, {TestApp("a")})}));
  supervisor_.OnListening(1);
  EXPECT_TRUE(Hello().ok());
  Starting("x");
  time_.Advance(TestLimits().boot_timeout + absl::Seconds(1));
  EXPECT_TRUE(workers_.alive[1].killed);
}

TEST_F(WorkerFramesTest, ThatRepeatThemselvesDoNotStopTheBootTimer) {
  Start(QuietSettings({TestPool("p", 1, {TestApp("a"), TestApp("b")})}));
  supervisor_.OnListening(1);
  EXPECT_TRUE(Hello().ok());
  for (int i = 0; i < 10 && !workers_.alive[1].killed; ++i) {
    Starting("a");
    Ready("a");
    Starting("b");
    time_.Advance(TestLimits().boot_timeout / 2);
  }
  EXPECT_TRUE(workers_.alive[1].killed);
}

TEST_F(WorkerFramesTest, OfAnotherPoolsAppDoNotFailIt) {
  Start(QuietSettings({TestPool("p", 1, {TestApp("a")}), TestPool("q", 1, {TestApp("b")})}));
  supervisor_.OnListening(1);
  EXPECT_TRUE(Hello().ok());
  Failed("b");
  EXPECT_EQ(AppStatusOf("b").state(), v1::AppStatus::STARTING);
}

TEST_F(WorkerFramesTest, OfABootThatIsOverCountForNothing) {
  Settings settings = QuietSettings({TestPool("p", 1, {TestApp("a")})});
  settings.hooks.dirty_worker_init.exec = {"/bin/true"};
  Start(settings);
  supervisor_.OnListening(1);
  EXPECT_TRUE(Hello().ok());
  Starting("a");
  Ready("a");
  Ready();
  ASSERT_EQ(hooks_.runs.size(), 1u);
  Starting("a");  // while the hook runs
  hooks_.runs[0].done(absl::OkStatus());
  time_.Settle();
  EXPECT_EQ(supervisor_.ReadyWorkers(), 1u);
  time_.Advance(TestLimits().boot_timeout + absl::Seconds(1));
  EXPECT_FALSE(workers_.alive[1].killed) << "a worker that is ready was killed because it took long to get ready";
}

}  // namespace
}  // namespace dirty
