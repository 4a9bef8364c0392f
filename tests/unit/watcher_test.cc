#include "server/loop/watcher.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>

#include "tests/unit/launch_support.h"

namespace {

// What somebody has set the wall clock to: seconds beside the right time.
std::atomic<int> wall_clock_ahead{0};

}  // namespace

// In the place of the C library's, for the whole program.
extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const int result = static_cast<int>(syscall(SYS_clock_gettime, clock, time));
  if (clock == CLOCK_REALTIME) time->tv_sec += wall_clock_ahead;
  return result;
}

namespace dirty {
namespace {

// A connected pair; one end is for the watcher.
struct Pair {
  Pair() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    watched.Reset(fds[0]);
    other.Reset(fds[1]);
  }
  void Send() { EXPECT_EQ(write(other.get(), "x", 1), 1); }
  // Whether the watched end was closed (then there is an end of file, and nothing else was ever sent back).
  bool Closed() {
    char c;
    return recv(other.get(), &c, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;  // the latter if it left data unread
  }
  UniqueFd watched;
  UniqueFd other;
};

class WatcherTest : public ::testing::Test {
 protected:
  Watcher::Id WatchCounting(Pair& pair, Watcher::Next next, bool drain = true) {
    return watcher_.Watch(std::move(pair.watched), EPOLLIN, [this, next, drain](int fd, uint32_t events) {
      EXPECT_NE(events & EPOLLIN, 0u);
      char c;
      if (drain) {
        EXPECT_EQ(read(fd, &c, 1), 1);
      }
      loop_.Post([this] { ++calls_; });
      return next;
    });
  }
  bool WaitForCalls(int calls) {
    return loop_.RunUntil([&] { return calls_ >= calls; });
  }
  // Until the watcher's thread has handled what was asked of it, and the events before.
  void Fence() {
    bool done = false;
    watcher_.Run([this, &done] { loop_.Post([&done] { done = true; }); });
    EXPECT_TRUE(loop_.RunUntil([&done] { return done; }));
  }

  Pair& NewPair() { return pairs_.emplace_back(); }

  std::deque<Pair> pairs_;  // outlive the watcher: it is to see no hang-up
  TestLoop loop_;
  int calls_ = 0;
  Watcher watcher_;
};

TEST_F(WatcherTest, CallsBackForEachEvent) {
  Pair& pair = NewPair();
  WatchCounting(pair, Watcher::Next::kKeep);
  for (int i = 1; i <= 3; ++i) {
    pair.Send();
    ASSERT_TRUE(WaitForCalls(i));
  }
  EXPECT_EQ(calls_, 3);
}

TEST_F(WatcherTest, ClosesWhatIsDone) {
  Pair& pair = NewPair();
  WatchCounting(pair, Watcher::Next::kClose);
  pair.Send();
  ASSERT_TRUE(WaitForCalls(1));
  Fence();
  EXPECT_TRUE(pair.Closed());
}

TEST_F(WatcherTest, PausesAndGoesOn) {
  Pair& pair = NewPair();
  absl::Time start = absl::Now();
  WatchCounting(pair, Watcher::Next::kPause, /*drain=*/false);  // stays readable
  pair.Send();
  ASSERT_TRUE(WaitForCalls(3));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(190));  // two pauses of 100 ms: it does not spin
}

TEST_F(WatcherTest, APauseEndsThoughTheWallClockIsSetBack) {
  Pair& pair = NewPair();
  WatchCounting(pair, Watcher::Next::kPause, /*drain=*/false);
  pair.Send();
  ASSERT_TRUE(WaitForCalls(1));
  wall_clock_ahead = -3600;
  EXPECT_TRUE(WaitForCalls(3));
  wall_clock_ahead = 0;
}

TEST_F(WatcherTest, DoesNotSpinOnAHangUpWhilePaused) {
  Pair& pair = NewPair();
  int seen = 0;
  watcher_.Watch(std::move(pair.watched), EPOLLIN, [this, &seen](int, uint32_t) {
    loop_.Post([&seen] { ++seen; });
    return Watcher::Next::kPause;
  });
  absl::Time start = absl::Now();
  pair.other.Reset();
  ASSERT_TRUE(loop_.RunUntil([&] { return seen == 3; }));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(190));
  watcher_.Stop();
}

TEST_F(WatcherTest, ForgetsAndTellsThatNoCallComes) {
  Pair& pair = NewPair();
  Watcher::Id id = WatchCounting(pair, Watcher::Next::kKeep);
  pair.Send();
  ASSERT_TRUE(WaitForCalls(1));
  bool closed = false;
  watcher_.Forget(id, [&] { loop_.Post([&] { closed = true; }); });
  ASSERT_TRUE(loop_.RunUntil([&] { return closed; }));
  EXPECT_TRUE(pair.Closed());
  EXPECT_EQ(calls_, 1);
}

TEST_F(WatcherTest, ForgetsWhatIsPaused) {
  Pair& pair = NewPair();
  Watcher::Id id = WatchCounting(pair, Watcher::Next::kPause, /*drain=*/false);
  pair.Send();
  ASSERT_TRUE(WaitForCalls(1));
  watcher_.Forget(id);
  Pair& other = NewPair();  // likely the same number as the one that was closed
  WatchCounting(other, Watcher::Next::kKeep);
  other.Send();
  ASSERT_TRUE(WaitForCalls(2));
  EXPECT_TRUE(pair.Closed());
}

TEST_F(WatcherTest, ForgettingWhatIsGoneStillTells) {
  Pair& pair = NewPair();
  Watcher::Id id = WatchCounting(pair, Watcher::Next::kClose);
  pair.Send();
  ASSERT_TRUE(WaitForCalls(1));
  bool closed = false;
  watcher_.Forget(id, [&] { loop_.Post([&] { closed = true; }); });
  EXPECT_TRUE(loop_.RunUntil([&] { return closed; }));
}

TEST_F(WatcherTest, RunsWorkInOrder) {
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) {
    watcher_.Run([this, &order, i] { loop_.Post([&order, i] { order.push_back(i); }); });
  }
  ASSERT_TRUE(loop_.RunUntil([&] { return order.size() == 100; }));
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(WatcherTest, StopClosesEverythingAndIsFinal) {
  Pair& pair = NewPair();
  Pair& late = NewPair();
  WatchCounting(pair, Watcher::Next::kKeep);
  Fence();
  watcher_.Stop();
  watcher_.Stop();
  EXPECT_TRUE(pair.Closed());
  WatchCounting(late, Watcher::Next::kKeep);
  EXPECT_TRUE(late.Closed());
  watcher_.Forget(1);
  EXPECT_EQ(calls_, 0);
}

}  // namespace
}  // namespace dirty
