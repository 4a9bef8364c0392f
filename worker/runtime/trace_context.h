// The W3C trace of the call that this thread runs, for clients in the app: what it calls belongs to the same trace.
//
// The C++ client looks for dirty_current_traceparent by its name, wherever it is linked: into the app's library, or
// beside this runtime.
#pragma once

// Of the call that runs on this thread; empty if it has no trace, or there is none. Valid until the call ends.
extern "C" __attribute__((visibility("default"))) const char* dirty_current_traceparent();

namespace dirty::worker {

// While it lives, this thread runs a call of this trace. `traceparent` outlives it.
class ScopedTraceparent {
 public:
  explicit ScopedTraceparent(const char* traceparent);
  ~ScopedTraceparent();
  ScopedTraceparent(const ScopedTraceparent&) = delete;
  ScopedTraceparent& operator=(const ScopedTraceparent&) = delete;
};

}  // namespace dirty::worker
