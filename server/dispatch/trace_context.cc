#include "server/dispatch/trace_context.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace dirty {
namespace {

// version "-" trace-id "-" parent-id "-" trace-flags, all in lower-case hexadecimal.
constexpr size_t kTraceId = 3, kTraceIdSize = 32;
constexpr size_t kParentId = 36, kParentIdSize = 16;
constexpr size_t kFlags = 53;
constexpr size_t kSize = 55;

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// An id of zeros only is none.
bool IsId(absl::string_view text) { return IsHex(text) && text.find_first_not_of('0') != absl::string_view::npos; }

}  // namespace

std::string Traceparent(absl::string_view text) {
  if (text.size() < kSize || text[2] != '-' || text[kParentId - 1] != '-' || text[kFlags - 1] != '-') return {};
  const absl::string_view version = text.substr(0, 2);
  if (!IsHex(version) || version == "ff" || !IsHex(text.substr(kFlags, 2))) return {};
  if (!IsId(text.substr(kTraceId, kTraceIdSize)) || !IsId(text.substr(kParentId, kParentIdSize))) return {};
  if (text.size() > kSize && (version == "00" || text[kSize] != '-')) return {};
  return absl::StrCat("00", text.substr(2, kSize - 2));
}

absl::string_view TraceId(absl::string_view traceparent) {
  return traceparent.empty() ? absl::string_view() : traceparent.substr(kTraceId, kTraceIdSize);
}

}  // namespace dirty
