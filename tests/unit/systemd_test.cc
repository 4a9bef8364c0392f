#include "server/observe/systemd.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "tests/unit/launch_support.h"

extern char** environ;

namespace dirty {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

class StillClock final : public Clock {
 public:
  absl::Time Now() const override { return now_; }
  void Advance(absl::Duration by) { now_ += by; }

 private:
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

// The service manager's end. `name` as in $NOTIFY_SOCKET.
class NotifySocket {
 public:
  explicit NotifySocket(const std::string& name) : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    socklen_t size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  }

  // What came since: a datagram is there once it was sent.
  std::vector<std::string> Take() {
    std::vector<std::string> messages;
    char data[4096];
    for (ssize_t size; (size = read(fd_.get(), data, sizeof data)) >= 0;) {
      messages.emplace_back(data, static_cast<size_t>(size));
    }
    return messages;
  }

 private:
  UniqueFd fd_;
};

class ServiceNotifierTest : public ::testing::Test {
 protected:
  ServiceEnvironment Environment(const std::string& address, absl::Duration watchdog = absl::InfiniteDuration()) {
    ServiceEnvironment environment;
    environment.notify_socket = address;
    environment.watchdog_timeout = watchdog;
    return environment;
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    timers_.RunDue();
  }

  TestFolder folder_;
  std::string address_ = folder_ / "notify";
  NotifySocket manager_{address_};
  StillClock clock_;
  TimerQueue timers_{clock_};
};

TEST_F(ServiceNotifierTest, TellsItsLife) {
  ServiceNotifier notifier(Environment(address_));
  notifier.Status("starting");
  notifier.Ready();
  notifier.Ready();
  EXPECT_THAT(manager_.Take(), ElementsAre("STATUS=starting", absl::StrCat("READY=1\nMAINPID=", getpid())));
  notifier.Reloading();
  EXPECT_THAT(manager_.Take(), ElementsAre(MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+")));
  notifier.ReloadDone();
  notifier.ReloadDone();
  EXPECT_THAT(manager_.Take(), ElementsAre("READY=1"));
  notifier.Stopping();
  notifier.Stopping();
  notifier.Ready();
  notifier.Reloading();
  EXPECT_THAT(manager_.Take(), ElementsAre("STOPPING=1"));
}

TEST_F(ServiceNotifierTest, TellsAStatusOnceAndInOneLine) {
  ServiceNotifier notifier(Environment(address_));
  notifier.Status("two\nREADY=1");
  notifier.Status("two\nREADY=1");
  notifier.Status("three");
  EXPECT_THAT(manager_.Take(), ElementsAre("STATUS=two\\nREADY=1", "STATUS=three"));
}

TEST_F(ServiceNotifierTest, TheMonotonicTimeIsTheKernels) {
  ServiceNotifier notifier(Environment(address_));
  notifier.Ready();
  manager_.Take();
  timespec before = {}, after = {};
  clock_gettime(CLOCK_MONOTONIC, &before);
  notifier.Reloading();
  clock_gettime(CLOCK_MONOTONIC, &after);
  std::string message = manager_.Take().at(0);
  long long told = atoll(message.c_str() + message.rfind('=') + 1);
  EXPECT_GE(told, before.tv_sec * 1'000'000LL + before.tv_nsec / 1000);
  EXPECT_LE(told, after.tv_sec * 1'000'000LL + after.tv_nsec / 1000);
}

TEST_F(ServiceNotifierTest, PingsFromTheLoopAtHalfTheWatchdogsTime) {
  ServiceNotifier notifier(Environment(address_, absl::Seconds(10)));
  notifier.Ready();
  manager_.Take();
  notifier.StartWatchdog(timers_);
  EXPECT_THAT(manager_.Take(), ElementsAre("WATCHDOG=1"));
  Advance(absl::Milliseconds(4999));
  EXPECT_THAT(manager_.Take(), IsEmpty());
  Advance(absl::Milliseconds(1));
  EXPECT_THAT(manager_.Take(), ElementsAre("WATCHDOG=1"));
  clock_.Advance(absl::Hours(1));  // the loop is stuck
  EXPECT_THAT(manager_.Take(), IsEmpty());
  notifier.Stopping();
  manager_.Take();
  Advance(absl::Seconds(5));
  EXPECT_THAT(manager_.Take(), testing::Contains("WATCHDOG=1")) << "also while it stops";
}

TEST_F(ServiceNotifierTest, AsksForMoreTimeWhileItStartsAndStops) {
  std::string more = absl::StrCat("EXTEND_TIMEOUT_USEC=", absl::ToInt64Microseconds(ServiceNotifier::kExtension));
  ServiceNotifier notifier(Environment(address_));
  notifier.StartWatchdog(timers_);
  EXPECT_THAT(manager_.Take(), ElementsAre(more));
  Advance(ServiceNotifier::kExtension / 3);
  EXPECT_THAT(manager_.Take(), ElementsAre(more)) << "before the last is over";
  notifier.Ready();
  manager_.Take();
  Advance(ServiceNotifier::kExtension);
  EXPECT_THAT(manager_.Take(), IsEmpty()) << "it runs, and no watchdog was asked for";
  notifier.Stopping();
  EXPECT_THAT(manager_.Take(), ElementsAre("STOPPING=1", more));
  Advance(ServiceNotifier::kExtension / 3);
  EXPECT_THAT(manager_.Take(), ElementsAre(more));
}

TEST_F(ServiceNotifierTest, KnowsAbstractNames) {
  std::string name = absl::StrCat("@dirty-test-", getpid());
  NotifySocket manager(name);
  ServiceNotifier notifier(Environment(name));
  notifier.Ready();
  EXPECT_EQ(manager.Take().size(), 1u);
}

TEST_F(ServiceNotifierTest, NobodyWhoListensIsNoHarm) {
  for (const std::string& address : {std::string(), folder_ / "nothing", std::string("vsock:2:1234"),
                                     folder_ / std::string(200, 'x'), std::string("@")}) {
    ServiceNotifier notifier(Environment(address, absl::Seconds(1)));
    notifier.StartWatchdog(timers_);
    notifier.Ready();
    notifier.Stopping();
  }
}

TEST_F(ServiceNotifierTest, AManagerThatDoesNotReadHoldsNothingUp) {
  ServiceNotifier notifier(Environment(address_));
  for (int i = 0; i < 10'000; ++i) notifier.Status(absl::StrCat(i));
  EXPECT_FALSE(manager_.Take().empty());
}

// TakeServiceEnvironment is for a process of its own. This one tells what it got, and ends.
TEST(ServiceEnvironmentTest, DISABLED_Child) {
  if (getenv("TEST_OWN_PID") != nullptr) {
    for (const char* name : {"LISTEN_PID", "WATCHDOG_PID"}) setenv(name, absl::StrCat(getpid()).c_str(), 1);
  }
  ServiceEnvironment environment = TakeServiceEnvironment();
  dprintf(STDERR_FILENO, "notify=%s watchdog=%s", environment.notify_socket.c_str(),
          absl::FormatDuration(environment.watchdog_timeout).c_str());
  for (const PassedDescriptor& passed : environment.descriptors) {
    dprintf(STDERR_FILENO, " %d:%s:%d", passed.fd.get(), passed.name.c_str(), fcntl(passed.fd.get(), F_GETFD));
  }
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (absl::StartsWith(*entry, "LISTEN_") || absl::StartsWith(*entry, "WATCHDOG_") ||
        absl::StartsWith(*entry, "NOTIFY_")) {
      dprintf(STDERR_FILENO, " left:%s", *entry);
    }
  }
  _exit(0);
}

// What a child with these variables, and descriptors 3 and 4, says.
std::string TakenWith(std::vector<std::string> variables) {
  int out[2];
  EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
  UniqueFd read_end(out[0]), write_end(out[1]);
  UniqueFd passed(open("/dev/null", O_RDONLY | O_CLOEXEC));
  UniqueFd high(fcntl(passed.get(), F_DUPFD_CLOEXEC, 20)), err(fcntl(write_end.get(), F_DUPFD_CLOEXEC, 20));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, err.get(), STDERR_FILENO);
  for (int fd : {3, 4}) posix_spawn_file_actions_adddup2(&actions, high.get(), fd);
  std::string arguments[] = {"/proc/self/exe", "--gtest_filter=ServiceEnvironmentTest.DISABLED_Child",
                             "--gtest_also_run_disabled_tests"};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), nullptr};
  std::vector<char*> envp;
  for (char** entry = environ; *entry != nullptr; ++entry) envp.push_back(*entry);
  for (std::string& variable : variables) envp.push_back(variable.data());
  envp.push_back(nullptr);
  pid_t child = 0;
  EXPECT_EQ(posix_spawn(&child, "/proc/self/exe", &actions, nullptr, argv, envp.data()), 0);
  posix_spawn_file_actions_destroy(&actions);
  write_end.Reset();
  err.Reset();
  std::string said;
  char data[4096];
  for (ssize_t size; (size = read(read_end.get(), data, sizeof data)) > 0;)
    said.append(data, static_cast<size_t>(size));
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
  return said;
}

TEST(ServiceEnvironmentTest, IsTakenOutOfTheEnvironment) {
  EXPECT_EQ(TakenWith({"TEST_OWN_PID=1", "NOTIFY_SOCKET=/run/n", "WATCHDOG_USEC=3000000", "LISTEN_FDS=2",
                       "LISTEN_FDNAMES=dirty:admin"}),
            "notify=/run/n watchdog=3s 3:dirty:1 4:admin:1");
  EXPECT_EQ(TakenWith({"TEST_OWN_PID=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=dirty"}),
            "notify= watchdog=inf 3:dirty:1 4::1");
}

TEST(ServiceEnvironmentTest, WhatIsForAnotherProcessIsLeftOut) {
  EXPECT_EQ(TakenWith({"LISTEN_PID=1", "LISTEN_FDS=2", "WATCHDOG_PID=1", "WATCHDOG_USEC=3000000"}),
            "notify= watchdog=inf");
  EXPECT_EQ(TakenWith({"LISTEN_FDS=2"}), "notify= watchdog=inf");
  EXPECT_EQ(TakenWith({"WATCHDOG_USEC=3000000"}), "notify= watchdog=3s");
  EXPECT_EQ(TakenWith({"TEST_OWN_PID=1", "LISTEN_FDS=x", "WATCHDOG_USEC=x"}), "notify= watchdog=inf");
}

}  // namespace
}  // namespace dirty
