#include "server/dispatch/recent_times.h"

#include <algorithm>
#include <bit>

#include "server/dispatch/proto_time.h"

namespace dirty {
namespace {

constexpr size_t kStepBits = 4;  // 16 steps in an octave
constexpr size_t kSteps = 1 << kStepBits;

int64_t MinuteOf(absl::Time time) { return absl::ToUnixSeconds(time) / 60; }

}  // namespace

// Microseconds below 16 have a bucket each; above, the highest bit and the next four tell.
size_t RecentTimes::BucketOf(absl::Duration time) {
  auto micros = static_cast<uint64_t>(std::clamp<int64_t>(absl::ToInt64Microseconds(time), 0, int64_t{1} << 40));
  if (micros < kSteps) return micros;
  auto shift = static_cast<size_t>(std::bit_width(micros)) - kStepBits - 1;
  return std::min((shift + 1) * kSteps + (micros >> shift) - kSteps, kBuckets - 1);
}

absl::Duration RecentTimes::UpperBound(size_t bucket) {
  if (bucket < kSteps) return absl::Microseconds(static_cast<int64_t>(bucket) + 1);
  size_t shift = bucket / kSteps - 1;
  return absl::Microseconds(static_cast<int64_t>((bucket % kSteps + kSteps + 1) << shift));
}

void RecentTimes::Add(absl::Time now, absl::Duration time) {
  if (minutes_ == nullptr) minutes_ = std::make_unique<std::array<Minute, 2>>();
  int64_t number = MinuteOf(now);
  Minute& minute = (*minutes_)[static_cast<size_t>(number & 1)];
  if (minute.number != number) {
    minute = Minute();
    minute.number = number;
  }
  ++minute.count;
  ++minute.buckets[BucketOf(time)];
  minute.longest = std::max(minute.longest, time);
}

void RecentTimes::Describe(absl::Time now, v1::Percentiles& percentiles) const {
  if (minutes_ == nullptr) return;
  int64_t number = MinuteOf(now);
  uint64_t count = 0;
  absl::Duration longest;
  std::array<uint64_t, kBuckets> buckets = {};
  for (const Minute& minute : *minutes_) {
    if (minute.number < number - 1) continue;
    count += minute.count;
    longest = std::max(longest, minute.longest);
    for (size_t i = 0; i < kBuckets; ++i) buckets[i] += minute.buckets[i];
  }
  percentiles.set_count(count);
  if (count == 0) return;
  // Percentile by nearest rank, in hundredths.
  auto at = [&](uint64_t hundredths) {
    uint64_t rank = (count * hundredths + 99) / 100, seen = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      seen += buckets[i];
      if (seen >= rank) return std::min(UpperBound(i), longest);
    }
    return longest;
  };
  ToProto(at(50), percentiles.mutable_p50());
  ToProto(at(90), percentiles.mutable_p90());
  ToProto(at(99), percentiles.mutable_p99());
  ToProto(longest, percentiles.mutable_max());
}

}  // namespace dirty
