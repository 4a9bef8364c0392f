#include "server/supervise/worker_process.h"

#include <signal.h>
#include <string.h>

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

}  // namespace dirty
