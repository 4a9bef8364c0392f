// Threads that are started while dirtyd runs: there may be none, where a limit on processes is reached.
#pragma once

#include <system_error>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace dirty {

// Runs `work` on a thread of its own. RESOURCE_EXHAUSTED: the system has none to give (pids.max, RLIMIT_NPROC, memory).
template <typename Work>
absl::StatusOr<std::thread> StartThread(Work work) {
  try {
    return std::thread(std::move(work));
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot start a thread: ", error.code().message()));
  }
}

}  // namespace dirty
