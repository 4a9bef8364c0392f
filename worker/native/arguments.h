// The JSON of a call as nlohmann::json, parsed once and checked. Thread-safe.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "dirty/app.h"
#include "dirty/v1/call.pb.h"

namespace dirty::worker {

struct Arguments {
  Json args = Json::array();
  Json kwargs = Json::object();
};

// The arguments of a request that passed CheckShapes. The error's message is for the caller: what is wrong, and where.
absl::StatusOr<Arguments> ParseArguments(const v1::ExecuteRequest& request);

// The number in {"$attachment": N}. The error's message says why `reference` is none of the `attachments` of `owner`
// ("call", "result", "chunk").
absl::StatusOr<int> AttachmentNumber(const Json& reference, absl::string_view owner, int attachments);

// The text of `value`, which an app made and which has `attachments` beside it. The error says what JSON cannot hold:
// too deep, bytes that are not UTF-8, a reference to an attachment that is not there. NaN and infinities become null.
// `what`: "result" or "chunk".
absl::StatusOr<std::string> WriteJson(absl::string_view what, const Json& value, int attachments, uint32_t max_depth);

}  // namespace dirty::worker
