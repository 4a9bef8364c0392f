// What tests of hooks share: a clock that stands still, and a log that wakes the test up.
#pragma once

#include <string>
#include <vector>

#include "server/loop/timers.h"
#include "tests/unit/launch_support.h"

namespace dirty {

// Time stands still until the test moves it.
class StillClock final : public Clock {
 public:
  absl::Time Now() const override { return now_; }
  void Advance(absl::Duration by) { now_ += by; }

 private:
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

// A log that wakes the test up.
class WakingLog final : public Logger {
 public:
  explicit WakingLog(Poster& poster) : poster_(poster) {}
  void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields) override {
    lines_.Log(level, message, fields);
    poster_.Post([] {});
  }
  bool Enabled(LogLevel) const override { return true; }
  std::vector<std::string> Lines(absl::string_view fields) { return lines_.Lines(fields); }

 private:
  RecordingLog lines_;
  Poster& poster_;
};

}  // namespace dirty
