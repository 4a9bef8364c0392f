// Control groups of workers: one each, below dirtyd's own. The kernel keeps a worker's memory limit there, counts whom
// it killed for that, and ends what escaped a worker's process group.
//
// Version 2 is used where dirtyd's group was delegated to it (systemd: Delegate=yes), or where a worker has a memory
// limit and dirtyd's group is writable. dirtyd then moves itself into a leaf first: a group with processes in it may
// not limit groups below it. Version 1's memory hierarchy is used for workers with a memory limit, where version 2 has
// no memory controller.
//
// Owned by PosixLauncher. Loop-confined: the files are the kernel's, no disk is waited for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "server/loop/unique_fd.h"
#include "server/supervise/worker_process.h"

namespace dirty {

class ControlGroups {
 public:
  struct Options {
    std::string root = "/sys/fs/cgroup";           // where the hierarchies are mounted
    std::string membership = "/proc/self/cgroup";  // which groups dirtyd is in
  };

  explicit ControlGroups(const Options& options);
  // Removes the groups, and moves dirtyd back.
  ~ControlGroups();
  ControlGroups(const ControlGroups&) = delete;
  ControlGroups& operator=(const ControlGroups&) = delete;

  // Makes the group of a worker that is about to start. Returns the file by which a process joins it; empty: this
  // worker gets none. `memory_limit`: bytes; 0: no limit. An error, only where there is a limit: why none can be had,
  // and what to do.
  absl::StatusOr<std::string> Make(WorkerId worker, uint64_t memory_limit);

  // SIGKILL to everything in the worker's group. One that has none is ignored.
  void Kill(WorkerId worker);

  // Whether the kernel killed something for lack of memory that was not accounted for yet: in the worker's own group,
  // else in dirtyd's.
  bool TakeOutOfMemoryKill(WorkerId worker);

  // The worker is gone: ends what is left in its group, and removes that. Returns what still has to end first, as
  // pidfds: Sweep when one of them did.
  std::vector<UniqueFd> Remove(WorkerId worker);

  // Removes groups that could not be removed before.
  void Sweep();

 private:
  struct Group {
    std::string path;
    std::string events;       // the file that counts kills; empty: none
    uint64_t kills_seen = 0;  // those accounted for
  };

  absl::StatusOr<std::string> MakeGroup(const std::string& base, WorkerId worker);
  absl::Status EnterLeaf();
  void LeaveLeaf();
  void RemoveStale(const std::string& base);

  std::string unified_;    // dirtyd's own group of version 2; empty: none
  std::string memory_v1_;  // likewise, of version 1's memory hierarchy
  bool delegated_ = false;
  bool controls_memory_ = false;  // version 2 does
  bool in_leaf_ = false;
  Group own_;  // dirtyd's: where workers without a group are accounted for
  absl::flat_hash_map<WorkerId, Group> groups_;
  std::vector<std::string> left_;  // to be removed
};

}  // namespace dirty
