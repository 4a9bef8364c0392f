// Starts workers as processes, through the exec helper (server/spawn), and tells how they end.
//
// Owned by main. Loop-confined, on the main thread: a worker is killed by the kernel when the thread that spawned it
// ends. Launch returns at once; what goes wrong after that (no such program, user or folder) is an exit with code 127
// whose stderr tail says what.
#pragma once

#include <sys/resource.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "server/loop/poster.h"
#include "server/loop/unique_fd.h"
#include "server/loop/watcher.h"
#include "server/observe/log.h"
#include "server/supervise/worker_process.h"

namespace dirty {

class PosixLauncher final : public WorkerLauncher {
 public:
  struct Options {
    std::string runtime_dir;
    std::string client_socket;             // $DIRTY_SOCKET of the workers
    std::string bin_folder;                // has dirty-worker
    std::string libexec_folder;            // has dirty-exec
    std::string python_folder;             // has the package dirty_worker
    std::vector<std::string> environment;  // dirtyd's own, "NAME=value"
    rlim_t descriptor_limit = 0;           // the soft limit that dirtyd was started with (RaiseDescriptorLimit)
    std::function<void()> after_reap;      // on the loop, after each worker was reaped (ReapStrangers); may be empty
  };

  // All of them outlive the launcher.
  PosixLauncher(Options options, Watcher& watcher, Poster& poster, Logger& log);
  // Kills and reaps what still runs, without events. On the loop's thread.
  ~PosixLauncher() override;

  // Before the first Launch.
  void SetEvents(Events* events) { events_ = events; }

  absl::StatusOr<pid_t> Launch(const WorkerSpec& spec) override;
  void Kill(WorkerId worker) override;
  ProcessUsage Usage(WorkerId worker) override;

  // Whether `pid` is a worker that was not reaped yet.
  bool Owns(pid_t pid) const;

 private:
  struct Stream;
  struct Output;

  struct Process {
    pid_t pid = 0;
    bool killed = false;  // by Kill
    std::shared_ptr<Output> output;
  };

  std::vector<std::string> Arguments(const WorkerSpec& spec) const;
  std::map<std::string, std::string> Environment(const WorkerSpec& spec) const;
  void WatchStream(const std::shared_ptr<Output>& output, Stream& stream, UniqueFd fd,
                   std::function<void(absl::string_view)> take);
  void WatchDeath(WorkerId worker, std::shared_ptr<Output> output, UniqueFd pidfd);
  void OnListening(WorkerId worker);
  void OnDead(WorkerId worker);
  // Whether a process of our control group was killed for lack of memory that was not accounted for yet.
  bool TakeOutOfMemoryKill();

  const Options options_;
  Watcher& watcher_;
  Poster& poster_;
  Logger& log_;
  Events* events_ = nullptr;
  absl::flat_hash_map<WorkerId, Process> processes_;
  std::string oom_file_;    // empty: none can be read
  uint64_t oom_kills_ = 0;  // those accounted for
  // What the watcher's thread posted asks whether the launcher is still there.
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace dirty
