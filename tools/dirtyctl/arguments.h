#ifndef DIRTY_TOOLS_DIRTYCTL_ARGUMENTS_H_
#define DIRTY_TOOLS_DIRTYCTL_ARGUMENTS_H_

// dirtyctl's command line. Values only, nothing is read or written.

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/time/time.h>

#include <map>
#include <string>
#include <vector>

namespace dirty::ctl {

struct Flag {
  std::string name;   // without dashes
  std::string value;  // what its value is called; empty: it has none; D: a duration; N: a number above 0
  std::string help;
  bool repeated = false;
};

struct Command {
  std::string name;
  std::string operands;  // for its usage line; N and [WORKER_ID] are numbers
  std::size_t fewest = 0;
  std::size_t most = 0;
  std::string help;
  std::vector<Flag> flags = {};
};

inline constexpr std::size_t kAny = static_cast<std::size_t>(-1);

const std::vector<Command>& Commands();
const std::vector<Flag>& GlobalFlags();

// A command line that makes sense.
struct Arguments {
  enum class Wish { kRun, kHelp, kVersion };
  Wish wish = Wish::kRun;
  const Command* command = nullptr;  // never null for kRun; kHelp: of this command, null: of all
  std::map<std::string, std::vector<std::string>> flags = {};
  std::vector<std::string> operands = {};

  bool Has(const std::string& flag) const { return flags.count(flag) != 0; }

  // The flag's value, the last one if it was given more than once.
  std::string Get(const std::string& flag, const std::string& otherwise = "") const;

  // Every value of a flag that may be repeated.
  std::vector<std::string> All(const std::string& flag) const;

  // An operand that is a number, which was checked.
  unsigned Number(std::size_t operand) const;

  // The flag's value, else the environment variable's. Empty: neither, the usual paths are to be tried. A variable that
  // is set is never passed over for the usual paths: a command must not reach another dirtyd than it was meant for.
  std::string GetSocket(const std::string& flag, const char* variable) const;

  // The same as Get of a flag that takes a duration, which was checked.
  absl::Duration GetDuration(const std::string& flag, absl::Duration otherwise) const;
};

// `words` are argv without the program. `-` and `_` are equal in flags; `-5` and `-` are operands; nothing after `--`
// is a flag. Global flags stand anywhere, a command's own after it. INVALID_ARGUMENT says what is wrong and where help
// is.
absl::StatusOr<Arguments> ParseArguments(const std::vector<std::string>& words);

// What --help prints.
std::string Help(const Command* command);

// What --version prints.
std::string Version();

// A number of seconds, or `100ms`, `5m`, `1h`. Not negative.
absl::StatusOr<absl::Duration> ParseDuration(const std::string& text);

// A whole number, not negative; `what` is its name in the error.
absl::StatusOr<unsigned> ParseNumber(absl::string_view what, const std::string& text);

}  // namespace dirty::ctl

#endif  // DIRTY_TOOLS_DIRTYCTL_ARGUMENTS_H_
