// Fuzzes the configuration: the input is a YAML file, and its lines `#!--flag` are the command line. What is refused
// says why in lines that a terminal can show. What is accepted holds what the rest relies on, and what `--check` prints
// of it is accepted again and means the same.

#include "server/config/config.h"

#include <google/protobuf/util/message_differencer.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/config/changes.h"
#include "server/observe/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace dirty {
namespace {

absl::StatusOr<LoadedConfig> Load(const std::string& file, const std::vector<std::string>& flags,
                                  const std::map<std::string, std::string>& variables) {
  std::vector<std::string> args = {"--config", "etc/dirty.yaml"};
  args.insert(args.end(), flags.begin(), flags.end());
  absl::StatusOr<CommandLine> command_line = ParseCommandLine(args);
  if (!command_line.ok()) return command_line.status();
  ConfigContext context;
  context.working_directory = "/srv";
  context.apps_folder = "/usr/lib/dirty/apps";
  context.variables = variables;
  context.read_file = [&](const std::string&) { return file; };
  return LoadConfig(*command_line, context);
}

void CheckRefusal(const absl::Status& status) {
  FUZZ_EXPECT(status.code() == absl::StatusCode::kInvalidArgument, status.ToString());
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(status.message().data(), status.message().size()), '\n')) {
    FUZZ_EXPECT(!line.empty(), "an error without words");
    FUZZ_EXPECT(IsUtf8(absl::string_view(line.data(), line.size())), "an error that is not UTF-8");
    for (unsigned char c : line) FUZZ_EXPECT(c >= ' ' && c != 0x7f, "an error with control characters");
  }
}

void CheckSettings(const Settings& settings) {
  FUZZ_EXPECT(!settings.pools.empty(), "no pool");
  FUZZ_EXPECT(settings.runtime_dir.starts_with('/') && settings.socket.starts_with('/'), settings.socket);
  for (const PoolSettings& pool : settings.pools) {
    FUZZ_EXPECT(!pool.apps.empty() && pool.threads > 0, pool.name);
    for (const AppSettings& app : pool.apps) {
      // Both go to clients and workers in texts of Protocol Buffers, which are UTF-8.
      FUZZ_EXPECT(!app.name.empty() && IsUtf8(app.name), app.name);
      FUZZ_EXPECT(!app.path.empty() && IsUtf8(app.path), app.path);
      FUZZ_EXPECT(app.limits.timeout > absl::ZeroDuration() && app.limits.queue_size > 0, app.name);
      FUZZ_EXPECT(app.workers.value_or(1) > 0, app.name);
    }
  }
}

void CheckSame(const LoadedConfig& first, const LoadedConfig& second, const std::string& yaml) {
  FUZZ_EXPECT(google::protobuf::util::MessageDifferencer::Equals(first.config, second.config), yaml, "\nis read as\n",
              ToYaml(second.config));
  const Changes changes = Compare(first.settings, second.settings);
  FUZZ_EXPECT(changes.applied.empty() && changes.needs_restart.empty(), absl::StrJoin(changes.applied, "\n"),
              absl::StrJoin(changes.needs_restart, "\n"));
}

}  // namespace
}  // namespace dirty

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto& variables = *new std::map<std::string, std::string>{
      {"HOME", "/home/me"}, {"EMPTY", ""}, {"BYTES", "\xff\xc0"}, {"REFERENCE", "${HOME}$${"}, {"LINES", "a\nb\x1b"}};
  const std::string file(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> flags;
  for (absl::string_view line : absl::StrSplit(file, '\n')) {
    if (absl::ConsumePrefix(&line, "#!")) flags.emplace_back(line);
  }
  const absl::StatusOr<dirty::LoadedConfig> loaded = dirty::Load(file, flags, variables);
  if (!loaded.ok()) {
    dirty::CheckRefusal(loaded.status());
    return 0;
  }
  dirty::CheckSettings(loaded->settings);
  const std::string yaml = dirty::ToYaml(loaded->config);
  const absl::StatusOr<dirty::LoadedConfig> again = dirty::Load(yaml, {}, {});
  FUZZ_EXPECT(again.ok(), yaml, "\nis refused: ", again.status().ToString());
  dirty::CheckSame(*loaded, *again, yaml);
  return 0;
}
