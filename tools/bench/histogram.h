#ifndef DIRTY_TOOLS_BENCH_HISTOGRAM_H_
#define DIRTY_TOOLS_BENCH_HISTOGRAM_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dirty::bench {

// Counts durations in buckets that grow with the value, as an HDR histogram does: every answer is at most 0.1 % above
// the true one, from a nanosecond to over an hour (longer ones count as the longest). Thread-compatible; one is 250
// KiB.
class Histogram {
 public:
  Histogram();

  void Add(std::chrono::nanoseconds value);

  // Adds what `other` counted.
  void Merge(const Histogram& other);

  uint64_t count() const { return count_; }
  std::chrono::nanoseconds min() const { return std::chrono::nanoseconds(count_ == 0 ? 0 : min_); }
  std::chrono::nanoseconds max() const { return std::chrono::nanoseconds(max_); }
  std::chrono::nanoseconds Mean() const;

  // The least value that `share` (0 to 1) of all are not above. 0 if nothing was counted.
  std::chrono::nanoseconds Percentile(double share) const;

 private:
  static std::size_t BucketOf(uint64_t value);
  static uint64_t HighestOf(std::size_t bucket);

  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  uint64_t min_ = 0;
  uint64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace dirty::bench

#endif  // DIRTY_TOOLS_BENCH_HISTOGRAM_H_
