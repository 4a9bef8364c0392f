// A queue that many threads poll: time passes for its leader although it is never empty.

#include <grpcpp/alarm.h>
#include <gtest/gtest.h>

#include <chrono>

#include "client/cpp/connection.h"
#include "client/cpp/shared_queue.h"
#include "tests/unit/client_fake_arbiter.h"

namespace dirty::client::internal {
namespace {

using namespace std::chrono_literals;

// Has something in its queue whenever it is looked at, up to a number that no test should need.
class Busy : public SharedQueue::Owner {
 public:
  static constexpr int kMost = 3'000'000;

  Busy() : queue_(*this) { Arm(); }
  ~Busy() override {
    Lock lock(queue_.mutex());
    stopped_ = true;
    queue_.Close(lock, [this] { return armed_; });
  }

  void Prepare(Lock&) override {}
  void Take(Lock&, void*, bool) override {
    armed_ = false;
    ++taken;
    if (taken == kMost) queue_.Wake(waiter);
    if (!stopped_ && taken < kMost) Arm();
  }
  Clock::time_point NextTimer() const override { return timer; }
  void RunTimers(Lock&) override {
    ++timers;
    timer = Clock::time_point::max();
    queue_.Wake(waiter);
  }
  bool TakesLead(bool) override { return false; }

  SharedQueue& queue() { return queue_; }

  int taken = 0;
  int timers = 0;
  Clock::time_point timer = Clock::time_point::max();
  Waiter waiter;

 private:
  void Arm() {
    armed_ = true;
    alarm_.Set(queue_.queue(), gpr_inf_past(GPR_CLOCK_MONOTONIC), this);
  }

  SharedQueue queue_;
  grpc::Alarm alarm_;
  bool armed_ = false;
  bool stopped_ = false;
};

TEST(ClientQueue, ALeaderThatIsAlwaysBusyWaitsNoLongerThanItWants) {
  Busy busy;
  Lock lock(busy.queue().mutex());
  EXPECT_FALSE(busy.queue().Wait(lock, busy.waiter, Clock::now() + 20ms));
  EXPECT_LT(busy.taken, Busy::kMost);
}

TEST(ClientQueue, ALeaderThatIsAlwaysBusyRunsTimers) {
  Busy busy;
  Lock lock(busy.queue().mutex());
  busy.timer = Clock::now() + 20ms;
  EXPECT_TRUE(busy.queue().Wait(lock, busy.waiter, Clock::time_point::max()));
  EXPECT_EQ(busy.timers, 1);
  EXPECT_LT(busy.taken, Busy::kMost);
}

TEST(ClientQueue, DrainComesToAnEnd) {
  Busy busy;
  Lock lock(busy.queue().mutex());
  busy.queue().Drain(lock);
  EXPECT_LT(busy.taken, 1000);
}

TEST(ClientConnector, OneThatIsClosedHasNoConnection) {
  TemporaryFolder folder;
  FakeArbiter arbiter(folder / "s.sock", FakeArbiter::Echo);
  Connector connector({folder / "s.sock"});
  ASSERT_TRUE(connector.Get(Clock::now() + 10s, {}).ok());
  ASSERT_NE(connector.Current(), nullptr);
  connector.Close("over");
  EXPECT_EQ(connector.Current(), nullptr);
  EXPECT_FALSE(connector.Get(Clock::now() + 10s, {}).ok());
}

}  // namespace
}  // namespace dirty::client::internal
