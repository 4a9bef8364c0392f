#include "server/config_reader.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/loop/start_thread.h"
#include "server/supervise/accounts.h"
#include "server/supervise/python_config.h"

extern char** environ;

namespace dirty {
namespace {

absl::StatusOr<std::string> ReadConfiguration(const std::string& prefix, const CommandLine& command_line,
                                              const std::string& path) {
  if (!absl::EndsWith(path, ".py")) return ReadFile(path);
  if (absl::StatusOr<std::string> file = ReadFile(path); !file.ok()) return file.status();
  std::string interpreter = "python3";
  for (const CommandLine::Flag& flag : command_line.flags) {
    if (flag.key == "python") interpreter = flag.value;
  }
  absl::StatusOr<PythonConfig> read = ReadPythonConfig(interpreter, absl::StrCat(prefix, "/" DIRTY_PYTHON_DIR), path);
  if (!read.ok()) return read.status();
  if (!read->notice.empty()) fprintf(stderr, "dirtyd: %s: %s\n", path.c_str(), read->notice.c_str());
  return read->yaml;
}

}  // namespace

std::vector<std::string> Environment() {
  std::vector<std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) variables.emplace_back(*entry);
  return variables;
}

ConfigContext MakeConfigContext(const std::string& prefix, const CommandLine& command_line) {
  ConfigContext context;
  context.uid = geteuid();
  std::error_code error;
  context.working_directory = std::filesystem::current_path(error).string();
  context.apps_folder = absl::StrCat(prefix, "/" DIRTY_APPS_DIR);
  for (const std::string& entry : Environment()) {
    std::pair<std::string, std::string> variable = absl::StrSplit(entry, absl::MaxSplits('=', 1));
    context.variables.insert(variable);
  }
  context.read_file = [prefix, &command_line](const std::string& path) {
    return ReadConfiguration(prefix, command_line, path);
  };
  context.check_user = [](const std::string& user, bool group_given) {
    return FindUser(user, /*with_group=*/!group_given).status();
  };
  context.check_group = [](const std::string& group) { return FindGroup(group).status(); };
  return context;
}

void UseFiles(NetworkAccess& network, NetworkFiles files, Logger& log) {
  for (const std::string& warning : files.warnings) log.Warning(warning);
  network.Use(std::move(files));
}

void ConfigReader::Read(std::function<void(absl::StatusOr<Settings>)> done) {
  Join();
  read_.reset();
  absl::StatusOr<std::thread> thread = StartThread([this, done] {
    absl::StatusOr<LoadedConfig> loaded = LoadConfig(command_line_, context_);
    absl::StatusOr<NetworkFiles> files = NetworkFiles();
    if (network_ != nullptr) files = ReadNetworkFiles(network_->settings());
    poster_.Post([this, done, loaded = std::move(loaded), files = std::move(files)]() mutable {
      if (!loaded.ok()) return done(loaded.status());
      if (!files.ok()) return done(files.status());
      if (network_ != nullptr) read_ = *std::move(files);
      done(std::move(loaded->settings));
    });
  });
  if (thread.ok()) {
    thread_ = *std::move(thread);
  } else {
    poster_.Post([done, why = thread.status()] { done(why); });
  }
}

void ConfigReader::Accept() {
  if (read_.has_value()) UseFiles(*network_, *std::exchange(read_, std::nullopt), log_);
}

void ConfigReader::Join() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace dirty
