// From a command line and a YAML file to the settings of dirtyd, or to every error at its place.
//
// Pure: files, environment variables and the uid are arguments, which main.cc fills. Usage:
//
//   auto command_line = dirty::ParseCommandLine(args);       // once
//   auto loaded = dirty::LoadConfig(*command_line, context); // at start and on every reload
//   Start(loaded->settings);
//
// Thread-compatible: values and functions, no state.

#ifndef DIRTY_SERVER_CONFIG_CONFIG_H_
#define DIRTY_SERVER_CONFIG_CONFIG_H_

#include <sys/types.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "dirty/v1/config.pb.h"
#include "server/config/settings.h"

namespace dirty {

// What a command line asks for. Kept as a value, so that flags win over the file after a reload too.
struct CommandLine {
  enum class Action { kRun, kCheck, kHelp, kVersion };

  // A flag that sets a key.
  struct Flag {
    std::string spelled;  // "--dirty-workers", as it was written
    std::string key;      // "workers"; of a nested key its path, "restart.max_backoff"
    std::string value;
  };

  Action action = Action::kRun;
  std::string config_file;  // as it was written; empty: no file
  std::vector<Flag> flags;
  std::vector<std::string> apps;  // the arguments
};

// Parses the arguments after the program's name. Checks flags' names, not their values (LoadConfig does). On error:
// InvalidArgument, one line of the message per error.
absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& args);

// The text of --help, generated from the table of keys (keys.h). Ends with a newline.
std::string HelpText();

// What a configuration depends on besides its own text.
struct ConfigContext {
  uid_t uid = 0;                                 // effective
  std::string working_directory;                 // absolute; relative paths of flags start here
  std::string apps_folder;                       // <libdir>/dirty/apps, absolute
  std::map<std::string, std::string> variables;  // environment variables
  // Contents of a file; its error's message is errno's text ("No such file or directory").
  std::function<absl::StatusOr<std::string>(const std::string& path)> read_file;
  // What is wrong with a user, who is to have a group if none is given, or with a group. Null: they are not looked up.
  std::function<absl::Status(const std::string& user, bool group_given)> check_user;
  std::function<absl::Status(const std::string& group)> check_group;
};

struct LoadedConfig {
  v1::Config config;  // effective: with flags and defaults, paths absolute; not yet inherited by pools and apps
  Settings settings;
};

// Reads the file, applies the flags, fills in defaults, validates, resolves. On error: InvalidArgument, one line of
// the message per error, in the order of the file: "dirty.yaml:12:3: apps[1].timeout: ...".
absl::StatusOr<LoadedConfig> LoadConfig(const CommandLine& command_line, const ConfigContext& context);

// `config` as a YAML file that loads back to the same settings: what --check prints. Values of `env` included: it is
// for the operator's own terminal, never for logs.
std::string ToYaml(const v1::Config& config);

// The whole file. The error's message is errno's text. For ConfigContext::read_file.
absl::StatusOr<std::string> ReadFile(const std::string& path);

}  // namespace dirty

#endif  // DIRTY_SERVER_CONFIG_CONFIG_H_
