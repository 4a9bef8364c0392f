#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/loop/process_signals.h"
#include "server/supervise/posix_launcher.h"
#include "server/supervise/workers_directory.h"
#include "tests/unit/launch_support.h"

namespace dirty {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

#ifdef NDEBUG
constexpr int kManyLaunches = 1000;
#else
constexpr int kManyLaunches = 200;
#endif

class PosixLauncherTest : public ::testing::Test, public WorkerLauncher::Events {
 protected:
  PosixLauncherTest() {
    options_.runtime_dir = folder_.path();
    options_.client_socket = folder_ / "dirty.sock";
    options_.bin_folder = "/nowhere/bin";
    options_.libexec_folder = DIRTY_TEST_LIBEXEC;
    options_.python_folder = "/nowhere/python";
    options_.environment = {"PATH=/usr/bin:/bin"};
    pool_.name = "default";
    pool_.runtime = WorkerRuntime::kExec;
    pool_.rlimits["core"] = 0;
    EXPECT_TRUE(PrepareWorkersDirectory(folder_.path(), "", "").ok());
  }

  void OnListening(WorkerId worker) override {
    EXPECT_EQ(exits_.count(worker), 0u);
    EXPECT_TRUE(listening_.insert(worker).second);
  }
  void OnExit(WorkerId worker, const ExitStatus& status) override {
    EXPECT_TRUE(exits_.emplace(worker, status).second);
  }

  PosixLauncher& launcher() {
    if (!launcher_) {
      launcher_ = std::make_unique<PosixLauncher>(options_, watcher_, loop_, log_);
      launcher_->SetEvents(this);
    }
    return *launcher_;
  }

  pid_t Launch(const std::vector<std::string>& command) {
    WorkerSpec spec;
    spec.id = ++last_;
    spec.index = 7;
    pool_.command = command;
    spec.pool = std::make_shared<PoolSettings>(pool_);
    spec.apps = apps_;
    absl::StatusOr<pid_t> pid = launcher().Launch(spec);
    EXPECT_TRUE(pid.ok()) << pid.status();
    return pid.value_or(-1);
  }
  pid_t LaunchShell(const std::string& script) { return Launch({"/bin/sh", "-c", script}); }

  // How the last one launched ended.
  ExitStatus WaitForExit() {
    EXPECT_TRUE(loop_.RunUntil([this] { return exits_.count(last_) != 0; }));
    return exits_[last_];
  }

  std::vector<std::string> Stdout() { return log_.Lines(absl::StrCat("worker=", last_, " stream=stdout")); }

  // Until the watcher has done what was asked of it so far.
  void WaitForWatcher() {
    bool done = false;
    watcher_.Run([this, &done] { loop_.Post([&done] { done = true; }); });
    EXPECT_TRUE(loop_.RunUntil([&done] { return done; }));
  }

  TestFolder folder_;
  PosixLauncher::Options options_;
  PoolSettings pool_;
  std::vector<AppSettings> apps_;
  TestLoop loop_;
  RecordingLog log_;
  Watcher watcher_;
  std::unique_ptr<PosixLauncher> launcher_;
  WorkerId last_ = 0;
  std::set<WorkerId> listening_;
  std::map<WorkerId, ExitStatus> exits_;
};

TEST_F(PosixLauncherTest, TellsThatAWorkerListensAndThatItWasKilled) {
  LaunchShell("echo >&$DIRTY_READY_FD; exec sleep 1000");
  ASSERT_TRUE(loop_.RunUntil([this] { return !listening_.empty(); }));
  launcher().Kill(last_);
  ExitStatus status = WaitForExit();
  EXPECT_EQ(status.signal, SIGKILL);
  EXPECT_FALSE(status.exit_code.has_value());
  EXPECT_EQ(status.Describe(), "killed by SIGKILL");
}

TEST_F(PosixLauncherTest, ReadyNeedsANewlineAndComesOnce) {
  LaunchShell("exec 3>&-; exit 0");
  WaitForExit();
  EXPECT_THAT(listening_, ElementsAre());
  LaunchShell("echo >&3; echo >&3; echo done");
  WaitForExit();
  EXPECT_EQ(listening_.size(), 1u);  // the second would fail OnListening
}

TEST_F(PosixLauncherTest, TellsExitCodes) {
  LaunchShell("exit 7");
  ExitStatus status = WaitForExit();
  EXPECT_EQ(status.exit_code, 7);
  EXPECT_EQ(status.signal, 0);
  EXPECT_EQ(status.SignalName(), "");
  EXPECT_EQ(status.Describe(), "exited with 7");
}

TEST_F(PosixLauncherTest, TellsSignals) {
  LaunchShell("kill -SEGV $$");
  ExitStatus status = WaitForExit();
  EXPECT_EQ(status.signal, SIGSEGV);
  EXPECT_EQ(status.SignalName(), "SIGSEGV");
  EXPECT_EQ(status.Describe(), "killed by SIGSEGV");
  EXPECT_FALSE(status.out_of_memory);
}

TEST_F(PosixLauncherTest, KeepsTheEndOfStandardError) {
  LaunchShell("for i in $(seq 30); do echo line $i >&2; done; printf 'the last' >&2; exit 1");
  ExitStatus status = WaitForExit();
  ASSERT_EQ(status.stderr_tail.size(), 20u);
  EXPECT_EQ(status.stderr_tail.front(), "line 12");
  EXPECT_EQ(status.stderr_tail.back(), "the last");
  EXPECT_EQ(log_.Lines("worker=1 stream=stderr").size(), 31u);
}

TEST_F(PosixLauncherTest, LosesNoOutputOfAQuickDeath) {
  // More than a pipe holds, and the end of it is still in the pipe at death.
  LaunchShell("seq 100000; kill -KILL $$");
  EXPECT_EQ(WaitForExit().signal, SIGKILL);
  std::vector<std::string> lines = Stdout();
  ASSERT_EQ(lines.size(), 100000u);
  EXPECT_EQ(lines.back(), "100000");
}

TEST_F(PosixLauncherTest, AGrandchildThatHoldsThePipesDelaysNothing) {
  // In a session of its own: the kill of the process group does not reach it.
  LaunchShell("setsid sleep 1000 & echo $!; echo last words >&2; exit 3");
  ExitStatus status = WaitForExit();
  EXPECT_EQ(status.exit_code, 3);
  EXPECT_THAT(status.stderr_tail, ElementsAre("last words"));
  pid_t grandchild = 0;
  ASSERT_EQ(Stdout().size(), 1u);
  ASSERT_TRUE(absl::SimpleAtoi(Stdout()[0], &grandchild));
  EXPECT_EQ(kill(grandchild, SIGKILL), 0) << "it was to be alive";
}

TEST_F(PosixLauncherTest, AGrandchildThatWritesForEverDelaysNothing) {
  LaunchShell("setsid yes & exit 4");  // it dies of the broken pipe
  EXPECT_EQ(WaitForExit().exit_code, 4);
}

TEST_F(PosixLauncherTest, KillsWhatAWorkerLeavesBehind) {
  LaunchShell("sleep 1000 & echo $!; exit 0");
  WaitForExit();
  pid_t child = 0;
  ASSERT_EQ(Stdout().size(), 1u);
  ASSERT_TRUE(absl::SimpleAtoi(Stdout()[0], &child));
  EXPECT_TRUE(IsDeadSoon(child));
}

TEST_F(PosixLauncherTest, KillReachesTheWholeGroup) {
  LaunchShell("trap '' TERM; sleep 1000 & echo $! >&3; wait");
  ASSERT_TRUE(loop_.RunUntil([this] { return !listening_.empty(); }));
  launcher().Kill(last_);
  EXPECT_EQ(WaitForExit().signal, SIGKILL);
}

TEST_F(PosixLauncherTest, KillsAtAnyMoment) {
  // Some of these hit the helper before its setsid.
  for (int i = 0; i < 20; ++i) {
    LaunchShell("exec sleep 1000");
    launcher().Kill(last_);
    EXPECT_EQ(WaitForExit().signal, SIGKILL);
    launcher().Kill(last_);  // gone: ignored
  }
}

TEST_F(PosixLauncherTest, EnvironmentIsExact) {
  options_.environment = {"PATH=/usr/bin:/bin",
                          "LANG=C",
                          "OVERRIDDEN=by dirtyd",
                          "NOTIFY_SOCKET=/run/x",
                          "LISTEN_FDS=3",
                          "LISTEN_PID=1",
                          "LISTEN_FDNAMES=a:b",
                          "WATCHDOG_USEC=1",
                          "WATCHDOG_PID=1",
                          "EQUALS=a=b",
                          "LISTEN_ADDRESS=kept",
                          "EMPTY=",
                          "DIRTY_WORKER_ID=nonsense"};
  pool_.env = {{"OVERRIDDEN", "by the pool"}, {"CUDA_VISIBLE_DEVICES", "{worker_index}"}};
  apps_.resize(1);
  apps_[0].env = {{"OF_APP", "a{worker_index}b{worker_index}"}};
  Launch({"env"});
  EXPECT_EQ(WaitForExit().exit_code, 0);
  EXPECT_THAT(Stdout(), UnorderedElementsAre("PATH=/usr/bin:/bin", "LANG=C", "OVERRIDDEN=by the pool", "EQUALS=a=b",
                                             "LISTEN_ADDRESS=kept", "EMPTY=", "CUDA_VISIBLE_DEVICES=7", "OF_APP=a7b7",
                                             "DIRTY_WORKER_ID=1", "DIRTY_READY_FD=3",
                                             absl::StrCat("DIRTY_WORKER_SOCKET=", WorkerSocketPath(folder_.path(), 1)),
                                             absl::StrCat("DIRTY_SOCKET=", folder_ / "dirty.sock")));
}

TEST_F(PosixLauncherTest, InheritsNoDescriptorsAndNoSignals) {
  UniqueFd leaked[] = {UniqueFd(open("/dev/null", O_RDONLY)), UniqueFd(open("/dev/null", O_RDONLY))};  // not O_CLOEXEC
  BlockSignals();
  LaunchShell("ls /proc/self/fd; readlink /proc/self/fd/0; grep -E '^(SigBlk|NoNewPrivs)' /proc/self/status");
  EXPECT_EQ(WaitForExit().exit_code, 0);
  // 4 is what ls reads the folder with.
  EXPECT_THAT(Stdout(),
              ElementsAre("0", "1", "2", "3", "4", "/dev/null", "SigBlk:\t0000000000000000", "NoNewPrivs:\t1"));
  LaunchShell("sed -n 's/^SigIgn:\\s*//p' /proc/self/status");
  EXPECT_EQ(WaitForExit().exit_code, 0);
  uint64_t ignored = ~0ull;
  ASSERT_EQ(Stdout().size(), 1u);
  ASSERT_TRUE(absl::SimpleHexAtoi(Stdout()[0], &ignored));
  EXPECT_EQ(ignored & 0x7fffffff, 0u);  // glibc's posix_spawn ignores its own two, 32 and 33
}

TEST_F(PosixLauncherTest, HasASessionOfItsOwn) {
  pid_t pid = LaunchShell("ps -o pid=,pgid=,sid= -p $$");
  WaitForExit();
  ASSERT_EQ(Stdout().size(), 1u);
  std::vector<std::string> ids = absl::StrSplit(Stdout()[0], ' ', absl::SkipEmpty());
  EXPECT_THAT(ids, ElementsAre(absl::StrCat(pid), absl::StrCat(pid), absl::StrCat(pid)));
}

TEST_F(PosixLauncherTest, RunsAsAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  options_.environment.push_back("HOME=/root");
  pool_.user = "nobody";
  LaunchShell("id -u; id -g; id -G; echo $HOME $USER; grep -E '^CapEff' /proc/self/status");
  EXPECT_EQ(WaitForExit().exit_code, 0);
  EXPECT_THAT(Stdout(), ElementsAre("65534", "65534", "65534", "/nonexistent nobody", "CapEff:\t0000000000000000"));
  pool_.group = "daemon";
  LaunchShell("id -g");
  WaitForExit();
  EXPECT_THAT(Stdout(), ElementsAre("1"));
  pool_.user = "54321";
  pool_.group = "54322";
  LaunchShell("id -u; id -g; id -G");
  WaitForExit();
  EXPECT_THAT(Stdout(), ElementsAre("54321", "54322", "54322"));
}

TEST_F(PosixLauncherTest, WorkersOfAnotherUserDieWithTheArbiter) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  pool_.user = "nobody";
  // The parent-death signal is cleared by a change of user; it must have been set after.
  Launch({"python3", "-c",
          "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"});
  WaitForExit();
  EXPECT_THAT(Stdout(), ElementsAre("9"));
}

TEST_F(PosixLauncherTest, FailuresOfTheHelperAreExitsWithAReason) {
  struct Case {
    std::function<void()> set;
    std::vector<std::string> command;
    std::string message;
  };
  const PoolSettings plain = pool_;
  std::ofstream(folder_ / "plain") << "text";
  std::vector<Case> cases = {
      {[] {}, {"no-such-program"}, "cannot run no-such-program: not found in PATH=/usr/bin:/bin"},
      {[] {}, {"/no/such/program"}, "cannot run /no/such/program: No such file or directory"},
      {[] {}, {folder_ / "plain"}, "Permission denied"},
      {[this] { pool_.chdir = "/no/such/folder"; }, {"true"}, "chdir: /no/such/folder: No such file or directory"},
      {[this] { pool_.rlimits["nonsense"] = 1; }, {"true"}, "rlimits: there is no nonsense"},
      {[this] { pool_.user = "no-such-user"; }, {"true"}, "user: there is no user no-such-user"},
      {[this] { pool_.user = "54321"; }, {"true"}, "user: 54321 is not in the user database: set `group` too"},
      {[this] { pool_.group = "no-such-group"; }, {"true"}, "group: there is no group no-such-group"},
      {[this] { pool_.oom_score_adj = 5000; }, {"true"}, "oom_score_adj: cannot be set to 5000: Invalid argument"},
  };
  for (const Case& failing : cases) {
    pool_ = plain;
    failing.set();
    Launch(failing.command);
    ExitStatus status = WaitForExit();
    EXPECT_EQ(status.exit_code, 127);
    ASSERT_EQ(status.stderr_tail.size(), 1u) << failing.message;
    EXPECT_THAT(status.stderr_tail[0], HasSubstr(failing.message));
  }
}

TEST_F(PosixLauncherTest, RefusedLimitsNameTheHardLimit) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  pool_.rlimits["nofile"] = -1;  // above fs.nr_open: nobody may
  LaunchShell("true");
  ExitStatus status = WaitForExit();
  EXPECT_EQ(status.exit_code, 127);
  ASSERT_EQ(status.stderr_tail.size(), 1u);
  EXPECT_THAT(status.stderr_tail[0],
              StartsWith("rlimits: nofile cannot be set to -1: Operation not permitted (the hard"));
}

TEST_F(PosixLauncherTest, ChangesTheFolder) {
  pool_.chdir = "/usr/lib";
  LaunchShell("pwd");
  WaitForExit();
  EXPECT_THAT(Stdout(), ElementsAre("/usr/lib"));
}

TEST_F(PosixLauncherTest, SetsLimitsAndRestoresTheDescriptorLimit) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  options_.descriptor_limit = 123;
  LaunchShell("ulimit -Sn; ulimit -Sc; ulimit -Hc");
  WaitForExit();
  EXPECT_THAT(Stdout(), ElementsAre("123", "0", "0"));
  pool_.rlimits["nofile"] = 77;
  pool_.oom_score_adj = 500;
  LaunchShell("ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj");
  WaitForExit();
  EXPECT_THAT(Stdout(), ElementsAre("77", "77", "500"));
}

TEST_F(PosixLauncherTest, StartsPythonWorkersWithTheirSearchPath) {
  std::string interpreter = folder_ / "interpreter";
  std::ofstream(interpreter) << "#!/bin/sh\necho \"$@\"\necho $PYTHONPATH\n";
  ASSERT_EQ(chmod(interpreter.c_str(), 0755), 0);
  pool_.runtime = WorkerRuntime::kPython;
  pool_.python = interpreter;
  pool_.chdir = folder_.path();
  pool_.pythonpath = {"/a", "/b"};
  pool_.env["PYTHONPATH"] = "/users/own";
  Launch({});
  EXPECT_EQ(WaitForExit().exit_code, 0);
  EXPECT_THAT(Stdout(),
              ElementsAre("-m dirty_worker", absl::StrCat(folder_.path(), ":/a:/b:/nowhere/python:/users/own")));
}

TEST_F(PosixLauncherTest, StartsNativeWorkersFromItsOwnFolder) {
  pool_.runtime = WorkerRuntime::kNative;
  Launch({});
  ExitStatus status = WaitForExit();
  ASSERT_EQ(status.stderr_tail.size(), 1u);
  EXPECT_THAT(status.stderr_tail[0], HasSubstr("/nowhere/bin/dirty-worker"));
}

TEST_F(PosixLauncherTest, RemovesTheSocketOfADeadWorker) {
  LaunchShell("touch $DIRTY_WORKER_SOCKET; echo $DIRTY_WORKER_SOCKET");
  WaitForExit();
  ASSERT_THAT(Stdout(), ElementsAre(WorkerSocketPath(folder_.path(), last_)));
  EXPECT_FALSE(std::filesystem::exists(Stdout()[0]));
}

TEST_F(PosixLauncherTest, TellsResidentMemory) {
  LaunchShell("echo >&3; sleep 1000; :");
  ASSERT_TRUE(loop_.RunUntil([this] { return !listening_.empty(); }));
  EXPECT_GT(launcher().Usage(last_).resident_bytes, 100'000u);
  EXPECT_EQ(launcher().Usage(last_ + 1).resident_bytes, 0u);
  launcher().Kill(last_);
  WaitForExit();
  EXPECT_EQ(launcher().Usage(last_).resident_bytes, 0u);
}

TEST_F(PosixLauncherTest, KnowsItsProcessesUntilTheyAreReaped) {
  pid_t pid = LaunchShell("exit 0");
  bool owned_after = true;
  EXPECT_TRUE(launcher().Owns(pid));
  EXPECT_FALSE(launcher().Owns(getpid()));
  WaitForExit();
  owned_after = launcher().Owns(pid);
  EXPECT_FALSE(owned_after);
}

TEST_F(PosixLauncherTest, LaunchFailsAtOnceWithoutTheHelper) {
  options_.libexec_folder = "/nowhere";
  WorkerSpec spec;
  spec.id = 1;
  pool_.command = {"true"};
  spec.pool = std::make_shared<PoolSettings>(pool_);
  absl::StatusOr<pid_t> pid = launcher().Launch(spec);
  ASSERT_FALSE(pid.ok());
  EXPECT_THAT(std::string(pid.status().message()), HasSubstr("/nowhere/dirty-exec"));
}

TEST_F(PosixLauncherTest, LaunchFailsAtOnceWithoutDescriptors) {
  launcher();
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = {.rlim_cur = 3, .rlim_max = before.rlim_max};
  WorkerSpec spec;
  spec.id = 1;
  pool_.command = {"true"};
  spec.pool = std::make_shared<PoolSettings>(pool_);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  absl::StatusOr<pid_t> pid = launcher().Launch(spec);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(pid.ok());
  EXPECT_THAT(std::string(pid.status().message()), HasSubstr("Too many open files"));
  // Nothing of it is left: the same id starts.
  Launch({"true"});
  EXPECT_EQ(WaitForExit().exit_code, 0);
}

TEST_F(PosixLauncherTest, ItsEndKillsAndReapsWithoutEvents) {
  pid_t pid = LaunchShell("echo >&3; exec sleep 1000");
  ASSERT_TRUE(loop_.RunUntil([this] { return !listening_.empty(); }));
  launcher_.reset();
  EXPECT_EQ(kill(pid, 0), -1);
  WaitForWatcher();
  WaitForWatcher();
  EXPECT_TRUE(exits_.empty());
}

TEST_F(PosixLauncherTest, LeaksNoDescriptorInManyLaunches) {
  Launch({"true"});
  WaitForExit();
  WaitForWatcher();
  size_t before = OpenDescriptors();
  int launched = 0;
  size_t expected = exits_.size();
  while (launched < kManyLaunches) {
    for (int i = 0; i < 20; ++i, ++launched) Launch({launched % 4 == 0 ? "no-such-program" : "/bin/true"});
    expected += 20;
    ASSERT_TRUE(loop_.RunUntil([&] { return exits_.size() == expected; }));
  }
  WaitForWatcher();
  EXPECT_EQ(OpenDescriptors(), before);
}

// The arbiter of the test below, in a process of its own.
TEST_F(PosixLauncherTest, DISABLED_ArbiterThatIsKilled) {
  pid_t pid = LaunchShell("sleep 1000 & echo >&3; wait");
  ASSERT_TRUE(loop_.RunUntil([this] { return !listening_.empty(); }));
  dprintf(STDOUT_FILENO, "worker %d\n", pid);
  loop_.RunUntil([] { return false; });
}

TEST_F(PosixLauncherTest, WorkersDieWithTheArbiter) {
  int out[2];
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  UniqueFd read_end(out[0]), write_end(out[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  std::string arguments[] = {"/proc/self/exe", "--gtest_filter=PosixLauncherTest.DISABLED_ArbiterThatIsKilled",
                             "--gtest_also_run_disabled_tests"};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), nullptr};
  pid_t arbiter = 0;
  ASSERT_EQ(posix_spawn(&arbiter, "/proc/self/exe", &actions, nullptr, argv, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  write_end.Reset();

  std::string said;
  size_t at = std::string::npos;
  while ((at = said.find("\nworker ")) == std::string::npos || said.find('\n', at + 1) == std::string::npos) {
    char data[4096];
    ssize_t size = read(read_end.get(), data, sizeof data);
    ASSERT_GT(size, 0) << said;
    said.append(data, static_cast<size_t>(size));
  }
  pid_t worker = static_cast<pid_t>(strtol(said.c_str() + at + strlen("\nworker "), nullptr, 10));
  ASSERT_EQ(kill(worker, 0), 0);
  ASSERT_EQ(kill(arbiter, SIGKILL), 0);
  EXPECT_TRUE(IsDeadSoon(worker));
  ASSERT_EQ(waitpid(arbiter, nullptr, 0), arbiter);
}

class WorkersDirectoryTest : public ::testing::Test {
 protected:
  TestFolder folder_;
  std::string path_ = folder_ / "workers";
};

TEST_F(WorkersDirectoryTest, IsMadeForItsOwnerOnly) {
  ASSERT_TRUE(PrepareWorkersDirectory(folder_.path(), "", "").ok());
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700u);
  EXPECT_EQ(status.st_uid, geteuid());
}

TEST_F(WorkersDirectoryTest, LosesStaleSocketsAndIsNotTakenFromAStranger) {
  ASSERT_TRUE(PrepareWorkersDirectory(folder_.path(), "", "").ok());
  std::string socket_path = WorkerSocketPath(folder_.path(), 1);
  UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  ASSERT_LT(socket_path.size(), sizeof address.sun_path);
  strcpy(address.sun_path, socket_path.c_str());
  ASSERT_EQ(bind(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  std::ofstream(path_ + "/kept") << "text";
  EXPECT_THAT(std::string(PrepareWorkersDirectory(folder_.path(), "", "").message()), HasSubstr("\"kept\""));
  EXPECT_TRUE(std::filesystem::exists(socket_path));
  std::filesystem::remove(path_ + "/kept");
  ASSERT_TRUE(PrepareWorkersDirectory(folder_.path(), "", "").ok());
  EXPECT_FALSE(std::filesystem::exists(socket_path));
}

TEST_F(WorkersDirectoryTest, IsNoSymbolicLinkAndNoFile) {
  std::filesystem::create_directory(folder_ / "elsewhere");
  std::filesystem::create_symlink(folder_ / "elsewhere", path_);
  EXPECT_THAT(std::string(PrepareWorkersDirectory(folder_.path(), "", "").message()), HasSubstr("symbolic link"));
  std::filesystem::remove(path_);
  std::ofstream(path_) << "text";
  EXPECT_FALSE(PrepareWorkersDirectory(folder_.path(), "", "").ok());
  EXPECT_THAT(std::string(PrepareWorkersDirectory("/no/such", "", "").message()), HasSubstr("/no/such/workers"));
}

TEST_F(WorkersDirectoryTest, BelongsToTheWorkersUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ASSERT_TRUE(PrepareWorkersDirectory(folder_.path(), "nobody", "").ok());
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 65534u);
  EXPECT_EQ(status.st_gid, 65534u);
  EXPECT_FALSE(PrepareWorkersDirectory(folder_.path(), "no-such-user", "").ok());
}

}  // namespace
}  // namespace dirty
