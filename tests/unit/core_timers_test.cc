#include <gtest/gtest.h>

#include <random>

#include "tests/unit/core_fakes.h"

namespace dirty {
namespace {

TEST(TimersTest, FireInTheOrderOfDeadlineThenScheduling) {
  FakeTime time;
  std::string fired;
  time.timers.ScheduleIn(absl::Seconds(2), [&] { fired += 'c'; });
  time.timers.ScheduleIn(absl::Seconds(1), [&] { fired += 'a'; });
  time.timers.ScheduleIn(absl::Seconds(1), [&] { fired += 'b'; });
  time.Advance(absl::Milliseconds(999));
  EXPECT_EQ(fired, "");
  time.Advance(absl::Milliseconds(1));
  EXPECT_EQ(fired, "ab");
  time.Advance(absl::Seconds(5));
  EXPECT_EQ(fired, "abc");
  EXPECT_EQ(time.timers.NextDeadline(), absl::InfiniteFuture());
}

TEST(TimersTest, CancelledOnesDoNotFireAndStaleIdsAreHarmless) {
  FakeTime time;
  int fired = 0;
  auto id = time.timers.ScheduleIn(absl::Seconds(1), [&] { ++fired; });
  auto copy = id;
  time.timers.Cancel(id);
  EXPECT_EQ(id, 0u);
  // Its node is reused by the next timer; the old id must not cancel that one.
  time.timers.ScheduleIn(absl::Seconds(1), [&] { fired += 10; });
  time.timers.Cancel(copy);
  time.Advance(absl::Seconds(2));
  EXPECT_EQ(fired, 10);
}

TEST(TimersTest, InfinityIsNoTimer) {
  FakeTime time;
  EXPECT_EQ(time.timers.ScheduleIn(absl::InfiniteDuration(), [] {}), 0u);
  EXPECT_EQ(time.timers.size(), 0u);
}

TEST(TimersTest, MatchesASortedListUnderRandomUse) {
  FakeTime time;
  std::mt19937 random(7);
  std::multimap<absl::Time, int> expected;
  std::map<int, std::pair<TimerQueue::TimerId, std::multimap<absl::Time, int>::iterator>> live;
  std::vector<int> fired;
  for (int i = 0; i < 20000; ++i) {
    if (random() % 3 != 0) {
      absl::Time when = time.clock.Now() + absl::Milliseconds(random() % 1000);
      auto id = time.timers.Schedule(when, [&fired, i] { fired.push_back(i); });
      live[i] = {id, expected.emplace(when, i)};
    } else if (!live.empty()) {
      auto it = live.lower_bound(static_cast<int>(random() % 20000));
      if (it == live.end()) it = live.begin();
      time.timers.Cancel(it->second.first);
      expected.erase(it->second.second);
      live.erase(it);
    }
    if (random() % 50 == 0) {
      time.Advance(absl::Milliseconds(random() % 200));
      std::vector<int> due;
      while (!expected.empty() && expected.begin()->first <= time.clock.Now()) {
        due.push_back(expected.begin()->second);
        live.erase(expected.begin()->second);
        expected.erase(expected.begin());
      }
      ASSERT_EQ(fired, due);
      fired.clear();
    }
  }
}

}  // namespace
}  // namespace dirty
