#include "worker/runtime/termination.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

namespace dirty::worker {
namespace {

constexpr char kTerm = 't';
constexpr char kEnd = 'e';

std::atomic<int> pipe_end{-1};
std::atomic<pid_t> owner{0};

void OnTerm(int) {
  int error = errno;
  if (getpid() != owner) {  // a child that an app forked, which has the pipe too
    signal(SIGTERM, SIG_DFL);
    raise(SIGTERM);
    return;
  }
  [[maybe_unused]] ssize_t written = write(pipe_end, &kTerm, 1);
  errno = error;
}

void OnInt(int) {}

void Handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

Termination::Termination(std::function<void(int)> on_term) {
  if (pipe2(pipe_, O_CLOEXEC) != 0) abort();
  pipe_end = pipe_[1];
  owner = getpid();
  thread_ = std::thread([this, on_term = std::move(on_term)] {
    pthread_setname_np(pthread_self(), "dirty-signals");
    int count = 0;
    char what;
    while (true) {
      ssize_t got = read(pipe_[0], &what, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got != 1 || what == kEnd) return;
      on_term(++count);
    }
  });
  Handle(SIGTERM, OnTerm);
  Handle(SIGINT, OnInt);
}

Termination::~Termination() {
  signal(SIGTERM, SIG_IGN);
  [[maybe_unused]] ssize_t written = write(pipe_[1], &kEnd, 1);
  thread_.join();
  close(pipe_[0]);
  close(pipe_[1]);
}

}  // namespace dirty::worker
