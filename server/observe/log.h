// The log: lines of RFC 3339 time, level, message and key=value, or one JSON object a line. Thread-safe: lines are
// handed to a writer thread, so that nobody waits for a disk.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace dirty {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// A value of a line; numbers and durations are given as text. One that is empty is left out.
using LogField = std::pair<absl::string_view, std::string>;

class Logger {
 public:
  struct Options {
    LogLevel level = LogLevel::kInfo;
    LogFormat format = LogFormat::kText;
    std::string file = "-";  // "-": standard error
  };

  virtual ~Logger() = default;
  virtual void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields = {}) = 0;
  virtual bool Enabled(LogLevel level) const = 0;

  void Debug(absl::string_view message, std::initializer_list<LogField> fields = {}) {
    if (Enabled(LogLevel::kDebug)) Log(LogLevel::kDebug, message, fields);
  }
  void Info(absl::string_view message, std::initializer_list<LogField> fields = {}) {
    Log(LogLevel::kInfo, message, fields);
  }
  void Warning(absl::string_view message, std::initializer_list<LogField> fields = {}) {
    Log(LogLevel::kWarning, message, fields);
  }
  void Error(absl::string_view message, std::initializer_list<LogField> fields = {}) {
    Log(LogLevel::kError, message, fields);
  }
};

// A Logger that writes to a file or to standard error. Thread-safe; made by MakeLogger, owned by main.
//
// Callers never wait: lines go through a bounded queue to a writer thread. What finds the queue full, or cannot be
// written (a full disk, a reader that is gone), is dropped, counted, and told in a line as soon as one can be
// written again.
class LogWriter : public Logger {
 public:
  // Everything logged so far is written when it returns, at most `kLogFlushLimit` later. Not on the loop. The
  // destructor does the same.
  virtual void Flush() = 0;

  // Opens the file by its name again, soon, on the writer thread (after a rotation). If that fails, the old file stays
  // in use and says so. Standard error stays as it is.
  virtual void Reopen() = 0;

  virtual void SetLevel(LogLevel level) = 0;

  // Lines that were lost, since the start.
  virtual uint64_t dropped() const = 0;

  // From the next line on. Also how a reload applies another file (soon, as Reopen).
  virtual void SetOptions(const Options& options) = 0;
};

// How long an exit waits for a reader of the log that does not read.
inline constexpr absl::Duration kLogFlushLimit = absl::Seconds(2);

// Opens the log; an error names the file and why, or that no thread can be had. The file is made with mode 0640. Starts
// the writer thread, which blocks every signal.
absl::StatusOr<std::unique_ptr<LogWriter>> MakeLogger(const Logger::Options& options);

// "debug", "info", "warning" or "error"; false if it is none of them.
bool ParseLogLevel(absl::string_view text, LogLevel* level);

// `text` as it may stand in a line: control characters but tabs become \n, \x1b ..., invalid UTF-8 \xff. Valid
// UTF-8, and the same when done again.
std::string Printable(absl::string_view text);

}  // namespace dirty
