// What tests with real processes and threads share: a loop that the test runs, a log that it reads, a folder of its
// own.
#pragma once

#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/loop/mutex.h"
#include "server/loop/poster.h"
#include "server/loop/unique_fd.h"
#include "server/observe/log.h"

namespace dirty {

inline constexpr absl::Duration kTestLimit = absl::Seconds(60);  // for what comes at once unless it is broken

class TestLoop final : public Poster {
 public:
  void Post(std::function<void()> work) override {
    MutexLock lock(&mutex_);
    posted_.push_back(std::move(work));
    changed_.NotifyAll();
  }

  // Runs what is posted, on this thread, until `done`. False if that takes too long.
  bool RunUntil(const std::function<bool()>& done, absl::Duration limit = kTestLimit) {
    absl::Time until = absl::Now() + limit;
    while (!done()) {
      std::function<void()> work;
      {
        MutexLock lock(&mutex_);
        while (posted_.empty()) {
          absl::Duration left = until - absl::Now();
          if (left <= absl::ZeroDuration()) return false;
          changed_.WaitFor(&mutex_, left);
        }
        work = std::move(posted_.front());
        posted_.pop_front();
      }
      work();
    }
    return true;
  }

 private:
  Mutex mutex_;
  Condition changed_;
  std::deque<std::function<void()>> posted_ ABSL_GUARDED_BY(mutex_);
};

class RecordingLog final : public Logger {
 public:
  void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields) override {
    std::string key;
    for (const LogField& field : fields) absl::StrAppend(&key, key.empty() ? "" : " ", field.first, "=", field.second);
    MutexLock lock(&mutex_);
    lines_.emplace_back(std::move(key), std::string(message));
    levels_.push_back(level);
  }
  bool Enabled(LogLevel) const override { return true; }

  // The messages whose fields contain `fields`.
  std::vector<std::string> Lines(absl::string_view fields) {
    MutexLock lock(&mutex_);
    std::vector<std::string> found;
    for (const auto& [key, message] : lines_) {
      if (absl::StrContains(key, fields)) found.push_back(message);
    }
    return found;
  }
  std::vector<LogLevel> Levels() {
    MutexLock lock(&mutex_);
    return levels_;
  }

 private:
  Mutex mutex_;
  std::vector<LogLevel> levels_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<std::string, std::string>> lines_ ABSL_GUARDED_BY(mutex_);
};

class TestFolder {
 public:
  TestFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "dirty-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  std::string operator/(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

 private:
  std::string path_;
};

// Waits until the process is dead, reaped or not, or was before.
inline bool IsDeadSoon(pid_t pid) {
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.ok()) return errno == ESRCH;
  pollfd dead = {.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  return poll(&dead, 1, static_cast<int>(absl::ToInt64Milliseconds(kTestLimit))) == 1;
}

inline size_t OpenDescriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

}  // namespace dirty
