// The checks that every runtime makes on the JSON of a call, and the words that it uses for what is wrong. They look at
// the text only and never recurse, so that a hostile document cannot overflow a stack. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "dirty/v1/call.pb.h"

namespace dirty::worker {

// No runtime goes deeper, whatever is configured: about what Python's and a C++ thread's stack can take.
inline constexpr uint32_t kDeepestJson = 1000;

// The limit that `max_json_depth` of the configuration (0: none) comes to.
uint32_t DepthLimit(uint32_t max_json_depth);

// How many levels of arrays and objects `text` has. Meaningful for JSON; harmless for anything else.
uint32_t JsonDepth(absl::string_view text);

// What is wrong with `args` and `kwargs` as far as shape (array, object) and depth go, as a message; nothing if they
// are fine or if only a parser can tell. `max_depth` as configured.
std::optional<std::string> CheckShapes(const v1::ExecuteRequest& request, uint32_t max_depth);

// "args is not JSON: unexpected end of input at byte 17".
std::string NotJson(absl::string_view field, absl::string_view what, uint64_t byte);

// "references attachment 3; the call has 1": what follows the path of a reference. `owner`: "call", "result" or
// "chunk".
std::string MissingAttachment(uint64_t number, absl::string_view owner, int attachments);

}  // namespace dirty::worker
