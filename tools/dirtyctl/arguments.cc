#include "tools/dirtyctl/arguments.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_replace.h>

#include <algorithm>
#include <cstdlib>

namespace dirty::ctl {
namespace {

absl::Status Usage(absl::string_view message, const Command* command = nullptr) {
  return absl::InvalidArgumentError(
      absl::StrCat(message, "; see dirtyctl ", command == nullptr ? "" : absl::StrCat(command->name, " "), "--help"));
}

const Flag* FindFlag(const std::vector<Flag>& flags, const std::string& name) {
  auto found = std::find_if(flags.begin(), flags.end(), [&name](const Flag& flag) { return flag.name == name; });
  return found == flags.end() ? nullptr : &*found;
}

// Negative numbers and `-`, which stands for standard input, are not flags.
bool IsFlag(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && !absl::ascii_isdigit(word[1]) && word[1] != '.';
}

std::string FlagHelp(const std::vector<Flag>& flags) {
  std::string help;
  for (const Flag& flag : flags) {
    absl::StrAppendFormat(&help, "  %-24s %s\n",
                          absl::StrCat("--", flag.name, flag.value.empty() ? "" : " ", flag.value), flag.help);
  }
  return help;
}

absl::Status CheckPositive(absl::string_view what, const std::string& text) {
  absl::StatusOr<unsigned> number = ParseNumber(what, text);
  if (number.ok() && *number == 0) return absl::InvalidArgumentError(absl::StrCat(what, " starts at 1"));
  return number.status();
}

// Flags and operands that are durations or numbers.
absl::Status CheckValues(const Arguments& arguments) {
  for (const auto& [name, values] : arguments.flags) {
    const Flag* flag = FindFlag(GlobalFlags(), name);
    if (flag == nullptr) flag = FindFlag(arguments.command->flags, name);
    absl::Status bad;
    if (flag->value == "D") bad = ParseDuration(values.back()).status();
    if (flag->value == "N") bad = CheckPositive("its value", values.back());
    if (name == "interval" && bad.ok() && *ParseDuration(values.back()) == absl::ZeroDuration()) {
      bad = absl::InvalidArgumentError("0 is too short");
    }
    if (!bad.ok()) return absl::InvalidArgumentError(absl::StrCat("--", name, ": ", bad.message()));
  }
  if (arguments.operands.empty()) return absl::OkStatus();
  if (arguments.command->operands == "N") return ParseNumber("N", arguments.operands[0]).status();
  if (arguments.command->operands == "[WORKER_ID]") return CheckPositive("WORKER_ID", arguments.operands[0]);
  return absl::OkStatus();
}

constexpr char kExitCodes[] =
    "\nExit codes: 0 done, 1 the call or command failed, 2 wrong usage, 3 dirtyd cannot be reached.\n";

}  // namespace

const std::vector<Flag>& GlobalFlags() {
  static const auto& flags = *new std::vector<Flag>{
      {"socket", "PATH", "client socket [$DIRTY_SOCKET, else dirtyd's own defaults]"},
      {"admin-socket", "PATH", "admin socket [$DIRTY_ADMIN_SOCKET, else dirtyd's own defaults]"},
      {"connect-timeout", "D", "how long to wait for the socket [call: 5s, others: 1s]"},
      {"json", "", "print JSON"},
      {"help", "", "print this, or a command's own help"},
      {"version", "", "print the version"},
  };
  return flags;
}

const std::vector<Command>& Commands() {
  static const auto& commands = *new std::vector<Command>{
      {"status", "", 0, 0, "Shows workers, apps, running calls and the last exits."},
      {"call",
       "APP ACTION [ARG_JSON ...]",
       2,
       kAny,
       "Calls an action of an app and prints its result, as JSON. Each argument is JSON; @FILE reads it from a file, - "
       "from\nstandard input. {\"$attachment\":0} refers to the first --attach.",
       {{"kwargs", "JSON", "named arguments, a JSON object (or @FILE, -)"},
        {"attach", "FILE", "a binary value to send; may be repeated", true},
        {"output", "FILE", "where to save binary values that come back; further ones go to FILE.1, FILE.2"},
        {"stream", "", "print the values of a streamed result as they come, one a line"},
        {"timeout", "D", "how long to wait, such as 30, 100ms, 5m [dirtyd's limits]"},
        {"request-id", "TEXT", "a name for this call in dirtyd's log"}}},
      {"health",
       "[APP]",
       0,
       1,
       "Asks whether dirtyd is ready: every app was tried and one serves. With APP: whether a worker serves it.",
       {{"live", "", "ask only whether dirtyd is alive"}}},
      {"reload",
       "",
       0,
       0,
       "Re-reads the configuration and replaces the workers, new ones first. Ends when every new worker is ready and "
       "no "
       "old one\ntakes calls. If that fails everything goes on as before. Events meanwhile go to standard error.",
       {{"pool", "POOL", "only the workers of this pool; may be repeated", true},
        {"app", "APP", "only the workers that load this app; may be repeated", true},
        {"quiet", "", "no events, only the answer"}}},
      {"restart",
       "[WORKER_ID]",
       0,
       1,
       "Replaces one worker, or all, new ones first, with the configuration as it is. Events meanwhile go to standard "
       "error.",
       {{"quiet", "", "no events, only the answer"}}},
      {"scale",
       "N",
       1,
       1,
       "Sets the number of workers until the next reload.",
       {{"pool", "POOL", "of this pool [default]"}}},
      {"cancel", "CALL_ID", 1, 1, "Cancels a waiting or running call."},
      {"watch", "", 0, 0, "Prints events as they happen, until Ctrl-C. With --json one object a line."},
      {"top",
       "",
       0,
       0,
       "Shows apps and workers live: what waits and runs and for how long, calls and failures a second, how long "
       "recent "
       "calls\nran and waited (half, nine of ten and 99 of 100 of them at most so long), processor time and memory. "
       "Rates are those\nsince the snapshot before. q or Ctrl-C ends it. Where it cannot draw, it prints a block each "
       "time; with --json one\nobject a line: that of status --json, and `rates` beside it.",
       {{"interval", "D", "between two snapshots [1s]"}, {"count", "N", "end after so many snapshots"}}},
      {"metrics", "", 0, 0, "Prints the metrics in Prometheus' text format."},
      {"reopen-logs", "", 0, 0, "Reopens log files, after they were rotated."},
      {"log-level", "debug|info|warning|error", 1, 1, "Changes what is logged until the next reload."},
      {"shutdown",
       "",
       0,
       0,
       "Shuts dirtyd down and waits until it is gone.",
       {{"now", "", "do not wait for running calls"}, {"wait", "D", "how long to wait for its end [2m]"}}},
  };
  return commands;
}

std::string Arguments::Get(const std::string& flag, const std::string& otherwise) const {
  auto found = flags.find(flag);
  return found == flags.end() ? otherwise : found->second.back();
}

std::string Arguments::GetSocket(const std::string& flag, const char* variable) const {
  if (Has(flag)) return Get(flag);
  const char* value = std::getenv(variable);
  return value == nullptr ? "" : value;
}

std::vector<std::string> Arguments::All(const std::string& flag) const {
  auto found = flags.find(flag);
  return found == flags.end() ? std::vector<std::string>() : found->second;
}

unsigned Arguments::Number(std::size_t operand) const { return ParseNumber("", operands[operand]).value_or(0); }

absl::Duration Arguments::GetDuration(const std::string& flag, absl::Duration otherwise) const {
  return Has(flag) ? ParseDuration(Get(flag)).value_or(otherwise) : otherwise;
}

absl::StatusOr<Arguments> ParseArguments(const std::vector<std::string>& words) {
  Arguments arguments;
  bool flags_are_over = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!flags_are_over && word == "--") {
      flags_are_over = true;
    } else if (!flags_are_over && IsFlag(word)) {
      const std::size_t equals = word.find('=');
      const std::string written = word.substr(0, equals);
      std::string name = written == "-h" ? "help" : absl::StrReplaceAll(written, {{"_", "-"}});
      while (absl::StartsWith(name, "-")) name.erase(0, 1);
      const Flag* flag = written == "-h" || absl::StartsWith(written, "--") ? FindFlag(GlobalFlags(), name) : nullptr;
      if (flag == nullptr && arguments.command != nullptr && absl::StartsWith(written, "--")) {
        flag = FindFlag(arguments.command->flags, name);
      }
      if (flag == nullptr) return Usage(absl::StrCat("unknown flag ", written), arguments.command);
      std::vector<std::string>& values = arguments.flags[name];
      if (!values.empty() && !flag->repeated && !flag->value.empty()) {
        return Usage(absl::StrCat(written, " is given twice"), arguments.command);
      }
      if (flag->value.empty()) {
        if (equals != std::string::npos) return Usage(absl::StrCat(written, " has no value"), arguments.command);
        values.push_back("");
      } else if (equals != std::string::npos) {
        values.push_back(word.substr(equals + 1));
      } else if (i + 1 < words.size()) {
        values.push_back(words[++i]);
      } else {
        return Usage(absl::StrCat(written, " needs a value: ", flag->value), arguments.command);
      }
    } else if (arguments.command == nullptr) {
      for (const Command& command : Commands()) {
        if (command.name == absl::StrReplaceAll(word, {{"_", "-"}})) arguments.command = &command;
      }
      if (arguments.command == nullptr) return Usage(absl::StrCat("unknown command ", word));
    } else {
      arguments.operands.push_back(word);
    }
  }
  if (arguments.Has("help")) arguments.wish = Arguments::Wish::kHelp;
  if (arguments.Has("version")) arguments.wish = Arguments::Wish::kVersion;
  if (arguments.wish != Arguments::Wish::kRun) return arguments;
  if (arguments.command == nullptr) return Usage("no command");
  const std::size_t count = arguments.operands.size();
  if (count < arguments.command->fewest || count > arguments.command->most) {
    return Usage(absl::StrCat(arguments.command->name, " takes ",
                              arguments.command->operands.empty() ? "no arguments" : arguments.command->operands,
                              ", but got ", count == 0 ? "nothing" : absl::StrCat(count)),
                 arguments.command);
  }
  if (absl::Status bad = CheckValues(arguments); !bad.ok()) return Usage(bad.message(), arguments.command);
  return arguments;
}

std::string Help(const Command* command) {
  if (command != nullptr) {
    return absl::StrCat("usage: dirtyctl ", command->name, command->operands.empty() ? "" : " ", command->operands,
                        command->flags.empty() ? "" : " [flags]", "\n\n", command->help, "\n\n",
                        FlagHelp(command->flags), command->flags.empty() ? "" : "\n", "Global flags:\n",
                        FlagHelp(GlobalFlags()), kExitCodes);
  }
  std::string help = "usage: dirtyctl COMMAND [arguments] [flags]\n\nCalls apps and steers dirtyd.\n\nCommands:\n";
  for (const Command& each : Commands()) {
    const std::string first = each.help.substr(0, each.help.find(". ") + (each.help.find(". ") != std::string::npos));
    absl::StrAppendFormat(&help, "  %-24s %s\n", each.name, first);
  }
  return absl::StrCat(help, "\nFlags, before or after the command (- and _ are equal in their names):\n",
                      FlagHelp(GlobalFlags()), kExitCodes);
}

std::string Version() { return absl::StrCat("dirtyctl ", DIRTY_VERSION); }

absl::StatusOr<absl::Duration> ParseDuration(const std::string& text) {
  absl::Duration duration;
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds)) {
    duration = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(text, &duration)) {
    return absl::InvalidArgumentError(
        absl::StrCat(text, " is not a duration: a number of seconds, or such as 100ms, 5m, 1h"));
  }
  if (duration < absl::ZeroDuration()) return absl::InvalidArgumentError(absl::StrCat(text, " is negative"));
  return duration;
}

absl::StatusOr<unsigned> ParseNumber(absl::string_view what, const std::string& text) {
  unsigned number = 0;
  if (!absl::SimpleAtoi(text, &number)) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is a whole number, not ", text));
  }
  return number;
}

}  // namespace dirty::ctl
