// Writes the stack of every thread of this process to standard error: what a call was doing that had to be killed.
//
// A thread is interrupted by a real-time signal and prints its own stack; one that does not answer (it blocks signals,
// or sits in the kernel) is named. Works while other threads hold any lock but the allocator's.
#pragma once

#include <chrono>

namespace dirty::worker {

// A dump takes at most so long.
inline constexpr std::chrono::milliseconds kStackDumpTime{2000};

// Takes the signal. Before the first dump; main thread.
void PrepareStackDumps();

// One thread at a time.
void DumpAllStacks();

}  // namespace dirty::worker
