#include "server/loop/timers.h"

#include <time.h>

#include <algorithm>

#include "absl/time/clock.h"

namespace dirty {
namespace {

constexpr uint32_t kArity = 4;

absl::Time Steady() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::TimeFromTimespec(now);
}

}  // namespace

SteadyClock::SteadyClock() : offset_(absl::Now() - Steady()) {}

absl::Time SteadyClock::Now() const { return Steady() + offset_; }

TimerQueue::TimerId TimerQueue::Schedule(absl::Time when, std::function<void()> fire) {
  if (when == absl::InfiniteFuture()) return 0;
  uint32_t index;
  if (free_.empty()) {
    index = static_cast<uint32_t>(nodes_.size());
    nodes_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  Node& node = nodes_[index];
  node.when = when;
  node.sequence = next_sequence_++;
  ++node.reuse;
  node.fire = std::move(fire);
  heap_.push_back(index);
  Place(static_cast<uint32_t>(heap_.size() - 1), index);
  Up(node.place);
  return (static_cast<uint64_t>(node.reuse) << 32) | index;
}

void TimerQueue::Cancel(TimerId& id) {
  if (id == 0) return;
  uint32_t index = static_cast<uint32_t>(id);
  uint32_t reuse = static_cast<uint32_t>(id >> 32);
  id = 0;
  if (nodes_[index].reuse != reuse || nodes_[index].fire == nullptr) return;
  Remove(nodes_[index].place);
}

absl::Time TimerQueue::NextDeadline() const { return heap_.empty() ? absl::InfiniteFuture() : nodes_[heap_[0]].when; }

void TimerQueue::RunDue() {
  while (!heap_.empty() && nodes_[heap_[0]].when <= Now()) {
    std::function<void()> fire = Remove(0);
    fire();
  }
}

bool TimerQueue::Before(uint32_t a, uint32_t b) const {
  const Node& x = nodes_[a];
  const Node& y = nodes_[b];
  return x.when != y.when ? x.when < y.when : x.sequence < y.sequence;
}

void TimerQueue::Place(uint32_t place, uint32_t node) {
  heap_[place] = node;
  nodes_[node].place = place;
}

void TimerQueue::Up(uint32_t place) {
  uint32_t node = heap_[place];
  while (place > 0) {
    uint32_t parent = (place - 1) / kArity;
    if (!Before(node, heap_[parent])) break;
    Place(place, heap_[parent]);
    place = parent;
  }
  Place(place, node);
}

void TimerQueue::Down(uint32_t place) {
  uint32_t node = heap_[place];
  for (;;) {
    uint32_t first = place * kArity + 1;
    if (first >= heap_.size()) break;
    uint32_t best = first;
    uint32_t end = std::min<uint32_t>(first + kArity, static_cast<uint32_t>(heap_.size()));
    for (uint32_t child = first + 1; child < end; ++child) {
      if (Before(heap_[child], heap_[best])) best = child;
    }
    if (!Before(heap_[best], node)) break;
    Place(place, heap_[best]);
    place = best;
  }
  Place(place, node);
}

std::function<void()> TimerQueue::Remove(uint32_t place) {
  uint32_t index = heap_[place];
  std::function<void()> fire = std::move(nodes_[index].fire);
  nodes_[index].fire = nullptr;
  free_.push_back(index);
  uint32_t last = heap_.back();
  heap_.pop_back();
  if (place < heap_.size()) {
    Place(place, last);
    Up(place);
    Down(nodes_[last].place);
  }
  return fire;
}

}  // namespace dirty
