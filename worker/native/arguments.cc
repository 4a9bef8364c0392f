#include "worker/native/arguments.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/runtime/json_text.h"

namespace dirty::worker {
namespace {

constexpr char kAttachment[] = "$attachment";

// nlohmann::json's own words, without its numbers and without the user's data: "unexpected end of input".
std::string SyntaxError(const Json::parse_error& error) {
  absl::string_view what = error.what();
  size_t start = what.find(" - ");
  if (start == absl::string_view::npos) return "syntax error";
  what.remove_prefix(start + 3);
  return std::string(what.substr(0, what.find(';')));
}

absl::StatusOr<Json> Parse(absl::string_view field, const std::string& text) {
  // The parser takes it for the end, whatever follows.
  if (size_t zero = text.find('\0'); zero != std::string::npos) {
    return absl::InvalidArgumentError(NotJson(field, "a zero byte", zero + 1));
  }
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    return absl::InvalidArgumentError(NotJson(field, SyntaxError(error), error.byte));
  } catch (const Json::exception&) {
    return absl::InvalidArgumentError(absl::StrCat(field, " has a number that is too large for a double"));
  }
}

bool IsReference(const Json& value) { return value.is_object() && value.size() == 1 && value.contains(kAttachment); }

// A walk without recursion over a document: a stack of places leads to the current one.
struct Place {
  Json::const_iterator next, end;
  bool object;
  size_t index = 0;  // of `next`, in an array

  explicit Place(const Json& container)
      : next(container.cbegin()), end(container.cend()), object(container.is_object()) {}
  void Advance() { ++next, ++index; }
};

std::string PathOf(absl::string_view root, const std::vector<Place>& places) {
  std::string path(root);
  for (const Place& place : places) {
    if (place.object) {
      absl::StrAppend(&path, ".", place.next.key());
    } else {
      absl::StrAppend(&path, "[", place.index, "]");
    }
  }
  return path;
}

struct Rules {
  absl::string_view owner;  // "call", "result", "chunk"
  int attachments;
  uint32_t max_depth;
};

// What is wrong with `document`, as a message that starts with its path; nothing if it is fine.
std::optional<std::string> FindFault(absl::string_view root, const Json& document, const Rules& rules) {
  std::vector<Place> places;
  auto fault_of = [&](const Json& value) -> std::optional<std::string> {
    if (value.is_binary()) return PathOf(root, places) + " is binary: use Context::Attach";
    if (!IsReference(value)) return std::nullopt;
    absl::StatusOr<int> number = AttachmentNumber(value, rules.owner, rules.attachments);
    if (number.ok()) return std::nullopt;
    return absl::StrCat(PathOf(root, places), " ", number.status().message());
  };
  if (auto fault = fault_of(document)) return fault;
  if (document.is_structured()) places.emplace_back(document);
  while (!places.empty()) {
    if (places.size() > rules.max_depth) {
      return absl::StrCat(root, " is more than ", rules.max_depth, " levels deep (max_json_depth)");
    }
    Place& place = places.back();
    if (place.next == place.end) {
      places.pop_back();
      if (!places.empty()) places.back().Advance();
      continue;
    }
    const Json& value = *place.next;
    if (auto fault = fault_of(value)) return fault;
    if (value.is_structured()) {
      places.emplace_back(value);
    } else {
      place.Advance();
    }
  }
  return std::nullopt;
}

// Whether a text may have references at all: most have none, and are not walked. `\u` can spell the name, too.
bool MayHaveReferences(absl::string_view text) {
  return text.find(kAttachment) != absl::string_view::npos || text.find("\\u") != absl::string_view::npos;
}

absl::Status ParseField(absl::string_view field, const std::string& text, int attachments, Json& value) {
  if (text.empty()) return absl::OkStatus();
  absl::StatusOr<Json> parsed = Parse(field, text);
  if (!parsed.ok()) return parsed.status();
  value = *std::move(parsed);
  if (!MayHaveReferences(text)) return absl::OkStatus();
  auto fault = FindFault(field, value, {"call", attachments, kDeepestJson});
  return fault ? absl::InvalidArgumentError(*fault) : absl::OkStatus();
}

}  // namespace

absl::StatusOr<Arguments> ParseArguments(const v1::ExecuteRequest& request) {
  Arguments arguments;
  absl::Status status = ParseField("args", request.args(), request.attachments_size(), arguments.args);
  if (status.ok()) status = ParseField("kwargs", request.kwargs(), request.attachments_size(), arguments.kwargs);
  if (!status.ok()) return status;
  return arguments;
}

absl::StatusOr<int> AttachmentNumber(const Json& reference, absl::string_view owner, int attachments) {
  if (!IsReference(reference)) {
    return absl::InvalidArgumentError(absl::StrCat("must be {\"$attachment\": N}, got ", reference.type_name()));
  }
  const Json& number = *reference.cbegin();
  if (!number.is_number_integer() || (!number.is_number_unsigned() && number.get<int64_t>() < 0)) {
    return absl::InvalidArgumentError("has an $attachment that is not a number from 0");
  }
  auto value = number.get<uint64_t>();
  if (value >= static_cast<uint64_t>(attachments)) {
    return absl::InvalidArgumentError(MissingAttachment(value, owner, attachments));
  }
  return static_cast<int>(value);
}

absl::StatusOr<std::string> WriteJson(absl::string_view what, const Json& value, int attachments, uint32_t max_depth) {
  if (auto fault = FindFault(what, value, {what, attachments, max_depth})) return absl::InvalidArgumentError(*fault);
  try {
    return value.dump();
  } catch (const Json::exception&) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " has a string that is not UTF-8: use Context::Attach for bytes"));
  }
}

}  // namespace dirty::worker
