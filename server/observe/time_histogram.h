// How long things took, since the start: counts in fixed buckets, as a histogram of the metrics has them.
//
// Cheap to add to: a search among eighteen numbers. A value, thread-compatible.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "absl/time/time.h"

namespace dirty {

class TimeHistogram {
 public:
  // Upper bounds of the buckets in nanoseconds, ascending; what is longer is in one more.
  static constexpr std::array<int64_t, 18> kBounds = {
      100'000,       500'000,        1'000'000,      5'000'000,      10'000'000,      25'000'000,
      50'000'000,    100'000'000,    250'000'000,    500'000'000,    1'000'000'000,   2'500'000'000,
      5'000'000'000, 10'000'000'000, 30'000'000'000, 60'000'000'000, 120'000'000'000, 300'000'000'000,
  };

  void Add(absl::Duration time) {
    const int64_t nanoseconds = std::max<int64_t>(absl::ToInt64Nanoseconds(time), 0);
    const auto* bucket = std::lower_bound(kBounds.begin(), kBounds.end(), nanoseconds);
    ++counts_[static_cast<size_t>(bucket - kBounds.begin())];
    seconds_ += static_cast<double>(nanoseconds) * 1e-9;
  }

  // Of each bucket alone; the last one has no bound.
  const std::array<uint64_t, kBounds.size() + 1>& counts() const { return counts_; }
  // All of them together.
  double seconds() const { return seconds_; }

 private:
  std::array<uint64_t, kBounds.size() + 1> counts_ = {};
  double seconds_ = 0;
};

}  // namespace dirty
