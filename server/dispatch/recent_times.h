// How long things took lately: percentiles over the last one to two minutes.
//
// Two histograms of a minute each, the older one dropped when a minute is full. Buckets grow by a sixteenth of an
// octave, from a microsecond to 19 hours. Thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "dirty/v1/admin.pb.h"

namespace dirty {

class RecentTimes {
 public:
  void Add(absl::Time now, absl::Duration time);
  void Describe(absl::Time now, v1::Percentiles& percentiles) const;

 private:
  static constexpr size_t kBuckets = 38 * 16;

  struct Minute {
    int64_t number = -1;  // minutes of the clock; -1: empty
    uint64_t count = 0;
    absl::Duration longest;
    std::array<uint32_t, kBuckets> buckets = {};
  };

  static size_t BucketOf(absl::Duration time);
  static absl::Duration UpperBound(size_t bucket);

  // Made with the first call: most apps of a large configuration have none.
  std::unique_ptr<std::array<Minute, 2>> minutes_;
};

}  // namespace dirty
