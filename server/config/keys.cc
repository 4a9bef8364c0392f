#include "server/config/keys.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "dirty/v1/config.pb.h"
#include "google/protobuf/duration.pb.h"

namespace dirty {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr KeyHelp kHelps[] = {
    {"runtime_dir", "DIR", "", "sockets and locks; /run/dirty for root, else $XDG_RUNTIME_DIR/dirty"},
    {"socket", "PATH", "", "clients' socket; <runtime_dir>/dirty.sock"},
    {"socket_mode", "MODE", "0660", "its mode, octal"},
    {"socket_group", "GROUP", "", "its group; left alone"},
    {"allow_uids", "UID", "", "user ids that may connect; whoever the mode lets in"},
    {"allow_gids", "GID", "", "primary group ids that may connect"},
    {"admin_socket", "PATH", "", "operators' socket; <runtime_dir>/admin.sock"},
    {"workers", "N", "1", "workers of the pool \"default\"; 0 disables it"},
    {"threads", "N", "1", "calls at once in one worker"},
    {"timeout", "DURATION", "300s", "running time of a call"},
    {"queue_timeout", "DURATION", "60s", "waiting time of a call"},
    {"queue_size", "N", "1000", "waiting calls per app"},
    {"boot_timeout", "DURATION", "300s", "time for an app's init"},
    {"graceful_timeout", "DURATION", "30s", "bounds a graceful shutdown"},
    {"kill_after", "DURATION", "5s", "from asking a call to cancel until its worker is killed; 0: at once"},
    {"stream_idle_timeout", "DURATION", "0s", "gap between two chunks of a stream"},
    {"heartbeat_interval", "DURATION", "5s", "between two pings of a worker; 0: never"},
    {"heartbeat_timeout", "DURATION", "30s", "how long a worker may leave pings unanswered"},
    {"surge", "N", "1", "extra workers during a rolling change; 0: drain first"},
    {"slow_call", "DURATION", "30s", "calls that run longer are logged; 0: none"},
    {"max_message_size", "SIZE", "64MiB", "largest message, either way"},
    {"max_memory_in_flight", "SIZE", "1GiB", "buffers of all clients' messages together, softly"},
    {"max_json_depth", "N", "128", "deepest arguments and results"},
    {"max_calls_per_session", "N", "10000", "calls in flight on one session"},
    {"max_requests", "N", "0", "calls until a worker is replaced; 0: never"},
    {"max_requests_jitter", "N", "0", "random number added to it, per worker"},
    {"max_memory", "SIZE", "0", "growth since init at which a worker is replaced; 0: never"},
    {"restart.initial_backoff", "DURATION", "100ms", "wait before the first retry of a failed start"},
    {"restart.max_backoff", "DURATION", "30s", "longest wait between two retries"},
    {"restart.give_up_after", "N", "5", "failed starts in a row until an app is FAILED; 0: never"},
    {"python", "PROGRAM", "python3", "interpreter of Python workers"},
    {"pythonpath", "DIR", "", "before the interpreter's own search path"},
    {"library_path", "DIR", "", "where a .so without a slash is looked up"},
    {"chdir", "DIR", "", "working directory of workers; the file's folder, else dirtyd's own"},
    {"env", "NAME=VALUE", "", "environment variables of workers"},
    {"user", "USER", "", "user that workers run as; dirtyd's own"},
    {"group", "GROUP", "", "group that workers run as; the user's"},
    {"rlimits", "NAME=N", "", "resource limits of workers, such as nofile=4096"},
    {"oom_score_adj", "N", "", "out-of-memory score of workers; left alone"},
    {"memory_limit", "SIZE", "0", "what one worker may use before the kernel kills it; 0: no limit"},
    {"log_level", "LEVEL", "info", "debug, info, warning or error"},
    {"log_format", "FORMAT", "text", "text or json"},
    {"log_file", "PATH", "-", "\"-\": standard error"},
    {"hook_timeout", "DURATION", "10s", "time for a hook"},
    {"metrics", "ADDRESS", "", "HOST:PORT or unix:PATH; nowhere"},
    {"network.address", "ADDRESS", "", "HOST:PORT for clients on other machines; none"},
    {"network.certificate", "FILE", "", "certificate chain of this server, PEM"},
    {"network.key", "FILE", "", "private key of the certificate, PEM"},
    {"network.client_ca", "FILE", "", "authorities of the clients' certificates, PEM; clients need none"},
    {"network.token_file", "FILE", "", "tokens of clients, one a line; clients need none"},
    {"network.insecure", "BOOL", "", "true: not encrypted, also on an address that is not loopback"},
};

bool IsInlined(const FieldDescriptor& field) {
  return field.name() == "limits" || (field.name() == "worker" && IsMapping(field));
}

bool IsList(const FieldDescriptor& field) {
  return field.is_map() || (field.is_repeated() && field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE);
}

// Edits from `a` to `b`: letters added, left out, replaced, and neighbours swapped.
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<std::vector<size_t>> edits(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        edits[i][j] = i + j;
        continue;
      }
      size_t replaced = edits[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      edits[i][j] = std::min({replaced, edits[i - 1][j] + 1, edits[i][j - 1] + 1});
      bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) edits[i][j] = std::min(edits[i][j], edits[i - 2][j - 2] + 1);
    }
  }
  return edits[a.size()][b.size()];
}

}  // namespace

Message& Key::OwnerIn(Message& message) const {
  return inlined ? *message.GetReflection()->MutableMessage(&message, inlined) : message;
}

const Message& Key::OwnerIn(const Message& message) const {
  return inlined ? message.GetReflection()->GetMessage(message, inlined) : message;
}

std::vector<Key> KeysOf(const Descriptor& message) {
  std::vector<Key> keys;
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor* field = message.field(i);
    if (!IsInlined(*field)) {
      keys.push_back({nullptr, field});
      continue;
    }
    for (int j = 0; j < field->message_type()->field_count(); ++j) {
      keys.push_back({field, field->message_type()->field(j)});
    }
  }
  return keys;
}

Key FindKey(const Descriptor& message, absl::string_view name) {
  for (const Key& key : KeysOf(message)) {
    if (key.name() == name) return key;
  }
  return {};
}

bool IsDuration(const FieldDescriptor& field) {
  return field.message_type() == google::protobuf::Duration::descriptor();
}

bool IsScalar(const FieldDescriptor& field) {
  return !field.is_repeated() && (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || IsDuration(field));
}

bool IsMapping(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field.is_map() && !IsDuration(field);
}

absl::Span<const KeyHelp> KeyHelps() { return kHelps; }

std::vector<std::string> FlagKeys() {
  std::vector<std::string> paths;
  for (const Key& key : KeysOf(*v1::Config::descriptor())) {
    if (IsScalar(*key.field) || IsList(*key.field)) {
      paths.push_back(key.name());
    } else if (!key.field->is_repeated()) {
      for (const Key& inner : KeysOf(*key.field->message_type())) {
        if (IsScalar(*inner.field)) paths.push_back(absl::StrCat(key.name(), ".", inner.name()));
      }
    }
  }
  return paths;
}

std::string Nearest(absl::string_view word, const std::vector<std::string>& candidates) {
  constexpr size_t kLongestWord = 100;  // a longer one is no typing error, and the work grows with its length
  std::string nearest;
  if (word.size() > kLongestWord) return nearest;
  size_t best = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    size_t distance = Distance(word, candidate);
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string DidYouMean(absl::string_view word, const std::vector<std::string>& candidates) {
  std::string nearest = Nearest(word, candidates);
  return nearest.empty() ? "" : absl::StrCat("; did you mean \"", nearest, "\"?");
}

}  // namespace dirty
