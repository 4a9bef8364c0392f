// W3C trace context: the caller's `traceparent`, which goes with a call to its app and names the trace in the log.
// Pure.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace dirty {

// `text` as version 00 of the header; empty if it is none (then the call has no trace, as the standard says). Of a
// later version what version 00 knows is kept.
std::string Traceparent(absl::string_view text);

// The trace id in what Traceparent returned; empty if that is.
absl::string_view TraceId(absl::string_view traceparent);

}  // namespace dirty
