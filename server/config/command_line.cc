#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "server/config/config.h"
#include "server/config/keys.h"
#include "server/config/values.h"

namespace dirty {
namespace {

using Action = CommandLine::Action;

constexpr std::pair<absl::string_view, Action> kActions[] = {
    {"check", Action::kCheck}, {"help", Action::kHelp}, {"version", Action::kVersion}};

// gunicorn's spellings, and the one key whose flag is not called as it is.
constexpr std::pair<absl::string_view, absl::string_view> kAliases[] = {
    {"app", "apps"},
    {"dirty_app", "apps"},
    {"dirty_workers", "workers"},
    {"dirty_timeout", "timeout"},
    {"dirty_threads", "threads"},
    {"dirty_graceful_timeout", "graceful_timeout"},
};

// Flag, with underscores and without dashes -> key.
std::map<std::string, std::string> Flags() {
  std::map<std::string, std::string> flags;
  for (const std::string& key : FlagKeys()) flags[absl::StrReplaceAll(key, {{".", "_"}})] = key;
  for (const auto& [flag, key] : kAliases) flags[std::string(flag)] = std::string(key);
  return flags;
}

std::string UnknownFlag(absl::string_view spelled, const std::string& name,
                        const std::map<std::string, std::string>& flags) {
  std::vector<std::string> names = {"config"};
  for (const auto& [flag, action] : kActions) names.emplace_back(flag);
  for (const auto& [flag, key] : flags) names.push_back(flag);
  std::string nearest = Nearest(name, names);
  return absl::StrCat("unknown flag ", Escaped(spelled),
                      nearest.empty() ? "; see --help" : absl::StrCat("; did you mean --", nearest, "?"));
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& args) {
  const std::map<std::string, std::string> flags = Flags();
  CommandLine out;
  std::vector<std::string> errors;
  bool flags_ended = false;
  for (size_t i = 0; i < args.size(); ++i) {
    absl::string_view arg = args[i];
    if (flags_ended || !absl::StartsWith(arg, "-")) {
      out.apps.emplace_back(arg);
      continue;
    }
    if (arg == "--") {
      flags_ended = true;
      continue;
    }
    size_t equals = arg.find('=');
    std::string spelled(arg.substr(0, equals));
    std::string name = absl::StrReplaceAll(spelled.substr(absl::StartsWith(spelled, "--") ? 2 : 1), {{"-", "_"}});
    auto action = std::find_if(std::begin(kActions), std::end(kActions), [&](auto& it) { return it.first == name; });
    auto flag = flags.find(name);
    bool known = name == "config" || action != std::end(kActions) || flag != flags.end();
    if (!absl::StartsWith(spelled, "--") || !known) {
      errors.push_back(UnknownFlag(spelled, name, flags));
      continue;
    }
    if (action != std::end(kActions)) {
      if (equals != absl::string_view::npos) {
        errors.push_back(absl::StrCat(spelled, " takes no value"));
      } else if (out.action == Action::kRun || out.action == Action::kCheck) {
        out.action = action->second;
      }
      continue;
    }
    std::string value;
    if (equals != absl::string_view::npos) {
      value = std::string(arg.substr(equals + 1));
    } else if (i + 1 < args.size() && !absl::StartsWith(args[i + 1], "--")) {
      value = args[++i];
    } else {
      errors.push_back(absl::StrCat(spelled, " needs a value"));
      continue;
    }
    if (name != "config") {
      out.flags.push_back({spelled, flag->second, value});
    } else if (value.empty()) {
      errors.push_back(absl::StrCat(spelled, " needs a value"));
    } else {
      out.config_file = value;
    }
  }
  // Who asks for help gets it, whatever else is wrong.
  if (out.action == Action::kHelp || out.action == Action::kVersion) return out;
  if (!errors.empty()) return absl::InvalidArgumentError(absl::StrJoin(errors, "\n"));
  return out;
}

std::string HelpText() {
  std::string text =
      "dirtyd runs apps in worker processes and routes calls to them.\n"
      "\n"
      "Usage: dirtyd [--config FILE] [APP ...] [--KEY=VALUE ...]\n"
      "\n"
      "APP is module:Class[:N] for Python or lib.so:Class[:N] for a library; N workers load it, all if left out.\n"
      "Every key of the configuration has a flag; flags win over the file, and apps are added to the file's.\n"
      "\n"
      "  --config FILE    the configuration, in YAML\n"
      "  --check          validate, print the effective configuration, exit\n"
      "  --app APP        as APP\n"
      "  --help, --version\n"
      "\n"
      "A DURATION is 30, 30s, 5m, 100ms; 0 means no limit. A SIZE is bytes, or 64KiB, 64MiB, 1GiB. Lists are repeated\n"
      "or separated by commas. - and _ are equal in flags. Defaults in parentheses.\n"
      "\n";
  for (const KeyHelp& key : KeyHelps()) {
    std::string flag = absl::StrCat("--", absl::StrReplaceAll(key.path, {{".", "_"}}), " ", key.value);
    absl::StrAppendFormat(&text, "  %-34s %s", flag, key.help);
    if (!key.fallback.empty()) absl::StrAppend(&text, " (", key.fallback, ")");
    text += '\n';
  }
  text +=
      "\n"
      "gunicorn's spellings work too: --dirty-app, --dirty-workers, --dirty-timeout, --dirty-threads,\n"
      "--dirty-graceful-timeout.\n";
  return text;
}

}  // namespace dirty
