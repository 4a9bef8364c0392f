#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/supervise/posix_cgroup.h"
#include "server/supervise/posix_launcher.h"
#include "server/supervise/workers_directory.h"
#include "tests/unit/launch_support.h"

namespace dirty {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kLimit = 64 << 20;

std::string Text(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void Put(const std::string& path, absl::string_view text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text;
}

// Where this process may make groups: the folder of the real hierarchy that a test works in. Empty: nowhere.
std::string RealMemoryV1() {
  for (absl::string_view line : absl::StrSplit(Text("/proc/self/cgroup"), '\n')) {
    std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || parts[1] != "memory") continue;
    std::string path = absl::StrCat("/sys/fs/cgroup/memory", parts[2] == "/" ? "" : parts[2]);
    if (access(absl::StrCat(path, "/cgroup.procs").c_str(), W_OK) == 0) return path;
  }
  return "";
}

std::vector<std::string> Folders(const std::string& path) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.is_directory()) found.push_back(entry.path().filename().string());
  }
  return found;
}

size_t OurGroups(const std::string& base) {
  std::vector<std::string> all = Folders(base);
  std::string prefix = absl::StrCat("dirty-", getpid(), "-");
  return static_cast<size_t>(
      std::count_if(all.begin(), all.end(), [&](const std::string& name) { return absl::StartsWith(name, prefix); }));
}

// Files that look like the kernel's. They keep the last text that was written, and folders with files in them are not
// removed; what the kernel does by itself, the test does.
class ControlGroupsTest : public ::testing::Test {
 protected:
  ControlGroupsTest() { options_ = {.root = folder_ / "cgroup", .membership = folder_ / "membership"}; }

  // Version 2, with dirtyd in /system/unit, and worker 1's group as the kernel would fill it.
  void MakeUnified(absl::string_view controllers) {
    Put(options_.membership, "0::/system/unit\n");
    Put(options_.root + "/cgroup.controllers", "cpu memory\n");
    for (const char* name : {"cgroup.procs", "cgroup.subtree_control"}) Put(base_ + "/" + name, "");
    Put(base_ + "/cgroup.controllers", controllers);
    Put(base_ + "/memory.events", "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\n");
    Put(base_ + "/dirtyd/cgroup.procs", "");
    for (const char* name : {"cgroup.procs", "cgroup.kill", "memory.max", "memory.swap.max", "memory.oom.group"}) {
      Put(worker_ + "/" + name, "");
    }
    Put(worker_ + "/memory.events", "oom_kill 0\n");
  }

  TestFolder folder_;
  ControlGroups::Options options_;
  std::string base_ = folder_ / "cgroup/system/unit";
  std::string worker_ = absl::StrCat(base_, "/dirty-", getpid(), "-worker-1");
};

TEST_F(ControlGroupsTest, LimitsAWorkerInVersion2) {
  MakeUnified("cpu memory pids\n");
  ControlGroups groups(options_);
  EXPECT_EQ(Text(base_ + "/cgroup.subtree_control"), "") << "nothing is touched until a worker needs it";
  absl::StatusOr<std::string> join = groups.Make(1, kLimit);
  ASSERT_TRUE(join.ok()) << join.status();
  EXPECT_EQ(*join, worker_ + "/cgroup.procs");
  EXPECT_EQ(Text(base_ + "/dirtyd/cgroup.procs"), "0") << "dirtyd moves into a leaf";
  EXPECT_EQ(Text(base_ + "/cgroup.subtree_control"), "+memory");
  EXPECT_EQ(Text(worker_ + "/memory.max"), absl::StrCat(kLimit));
  EXPECT_EQ(Text(worker_ + "/memory.swap.max"), "0");
  EXPECT_EQ(Text(worker_ + "/memory.oom.group"), "1");
}

TEST_F(ControlGroupsTest, BlamesTheWorkerWhoseGroupCountedAKill) {
  MakeUnified("memory\n");
  ControlGroups groups(options_);
  ASSERT_TRUE(groups.Make(1, kLimit).ok());
  // Another worker's kill shows in the group above, too.
  Put(base_ + "/memory.events", "oom_kill 3\n");
  EXPECT_FALSE(groups.TakeOutOfMemoryKill(1));
  Put(worker_ + "/memory.events", "oom_kill 2\n");
  EXPECT_TRUE(groups.TakeOutOfMemoryKill(1));
  EXPECT_FALSE(groups.TakeOutOfMemoryKill(1));
}

TEST_F(ControlGroupsTest, WithoutAGroupOfItsOwnDirtydsCounts) {
  MakeUnified("memory\n");
  ControlGroups groups(options_);
  absl::StatusOr<std::string> join = groups.Make(1, 0);
  ASSERT_TRUE(join.ok());
  EXPECT_EQ(*join, "") << "not delegated: what is not asked for is not done";
  EXPECT_FALSE(groups.TakeOutOfMemoryKill(1));
  Put(base_ + "/memory.events", "oom_kill 4\n");  // two more
  EXPECT_TRUE(groups.TakeOutOfMemoryKill(1));
  EXPECT_TRUE(groups.TakeOutOfMemoryKill(2));
  EXPECT_FALSE(groups.TakeOutOfMemoryKill(3));
}

TEST_F(ControlGroupsTest, KillsAndRemovesThroughTheKernel) {
  MakeUnified("memory\n");
  ControlGroups groups(options_);
  ASSERT_TRUE(groups.Make(1, kLimit).ok());
  groups.Kill(2);  // none: ignored
  EXPECT_EQ(Text(worker_ + "/cgroup.kill"), "");
  groups.Kill(1);
  EXPECT_EQ(Text(worker_ + "/cgroup.kill"), "1");
  EXPECT_THAT(groups.Remove(1), IsEmpty());
  for (const auto& entry : std::filesystem::directory_iterator(worker_)) std::filesystem::remove(entry.path());
  groups.Sweep();
  EXPECT_FALSE(std::filesystem::exists(worker_));
}

TEST_F(ControlGroupsTest, SaysWhatToDoWithoutAGroup) {
  Put(options_.membership, "1:name=systemd:/\n");
  std::filesystem::create_directories(options_.root);
  ControlGroups groups(options_);
  EXPECT_TRUE(groups.Make(1, 0).ok());
  EXPECT_EQ(groups.Make(2, kLimit).status().message(),
            "memory_limit: no control group can be made for the worker: there is no memory controller; give dirtyd a "
            "delegated control group (systemd: Delegate=yes), or leave memory_limit out");
  // A group that dirtyd may not write to.
  MakeUnified("memory\n");
  std::filesystem::remove_all(base_ + "/dirtyd");
  std::filesystem::remove(base_ + "/cgroup.subtree_control");
  Put(base_ + "/dirtyd/cgroup.procs", "");
  ControlGroups unwritable(options_);
  EXPECT_THAT(std::string(unwritable.Make(1, kLimit).status().message()),
              HasSubstr(base_ + "/cgroup.subtree_control: No such file"));
}

// With the kernel's own version 2, where this process may use it.
class UnifiedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* root : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
      if (std::filesystem::exists(absl::StrCat(root, "/cgroup.controllers"))) root_ = root;
    }
    if (root_.empty()) GTEST_SKIP() << "no control groups of version 2 are mounted";
    for (absl::string_view line : absl::StrSplit(Text("/proc/self/cgroup"), '\n')) {
      if (absl::StartsWith(line, "0::")) own_ = absl::StrCat(root_, line.substr(3) == "/" ? "" : line.substr(3));
    }
    base_ = absl::StrCat(own_, "/dirty-test-", getpid());
    if (mkdir(base_.c_str(), 0755) != 0) {
      base_.clear();
      GTEST_SKIP() << "no group can be made in " << own_;
    }
    Put(folder_ / "membership", absl::StrCat("0::", base_.substr(root_.size()), "\n"));
    // The layout of version 2 alone, whatever this machine has.
    std::filesystem::create_directory_symlink(root_, folder_ / "unified");
  }
  void TearDown() override {
    if (!base_.empty()) {
      EXPECT_EQ(rmdir(base_.c_str()), 0) << strerror(errno);
    }
  }

  TestFolder folder_;
  std::string root_, own_, base_;
};

TEST_F(UnifiedTest, EndsWhatEscapedTheProcessGroup) {
  if (setxattr(base_.c_str(), "user.delegate", "1", 1, 0) != 0) GTEST_SKIP() << "no attributes on control groups";
  ControlGroups groups({.root = folder_.path(), .membership = folder_ / "membership"});
  absl::StatusOr<std::string> join = groups.Make(1, 0);
  ASSERT_TRUE(join.ok());
  ASSERT_NE(*join, "") << "delegated: every worker has a group";
  int out[2];
  ASSERT_EQ(pipe(out), 0);
  UniqueFd read_end(out[0]), write_end(out[1]);
  pid_t child = fork();
  if (child == 0) {
    // What the helper does, and a grandchild in a session of its own.
    UniqueFd file(open(join->c_str(), O_WRONLY));
    if (write(file.get(), "0", 1) != 1) _exit(1);
    if (fork() == 0) {
      setsid();
      pid_t self = getpid();
      (void)!write(write_end.get(), &self, sizeof self);
      pause();
    }
    _exit(0);
  }
  pid_t grandchild = 0;
  ASSERT_EQ(read(read_end.get(), &grandchild, sizeof grandchild), static_cast<ssize_t>(sizeof grandchild));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(OurGroups(base_), 1u);
  std::vector<UniqueFd> ending = groups.Remove(1);
  EXPECT_TRUE(IsDeadSoon(grandchild));
  EXPECT_THAT(ending.size(), testing::Le(1u));
  groups.Sweep();
  EXPECT_EQ(OurGroups(base_), 0u);
}

TEST_F(UnifiedTest, IsLeftAloneWithoutDelegation) {
  ControlGroups groups({.root = folder_.path(), .membership = folder_ / "membership"});
  absl::StatusOr<std::string> join = groups.Make(1, 0);
  ASSERT_TRUE(join.ok());
  EXPECT_EQ(*join, "");
  EXPECT_THAT(Folders(base_), IsEmpty());
}

// Real workers in the kernel's version 1.
class MemoryLimitTest : public ::testing::Test, public WorkerLauncher::Events {
 protected:
  void SetUp() override {
    base_ = RealMemoryV1();
    if (base_.empty()) GTEST_SKIP() << "no memory control group of version 1 that this user may write to";
    ASSERT_TRUE(PrepareWorkersDirectory(folder_.path(), "", "").ok());
    launcher_ = std::make_unique<PosixLauncher>(PosixLauncher::Options{.runtime_dir = folder_.path(),
                                                                       .client_socket = folder_ / "dirty.sock",
                                                                       .bin_folder = "/nowhere",
                                                                       .libexec_folder = DIRTY_TEST_LIBEXEC,
                                                                       .python_folder = "/nowhere",
                                                                       .environment = {"PATH=/usr/bin:/bin"},
                                                                       .after_reap = {},
                                                                       .control_groups = {}},
                                                watcher_, loop_, log_);
    launcher_->SetEvents(this);
  }
  void OnListening(WorkerId worker) override { listening_.push_back(worker); }
  void OnExit(WorkerId worker, const ExitStatus& status) override { exits_[worker] = status; }

  pid_t Launch(WorkerId worker, const std::string& script, uint64_t limit) {
    PoolSettings pool;
    pool.runtime = WorkerRuntime::kExec;
    pool.command = {"/bin/sh", "-c", script};
    pool.memory_limit = limit;
    pool.rlimits["core"] = 0;
    WorkerSpec spec;
    spec.id = worker;
    spec.pool = std::make_shared<PoolSettings>(pool);
    absl::StatusOr<pid_t> pid = launcher_->Launch(spec);
    EXPECT_TRUE(pid.ok()) << pid.status();
    return pid.value_or(-1);
  }
  ExitStatus WaitForExit(WorkerId worker) {
    EXPECT_TRUE(loop_.RunUntil([&] { return exits_.count(worker) != 0; }));
    return exits_[worker];
  }

  static constexpr const char* kEatMemory = "exec python3 -c \"x = b'x' * (256 << 20); print('alive')\"";

  std::string base_;
  TestFolder folder_;
  TestLoop loop_;
  RecordingLog log_;
  Watcher watcher_;
  std::unique_ptr<PosixLauncher> launcher_;
  std::vector<WorkerId> listening_;
  std::map<WorkerId, ExitStatus> exits_;
};

TEST_F(MemoryLimitTest, BlamesExactlyTheWorkerThatRanOutOfMemory) {
  Launch(1, "echo >&3; exec sleep 1000", kLimit);
  Launch(2, kEatMemory, kLimit);
  Launch(3, "kill -KILL $$", kLimit);
  ExitStatus eater = WaitForExit(2), killed = WaitForExit(3);
  EXPECT_EQ(eater.Describe(), "killed by SIGKILL (out of memory)");
  EXPECT_EQ(killed.Describe(), "killed by SIGKILL");
  ASSERT_TRUE(loop_.RunUntil([this] { return !listening_.empty(); }));
  EXPECT_EQ(exits_.count(1), 0u) << "the others live";
  launcher_->Kill(1);
  EXPECT_FALSE(WaitForExit(1).out_of_memory);
  EXPECT_EQ(OurGroups(base_), 0u);
}

TEST_F(MemoryLimitTest, AKillThatComesTooLateTakesNoBlame) {
  // Its link breaks when it dies, which may be noticed before its death is.
  pid_t pid = Launch(1, kEatMemory, kLimit);
  ASSERT_TRUE(IsDeadSoon(pid));
  launcher_->Kill(1);
  EXPECT_TRUE(WaitForExit(1).out_of_memory);
}

TEST_F(MemoryLimitTest, AWorkerWithoutALimitMayHaveMore) {
  Launch(1, kEatMemory, 0);
  EXPECT_EQ(WaitForExit(1).exit_code, 0);
  EXPECT_THAT(log_.Lines("worker=1 stream=stdout"), ElementsAre("alive"));
}

TEST_F(MemoryLimitTest, EndsWhatEscapedTheProcessGroupAndLeavesNoGroup) {
  // It goes only once the other is in its own session, and says who that is.
  std::string fifo = folder_ / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  Launch(
      1,
      absl::StrCat("setsid sh -c 'echo $$ > ", fifo, "; exec sleep 1000' & read pid < ", fifo, "; echo $pid; exit 3"),
      kLimit);
  EXPECT_EQ(WaitForExit(1).exit_code, 3);
  std::vector<std::string> lines = log_.Lines("worker=1 stream=stdout");
  pid_t escaped = 0;
  ASSERT_EQ(lines.size(), 1u);
  ASSERT_TRUE(absl::SimpleAtoi(lines[0], &escaped));
  EXPECT_TRUE(IsDeadSoon(escaped));
  EXPECT_TRUE(loop_.RunUntil([this] { return OurGroups(base_) == 0; }));
}

TEST_F(MemoryLimitTest, ItsEndLeavesNoGroup) {
  Launch(1, "setsid sh -c 'echo >&3; exec sleep 1000' & exec sleep 1000", kLimit);
  ASSERT_TRUE(loop_.RunUntil([this] { return !listening_.empty(); }));
  EXPECT_EQ(OurGroups(base_), 1u);
  launcher_.reset();
  EXPECT_EQ(OurGroups(base_), 0u);
}

}  // namespace
}  // namespace dirty
