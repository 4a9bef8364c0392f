#include "worker/runtime/stack_dump.h"

#include <dirent.h>
#include <execinfo.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace dirty::worker {
namespace {

constexpr int kDeepestStack = 100;

// What the signal handler shares with DumpAllStacks.
std::atomic<pid_t> wanted_thread{0};
sem_t printed;

int DumpSignal() { return SIGRTMIN + 7; }

void Write(const std::string& text) {
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;  // nobody to tell
}

void PrintOwnStack(int) {
  int error = errno;
  auto self = static_cast<pid_t>(syscall(SYS_gettid));
  if (wanted_thread.compare_exchange_strong(self, 0)) {
    void* frames[kDeepestStack];
    backtrace_symbols_fd(frames, backtrace(frames, kDeepestStack), STDERR_FILENO);
    sem_post(&printed);
  }
  errno = error;
}

std::vector<pid_t> Threads() {
  std::vector<pid_t> threads;
  DIR* tasks = opendir("/proc/self/task");
  if (tasks == nullptr) return threads;
  while (const dirent* entry = readdir(tasks)) {
    if (pid_t thread; absl::SimpleAtoi(entry->d_name, &thread)) threads.push_back(thread);
  }
  closedir(tasks);
  return threads;
}

std::string ThreadName(pid_t thread) {
  std::string name;
  std::getline(std::ifstream(absl::StrCat("/proc/self/task/", thread, "/comm")), name);
  return name;
}

// False: it did not print in `time`, or what it prints is cut off.
bool WaitForPrint(std::chrono::nanoseconds time) {
  timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  int64_t nanoseconds = until.tv_nsec + time.count();
  until.tv_sec += nanoseconds / 1000000000;
  until.tv_nsec = nanoseconds % 1000000000;
  int result;
  while ((result = sem_clockwait(&printed, CLOCK_MONOTONIC, &until)) != 0 && errno == EINTR) {
  }
  return result == 0;
}

}  // namespace

void PrepareStackDumps() {
  sem_init(&printed, 0, 0);
  void* frame[1];
  backtrace(frame, 1);  // loads the unwinder now, where it may allocate
  struct sigaction action = {};
  action.sa_handler = PrintOwnStack;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(DumpSignal(), &action, nullptr);
}

void DumpAllStacks() {
  std::vector<pid_t> threads = Threads();
  // The threads that run the app come first: they are why anybody asks, and the time may not last for all.
  std::stable_partition(threads.begin(), threads.end(),
                        [](pid_t thread) { return absl::StartsWith(ThreadName(thread), "dirty-slot-"); });
  auto end = std::chrono::steady_clock::now() + kStackDumpTime;
  Write(absl::StrCat("stacks of pid ", getpid(), ", ", threads.size(), " threads:\n"));
  for (pid_t thread : threads) {
    auto left = end - std::chrono::steady_clock::now();
    if (left <= std::chrono::nanoseconds::zero()) {
      Write("no time left for the other threads\n");
      return;
    }
    Write(absl::StrCat("thread ", thread, " ", ThreadName(thread), ":\n"));
    wanted_thread = thread;
    if (syscall(SYS_tgkill, getpid(), thread, DumpSignal()) != 0) continue;  // it has ended
    if (WaitForPrint(std::min<std::chrono::nanoseconds>(left, std::chrono::milliseconds(250)))) continue;
    if (pid_t silent = thread; wanted_thread.compare_exchange_strong(silent, 0)) {
      Write("  did not answer\n");
    } else {
      WaitForPrint(left);  // it has begun just now
    }
  }
}

}  // namespace dirty::worker
