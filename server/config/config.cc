#include "server/config/config.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/config/diagnostics.h"
#include "server/config/keys.h"
#include "server/config/validate.h"
#include "server/config/values.h"
#include "server/config/yaml.h"

namespace dirty {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// The field of the key `path` ("workers", "restart.max_backoff") and the message that holds it.
struct Target {
  Message* message;
  const FieldDescriptor* field;
};

Target Find(v1::Config& config, absl::string_view path) {
  Message* message = &config;
  std::vector<std::string> names = absl::StrSplit(path, '.');
  for (size_t i = 0;; ++i) {
    Key key = FindKey(*message->GetDescriptor(), names[i]);
    message = &key.OwnerIn(*message);
    if (i + 1 == names.size()) return {message, key.field};
    message = message->GetReflection()->MutableMessage(message, key.field);
  }
}

class Loader {
 public:
  Loader(const CommandLine& command_line, const ConfigContext& context)
      : command_line_(command_line), context_(context) {}

  absl::StatusOr<LoadedConfig> Load() {
    if (!command_line_.config_file.empty() && !ReadConfigFile()) return diagnostics_.ToStatus();
    ApplyFlags();
    ApplyDefaults();
    Validate(config_, context_, diagnostics_);
    if (absl::Status status = diagnostics_.ToStatus(); !status.ok()) return status;
    Settings settings = Resolve(config_, context_.apps_folder);
    return LoadedConfig{std::move(config_), std::move(settings)};
  }

 private:
  bool ReadConfigFile() {
    const std::string& name = command_line_.config_file;
    std::string path = AbsolutePath(name, context_.working_directory);
    auto text = context_.read_file(path);
    if (!text.ok()) {
      diagnostics_.AddAt({}, "", absl::StrCat("cannot read ", Escaped(name), ": ", text.status().message()));
      return false;
    }
    folder_ = path.substr(0, std::max<size_t>(1, path.rfind('/')));
    return ReadYaml(*text, {Escaped(name), folder_, context_.variables}, config_, diagnostics_);
  }

  void ApplyFlags() {
    for (const CommandLine::Flag& flag : command_line_.flags) {
      if (flag.key == "apps") {
        AddApp(flag.value, flag.spelled);
        continue;
      }
      Target target = Find(config_, flag.key);
      diagnostics_.SetPlace(flag.key, {flag.spelled});
      if (target.field->is_map()) {
        SetEntry(flag, target);
      } else if (target.field->is_repeated()) {
        SetList(flag, target);
      } else {
        absl::Status set = SetScalar(*target.message, *target.field, flag.value, context_.working_directory);
        if (!set.ok()) diagnostics_.Add(flag.key, set.message());
      }
    }
    for (const std::string& app : command_line_.apps) AddApp(app, absl::StrCat("argument ", Quoted(app)));
  }

  void AddApp(const std::string& text, const std::string& spelled) {
    std::string path = absl::StrCat("apps[", config_.apps_size(), "]");
    diagnostics_.SetPlace(path, {spelled});
    absl::Status set = SetApp(text, context_.working_directory, *config_.add_apps());
    if (!set.ok()) diagnostics_.Add(path, set.message());
  }

  // NAME=VALUE; several flags add up.
  void SetEntry(const CommandLine::Flag& flag, const Target& target) {
    size_t equals = flag.value.find('=');
    if (equals == std::string::npos || equals == 0) {
      return diagnostics_.AddAt({flag.spelled}, "", "expected NAME=VALUE");
    }
    std::string name = flag.value.substr(0, equals);
    std::string path = absl::StrCat(flag.key, ".", name);
    diagnostics_.SetPlace(path, {flag.spelled});
    absl::Status set = SetMapEntry(*target.message, *target.field, name, flag.value.substr(equals + 1));
    if (!set.ok()) diagnostics_.AddAt({flag.spelled}, "", absl::StrCat(name, ": ", set.message()));
  }

  // The first flag of a list replaces the file's, further ones add to it.
  void SetList(const CommandLine::Flag& flag, const Target& target) {
    if (lists_.insert(flag.key).second) target.message->GetReflection()->ClearField(target.message, target.field);
    for (absl::string_view item : absl::StrSplit(flag.value, ',', absl::SkipEmpty())) {
      absl::Status set = SetScalar(*target.message, *target.field, item, context_.working_directory);
      if (!set.ok()) diagnostics_.AddAt({flag.spelled}, "", set.message());
    }
  }

  void ApplyDefaults() {
    for (const KeyHelp& key : KeyHelps()) {
      if (key.fallback.empty() || (key.path == "workers" && config_.apps().empty())) continue;
      Target target = Find(config_, key.path);
      if (target.message->GetReflection()->HasField(*target.message, target.field)) continue;
      absl::Status set = SetScalar(*target.message, *target.field, key.fallback, "");
      if (!set.ok()) diagnostics_.Add(std::string(key.path), set.message());
    }
    v1::WorkerSettings& worker = *config_.mutable_worker();
    if (!worker.has_chdir()) worker.set_chdir(folder_.empty() ? context_.working_directory : folder_);
    if (!config_.has_runtime_dir()) SetRuntimeDir();
    if (!config_.has_runtime_dir()) return;
    if (!config_.has_socket()) config_.set_socket(AbsolutePath("dirty.sock", config_.runtime_dir()));
    if (!config_.has_admin_socket()) config_.set_admin_socket(AbsolutePath("admin.sock", config_.runtime_dir()));
  }

  void SetRuntimeDir() {
    if (context_.uid == 0) return config_.set_runtime_dir("/run/dirty");
    auto it = context_.variables.find("XDG_RUNTIME_DIR");
    if (it != context_.variables.end() && absl::StartsWith(it->second, "/")) {
      return config_.set_runtime_dir(AbsolutePath("dirty", it->second));
    }
    diagnostics_.Add("runtime_dir", absl::StrCat("no default: /run/dirty is root's (this is uid ", context_.uid,
                                                 ") and $XDG_RUNTIME_DIR is not set; give --runtime_dir"));
  }

  const CommandLine& command_line_;
  const ConfigContext& context_;
  v1::Config config_;
  std::string folder_;  // the file's
  std::set<std::string> lists_;
  Diagnostics diagnostics_;
};

}  // namespace

absl::StatusOr<LoadedConfig> LoadConfig(const CommandLine& command_line, const ConfigContext& context) {
  return Loader(command_line, context).Load();
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::UnavailableError(std::strerror(errno));
  std::string text;
  char buffer[16384];
  ssize_t got;
  while ((got = read(fd, buffer, sizeof buffer)) != 0) {
    if (got > 0) {
      text.append(buffer, static_cast<size_t>(got));
    } else if (errno != EINTR) {
      absl::Status status = absl::UnavailableError(std::strerror(errno));
      close(fd);
      return status;
    }
  }
  close(fd);
  return text;
}

}  // namespace dirty
