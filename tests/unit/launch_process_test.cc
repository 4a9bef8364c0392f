#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "server/loop/process_signals.h"
#include "server/loop/watcher.h"
#include "server/observe/process_title.h"
#include "tests/unit/launch_support.h"

namespace dirty {
namespace {

// main's arguments, as glibc hands them to constructors: GoogleTest removes its own from main's array.
std::vector<char*> main_arguments;
__attribute__((constructor)) void KeepArguments(int argc, char** argv, char**) { main_arguments = {argv, argv + argc}; }

std::string CommandLine() {
  std::stringstream text;
  text << std::ifstream("/proc/self/cmdline").rdbuf();
  return text.str();
}

TEST(ProcessTitleTest, IsWhatPsShows) {
  std::string path = getenv("PATH");
  InitProcessTitle(static_cast<int>(main_arguments.size()), main_arguments.data());
  // What it made of the environment stays in use, though a later setenv makes a new one.
  static char** const kept = environ;
  ASSERT_NE(kept, nullptr);
  SetProcessTitle("dirtyd [2/2 workers]");
  std::string shown = CommandLine();
  EXPECT_STREQ(shown.c_str(), "dirtyd [2/2 workers]");
  EXPECT_EQ(shown.find_last_not_of('\0'), strlen("dirtyd [2/2 workers]") - 1);  // nothing of a longer one stays
  SetProcessTitle("short");
  EXPECT_STREQ(CommandLine().c_str(), "short");
  SetProcessTitle(std::string(1'000'000, 'x'));
  EXPECT_EQ(getenv("PATH"), path);
  SetProcessTitle("process_test");
}

pid_t SpawnTrue() {
  pid_t pid = 0;
  char name[] = "true";
  char* argv[] = {name, nullptr};
  EXPECT_EQ(posix_spawn(&pid, "/bin/true", nullptr, nullptr, argv, environ), 0);
  siginfo_t info;
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  return pid;
}

TEST(ProcessSignalsTest, ArriveOnTheLoop) {
  BlockSignals();
  TestLoop loop;
  std::vector<int> seen;
  Watcher watcher;
  ProcessSignals signals(watcher, loop, [&seen](int signal) { seen.push_back(signal); });
  for (int signal : {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGTTIN, SIGTTOU, SIGCHLD}) {
    seen.clear();
    ASSERT_EQ(kill(getpid(), signal), 0);
    ASSERT_TRUE(loop.RunUntil([&] { return !seen.empty(); })) << signal;
    EXPECT_THAT(seen, ::testing::ElementsAre(signal));
  }
  EXPECT_EQ(raise(SIGPIPE), 0);  // ignored
}

TEST(ReapStrangersTest, ReapsStrangersAndNeverOurs) {
  auto ours = [](pid_t) { return true; };
  auto strange = [](pid_t) { return false; };
  EXPECT_EQ(ReapStrangers(strange), 0);
  pid_t first = SpawnTrue();
  pid_t second = SpawnTrue();
  EXPECT_EQ(ReapStrangers(ours), 0);
  EXPECT_EQ(ReapStrangers([second](pid_t pid) { return pid == second; }), 1);
  EXPECT_EQ(waitpid(first, nullptr, 0), -1);
  EXPECT_EQ(waitpid(second, nullptr, 0), second);
  SpawnTrue();
  SpawnTrue();
  EXPECT_EQ(ReapStrangers(strange), 2);
}

TEST(DescriptorLimitTest, IsRaisedAndTheOriginalTold) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = {.rlim_cur = 256, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_EQ(RaiseDescriptorLimit(), 256u);
  rlimit after;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &after), 0);
  EXPECT_EQ(after.rlim_cur, std::min<rlim_t>(before.rlim_max, 1048576));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace dirty
