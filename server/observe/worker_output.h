// One output stream of one worker or hook, standard output or standard error, turned into lines of the log. Owned by
// its ChildProcess. Thread-compatible: used on the watcher's thread only, and handed to the loop once its process is
// gone.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/observe/log.h"

namespace dirty {

class WorkerOutput {
 public:
  static constexpr size_t kLongestLine = 8192;  // bytes; longer ones are split
  static constexpr size_t kTailLines = 20;
  static constexpr size_t kTailLineBytes = 512;

  // `stream` is "stdout" or "stderr", for the log. `hook`: of which hook; empty: the worker's own. `worker` 0: of a
  // hook that is about no worker.
  WorkerOutput(uint32_t worker, absl::string_view stream, Logger& log, std::string hook = "");

  // Logs every line that ends in `data`; the rest waits for more.
  void Append(absl::string_view data);

  // The stream is over: logs a last line that has no newline.
  void Finish();

  // The last lines, oldest first, printable and cut to kTailLineBytes.
  std::vector<std::string> Tail() const { return {tail_.begin(), tail_.end()}; }

  // What tells most of how it ended: of a stack dump of Python's what happened and where, which the tail may have lost;
  // else the last line. Empty: there is none.
  std::string LastWords() const;

 private:
  void Line(absl::string_view line);
  void LookForDump(absl::string_view line);

  std::string worker_;
  absl::string_view stream_;
  std::string hook_;
  Logger& log_;
  std::string partial_;
  bool split_ = false;       // the line at hand began before `partial_`
  bool dying_ = false;       // a stack dump has begun: it is the last that comes
  std::string fatal_;        // its "Fatal Python error: ..."; empty: it was asked for
  std::string frame_;        // its line that tells where
  bool culprit_ = false;     // it named the thread that failed: the others do not matter
  bool frame_next_ = false;  // a thread's innermost frame comes next
  std::deque<std::string> tail_;
};

}  // namespace dirty
