#include "server/loop/process_signals.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "server/loop/check.h"
#include "server/loop/unique_fd.h"

namespace dirty {
namespace {

constexpr rlim_t kMostDescriptors = 1048576;

sigset_t OurSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGTTIN, SIGTTOU, SIGCHLD}) sigaddset(&set, signal);
  return set;
}

}  // namespace

void BlockSignals() {
  sigset_t ours = OurSignals();
  DIRTY_CHECK(pthread_sigmask(SIG_BLOCK, &ours, nullptr) == 0, "pthread_sigmask");
  DIRTY_CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR, "signal");
  // A parent may have left it ignored: then the kernel would reap our workers and their exit codes were lost.
  DIRTY_CHECK(signal(SIGCHLD, SIG_DFL) != SIG_ERR, "signal");
}

ProcessSignals::ProcessSignals(Watcher& watcher, Poster& poster, std::function<void(int signal)> on_signal) {
  sigset_t ours = OurSignals();
  UniqueFd fd(signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK));
  DIRTY_CHECK(fd.ok(), "signalfd");
  watcher.Watch(std::move(fd), EPOLLIN, [&poster, on_signal = std::move(on_signal)](int descriptor, uint32_t) {
    signalfd_siginfo info;
    while (read(descriptor, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      poster.Post([on_signal, signal = static_cast<int>(info.ssi_signo)] { on_signal(signal); });
    }
    return Watcher::Next::kKeep;
  });
}

int ReapStrangers(const std::function<bool(pid_t)>& is_ours) {
  int reaped = 0;
  for (;;) {
    siginfo_t info = {};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return reaped;
    if (is_ours(info.si_pid)) return reaped;
    siginfo_t ignored = {};
    if (waitid(P_PID, static_cast<id_t>(info.si_pid), &ignored, WEXITED | WNOHANG) == 0 && ignored.si_pid != 0)
      ++reaped;
  }
}

rlim_t RaiseDescriptorLimit() {
  rlimit limit = {};
  DIRTY_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
  rlim_t original = limit.rlim_cur;
  limit.rlim_cur = std::max(original, std::min(limit.rlim_max, kMostDescriptors));
  // Refused: go on with what there is.
  if (limit.rlim_cur != original) (void)setrlimit(RLIMIT_NOFILE, &limit);
  return original;
}

}  // namespace dirty
