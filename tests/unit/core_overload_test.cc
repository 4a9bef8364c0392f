// What becomes of calls with deadlines where far more of them come than can run.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "server/dispatch/load_shedder.h"
#include "server/dispatch/proto_time.h"
#include "tests/unit/core_fakes.h"

namespace dirty {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Milliseconds(500);

// One worker whose slots run every call for as long as `runs` says, or until they are asked to stop.
class OverloadTest : public ::testing::Test, protected Dispatcher::Events, protected WorkerPort {
 protected:
  explicit OverloadTest(uint32_t slots = 2) : slots_(slots) {
    dispatcher_.Configure({TestPool("p", 1, {TestApp("a")})}, 1 << 20);
    dispatcher_.AddWorker(1, slots_, {"a"}, this);
  }

  std::unique_ptr<FakeCaller> Submit(absl::Duration patience = kPatience) {
    auto caller = std::make_unique<FakeCaller>();
    Submission submission = MakeSubmission(*caller);
    ToProto(patience, submission.request->mutable_timeout());
    EXPECT_EQ(dispatcher_.Submit(std::move(submission)).refused, nullptr);
    return caller;
  }

  // Calls that come so often for so long; how many of them succeed in a second.
  double Load(absl::Duration every, absl::Duration time) {
    std::vector<std::unique_ptr<FakeCaller>> callers;
    for (absl::Duration now; now < time; now += every) {
      callers.push_back(Submit());
      time_.Advance(every);
    }
    time_.Advance(kPatience);
    double ok = 0;
    for (const auto& caller : callers) {
      EXPECT_EQ(caller->outcomes, 1);
      if (caller->ok()) ++ok;
    }
    return ok / absl::ToDoubleSeconds(time);
  }

  // Dispatcher::Events
  void OnWorkerIdle(WorkerId) override {}
  void OnSlotFree(WorkerId, uint64_t) override {}
  void OnCallStuck(WorkerId, CallNumber, const std::string& what) override { ADD_FAILURE() << what; }
  void OnAllCallsEnded() override {}
  void OnCallRecord(const CallRecord&) override {}
  // WorkerPort
  void Start(std::unique_ptr<v1::StartCall> start) override {
    ++started_;
    End(start->call(), runs_ * std::uniform_real_distribution<double>(1 - spread_, 1 + spread_)(random_));
  }
  void Cancel(CallNumber call, v1::CancelReason) override { End(call, absl::ZeroDuration()); }
  void Credit(CallNumber, uint32_t) override {}

  void End(CallNumber call, absl::Duration after) {
    time_.timers.ScheduleIn(after, [this, call] {
      v1::CallDone done;
      done.set_call(call);
      done.mutable_response()->set_result("1");
      dispatcher_.OnCallDone(1, done);  // one that has ended is ignored
    });
  }

  const uint32_t slots_;
  absl::Duration runs_ = absl::Milliseconds(20);
  double spread_ = 0.5;  // of it, up and down
  int started_ = 0;
  std::mt19937 random_{1};
  FakeTime time_;
  Dispatcher dispatcher_{time_.timers, *this, {.id_prefix = "x-"}};
};

TEST_F(OverloadTest, TenTimesTheCapacityCostsNoGoodput) {
  const double peak = Load(absl::Milliseconds(10), absl::Seconds(10));
  EXPECT_GT(peak, 95);
  EXPECT_GT(Load(absl::Milliseconds(1), absl::Seconds(10)), 0.95 * peak);
}

TEST_F(OverloadTest, NorWhereACallNeedsMoreThanHalfOfItsCallersTime) {
  for (const auto& [share, spread] : {std::pair(0.7, 0.05), {0.55, 0.5}}) {
    runs_ = kPatience * share;
    spread_ = spread;
    const double peak = slots_ / absl::ToDoubleSeconds(runs_);
    Load(runs_ / 20, absl::Seconds(60));  // what calls need has changed: that is learned from few calls a second
    EXPECT_GT(Load(runs_ / 20, absl::Seconds(60)), 0.85 * peak) << share << " of it, more or less by " << spread;
  }
}

TEST_F(OverloadTest, WhatIsNotStartedSaysWhy) {
  Load(absl::Milliseconds(1), absl::Seconds(2));
  std::vector<std::unique_ptr<FakeCaller>> callers;
  for (int i = 0; i < 200; ++i) callers.push_back(Submit());
  time_.Advance(kPatience);
  const FakeCaller* shed = nullptr;
  for (const auto& caller : callers) {
    if (caller->reason() == v1::REASON_QUEUE_TIMEOUT &&
        caller->outcome.error->message().find("left") != std::string::npos)
      shed = caller.get();
  }
  ASSERT_NE(shed, nullptr);
  EXPECT_THAT(shed->outcome.error->message(),
              HasSubstr("of the caller's time are left, and calls of this app need up to"));
  EXPECT_THAT(shed->outcome.error->message(), HasSubstr("the call never started"));
}

TEST_F(OverloadTest, WithoutOverloadACallStartsHoweverLittleTimeItHasLeft) {
  Load(absl::Milliseconds(10), absl::Seconds(1));
  runs_ = absl::Milliseconds(400);
  auto first = Submit(), second = Submit();
  time_.Advance(absl::Milliseconds(10));
  const int started = started_;
  auto third = Submit(absl::Milliseconds(800));  // waits for 200 ms at least
  time_.Advance(absl::Seconds(1));
  EXPECT_EQ(started_, started + 1);
  EXPECT_NE(third->reason(), v1::REASON_QUEUE_TIMEOUT);
}

TEST(LoadShedderTest, OnlyAfterACallHasWaitedInVain) {
  const absl::Time now = absl::FromUnixSeconds(1000);
  const absl::Duration little = absl::Milliseconds(1), long_wait = absl::Seconds(1);
  LoadShedder shedder;
  for (int i = 0; i < 50; ++i) shedder.OnServed(absl::Milliseconds(20));
  EXPECT_NEAR(absl::ToDoubleMilliseconds(shedder.need()), 20, 1);
  EXPECT_TRUE(shedder.WorthStarting(now, long_wait, little));
  shedder.OnOutOfTime(now, /*waited=*/absl::Milliseconds(5), /*ran=*/absl::Milliseconds(500));  // slow, not late
  EXPECT_TRUE(shedder.WorthStarting(now, long_wait, little));
  shedder.OnOutOfTime(now, /*waited=*/absl::Milliseconds(500), /*ran=*/absl::Milliseconds(5));
  EXPECT_FALSE(shedder.WorthStarting(now, long_wait, little));
  EXPECT_TRUE(shedder.WorthStarting(now, long_wait, absl::Milliseconds(30)));
  EXPECT_TRUE(shedder.WorthStarting(now, long_wait, absl::InfiniteDuration()));
  // It ends by itself, and not while there is something to shed.
  EXPECT_FALSE(shedder.WorthStarting(now + absl::Seconds(9), long_wait, little));
  EXPECT_FALSE(shedder.WorthStarting(now + absl::Seconds(18), long_wait, little));
  EXPECT_TRUE(shedder.WorthStarting(now + absl::Seconds(29), long_wait, little));
}

TEST(LoadShedderTest, WhatHasHardlyWaitedIsStartedAndCorrectsTheEstimate) {
  const absl::Time now = absl::FromUnixSeconds(1000);
  LoadShedder shedder;
  shedder.OnServed(absl::Seconds(10));
  shedder.OnOutOfTime(now, absl::Seconds(1), absl::ZeroDuration());
  EXPECT_TRUE(shedder.WorthStarting(now, /*waited=*/absl::Milliseconds(200), /*left=*/absl::Milliseconds(800)));
  EXPECT_FALSE(shedder.WorthStarting(now, /*waited=*/absl::Milliseconds(300), /*left=*/absl::Milliseconds(700)));
  for (int i = 0; i < 100; ++i) shedder.OnServed(absl::Milliseconds(1));
  EXPECT_TRUE(shedder.WorthStarting(now, /*waited=*/absl::Milliseconds(300), /*left=*/absl::Milliseconds(700)));
}

TEST(LoadShedderTest, NothingIsKnownYet) {
  const absl::Time now = absl::FromUnixSeconds(1000);
  LoadShedder shedder;
  shedder.OnOutOfTime(now, absl::Seconds(1), absl::ZeroDuration());
  EXPECT_TRUE(shedder.WorthStarting(now, absl::Seconds(1), absl::ZeroDuration()));
}

}  // namespace
}  // namespace dirty
