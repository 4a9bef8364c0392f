// A configuration without files, variables or a uid of its own: for the tests of server/config.

#ifndef DIRTY_TESTS_UNIT_CONFIG_TESTING_H_
#define DIRTY_TESTS_UNIT_CONFIG_TESTING_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "server/config/config.h"

namespace dirty {

// The world of a test: one file, /etc/app/dirty.yaml, started from /srv by root.
struct TestWorld {
  uid_t uid = 0;
  std::map<std::string, std::string> variables;
  std::string file;
  bool has_file = true;
  std::vector<std::string> args;

  absl::StatusOr<LoadedConfig> Load() const {
    std::vector<std::string> all = args;
    if (has_file) all.insert(all.begin(), {"--config", "../etc/app/dirty.yaml"});
    auto command_line = ParseCommandLine(all);
    if (!command_line.ok()) return command_line.status();
    ConfigContext context;
    context.uid = uid;
    context.working_directory = "/srv";
    context.apps_folder = "/usr/lib/dirty/apps";
    context.variables = variables;
    context.read_file = [this](const std::string& path) -> absl::StatusOr<std::string> {
      if (path == "/etc/app/dirty.yaml") return file;
      return absl::NotFoundError("No such file or directory");
    };
    return LoadConfig(*command_line, context);
  }

  Settings MustLoad() const {
    auto loaded = Load();
    EXPECT_TRUE(loaded.ok()) << loaded.status().message();
    return loaded.ok() ? loaded->settings : Settings();
  }

  // One line per error, with the file called "f".
  std::vector<std::string> Errors() const {
    auto loaded = Load();
    if (loaded.ok()) return {};
    std::vector<std::string> lines = absl::StrSplit(std::string(loaded.status().message()), '\n');
    for (std::string& line : lines) {
      for (size_t at; (at = line.find("../etc/app/dirty.yaml")) != std::string::npos;) line.replace(at, 21, "f");
    }
    return lines;
  }
};

inline TestWorld File(std::string text) {
  TestWorld world;
  world.file = std::move(text);
  return world;
}

inline TestWorld Args(std::vector<std::string> args) {
  TestWorld world;
  world.has_file = false;
  world.args = std::move(args);
  return world;
}

}  // namespace dirty

#endif  // DIRTY_TESTS_UNIT_CONFIG_TESTING_H_
