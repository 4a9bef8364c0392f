#include "server/loop/heap.h"

#include <malloc.h>

namespace dirty {
namespace {

constexpr int kKept = 32 << 20;
// Blocks above this are mapped, and given back, one by one: the most that glibc allows.
constexpr int kMapped = 32 << 20;
constexpr absl::Duration kInterval = absl::Seconds(10);
// What must have become free since the last time: less is not worth the calls to the kernel.
constexpr size_t kWorthwhile = 16 << 20;

}  // namespace

void Heap::Keep() {
  mallopt(M_TRIM_THRESHOLD, kKept);
  mallopt(M_MMAP_THRESHOLD, kMapped);
}

void Heap::Wait() {
  timer_ = timers_.ScheduleIn(kInterval, [this] {
    // Counts what is free but was given back already, too.
    if (mallinfo2().fordblks > free_ + kWorthwhile) malloc_trim(0);
    free_ = mallinfo2().fordblks;
    Wait();
  });
}

}  // namespace dirty
