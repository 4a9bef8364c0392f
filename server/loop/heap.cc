#include "server/loop/heap.h"

#include <malloc.h>

namespace dirty {
namespace {

constexpr int kKept = 32 << 20;
// Blocks above this are mapped, and given back, one by one: the most that glibc allows.
constexpr int kMapped = 32 << 20;
constexpr absl::Duration kInterval = absl::Seconds(10);
// Less is not worth the walk through the heap.
constexpr size_t kWorthwhile = 16 << 20;

}  // namespace

void Heap::Keep() {
  mallopt(M_TRIM_THRESHOLD, kKept);
  mallopt(M_MMAP_THRESHOLD, kMapped);
}

void Heap::Wait() {
  timer_ = timers_.ScheduleIn(kInterval, [this] {
    if (mallinfo2().fordblks > kWorthwhile) malloc_trim(0);
    Wait();
  });
}

}  // namespace dirty
