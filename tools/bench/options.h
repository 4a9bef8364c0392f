#ifndef DIRTY_TOOLS_BENCH_OPTIONS_H_
#define DIRTY_TOOLS_BENCH_OPTIONS_H_

// dirty-bench's command line. Values only, nothing is read or written.

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/time/time.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dirty::bench {

struct Options {
  enum class Wish { kRun, kHelp, kVersion };
  Wish wish = Wish::kRun;

  // Where the calls go.
  std::string socket = {};        // empty: the usual ones
  std::string admin_socket = {};  // empty: the usual ones
  std::string self = {};          // `native` or `python`: a dirtyd of our own with an app in that language; empty: none
  unsigned workers = 1;           // of our own dirtyd, as the next two
  unsigned threads = 1;
  std::vector<std::string> with = {};  // further flags

  // What is called.
  std::string app = {};
  std::string action = {};
  std::string args = {};                    // JSON, as it is sent
  std::string kwargs = {};                  // likewise
  std::optional<uint64_t> attachment = {};  // bytes of the binary value that goes with it
  bool stream = false;
  std::optional<absl::Duration> timeout = {};

  // How.
  unsigned callers = 1;
  unsigned in_flight = 1;  // of each caller
  unsigned connections = 1;
  std::string transport = "auto";  // or `session`, `unary`
  absl::Duration duration = absl::Seconds(5);
  uint64_t calls = 0;  // 0: `duration` counts
  absl::Duration warm_up = absl::Seconds(1);
  unsigned idle_sessions = 0;  // not 0: no calls, but so many open sessions

  bool json = false;
};

// The app that our own dirtyd has: its action `echo` returns its argument.
std::string EchoApp(absl::string_view language);

// `words` are argv without the program. `-` and `_` are equal in flags. INVALID_ARGUMENT says what is wrong and where
// help is.
absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& words);

// A number of bytes, or `64KiB`, `1MiB`, `1GiB`.
absl::StatusOr<uint64_t> ParseSize(const std::string& text);

// What --help prints.
std::string Help();

}  // namespace dirty::bench

#endif  // DIRTY_TOOLS_BENCH_OPTIONS_H_
