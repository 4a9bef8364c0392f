// Spellings of single values, in files and flags, and the fields they go into. Pure functions.

#ifndef DIRTY_SERVER_CONFIG_VALUES_H_
#define DIRTY_SERVER_CONFIG_VALUES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "dirty/v1/config.pb.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace dirty {

// `text` as a message may hold it: valid UTF-8 in one line. Control characters, or of what is no UTF-8 all but ASCII,
// are escaped.
std::string Escaped(absl::string_view text);
// The same in double quotes, cut after 100 bytes.
std::string Quoted(absl::string_view text);

// Seconds ("30", "0.5") or with units ("100ms", "1h30m"); 0 to 100 years.
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);
std::string SpellDuration(absl::Duration duration);

// Bytes, or "64KiB", "64MiB", "1GiB", "1TiB".
absl::StatusOr<uint64_t> ParseSize(absl::string_view text);
std::string SpellSize(uint64_t bytes);

// Replaces ${VAR} and ${VAR:-default} (for a variable that is unset or empty); "$${" stands for "${".
absl::StatusOr<std::string> ExpandVariables(absl::string_view text,
                                            const std::map<std::string, std::string>& variables);

// `path` from `folder` on, normalised, without a slash at the end.
std::string AbsolutePath(absl::string_view path, absl::string_view folder);

// "module:Class", split at its last colon. `path` is what stands before it.
struct AppParts {
  std::string module;
  std::string class_name;
};
AppParts SplitApp(absl::string_view app);
bool IsLibrary(absl::string_view module);
// Whether `text` is names joined by dots, as Python writes modules and functions.
bool IsDottedName(absl::string_view text);

// Sets `app` from its shorthand, "module:Class[:N]".
absl::Status SetApp(absl::string_view text, absl::string_view folder, v1::App& app);

// Sets a scalar field, or adds to a list of scalars, from its spelling. Relative paths start at `folder`; an empty
// path leaves the field unset.
absl::Status SetScalar(google::protobuf::Message& message, const google::protobuf::FieldDescriptor& field,
                       absl::string_view text, absl::string_view folder);

// Sets or replaces an entry of a map of scalars.
absl::Status SetMapEntry(google::protobuf::Message& message, const google::protobuf::FieldDescriptor& field,
                         const std::string& key, absl::string_view text);

// The spelling of a scalar field's value, of the `index`th if it is a list. SetScalar reads it back.
std::string FormatScalar(const google::protobuf::Message& message, const google::protobuf::FieldDescriptor& field,
                         int index);

// "a duration such as 30s": what a field takes.
std::string Expected(const google::protobuf::FieldDescriptor& field);

}  // namespace dirty

#endif  // DIRTY_SERVER_CONFIG_VALUES_H_
