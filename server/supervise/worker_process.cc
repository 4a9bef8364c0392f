#include "server/supervise/worker_process.h"

#include <signal.h>
#include <string.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace dirty {

std::string ExitStatus::SignalName() const {
  if (signal == 0) return "";
  const char* name = sigabbrev_np(signal);
  return name != nullptr ? absl::StrCat("SIG", name) : absl::StrCat("signal ", signal);
}

std::string ExitStatus::Describe() const {
  if (signal == 0) return absl::StrCat("exited with ", exit_code.value_or(0));
  return absl::StrCat("killed by ", SignalName(), out_of_memory ? " (out of memory)" : "");
}

std::string ExitStatus::LastWords() const {
  if (stderr_tail.empty()) return "";
  auto fatal = std::find_if(stderr_tail.begin(), stderr_tail.end(),
                            [](const std::string& line) { return absl::StartsWith(line, "Fatal Python error"); });
  if (fatal == stderr_tail.end()) return stderr_tail.back();
  auto frame =
      std::find_if(fatal, stderr_tail.end(), [](const std::string& line) { return absl::StartsWith(line, "  File "); });
  return frame == stderr_tail.end() ? *fatal : absl::StrCat(*fatal, ", in", frame->substr(1));
}

}  // namespace dirty
