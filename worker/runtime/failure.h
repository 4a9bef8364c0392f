// The errors that a worker reports, one function a reason. Each gives the reason and a message that is valid UTF-8; the
// runtime adds app, action, call and worker. Thread-safe.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "dirty/v1/call.pb.h"
#include "dirty/v1/worker.pb.h"

namespace dirty::worker {

// The app raised: `type` as its language names it.
v1::Error AppError(absl::string_view type, absl::string_view message, absl::string_view traceback = "");

// The caller's arguments are wrong: `message` says what and where.
v1::Error InvalidRequestError(absl::string_view message);

// The call stopped because it was asked to.
v1::Error CancelledError(v1::CancelReason reason);

// A result or chunk (`what`) of `size` bytes is above `limit`.
v1::Error TooLargeError(absl::string_view what, size_t size, size_t limit);

// `text` with every byte that is not part of a UTF-8 character replaced by U+FFFD: what a proto string may hold.
std::string ValidUtf8(absl::string_view text);

}  // namespace dirty::worker
