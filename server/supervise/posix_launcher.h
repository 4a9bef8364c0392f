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
#include "server/loop/watcher.h"
#include "server/observe/log.h"
#include "server/supervise/child_process.h"
#include "server/supervise/posix_cgroup.h"
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
    ControlGroups::Options control_groups;
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
  std::vector<std::string> Arguments(const WorkerSpec& spec, const std::string& control_group) const;
  std::vector<std::string> Environment(const WorkerSpec& spec) const;
  void OnDead(WorkerId worker);
  // Ends what a worker left in its control group, and removes that, now or when the last of it is dead.
  void RemoveControlGroup(WorkerId worker);

  const Options options_;
  Watcher& watcher_;
  Poster& poster_;
  Logger& log_;
  Events* events_ = nullptr;
  ControlGroups control_groups_;
  absl::flat_hash_map<WorkerId, std::unique_ptr<ChildProcess>> processes_;
  // What the watcher's thread posted asks whether the launcher is still there.
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace dirty
