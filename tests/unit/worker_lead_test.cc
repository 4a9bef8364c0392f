#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "worker/runtime/lead.h"

namespace dirty::worker {
namespace {

using std::chrono::milliseconds;

TEST(Lead, GoesToTheWatcherWhenARunGoesOn) {
  Lead lead;
  std::atomic<bool> taken = false;
  std::thread watcher([&] {
    lead.Watch();
    taken = true;
  });
  lead.Begin();
  while (!taken) std::this_thread::yield();  // a tick or two
  EXPECT_FALSE(lead.End());
  watcher.join();
}

TEST(Lead, StaysWithShortRunsAndCanBeReturned) {
  Lead lead;
  std::atomic<bool> taken = false;
  std::thread watcher([&] {
    lead.Watch();
    taken = true;
  });
  for (int i = 0; i < 1000; ++i) {
    lead.Begin();
    // On a busy machine even this may have lasted for two ticks; then there is nothing to return.
    if (!lead.End()) {
      watcher.join();
      GTEST_SKIP() << "the machine is too busy: run " << i << " took longer than " << Lead::kTick.count() << " ms";
    }
  }
  EXPECT_FALSE(taken);
  lead.Return();
  watcher.join();
  EXPECT_TRUE(taken);
}

// After every pause, whether the watcher sleeps by then or is about to, it wakes and takes the lead of a long run.
TEST(Lead, NoRunIsOverlookedHoweverLongNothingRan) {
  Lead lead;
  std::atomic<int> taken = 0;
  constexpr int kRounds = 40;
  std::atomic<int> handed = 0;
  std::thread watcher([&] {
    for (int round = 0; round < kRounds; ++round) {
      lead.Watch();
      ++taken;
      while (handed <= round) std::this_thread::yield();  // the lead is with the other thread again
    }
  });
  for (int round = 0; round < kRounds; ++round) {
    std::this_thread::sleep_for(milliseconds(round));
    lead.Begin();
    while (taken <= round) std::this_thread::yield();
    EXPECT_FALSE(lead.End());
    ++handed;
  }
  watcher.join();
}

}  // namespace
}  // namespace dirty::worker
