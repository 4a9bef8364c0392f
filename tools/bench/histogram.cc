#include "tools/bench/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace dirty::bench {
namespace {

// Values below 2^kExactBits have a bucket each; above, each doubling of the value has 2^kStepBits of them.
constexpr unsigned kStepBits = 10;
constexpr unsigned kExactBits = kStepBits + 1;
constexpr unsigned kValueBits = 42;  // 2^42 ns are 73 minutes
constexpr std::size_t kBuckets =
    (std::size_t{1} << kExactBits) + (kValueBits - kExactBits) * (std::size_t{1} << kStepBits);

}  // namespace

Histogram::Histogram() : buckets_(kBuckets) {}

std::size_t Histogram::BucketOf(uint64_t value) {
  const unsigned width = static_cast<unsigned>(std::bit_width(value));
  if (width <= kExactBits) return value;
  const unsigned shift = width - kExactBits;
  return (std::size_t{shift} << kStepBits) + (value >> shift);
}

uint64_t Histogram::HighestOf(std::size_t bucket) {
  if (bucket < (std::size_t{1} << kExactBits)) return bucket;
  const std::size_t shift = (bucket >> kStepBits) - 1;
  const uint64_t step = bucket - (shift << kStepBits);
  return ((step + 1) << shift) - 1;
}

void Histogram::Add(std::chrono::nanoseconds value) {
  const uint64_t longest = (uint64_t{1} << kValueBits) - 1;
  const uint64_t counted = std::min(static_cast<uint64_t>(std::max<int64_t>(value.count(), 0)), longest);
  ++buckets_[BucketOf(counted)];
  min_ = count_ == 0 ? counted : std::min(min_, counted);
  max_ = std::max(max_, counted);
  sum_ += static_cast<double>(counted);
  ++count_;
}

void Histogram::Merge(const Histogram& other) {
  if (other.count_ == 0) return;
  for (std::size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  min_ = count_ == 0 ? other.min_ : std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
  count_ += other.count_;
}

std::chrono::nanoseconds Histogram::Mean() const {
  return std::chrono::nanoseconds(count_ == 0 ? 0 : std::llround(sum_ / static_cast<double>(count_)));
}

std::chrono::nanoseconds Histogram::Percentile(double share) const {
  const auto wanted = static_cast<uint64_t>(std::ceil(share * static_cast<double>(count_)));
  uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets && count_ != 0; ++i) {
    seen += buckets_[i];
    if (seen != 0 && seen >= wanted) return std::chrono::nanoseconds(std::clamp(HighestOf(i), min_, max_));
  }
  return max();
}

}  // namespace dirty::bench
