#include "server/config/values.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "google/protobuf/duration.pb.h"
#include "server/config/keys.h"
#include "server/observe/utf8.h"

namespace dirty {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Longer ones overflow clocks that count nanoseconds in 64 bits, and are mistakes.
constexpr absl::Duration kLongest = absl::Hours(24 * 365 * 100);

// Texts of Protocol Buffers are: one that is not would cost the whole message, at whoever reads it.
constexpr absl::string_view kNotUtf8 = "is not UTF-8";

struct Unit {
  const char* name;
  uint64_t bytes;
};
constexpr Unit kUnits[] = {{"TiB", 1ull << 40}, {"GiB", 1ull << 30}, {"MiB", 1ull << 20}, {"KiB", 1ull << 10}};

absl::Status Wrong(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " ", why));
}

bool AllDigits(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isdigit(c); });
}

bool IsNegativeNumber(absl::string_view text) {
  return text.size() > 1 && text[0] == '-' && (absl::ascii_isdigit(text[1]) || text[1] == '.');
}

// A whole number from `min` to `max`.
absl::StatusOr<int64_t> ParseNumber(absl::string_view text, int64_t min, int64_t max) {
  bool negative = absl::StartsWith(text, "-");
  if (!AllDigits(negative ? text.substr(1) : text)) return Wrong(text, "is not a whole number");
  int64_t value;
  if (!absl::SimpleAtoi(text, &value)) value = negative ? std::numeric_limits<int64_t>::min() : max;
  if (negative && min == 0 && value < 0) return Wrong(text, "is negative");
  if (value < min) return Wrong(text, absl::StrCat("is too small; at least ", min));
  int64_t check;
  if (value > max || !absl::SimpleAtoi(text, &check)) return Wrong(text, absl::StrCat("is too large; at most ", max));
  return value;
}

// "native" for RUNTIME_NATIVE.
std::string Spelling(const EnumDescriptor& type, int index) {
  std::string prefix = absl::AsciiStrToUpper(absl::StrCat(type.name(), "_"));
  return absl::AsciiStrToLower(absl::StripPrefix(type.value(index)->name(), prefix));
}

std::vector<std::string> Spellings(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->number() != 0) names.push_back(Spelling(type, i));
  }
  return names;
}

enum class PathRule {
  kNone,
  kPath,     // always a path
  kLog,      // a path, but for "-"
  kProgram,  // a path if it has a slash, else a name on PATH
  kAddress,  // "unix:PATH"
  kApp,      // a library's path if it has a slash
};

struct PathField {
  absl::string_view name;
  PathRule rule;
};
constexpr PathField kPathFields[] = {
    {"dirty.v1.Config.runtime_dir", PathRule::kPath},
    {"dirty.v1.Config.socket", PathRule::kPath},
    {"dirty.v1.Config.admin_socket", PathRule::kPath},
    {"dirty.v1.Config.log_file", PathRule::kLog},
    {"dirty.v1.Config.metrics", PathRule::kAddress},
    {"dirty.v1.NetworkListener.certificate", PathRule::kPath},
    {"dirty.v1.NetworkListener.key", PathRule::kPath},
    {"dirty.v1.NetworkListener.client_ca", PathRule::kPath},
    {"dirty.v1.NetworkListener.token_file", PathRule::kPath},
    {"dirty.v1.WorkerSettings.pythonpath", PathRule::kPath},
    {"dirty.v1.WorkerSettings.library_path", PathRule::kPath},
    {"dirty.v1.WorkerSettings.chdir", PathRule::kPath},
    {"dirty.v1.WorkerSettings.python", PathRule::kProgram},
    {"dirty.v1.Pool.command", PathRule::kProgram},
    {"dirty.v1.Hook.exec", PathRule::kProgram},
    {"dirty.v1.App.app", PathRule::kApp},
};

PathRule RuleOf(const FieldDescriptor& field) {
  for (const PathField& entry : kPathFields) {
    if (field.full_name() == entry.name) return entry.rule;
  }
  return PathRule::kNone;
}

std::string ResolvePath(PathRule rule, absl::string_view text, absl::string_view folder) {
  constexpr absl::string_view kUnix = "unix:";
  switch (rule) {
    case PathRule::kNone:
      break;
    case PathRule::kPath:
      return AbsolutePath(text, folder);
    case PathRule::kLog:
      return text == "-" ? std::string(text) : AbsolutePath(text, folder);
    case PathRule::kProgram:
      return absl::StrContains(text, "/") ? AbsolutePath(text, folder) : std::string(text);
    case PathRule::kAddress:
      if (!absl::StartsWith(text, kUnix) || text == kUnix) break;
      return absl::StrCat(kUnix, AbsolutePath(text.substr(kUnix.size()), folder));
    case PathRule::kApp: {
      AppParts parts = SplitApp(text);
      if (!IsLibrary(parts.module) || !absl::StrContains(parts.module, "/")) break;
      return absl::StrCat(AbsolutePath(parts.module, folder), ":", parts.class_name);
    }
  }
  return std::string(text);
}

absl::Status SetString(Message& message, const FieldDescriptor& field, absl::string_view text,
                       absl::string_view folder) {
  if (!IsUtf8(text)) return Wrong(text, kNotUtf8);
  if (absl::StrContains(text, absl::string_view("\0", 1))) return Wrong(text, "holds a zero byte");
  const Reflection& reflection = *message.GetReflection();
  PathRule rule = RuleOf(field);
  if (!field.is_repeated()) {
    if (rule != PathRule::kNone && rule != PathRule::kApp && text.empty()) {
      reflection.ClearField(&message, &field);
    } else {
      std::string resolved = ResolvePath(rule, text, folder);
      if (!IsUtf8(resolved)) return Wrong(resolved, kNotUtf8);  // the folder is not
      reflection.SetString(&message, &field, std::move(resolved));
    }
    return absl::OkStatus();
  }
  if (rule == PathRule::kPath && text.empty()) return absl::InvalidArgumentError("an empty path");
  // Of a command only the program: its arguments are its own business.
  bool program = rule == PathRule::kProgram;
  if (program && reflection.FieldSize(message, &field) > 0) rule = PathRule::kNone;
  std::string resolved = ResolvePath(rule, text, folder);
  if (!IsUtf8(resolved)) return Wrong(resolved, kNotUtf8);
  reflection.AddString(&message, &field, std::move(resolved));
  return absl::OkStatus();
}

}  // namespace

std::string Escaped(absl::string_view text) { return IsUtf8(text) ? absl::Utf8SafeCEscape(text) : absl::CEscape(text); }

std::string Quoted(absl::string_view text) {
  constexpr size_t kLongestQuote = 100;
  if (text.size() > kLongestQuote) {
    size_t end = kLongestQuote;
    while (end > 0 && (text[end] & 0xC0) == 0x80) --end;  // not inside a character
    return absl::StrCat("\"", Escaped(text.substr(0, end)), "...\"");
  }
  return absl::StrCat("\"", Escaped(text), "\"");
}

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text) {
  if (IsNegativeNumber(text)) return Wrong(text, "is negative");
  absl::Duration duration;
  bool plain = !text.empty() && (absl::ascii_isdigit(text.back()) || text.back() == '.');
  std::string with_unit = absl::StrCat(text, plain ? "s" : "");
  if (text.empty() || !(absl::ascii_isdigit(text[0]) || text[0] == '.') || !absl::ParseDuration(with_unit, &duration)) {
    return Wrong(text, "is not a duration; use 30, 30s, 5m, 100ms");
  }
  if (duration > kLongest) return Wrong(text, "is longer than 100 years; 0 means no limit");
  return duration;
}

std::string SpellDuration(absl::Duration duration) {
  if (duration % absl::Seconds(1) == absl::ZeroDuration()) return absl::StrCat(absl::ToInt64Seconds(duration), "s");
  if (duration % absl::Milliseconds(1) == absl::ZeroDuration()) {
    return absl::StrCat(absl::ToInt64Milliseconds(duration), "ms");
  }
  return absl::StrCat(absl::ToInt64Nanoseconds(duration), "ns");
}

absl::StatusOr<uint64_t> ParseSize(absl::string_view text) {
  if (IsNegativeNumber(text)) return Wrong(text, "is negative");
  absl::string_view number = text;
  uint64_t unit = 1;
  for (const Unit& candidate : kUnits) {
    if (absl::ConsumeSuffix(&number, candidate.name)) {
      unit = candidate.bytes;
      break;
    }
  }
  if (!AllDigits(number)) return Wrong(text, "is not a size; use 1048576, 64KiB, 64MiB, 1GiB");
  uint64_t value;
  if (!absl::SimpleAtoi(number, &value) || value > std::numeric_limits<uint64_t>::max() / unit) {
    return Wrong(text, "is too large");
  }
  return value * unit;
}

std::string SpellSize(uint64_t bytes) {
  for (const Unit& unit : kUnits) {
    if (bytes != 0 && bytes % unit.bytes == 0) return absl::StrCat(bytes / unit.bytes, unit.name);
  }
  return absl::StrCat(bytes);
}

absl::StatusOr<std::string> ExpandVariables(absl::string_view text,
                                            const std::map<std::string, std::string>& variables) {
  std::string out;
  while (!text.empty()) {
    if (absl::ConsumePrefix(&text, "$${")) {
      out += "${";
      continue;
    }
    if (!absl::StartsWith(text, "${")) {
      out += text[0];
      text.remove_prefix(1);
      continue;
    }
    size_t end = text.find('}');
    if (end == absl::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " lacks its }; write $${ for a literal ${"));
    }
    absl::string_view inside = text.substr(2, end - 2);
    size_t dash = inside.find(":-");
    std::string name(inside.substr(0, dash));
    bool valid = !name.empty() && !absl::ascii_isdigit(name[0]) &&
                 std::all_of(name.begin(), name.end(), [](char c) { return absl::ascii_isalnum(c) || c == '_'; });
    if (!valid) {
      return Wrong(text.substr(0, end + 1), "names no variable; use ${VAR} or ${VAR:-default}, $${ for a literal ${");
    }
    auto it = variables.find(name);
    if (dash != absl::string_view::npos) {
      bool given = it != variables.end() && !it->second.empty();
      out += given ? it->second : std::string(inside.substr(dash + 2));
    } else if (it != variables.end()) {
      out += it->second;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("the environment variable ", name, " is not set; set it, or write ${", name, ":-default}"));
    }
    text.remove_prefix(end + 1);
  }
  return out;
}

std::string AbsolutePath(absl::string_view path, absl::string_view folder) {
  std::filesystem::path joined(std::string(folder).c_str());
  joined /= std::string(path).c_str();
  std::string normal = joined.lexically_normal().string();
  while (normal.size() > 1 && normal.back() == '/') normal.pop_back();
  return normal;
}

AppParts SplitApp(absl::string_view app) {
  size_t colon = app.rfind(':');
  if (colon == absl::string_view::npos) return {std::string(app), ""};
  return {std::string(app.substr(0, colon)), std::string(app.substr(colon + 1))};
}

bool IsLibrary(absl::string_view module) {
  // libx.so, libx.so.1, libx.so.1.2
  while (!module.empty() && AllDigits(module.substr(module.rfind('.') + 1))) {
    size_t dot = module.rfind('.');
    if (dot == absl::string_view::npos) return false;
    module = module.substr(0, dot);
  }
  return absl::EndsWith(module, ".so");
}

bool IsDottedName(absl::string_view text) {
  for (absl::string_view part : absl::StrSplit(text, '.')) {
    if (part.empty() || absl::ascii_isdigit(part[0])) return false;
    // Names may hold letters of any script: every byte of UTF-8 beyond ASCII passes.
    for (unsigned char c : part) {
      if (!absl::ascii_isalnum(c) && c != '_' && c < 0x80) return false;
    }
  }
  return true;
}

absl::Status SetApp(absl::string_view text, absl::string_view folder, v1::App& app) {
  size_t colon = text.rfind(':');
  absl::string_view spec = text;
  if (colon != absl::string_view::npos && AllDigits(text.substr(colon + 1))) {
    auto workers = ParseNumber(text.substr(colon + 1), 0, std::numeric_limits<uint32_t>::max());
    if (!workers.ok()) return workers.status();
    app.set_workers(static_cast<uint32_t>(*workers));
    spec = text.substr(0, colon);
  }
  return SetScalar(app, *v1::App::descriptor()->FindFieldByName("app"), spec, folder);
}

absl::Status SetScalar(Message& message, const FieldDescriptor& field, absl::string_view text,
                       absl::string_view folder) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return SetString(message, field, text, folder);
    case FieldDescriptor::CPPTYPE_UINT32: {
      auto value = ParseNumber(text, 0, std::numeric_limits<uint32_t>::max());
      if (!value.ok()) return value.status();
      if (field.is_repeated()) {
        reflection.AddUInt32(&message, &field, static_cast<uint32_t>(*value));
      } else {
        reflection.SetUInt32(&message, &field, static_cast<uint32_t>(*value));
      }
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") return Wrong(text, "is neither true nor false");
      reflection.SetBool(&message, &field, text == "true");
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_INT32: {
      auto value = ParseNumber(text, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max());
      if (!value.ok()) return value.status();
      reflection.SetInt32(&message, &field, static_cast<int32_t>(*value));
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      // A size is welcome where a number of bytes is.
      int64_t value;
      if (auto size = ParseSize(text); size.ok() && *size <= uint64_t{std::numeric_limits<int64_t>::max()}) {
        value = static_cast<int64_t>(*size);
      } else {
        auto number = ParseNumber(text, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
        if (!number.ok()) return number.status();
        value = *number;
      }
      reflection.SetInt64(&message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      auto value = ParseSize(text);
      if (!value.ok()) return value.status();
      reflection.SetUInt64(&message, &field, *value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const EnumDescriptor& type = *field.enum_type();
      for (int i = 0; i < type.value_count(); ++i) {
        if (type.value(i)->number() != 0 && Spelling(type, i) == text) {
          reflection.SetEnum(&message, &field, type.value(i));
          return absl::OkStatus();
        }
      }
      return Wrong(text, absl::StrCat("is not ", Expected(field), DidYouMean(text, Spellings(type))));
    }
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      if (!IsDuration(field)) break;
      auto value = ParseDuration(text);
      if (!value.ok()) return value.status();
      auto& duration = static_cast<google::protobuf::Duration&>(*reflection.MutableMessage(&message, &field));
      absl::Duration rest;
      duration.set_seconds(absl::IDivDuration(*value, absl::Seconds(1), &rest));
      duration.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
      return absl::OkStatus();
    }
    default:
      break;
  }
  return absl::InternalError(absl::StrCat("no spelling for fields like ", field.full_name()));
}

absl::Status SetMapEntry(Message& message, const FieldDescriptor& field, const std::string& key,
                         absl::string_view text) {
  if (!IsUtf8(key)) return Wrong(key, kNotUtf8);
  const Reflection& reflection = *message.GetReflection();
  const FieldDescriptor& key_field = *field.message_type()->map_key();
  Message* entry = nullptr;
  for (int i = 0; i < reflection.FieldSize(message, &field) && !entry; ++i) {
    Message* candidate = reflection.MutableRepeatedMessage(&message, &field, i);
    if (candidate->GetReflection()->GetString(*candidate, &key_field) == key) entry = candidate;
  }
  if (!entry) entry = reflection.AddMessage(&message, &field);
  entry->GetReflection()->SetString(entry, &key_field, key);
  return SetScalar(*entry, *field.message_type()->map_value(), text, "");
}

std::string FormatScalar(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& reflection = *message.GetReflection();
  bool list = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return list ? reflection.GetRepeatedString(message, &field, index) : reflection.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrCat(list ? reflection.GetRepeatedUInt32(message, &field, index)
                               : reflection.GetUInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(reflection.GetInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_UINT64:
      return SpellSize(reflection.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_ENUM:
      return Spelling(*field.enum_type(), reflection.GetEnum(message, &field)->index());
    default: {
      const auto& duration = static_cast<const google::protobuf::Duration&>(reflection.GetMessage(message, &field));
      return SpellDuration(absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos()));
    }
  }
}

std::string Expected(const FieldDescriptor& field) {
  if (field.is_map()) return "a mapping of names to values";
  if (field.full_name() == "dirty.v1.App.app") return "an app such as module:Class";
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return "a text";
    case FieldDescriptor::CPPTYPE_UINT64:
      return "a size such as 64MiB";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return absl::StrCat("one of ", absl::StrJoin(Spellings(*field.enum_type()), ", "));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return IsDuration(field) ? "a duration such as 30s" : "a mapping of keys";
    default:
      return "a number";
  }
}

}  // namespace dirty
