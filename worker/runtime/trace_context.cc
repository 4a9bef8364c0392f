#include "worker/runtime/trace_context.h"

namespace {

thread_local const char* current = "";

}  // namespace

const char* dirty_current_traceparent() { return current; }

namespace dirty::worker {

ScopedTraceparent::ScopedTraceparent(const char* traceparent) { current = traceparent; }

ScopedTraceparent::~ScopedTraceparent() { current = ""; }

}  // namespace dirty::worker
