// A worker that was taken over: what it can do to dirtyd, to other workers and to their calls, and what it cannot.

#include <gmock/gmock.h>
#include <grp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <future>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tests/integration/harness.h"
#include "tests/security/attacker.h"

namespace dirty::security {
namespace {

using client::Json;
using integration::Dirtyd;
using integration::Folder;
using integration::kMeasured;
using integration::Words;
using ::testing::HasSubstr;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kSlow[] = "libfaults.so:Slow";
constexpr char kHostile[] = "hostile:App";

// A pool of good workers and one of a hostile one. `mode`: arguments of hostile-worker, and further settings of all.
std::string Config(const Words& mode = {}, const std::string& more = "") {
  Words command = {absl::StrCat("'", HOSTILE_WORKER, "'")};
  for (const std::string& word : mode) command.push_back(absl::StrCat("'", word, "'"));
  return absl::StrFormat(
      "%sapps: [%s, %s]\n"
      "pools: [{name: hostile, runtime: exec, command: [%s], apps: ['%s']}]\n",
      more, kEcho, kSlow, absl::StrJoin(command, ", "), kHostile);
}

Json Ask(const Dirtyd& dirtyd, const std::string& action, const Json& args) {
  auto result =
      dirtyd.NewClient().Execute(kHostile, action, args, Json::object(), {.timeout = std::chrono::seconds(60)});
  EXPECT_TRUE(result.ok()) << action << ": " << result.error().message;
  return result.ok() ? result->result : Json();
}

std::string SocketOf(const Dirtyd& dirtyd, uint32_t worker) {
  return absl::StrCat(dirtyd.runtime_dir(), "/workers/worker-", worker, ".sock");
}

// The worker that has an app.
v1::WorkerStatus WorkerOf(Dirtyd& dirtyd, const std::string& app) {
  for (const v1::WorkerStatus& worker : dirtyd.ReadyWorkers()) {
    for (const std::string& name : worker.apps()) {
      if (name == app) return worker;
    }
  }
  ADD_FAILURE() << "no worker has " << app;
  return {};
}

TEST(HostileWorker, CannotAnswerTheCallsOfAnother) {
  Dirtyd dirtyd({}, {.config = Config()});
  client::Client client = dirtyd.NewClient();
  const std::string release = dirtyd.folder() / "release";
  auto victim = std::async(std::launch::async, [&] {
    return client.Execute(kSlow, "wait_for_file", Json::array({release}), Json::object(),
                          {.timeout = std::chrono::seconds(100)});
  });
  ASSERT_TRUE(dirtyd.WaitForRunning(kSlow, 1));
  // Calls are numbered from 1: the victim's is among those.
  EXPECT_EQ(Ask(dirtyd, "claim", Json::array({1000})), "own");
  EXPECT_EQ(dirtyd.App(kSlow).running(), 1u);
  EXPECT_EQ(Ask(dirtyd, "echo", Json::array({1})), Json::array({1})) << "what it forged is of no later call";
  integration::Touch(release);
  auto result = victim.get();
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_NE(result->result, "forged");
  EXPECT_EQ(dirtyd.App(kSlow).counters().ok(), 1u);
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(HostileWorker, CannotAttachToAnotherWorker) {
  Dirtyd dirtyd({}, {.config = Config()});
  const v1::WorkerStatus good = WorkerOf(dirtyd, kEcho);
  // As the same user it can connect: the worker itself has its arbiter and refuses.
  EXPECT_EQ(Ask(dirtyd, "attach", Json::array({SocketOf(dirtyd, good.id())})), grpc::StatusCode::FAILED_PRECONDITION);
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  EXPECT_EQ(WorkerOf(dirtyd, kEcho).pid(), good.pid());
  dirtyd.Stop(SIGTERM);
}

TEST(HostileWorker, CannotSendDirtydToAnotherSocket) {
  // One that only dirtyd's user may connect to: it would speak there with dirtyd's rights.
  Folder folder;
  const std::string path = folder / "other.sock";
  UniqueFd listening(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(bind(listening.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listening.get(), 10), 0);
  Dirtyd dirtyd({}, {.config = Config({"link", path}), .ready = false});
  EXPECT_NE(dirtyd.process().WaitForLine("symbolic link"), "");
  EXPECT_EQ(accept(listening.get(), nullptr, nullptr), -1) << "dirtyd has connected";
  EXPECT_EQ(errno, EAGAIN);
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  dirtyd.Stop(SIGTERM);
}

TEST(HostileWorker, CannotMakeDirtydUnpackABomb) {
  Dirtyd dirtyd({}, {.config = Config({"bomb"}), .ready = false});
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  const size_t before = PeakBytes(dirtyd.pid());
  EXPECT_NE(dirtyd.process().WaitForLine("ompression algorithm 'gzip' is disabled"), "");
  const size_t peak = PeakBytes(dirtyd.pid());
  printf("[ MEMORY   ] %zu MiB before, %zu MiB at most\n", before / kMiB, peak / kMiB);
  if (kMeasured) {
    EXPECT_LE(peak, before + 64 * kMiB);
  }
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  dirtyd.Stop(SIGTERM);
}

TEST(HostileWorker, AnAnswerFarAboveTheLimitEndsItsCallAlone) {
  Dirtyd dirtyd({}, {.config = Config({}, "max_message_size: 8MiB\n")});
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  const size_t before = PeakBytes(dirtyd.pid());
  auto result = dirtyd.NewClient().Execute(kHostile, "large", Json::array({256}), Json::object(), {});
  ASSERT_FALSE(result.ok());
  const size_t peak = PeakBytes(dirtyd.pid());
  printf("[ MEMORY   ] %s; %zu MiB before, %zu MiB at most\n", result.error().message.c_str(), before / kMiB,
         peak / kMiB);
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  dirtyd.Stop(SIGTERM);
}

// --- Users ---

class WorkerOfAnotherUser : public testing::Test {
 protected:
  void SetUp() override {
    if (!integration::IsRoot()) GTEST_SKIP() << "needs root, to be somebody else";
  }
};

TEST_F(WorkerOfAnotherUser, HasThatUsersRightsAndNoMore) {
  // dirtyd itself is in a group that its workers must not be in.
  const gid_t mine[] = {0, 4};
  ASSERT_EQ(setgroups(2, mine), 0);
  Dirtyd dirtyd({}, {.config = Config({}, "user: nobody\n")});
  const Json id = Ask(dirtyd, "id", Json::array());
  EXPECT_EQ(id.at(0), 65534);
  EXPECT_EQ(id.at(1), 65534);
  EXPECT_EQ(id.at(2), 1) << "supplementary groups: its own alone";
  EXPECT_EQ(id.at(4), 1) << "no_new_privs";
  // dirtyd, and who may not be reached through it.
  auto error_of = [&](const char* action, const Json& target) -> int {
    return Ask(dirtyd, action, Json::array({target})).get<int>();
  };
  EXPECT_EQ(error_of("connect", dirtyd.admin_socket()), EACCES);
  EXPECT_EQ(error_of("connect", dirtyd.socket()), EACCES) << "0660 root:root: calls back need socket_group";
  EXPECT_EQ(error_of("kill", dirtyd.pid()), EPERM);
  EXPECT_EQ(error_of("open", absl::StrCat("/proc/", dirtyd.pid(), "/environ")), EACCES);
  EXPECT_EQ(error_of("open", absl::StrCat("/proc/", dirtyd.pid(), "/mem")), EACCES);
  EXPECT_EQ(error_of("open", absl::StrCat("/proc/", dirtyd.pid(), "/fd")), EACCES);
  EXPECT_EQ(error_of("open", dirtyd.runtime_dir() + "/dirty.lock"), EACCES);
  // Other workers have the same user: they are not kept apart.
  const v1::WorkerStatus other = WorkerOf(dirtyd, kEcho);
  EXPECT_EQ(error_of("kill", other.pid()), 0);
  EXPECT_EQ(error_of("connect", SocketOf(dirtyd, other.id())), 0);
  struct stat entry;
  ASSERT_EQ(stat((dirtyd.runtime_dir() + "/workers").c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0700u);
  EXPECT_EQ(entry.st_uid, 65534u);
  ASSERT_EQ(stat(dirtyd.runtime_dir().c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0755u);
  EXPECT_EQ(entry.st_uid, 0u);
  dirtyd.Stop(SIGTERM);
}

}  // namespace
}  // namespace dirty::security
