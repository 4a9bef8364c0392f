// Threads are started where there may be none, because a limit on processes is reached.
#pragma once

#include <signal.h>

#include <system_error>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace dirty {

// As long as it lives, threads are started that no signal reaches.
class SignalsHeldBack {
 public:
  SignalsHeldBack() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsHeldBack() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeldBack(const SignalsHeldBack&) = delete;
  SignalsHeldBack& operator=(const SignalsHeldBack&) = delete;

 private:
  sigset_t before_;
};

// Does what starts threads. RESOURCE_EXHAUSTED: the system has none to give (pids.max, RLIMIT_NPROC, memory).
template <typename Work>
absl::Status StartThreads(Work work) {
  try {
    work();
    return absl::OkStatus();
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot start a thread: ", error.code().message(),
                                                     "; raise the limit of processes (ulimit -u, TasksMax, pids.max)"));
  }
}

// Runs `work` on a thread of its own. Errors as above.
template <typename Work>
absl::StatusOr<std::thread> StartThread(Work work) {
  std::thread thread;
  if (absl::Status none = StartThreads([&] { thread = std::thread(std::move(work)); }); !none.ok()) return none;
  return thread;
}

}  // namespace dirty
