// The catalogue of what can go wrong with a call: one function per reason, so that every client reads the same words.
// Messages say what happened, where, and what to do. Pure.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "dirty/v1/call.pb.h"

namespace dirty::errors {

using ErrorPtr = std::unique_ptr<v1::Error>;

// Bytes of a caller's app and action that errors and logs keep.
inline constexpr size_t kMaxName = 256;

// `4.1 s`, `250 ms`: durations as our messages and logs spell them.
std::string Seconds(absl::Duration duration);

// The reason as counters and logs spell it: `queue_full`.
absl::string_view ReasonName(v1::Reason reason);

ErrorPtr InvalidRequest(absl::string_view what);
// `names`: every app there is; the nearest is suggested.
ErrorPtr AppNotFound(absl::string_view app, const std::vector<std::string>& names);
ErrorPtr NoWorkers(absl::string_view app, absl::string_view why);
ErrorPtr QueueFull(absl::string_view app, uint32_t queue_size, absl::Duration retry_delay);
// More calls in flight on one session than it may have.
ErrorPtr SessionFull(uint32_t max_calls);
// `why`: why nothing was free.
ErrorPtr QueueTimeout(absl::string_view app, absl::Duration waited, absl::string_view why);
// A worker that is not one of ours sent what it must not, as `what` says.
ErrorPtr ProtocolBroken(uint32_t worker_id, absl::string_view what);
ErrorPtr Timeout(absl::string_view app, absl::string_view action, absl::Duration ran);
ErrorPtr StreamIdle(absl::string_view app, absl::string_view action, absl::Duration idle);
ErrorPtr Cancelled(absl::string_view by);
// `how`: such as `was killed by SIGKILL`. The caller adds exit code, signal and stderr lines.
ErrorPtr WorkerLost(uint32_t worker_id, absl::string_view how);
ErrorPtr TooLarge(absl::string_view what, uint64_t bytes, uint64_t limit);
ErrorPtr ShuttingDown();
ErrorPtr PermissionDenied(absl::string_view rpc);

// The nearest of `names` to `name`, empty if none is near.
std::string Nearest(absl::string_view name, const std::vector<std::string>& names);

}  // namespace dirty::errors
