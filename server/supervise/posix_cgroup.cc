#include "server/supervise/posix_cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
extern "C" {
#include <sys/pidfd.h>  // glibc 2.36's has no extern "C" of its own
}

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/loop/check.h"
#include "server/supervise/child_process.h"

namespace dirty {
namespace {

constexpr absl::string_view kLeaf = "/dirtyd";
constexpr absl::string_view kPrefix = "dirty-";  // of workers' groups: dirty-PID-worker-ID
constexpr absl::string_view kWorker = "-worker-";
constexpr int kEndLimitMilliseconds = 1000;  // for what was killed, in the destructor
constexpr size_t kMostWatched = 64;          // processes that outlive a worker
constexpr int kKillRounds = 8;               // against what forks while it is killed

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

absl::Status Write(const std::string& path, absl::string_view text) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.ok() && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size())) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, path);
}

bool HasWord(const std::string& path, absl::string_view word) {
  for (absl::string_view each : absl::StrSplit(ReadKernelFile(path), absl::ByAnyChar(" \n"))) {
    if (each == word) return true;
  }
  return false;
}

// systemd marks the groups that it delegates.
bool IsDelegated(const std::string& path) {
  for (const char* name : {"user.delegate", "trusted.delegate"}) {
    char value = 0;
    if (getxattr(path.c_str(), name, &value, 1) == 1 && value == '1') return true;
  }
  return false;
}

uint64_t ReadKills(const std::string& file) {
  uint64_t kills = 0;
  if (file.empty()) return 0;
  for (absl::string_view line : absl::StrSplit(ReadKernelFile(file), '\n')) {
    if (absl::ConsumePrefix(&line, "oom_kill ")) (void)absl::SimpleAtoi(line, &kills);
  }
  return kills;
}

// The file of a group that counts kills for lack of memory: version 2's, else version 1's, else empty.
std::string EventsFile(const std::string& group) {
  for (absl::string_view name : {"/memory.events", "/memory.oom_control"}) {
    std::string file = absl::StrCat(group, name);
    if (absl::StrContains(ReadKernelFile(file), "oom_kill ")) return file;
  }
  return "";
}

std::vector<pid_t> Members(const std::string& group) {
  std::vector<pid_t> pids;
  for (absl::string_view line : absl::StrSplit(ReadKernelFile(absl::StrCat(group, "/cgroup.procs")), '\n')) {
    pid_t pid = 0;
    if (absl::SimpleAtoi(line, &pid) && pid > 0) pids.push_back(pid);
  }
  return pids;
}

// Kills what is in a group, and returns it, at most kMostWatched. A pid may be a stranger's by the time it was read;
// one that is still a member once there is a pidfd of it is not.
std::vector<UniqueFd> KillMembers(const std::string& group) {
  std::vector<UniqueFd> killed;
  bool at_once = Write(absl::StrCat(group, "/cgroup.kill"), "1").ok();
  for (int round = 0; round < kKillRounds && killed.size() < kMostWatched; ++round) {
    std::vector<std::pair<pid_t, UniqueFd>> candidates;
    for (pid_t pid : Members(group)) {
      if (candidates.size() >= kMostWatched) break;
      candidates.emplace_back(pid, UniqueFd(pidfd_open(pid, 0)));
    }
    if (candidates.empty()) break;
    std::vector<pid_t> members = Members(group);
    for (auto& [pid, fd] : candidates) {
      if (!fd.ok() || std::count(members.begin(), members.end(), pid) == 0) continue;
      if (!at_once) (void)pidfd_send_signal(fd.get(), SIGKILL, nullptr, 0);
      killed.push_back(std::move(fd));
    }
    if (at_once) break;
  }
  return killed;
}

// Where a group of /proc/self/cgroup is: a container may see it as the root of what is mounted.
std::string Locate(const std::string& mount, absl::string_view path) {
  std::string full = absl::StrCat(mount, path == "/" ? "" : path);
  return Exists(absl::StrCat(full, "/cgroup.procs")) ? full : mount;
}

}  // namespace

ControlGroups::ControlGroups(const Options& options) {
  // In the hybrid layout version 2 is one mount of many.
  std::string unified = options.root;
  if (!Exists(absl::StrCat(unified, "/cgroup.controllers"))) absl::StrAppend(&unified, "/unified");
  for (absl::string_view line : absl::StrSplit(ReadKernelFile(options.membership), '\n', absl::SkipEmpty())) {
    std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    if (parts[1].empty() && Exists(absl::StrCat(unified, "/cgroup.controllers"))) unified_ = Locate(unified, parts[2]);
    if (parts[1] == "memory") memory_v1_ = Locate(absl::StrCat(options.root, "/memory"), parts[2]);
  }
  delegated_ = !unified_.empty() && IsDelegated(unified_);
  controls_memory_ = !unified_.empty() && HasWord(absl::StrCat(unified_, "/cgroup.controllers"), "memory");
  for (const std::string& group : {unified_, memory_v1_}) {
    if (!group.empty() && own_.events.empty()) own_.events = EventsFile(group);
    if (!group.empty()) RemoveStale(group);
  }
  own_.kills_seen = ReadKills(own_.events);
}

ControlGroups::~ControlGroups() {
  std::vector<WorkerId> workers;
  for (const auto& [worker, group] : groups_) workers.push_back(worker);
  std::vector<UniqueFd> ending;
  for (WorkerId worker : workers) {
    for (UniqueFd& fd : Remove(worker)) ending.push_back(std::move(fd));
  }
  // What a worker removed earlier left behind may still be ending, too.
  for (const std::string& group : left_) {
    for (UniqueFd& fd : KillMembers(group)) ending.push_back(std::move(fd));
  }
  for (UniqueFd& fd : ending) {
    pollfd dead = {.fd = fd.get(), .events = POLLIN, .revents = 0};
    (void)poll(&dead, 1, kEndLimitMilliseconds);
  }
  Sweep();
  LeaveLeaf();
}

// Groups of a dirtyd that was killed. One that is not empty cannot be removed: no harm is done.
void ControlGroups::RemoveStale(const std::string& base) {
  DIR* entries = opendir(base.c_str());
  if (entries == nullptr) return;
  while (dirent* entry = readdir(entries)) {
    absl::string_view name = entry->d_name;
    size_t end = name.find(kWorker);
    pid_t pid = 0;
    if (!absl::ConsumePrefix(&name, kPrefix) || end == name.npos) continue;
    if (!absl::SimpleAtoi(name.substr(0, end - kPrefix.size()), &pid) || pid <= 0) continue;
    if (kill(pid, 0) != 0 && errno == ESRCH) rmdir(absl::StrCat(base, "/", entry->d_name).c_str());
  }
  closedir(entries);
}

// Moves dirtyd below its own group and has the memory controller work for the groups beside it.
absl::Status ControlGroups::EnterLeaf() {
  if (in_leaf_) return absl::OkStatus();
  std::string leaf = absl::StrCat(unified_, kLeaf);
  if (mkdir(leaf.c_str(), 0755) != 0 && errno != EEXIST) return absl::ErrnoToStatus(errno, leaf);
  in_leaf_ = true;  // or on the way
  absl::Status status = Write(absl::StrCat(leaf, "/cgroup.procs"), "0");
  if (status.ok()) status = Write(absl::StrCat(unified_, "/cgroup.subtree_control"), "+memory");
  if (absl::IsFailedPrecondition(status)) {  // EBUSY
    status = absl::FailedPreconditionError(absl::StrCat(status.message(), " (other processes are in dirtyd's group)"));
  }
  if (!status.ok()) LeaveLeaf();
  return status;
}

void ControlGroups::LeaveLeaf() {
  if (!std::exchange(in_leaf_, false)) return;
  (void)Write(absl::StrCat(unified_, "/cgroup.subtree_control"), "-memory");
  (void)Write(absl::StrCat(unified_, "/cgroup.procs"), "0");
  rmdir(absl::StrCat(unified_, kLeaf).c_str());
}

absl::StatusOr<std::string> ControlGroups::MakeGroup(const std::string& base, WorkerId worker) {
  std::string path = absl::StrCat(base, "/", kPrefix, getpid(), kWorker, worker);
  for (bool again = true; mkdir(path.c_str(), 0755) != 0; again = false) {
    if (errno != EEXIST) return absl::ErrnoToStatus(errno, path);
    // A killed dirtyd with our pid left it. If it is not empty, what is in it ends with the worker.
    if (!again || rmdir(path.c_str()) != 0) break;
  }
  return path;
}

absl::StatusOr<std::string> ControlGroups::Make(WorkerId worker, uint64_t memory_limit) {
  DIRTY_CHECK(!groups_.contains(worker), "worker ", worker);
  Sweep();
  auto refused = [](absl::string_view why) {
    return absl::FailedPreconditionError(
        absl::StrCat("memory_limit: no control group can be made for the worker: ", why,
                     "; give dirtyd a delegated control group (systemd: Delegate=yes), or leave memory_limit out"));
  };
  bool limited = memory_limit != 0;
  bool v2 = delegated_ && !limited;
  if (controls_memory_ && (delegated_ || limited)) {
    absl::Status status = EnterLeaf();
    if (!status.ok() && limited) return refused(status.message());
    v2 = true;
  }
  if (!v2 && !limited) return "";
  if (!v2 && memory_v1_.empty()) return refused("there is no memory controller");
  absl::StatusOr<std::string> path = MakeGroup(v2 ? unified_ : memory_v1_, worker);
  if (!path.ok()) return limited ? absl::StatusOr<std::string>(refused(path.status().message())) : "";
  Group group{.path = *path, .events = EventsFile(*path)};
  group.kills_seen = ReadKills(group.events);
  if (limited) {
    std::string bytes = absl::StrCat(memory_limit);
    absl::Status status = Write(absl::StrCat(*path, v2 ? "/memory.max" : "/memory.limit_in_bytes"), bytes);
    if (!status.ok()) {
      rmdir(path->c_str());
      return refused(status.message());
    }
    // A limit, not a reason to swap; these need a kernel that counts swap. A worker and its children live and die
    // together.
    (void)Write(absl::StrCat(*path, v2 ? "/memory.swap.max" : "/memory.memsw.limit_in_bytes"), v2 ? "0" : bytes);
    if (v2) (void)Write(absl::StrCat(*path, "/memory.oom.group"), "1");
  }
  groups_[worker] = std::move(group);
  return absl::StrCat(*path, "/cgroup.procs");
}

void ControlGroups::Kill(WorkerId worker) {
  auto it = groups_.find(worker);
  if (it != groups_.end()) (void)KillMembers(it->second.path);
}

bool ControlGroups::TakeOutOfMemoryKill(WorkerId worker) {
  auto it = groups_.find(worker);
  bool has_group = it != groups_.end() && !it->second.events.empty();
  Group& group = has_group ? it->second : own_;
  uint64_t kills = ReadKills(group.events);
  if (kills <= group.kills_seen) return false;
  // One process of a worker's own group is the worker; in ours each kill is another worker's.
  group.kills_seen = has_group ? kills : group.kills_seen + 1;
  return true;
}

std::vector<UniqueFd> ControlGroups::Remove(WorkerId worker) {
  auto it = groups_.find(worker);
  if (it == groups_.end()) return {};
  std::vector<UniqueFd> ending = KillMembers(it->second.path);
  left_.push_back(std::move(it->second.path));
  groups_.erase(it);
  Sweep();
  return ending;
}

void ControlGroups::Sweep() {
  std::erase_if(left_, [](const std::string& path) { return rmdir(path.c_str()) == 0 || errno == ENOENT; });
}

}  // namespace dirty
