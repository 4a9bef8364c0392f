// A program that dirtyd runs, a worker or a hook, started through the exec helper (server/spawn): what it writes
// becomes lines of the log, its death is told after everything that it wrote before, and nothing of its process group
// stays.
//
//   absl::StatusOr<std::unique_ptr<ChildProcess>> child = ChildProcess::Start({...}, watcher, poster, log);
//   // ... later, in on_dead:
//   ExitStatus status = child->Reap();
//
// Owned by what started it (PosixLauncher, ExecHooks). Loop-confined, on the main thread: a child is killed by the
// kernel when the thread that spawned it ends.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/loop/poster.h"
#include "server/loop/unique_fd.h"
#include "server/loop/watcher.h"
#include "server/observe/log.h"
#include "server/supervise/worker_process.h"

namespace dirty {

class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> arguments;    // HelperArguments, further options of the helper, "--", the program
    std::vector<std::string> environment;  // "NAME=value"
    WorkerId worker = 0;                   // whose lines these are in the log; 0: no worker's
    std::string hook;                      // likewise; empty: no hook's
    std::optional<std::string> input;      // what it reads; nullopt: nothing, /dev/null
    UniqueFd standard_input = {};          // or: its standard input itself, an end of something that is ours
    std::function<void()> on_ready;        // on the loop: it wrote a newline to kReadyFd; empty: it gets no such
    std::function<void()> on_gone;         // on the watcher's thread, before on_dead; may be empty
    std::function<void()> on_dead;         // on the loop: Reap it, then let it go
  };

  // The watcher may end before the child; the others outlive it. An error: nothing was started and nothing is called.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(Options options, Watcher& watcher, Poster& poster,
                                                             Logger& log);
  // Kills and reaps what still runs; nothing is called any more.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }

  // SIGKILL to its whole process group.
  void Kill();
  // Whether Kill came before its end began: else something else killed it.
  bool killed() const { return killed_; }

  // In on_dead, once: ends what is left of its process group and reaps it.
  ExitStatus Reap();
  // After Reap: why the helper could not run the program, printable; empty: it ran.
  std::string Failure() const;

 private:
  struct Stream;
  struct Pipes;

  ChildProcess(pid_t pid, Logger& log) : pid_(pid), log_(log) {}
  void WatchDeath(Watcher& watcher, UniqueFd pidfd);

  pid_t pid_;
  Logger& log_;
  bool reaped_ = false;
  bool killed_ = false;
  std::function<void()> on_ready_;
  std::function<void()> on_gone_;
  std::function<void()> on_dead_;
  std::shared_ptr<Pipes> pipes_;
  // What the watcher's thread posted asks whether this is still there.
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

// How a command line of the exec helper begins. `descriptor_limit`: the soft limit that dirtyd was started with, for
// the child; 0: dirtyd's own.
std::vector<std::string> HelperArguments(const std::string& libexec_folder, rlim_t descriptor_limit);

// $PYTHONPATH of a pool's Python programs: its folders, then dirtyd's own code, then what was there.
std::string PythonSearchPath(const PoolSettings& pool, const std::string& python_folder, const std::string& before);

// Whether the service manager (systemd) talks to dirtyd alone by this environment variable: no child gets it.
bool IsOfServiceManager(absl::string_view variable);

// The beginning, up to 64 KiB, of a file of procfs or cgroupfs, which waits for no disk; empty if it cannot be read.
std::string ReadKernelFile(const std::string& path);

}  // namespace dirty
