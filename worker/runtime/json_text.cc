#include "worker/runtime/json_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace dirty::worker {
namespace {

// The kind of the value that starts with `first`; empty if none does.
absl::string_view KindOf(char first) {
  switch (first) {
    case '[':
      return "array";
    case '{':
      return "object";
    case '"':
      return "string";
    case 't':
    case 'f':
      return "boolean";
    case 'n':
      return "null";
    default:
      return first == '-' || (first >= '0' && first <= '9') ? "number" : "";
  }
}

// Whether `text` starts with a value that is whole as far as its first characters tell: `null`, not `nonsense`.
bool StartsWithValue(absl::string_view text) {
  switch (text[0]) {
    case 't':
      return text.substr(0, 4) == "true";
    case 'f':
      return text.substr(0, 5) == "false";
    case 'n':
      return text.substr(0, 4) == "null";
    default:
      return true;
  }
}

std::optional<std::string> CheckShape(absl::string_view field, absl::string_view text, absl::string_view expected,
                                      uint32_t max_depth) {
  if (text.empty()) return std::nullopt;
  size_t start = text.find_first_not_of(" \t\r\n");
  if (start == absl::string_view::npos) return NotJson(field, "only white space", text.size());
  absl::string_view kind = KindOf(text[start]);
  if (kind.empty() || !StartsWithValue(text.substr(start))) return NotJson(field, "invalid literal", start + 1);
  if (kind != expected) return absl::StrCat(field, " must be a JSON ", expected, ", got ", kind);
  if (uint32_t depth = JsonDepth(text); depth > max_depth) {
    return absl::StrCat(field, " is ", depth, " levels deep; at most ", max_depth, " are allowed (max_json_depth)");
  }
  return std::nullopt;
}

}  // namespace

uint32_t JsonDepth(absl::string_view text) {
  uint32_t depth = 0, deepest = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
      case '[':
      case '{':
        deepest = std::max(deepest, ++depth);
        break;
      case ']':
      case '}':
        if (depth > 0) --depth;
        break;
      case '"':
        for (++i; i < text.size() && text[i] != '"'; ++i) {
          if (text[i] == '\\') ++i;
        }
        break;
      default:
        break;
    }
  }
  return deepest;
}

uint32_t DepthLimit(uint32_t max_json_depth) {
  return max_json_depth == 0 ? kDeepestJson : std::min(max_json_depth, kDeepestJson);
}

std::optional<std::string> CheckShapes(const v1::ExecuteRequest& request, uint32_t max_depth) {
  max_depth = DepthLimit(max_depth);
  if (auto wrong = CheckShape("args", request.args(), "array", max_depth)) return wrong;
  return CheckShape("kwargs", request.kwargs(), "object", max_depth);
}

std::string NotJson(absl::string_view field, absl::string_view what, uint64_t byte) {
  return absl::StrCat(field, " is not JSON: ", what, " at byte ", byte);
}

std::string MissingAttachment(uint64_t number, absl::string_view owner, int attachments) {
  return absl::StrCat("references attachment ", number, "; the ", owner, " has ", attachments);
}

}  // namespace dirty::worker
