// What this process asks of the kernel for itself: its signals as events of the loop, its dead children, its
// descriptors.
#pragma once

#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <functional>

#include "server/loop/poster.h"
#include "server/loop/watcher.h"

namespace dirty {

// Blocks TERM, INT, QUIT, HUP, USR1, TTIN, TTOU and CHLD, and ignores PIPE. In main, before any thread starts: threads
// inherit it, so that the signals wait for ProcessSignals.
void BlockSignals();

// Posts each of those signals to the loop. Owned by main; made after BlockSignals; outlives the watcher's thread.
class ProcessSignals {
 public:
  // `on_signal` runs on the loop. Several CHLD may come as one.
  ProcessSignals(Watcher& watcher, Poster& poster, std::function<void(int signal)> on_signal);
};

// Reaps dead children that nobody here started: as PID 1, or after an exec by a shell that left children behind. Stops
// at the first that `is_ours` says yes to, for its owner reaps that one: call it again then, and at every CHLD. On the
// loop. Returns how many were reaped.
int ReapStrangers(const std::function<bool(pid_t)>& is_ours);

// Raises the soft limit of descriptors as far as it goes (at most 1,048,576). Returns what it was, for workers.
rlim_t RaiseDescriptorLimit();

}  // namespace dirty
