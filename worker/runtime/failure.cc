#include "worker/runtime/failure.h"

#include <cstdint>

#include "absl/strings/str_cat.h"

namespace dirty::worker {
namespace {

v1::Error MakeError(v1::Reason reason, absl::string_view message) {
  v1::Error error;
  error.set_reason(reason);
  error.set_message(ValidUtf8(message));
  return error;
}

// How many bytes the character at the start of `text` has; 0 if it is not one.
size_t CharacterLength(absl::string_view text) {
  auto byte = [&](size_t i) -> uint32_t { return static_cast<unsigned char>(text[i]); };
  uint32_t first = byte(0);
  if (first < 0x80) return 1;
  size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  uint32_t code = first & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3F);
  }
  bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return overlong || surrogate || code > 0x10FFFF ? 0 : length;
}

}  // namespace

std::string ValidUtf8(absl::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    size_t length = CharacterLength(text);
    absl::StrAppend(&valid, length == 0 ? "\uFFFD" : text.substr(0, length));
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return valid;
}

v1::Error AppError(absl::string_view type, absl::string_view message, absl::string_view traceback) {
  v1::Error error = MakeError(v1::REASON_APP_ERROR, message);
  error.set_exception_type(ValidUtf8(type));
  error.set_traceback(ValidUtf8(traceback));
  return error;
}

v1::Error InvalidRequestError(absl::string_view message) { return MakeError(v1::REASON_INVALID_REQUEST, message); }

v1::Error CancelledError(v1::CancelReason reason) {
  absl::string_view why = "the call was cancelled";
  switch (reason) {
    case v1::CANCEL_REASON_CLIENT:
      why = "the client cancelled the call or went away";
      break;
    case v1::CANCEL_REASON_OPERATOR:
      why = "an operator cancelled the call";
      break;
    case v1::CANCEL_REASON_TIMEOUT:
      why = "the call ran too long and was cancelled";
      break;
    case v1::CANCEL_REASON_SHUTDOWN:
      why = "the call was cancelled by a shutdown";
      break;
    default:
      break;
  }
  return MakeError(v1::REASON_CANCELLED, why);
}

v1::Error TooLargeError(absl::string_view what, size_t size, size_t limit) {
  return MakeError(v1::REASON_TOO_LARGE, absl::StrCat("the ", what, " has ", size, " bytes; max_message_size is ",
                                                      limit, ": return less, or a stream of parts"));
}

}  // namespace dirty::worker
