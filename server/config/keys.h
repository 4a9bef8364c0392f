// The keys of the configuration: which fields a mapping has, which of them are flags, what they mean. All of it comes
// from the descriptor of dirty.v1.Config; only the help texts and defaults are a table, which a test holds complete.
// Immutable, thread-safe.

#ifndef DIRTY_SERVER_CONFIG_KEYS_H_
#define DIRTY_SERVER_CONFIG_KEYS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace dirty {

// A key of a mapping: a field of its message, or of a message in it whose fields are written flat.
struct Key {
  const google::protobuf::FieldDescriptor* inlined = nullptr;  // `limits` or `worker`; null: the message's own
  const google::protobuf::FieldDescriptor* field = nullptr;    // null: no such key

  const std::string& name() const { return field->name(); }
  google::protobuf::Message& OwnerIn(google::protobuf::Message& message) const;
  const google::protobuf::Message& OwnerIn(const google::protobuf::Message& message) const;
};

std::vector<Key> KeysOf(const google::protobuf::Descriptor& message);
Key FindKey(const google::protobuf::Descriptor& message, absl::string_view name);

bool IsDuration(const google::protobuf::FieldDescriptor& field);
// One value: no list, map or mapping.
bool IsScalar(const google::protobuf::FieldDescriptor& field);
// A message with keys of its own.
bool IsMapping(const google::protobuf::FieldDescriptor& field);

// What --help says of a key, and its default.
struct KeyHelp {
  absl::string_view path;      // "timeout", "restart.max_backoff"
  absl::string_view value;     // "DURATION"
  absl::string_view fallback;  // as the file spells it; empty: none, or computed as `help` says
  absl::string_view help;
};
absl::Span<const KeyHelp> KeyHelps();

// Paths of all keys that are flags: scalars, lists and maps of scalars at the top level, and `restart`'s.
std::vector<std::string> FlagKeys();

// The candidate nearest to `word` by edits, or empty if none is near.
std::string Nearest(absl::string_view word, const std::vector<std::string>& candidates);
// "; did you mean "x"?", or nothing.
std::string DidYouMean(absl::string_view word, const std::vector<std::string>& candidates);

}  // namespace dirty

#endif  // DIRTY_SERVER_CONFIG_KEYS_H_
