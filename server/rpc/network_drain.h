// The end of a dirtyd with a network listener. Balancers learn of it by asking for its health now and then: until they
// did, or have all left, it goes on answering, NOT_SERVING and SHUTTING_DOWN, although nothing is left to do. So a call
// that comes meanwhile is refused, which says that it never started, instead of cut off.
//
// Owned by main. Loop-confined.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/time/time.h"
#include "server/loop/timers.h"

namespace dirty {

class NetworkDrain {
 public:
  // From the beginning of the shutdown on: longer than balancers take between two questions.
  static constexpr absl::Duration kNotice = absl::Seconds(5);

  // `connections`: those of the network that stand.
  NetworkDrain(TimerQueue& timers, std::function<size_t()> connections)
      : timers_(timers), connections_(std::move(connections)) {}

  // The shutdown begins, or goes on, and may take so long from now. The earliest end counts.
  void Begin(absl::Duration limit) { until_ = std::min(until_, timers_.Now() + std::min(limit, kNotice)); }

  // Runs `over` once it is over, from within if it is.
  void WhenOver(std::function<void()> over) {
    if (timers_.Now() >= until_ || connections_() == 0) return over();
    timers_.ScheduleIn(kLook, [this, over = std::move(over)]() mutable { WhenOver(std::move(over)); });
  }

 private:
  static constexpr absl::Duration kLook = absl::Milliseconds(50);

  TimerQueue& timers_;
  const std::function<size_t()> connections_;
  absl::Time until_ = absl::InfiniteFuture();
};

}  // namespace dirty
