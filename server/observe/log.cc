#include "server/observe/log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/loop/mutex.h"
#include "server/loop/start_thread.h"
#include "server/loop/unique_fd.h"
#include "server/observe/utf8.h"

namespace dirty {
namespace {

constexpr size_t kQueueBytes = 4 << 20;
constexpr int kPollMilliseconds = 50;  // how soon an exit is noticed while the log's reader does not read
constexpr size_t kPipeRoom = 4096;     // a pipe that polls writable takes so much (PIPE_BUF) without blocking

absl::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "";
}

absl::string_view TextLevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "DEBUG";
    case LogLevel::kInfo:
      return "INFO";
    case LogLevel::kWarning:
      return "WARNING";
    case LogLevel::kError:
      return "ERROR";
  }
  return "";
}

// Control characters of ASCII and of Latin-1 (U+0080 to U+009F, which terminals obey too).
bool IsControl(absl::string_view sequence) {
  unsigned char first = static_cast<unsigned char>(sequence[0]);
  if (sequence.size() == 1) return (first < 0x20 && first != '\t') || first == 0x7f;
  return sequence.size() == 2 && first == 0xc2 && static_cast<unsigned char>(sequence[1]) < 0xa0;
}

void AppendHex(std::string* out, absl::string_view bytes) {
  for (char c : bytes) {
    absl::StrAppend(out, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
  }
}

void AppendPrintable(std::string* out, absl::string_view text) {
  while (!text.empty()) {
    size_t length = Utf8Length(text);
    absl::string_view sequence = text.substr(0, std::max<size_t>(length, 1));
    text.remove_prefix(sequence.size());
    if (length != 0 && !IsControl(sequence)) {
      out->append(sequence.data(), sequence.size());
    } else if (sequence == "\n") {
      out->append("\\n");
    } else if (sequence == "\r") {
      out->append("\\r");
    } else {
      AppendHex(out, sequence);
    }
  }
}

// A JSON string; invalid bytes become U+FFFD.
void AppendJsonString(std::string* out, absl::string_view text) {
  out->push_back('"');
  while (!text.empty()) {
    size_t length = Utf8Length(text);
    absl::string_view sequence = text.substr(0, std::max<size_t>(length, 1));
    text.remove_prefix(sequence.size());
    if (length == 0) {
      out->append("\\ufffd");
    } else if (sequence == "\"" || sequence == "\\") {
      absl::StrAppend(out, "\\", sequence);
    } else if (sequence == "\n") {
      out->append("\\n");
    } else if (sequence == "\t") {
      out->append("\\t");
    } else if (IsControl(sequence)) {
      absl::StrAppend(out, "\\u", absl::Hex(static_cast<unsigned char>(sequence.back()), absl::kZeroPad4));
    } else {
      out->append(sequence.data(), sequence.size());
    }
  }
  out->push_back('"');
}

// A plain word as it is, anything else as a JSON string.
void AppendTextValue(std::string* out, absl::string_view value) {
  if (value.find_first_of(" \t\"=\\") == absl::string_view::npos && Printable(value) == value) {
    out->append(value.data(), value.size());
  } else {
    AppendJsonString(out, value);
  }
}

std::string FormatLine(LogFormat format, LogLevel level, absl::string_view message,
                       std::initializer_list<LogField> fields) {
  std::string time = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
  std::string line;
  switch (format) {
    case LogFormat::kText:
      absl::StrAppend(&line, time, " ", TextLevelName(level), " ");
      AppendPrintable(&line, message);
      for (const auto& [key, value] : fields) {
        if (value.empty()) continue;
        absl::StrAppend(&line, " ", key, "=");
        AppendTextValue(&line, value);
      }
      break;
    case LogFormat::kJson:
      absl::StrAppend(&line, "{\"time\":\"", time, "\",\"level\":\"", LevelName(level), "\",\"message\":");
      AppendJsonString(&line, message);
      for (const auto& [key, value] : fields) {
        if (value.empty()) continue;
        absl::StrAppend(&line, ",\"", key, "\":");
        AppendJsonString(&line, value);
      }
      line += "}";
      break;
  }
  line += "\n";
  return line;
}

absl::StatusOr<UniqueFd> OpenLog(const std::string& file) {
  if (file == "-") {
    UniqueFd fd(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!fd.ok()) return absl::FailedPreconditionError(absl::StrCat("standard error: ", strerror(errno)));
    return fd;
  }
  // Not blocking: opening a pipe that nobody reads must not hang.
  UniqueFd fd(open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640));
  if (!fd.ok()) return absl::FailedPreconditionError(absl::StrCat("log_file: ", file, ": ", strerror(errno)));
  return fd;
}

bool IsRegular(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

class QueuedLog final : public LogWriter {
 public:
  QueuedLog(const Options& options, UniqueFd fd)
      : level_(options.level), format_(options.format), file_(options.file), fd_(std::move(fd)) {
    regular_ = IsRegular(fd_.get());
    const SignalsHeldBack held;
    thread_ = std::thread([this] { Main(); });
    pthread_setname_np(thread_.native_handle(), "dirtyd-log");
  }

  ~QueuedLog() override {
    {
      MutexLock lock(&mutex_);
      stop_ = true;
      give_up_ = absl::Now() + kLogFlushLimit;
      changed_.NotifyAll();
    }
    thread_.join();
  }

  bool Enabled(LogLevel level) const override { return level >= level_.load(std::memory_order_relaxed); }

  void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields) override {
    if (!Enabled(level)) return;
    std::string line = FormatLine(format_.load(std::memory_order_relaxed), level, message, fields);
    MutexLock lock(&mutex_);
    if (queue_.size() + line.size() > kQueueBytes) {
      ++dropped_;
      ++all_dropped_;
      return;
    }
    if (queue_.empty()) changed_.NotifyAll();
    queue_ += line;
  }

  void Flush() override {
    absl::Time until = absl::Now() + kLogFlushLimit;
    MutexLock lock(&mutex_);
    while (Pending() || writing_) {
      absl::Duration left = until - absl::Now();
      if (left <= absl::ZeroDuration()) return;
      written_.WaitFor(&mutex_, left);
    }
  }

  void Reopen() override {
    MutexLock lock(&mutex_);
    reopen_ = true;
    changed_.NotifyAll();
  }

  void SetLevel(LogLevel level) override { level_ = level; }

  uint64_t dropped() const override { return all_dropped_.load(std::memory_order_relaxed); }

  void SetOptions(const Options& options) override {
    level_ = options.level;
    format_ = options.format;
    MutexLock lock(&mutex_);
    if (file_ == options.file) return;
    file_ = options.file;
    reopen_ = true;
    changed_.NotifyAll();
  }

 private:
  bool Pending() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !queue_.empty() || reopen_; }

  void Main() {
    std::string batch;
    for (;;) {
      size_t dropped = 0;
      std::string reopen;
      {
        MutexLock lock(&mutex_);
        writing_ = false;
        written_.NotifyAll();
        while (!Pending() && !stop_) changed_.Wait(&mutex_);
        if (!Pending()) return;
        batch.swap(queue_);
        dropped = std::exchange(dropped_, 0);
        if (std::exchange(reopen_, false)) reopen = file_;
        writing_ = true;
      }
      // What was logged before belongs into the old file.
      WriteBatch(batch, dropped);
      batch.clear();
      if (!reopen.empty()) Open(reopen);
    }
  }

  void Open(const std::string& file) {
    absl::StatusOr<UniqueFd> fd = OpenLog(file);
    if (!fd.ok()) {
      Error(absl::StrCat("the log was not reopened: ", fd.status().message()));
      return;
    }
    fd_ = *std::move(fd);
    regular_ = IsRegular(fd_.get());
    in_line_ = false;
  }

  void WriteBatch(absl::string_view batch, size_t dropped) {
    if (in_line_) (void)Write("\n");
    absl::string_view rest = Write(batch);
    const auto unwritten = static_cast<size_t>(std::count(rest.begin(), rest.end(), '\n'));
    all_dropped_ += unwritten;
    lost_ += dropped + unwritten;
    if (lost_ == 0 || !rest.empty()) return;
    std::string line = FormatLine(format_, LogLevel::kWarning,
                                  absl::StrCat(lost_, " lines of this log were lost: it could not be written"), {});
    if (Write(line).empty()) lost_ = 0;
  }

  // Returns what could not be written.
  absl::string_view Write(absl::string_view data) {
    while (!data.empty()) {
      pollfd ready = {.fd = fd_.get(), .events = POLLOUT, .revents = 0};
      int count = poll(&ready, 1, kPollMilliseconds);
      if (count <= 0) {
        MutexLock lock(&mutex_);
        if (stop_ && absl::Now() > give_up_) break;
        continue;
      }
      ssize_t written = write(fd_.get(), data.data(), regular_ ? data.size() : std::min(data.size(), kPipeRoom));
      if (written < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (written <= 0) break;
      in_line_ = data[static_cast<size_t>(written) - 1] != '\n';
      data.remove_prefix(static_cast<size_t>(written));
    }
    return data;
  }

  std::atomic<LogLevel> level_;
  std::atomic<LogFormat> format_;
  std::atomic<uint64_t> all_dropped_ = 0;

  Mutex mutex_;
  Condition changed_;  // something to do for the thread
  Condition written_;  // the thread has done something
  std::string queue_ ABSL_GUARDED_BY(mutex_);
  size_t dropped_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string file_ ABSL_GUARDED_BY(mutex_);
  bool reopen_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time give_up_ ABSL_GUARDED_BY(mutex_);

  // Of the thread only.
  UniqueFd fd_;
  bool regular_ = false;
  bool in_line_ = false;  // the last line written is not complete
  size_t lost_ = 0;       // lines, not yet told of

  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LogWriter>> MakeLogger(const Logger::Options& options) {
  absl::StatusOr<UniqueFd> fd = OpenLog(options.file);
  if (!fd.ok()) return fd.status();
  std::unique_ptr<LogWriter> log;
  absl::Status started = StartThreads([&] { log = std::make_unique<QueuedLog>(options, *std::move(fd)); });
  if (!started.ok()) return started;
  return log;
}

bool ParseLogLevel(absl::string_view text, LogLevel* level) {
  for (LogLevel known : {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    if (text != LevelName(known)) continue;
    *level = known;
    return true;
  }
  return false;
}

std::string Printable(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  AppendPrintable(&out, text);
  return out;
}

}  // namespace dirty
