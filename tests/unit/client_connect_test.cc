// How a client finds its arbiter, loses it, finds it again, and says why it could not.

#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <thread>

#include "client/cpp/connection.h"
#include "client/cpp/socket.h"
#include "dirty/client.h"
#include "tests/unit/client_fixture.h"

namespace dirty::client {
namespace {

using internal::Seconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::chrono_literals;

internal::UniqueFd Listen(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  internal::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(listen(fd.get(), 16), 0);
  return fd;
}

// The error of a call to `socket`, from a process of another user: `uid`, and group `gid`.
std::string ErrorAs(uid_t uid, gid_t gid, const std::string& socket) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (setgroups(0, nullptr) != 0 || setgid(gid) != 0 || setuid(uid) != 0) _exit(9);
    // No gRPC here: it does not survive a fork, and a refused connection never gets that far.
    const std::string failure = internal::ConnectUnix(socket).failure;
    _exit(write(ends[1], failure.data(), failure.size()) < 0);
  }
  close(ends[1]);
  std::string said;
  char buffer[1024];
  for (ssize_t got; (got = read(ends[0], buffer, sizeof(buffer))) > 0;) said.append(buffer, got);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  return said;
}

class ClientConnect : public ClientTest, public ::testing::WithParamInterface<Way> {
 protected:
  ClientConnect() : ClientTest(GetParam()) {}

  Error ErrorOf(const std::string& socket, std::chrono::nanoseconds connect_timeout = 20ms) {
    const Client client(Adapted(Options{.socket = socket, .connect_timeout = connect_timeout}));
    Result result = client.Execute("a", "b");
    if (result.ok()) return {.message = "it succeeded"};
    EXPECT_EQ(client.ExecuteAsync("a", "b", {}, {}).Get().error().reason, result.error().reason);
    return result.error();
  }
};
DIRTY_EVERY_WAY(ClientConnect);

TEST_P(ClientConnect, SaysWhyNot) {
  const std::string stale = folder_ / "stale.sock";
  Listen(stale);
  const struct {
    std::string socket, why;
  } table[] = {
      {folder_ / "none.sock", "none.sock: absent"},
      {folder_ / "no/such/folder.sock", "folder.sock: absent"},
      {stale, "stale.sock: nobody is listening"},
      {folder_ / std::string(200, 'x'), "a socket's path has at most 107"},
  };
  for (const auto& row : table) {
    const Error error = ErrorOf(row.socket);
    EXPECT_EQ(error.reason, Reason::kConnection);
    EXPECT_EQ(error.app, "a");
    EXPECT_THAT(error.message, AllOf(StartsWith("cannot reach dirtyd: "), HasSubstr(row.why)));
  }
}

TEST_P(ClientConnect, AnotherUserIsToldWhoMay) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  const std::string socket = folder_ / "dirty.sock";
  const internal::UniqueFd listener = Listen(socket);
  ASSERT_EQ(chown(socket.c_str(), 1, 2), 0);  // daemon, bin
  ASSERT_EQ(chmod(socket.c_str(), 0660), 0);
  EXPECT_EQ(ErrorAs(33, 33, socket), "permission denied: daemon:bin 0660, you are uid 33; join group bin");
  EXPECT_EQ(ErrorAs(33, 2, socket), "");
  ASSERT_EQ(chmod(socket.c_str(), 0600), 0);
  EXPECT_EQ(ErrorAs(33, 2, socket),
            "permission denied: daemon:bin 0600, you are uid 33; its socket_mode lets only its owner in");
  ASSERT_EQ(chmod(folder_.path().c_str(), 0700), 0);
  EXPECT_EQ(ErrorAs(33, 33, socket),
            "permission denied: folder " + folder_.path() + " is root:root 0700, you are uid 33");
}

TEST_P(ClientConnect, AcceptedAndClosedAtOnceNamesTheAllowLists) {
  const std::string socket = folder_ / "dirty.sock";
  internal::UniqueFd listener = Listen(socket);
  std::jthread closer([&](std::stop_token stop) {
    while (!stop.stop_requested()) {
      pollfd events{.fd = listener.get(), .events = POLLIN, .revents = 0};
      if (poll(&events, 1, 20) > 0) internal::UniqueFd(accept(listener.get(), nullptr, nullptr));
    }
  });
  const Error error = ErrorOf(socket, 300ms);  // the closer has only just begun
  EXPECT_EQ(error.reason, Reason::kConnection);
  EXPECT_THAT(error.message,
              HasSubstr("check allow_uids and allow_gids of dirtyd, you are uid " + std::to_string(geteuid())));
}

TEST_P(ClientConnect, SilenceEndsWithTheConnectTimeout) {
  const internal::UniqueFd listener = Listen(folder_ / "dirty.sock");
  EXPECT_THAT(ErrorOf(folder_ / "dirty.sock").message, HasSubstr("no answer"));
}

TEST_P(ClientConnect, TheCallsOwnTimeoutEndsTheWaitSooner) {
  const Client client(Adapted(Options{.socket = folder_ / "none.sock", .connect_timeout = 1h}));
  EXPECT_EQ(client.Execute("a", "b", {}, {}, {.timeout = 20ms}).error().reason, Reason::kConnection);
  EXPECT_EQ(client.ExecuteAsync("a", "b", {}, {}, {.timeout = 20ms}).Get().error().reason, Reason::kConnection);
}

TEST_P(ClientConnect, CancelEndsTheWait) {
  const Client client(Adapted(Options{.socket = folder_ / "none.sock", .connect_timeout = 1h}));
  Call call = client.ExecuteAsync("a", "b", {}, {});
  call.Cancel();
  EXPECT_EQ(call.Get().error().reason, Reason::kCancelled);
  std::stop_source stop;
  std::jthread stopper([&stop] { stop.request_stop(); });
  EXPECT_EQ(client.Execute("a", "b", {}, {}, {.stop = stop.get_token()}).error().reason, Reason::kCancelled);
}

TEST_P(ClientConnect, TheLastClientCancelsCallsThatWaitForAConnection) {
  std::promise<Reason> reason;
  {
    const Client client(Adapted(Options{.socket = folder_ / "none.sock", .connect_timeout = 1h}));
    client.ExecuteAsync("a", "b", {}, {}, {}, [&](const Result& result) { reason.set_value(result.error().reason); });
  }
  EXPECT_EQ(reason.get_future().get(), Reason::kCancelled);
}

TEST_P(ClientConnect, WaitsForAnArbiterThatComesLater) {
  const Client client(Adapted(Options{.socket = folder_ / "dirty.sock", .connect_timeout = 1h}));
  Call call = client.ExecuteAsync("a", "async", {}, {});
  std::unique_ptr<FakeArbiter> arbiter;
  std::jthread starter(
      [&] { arbiter = std::make_unique<FakeArbiter>(folder_ / "dirty.sock", FakeArbiter::Echo, Adapted()); });
  EXPECT_TRUE(client.Execute("a", "sync").ok());
  EXPECT_TRUE(call.Get().ok());
  starter.join();
  EXPECT_EQ(arbiter->received(), 2);
}

TEST_P(ClientConnect, TheFirstCallAfterARestartSucceeds) {
  FakeArbiter arbiter(folder_ / "dirty.sock", FakeArbiter::Echo, Adapted());
  const Client client(Adapted(Options{.socket = folder_ / "dirty.sock"}));
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    Result result = i % 2 == 0 ? client.Execute("a", "b") : client.ExecuteAsync("a", "b", {}, {}).Get();
    ASSERT_TRUE(result.ok()) << i << ": " << result.error().message;
    EXPECT_LT(std::chrono::steady_clock::now() - start, 2s);
    arbiter.Stop();
    arbiter.Start();
  }
  EXPECT_EQ(arbiter.received(), 20);
}

TEST_P(ClientConnect, ACallCutOffOnTheWayHasAnUnknownOutcomeAndIsNotSentAgain) {
  FakeArbiter arbiter(folder_ / "dirty.sock", FakeArbiter::Block, Adapted());
  const Client client(Adapted(Options{.socket = folder_ / "dirty.sock"}));
  Call call = client.ExecuteAsync("a", "b", {}, {});
  std::jthread killer([&arbiter] {
    arbiter.WaitForCalls(2);
    arbiter.Stop();
    arbiter.Start();
  });
  const Result result = client.Execute("a", "b");
  EXPECT_EQ(result.error().reason, Reason::kOutcomeUnknown);
  EXPECT_THAT(result.error().message, HasSubstr("outcome unknown"));
  EXPECT_EQ(call.Get().error().reason, Reason::kOutcomeUnknown);
  killer.join();
  EXPECT_EQ(arbiter.received(), 2);
}

TEST_P(ClientConnect, LooksInOrderAndStaysWhereItFoundOne) {
  setenv("DIRTY_TEST_SOCKET", "/tmp/chosen.sock", 1);
  setenv("XDG_RUNTIME_DIR", "/tmp/xdg", 1);
  EXPECT_THAT(internal::SocketPaths("", "DIRTY_TEST_SOCKET", "dirty.sock"),
              ElementsAre("/tmp/chosen.sock", "/run/dirty/dirty.sock", "/tmp/xdg/dirty/dirty.sock"));
  EXPECT_THAT(internal::SocketPaths("/x", "DIRTY_TEST_SOCKET", "dirty.sock"), ElementsAre("/x"));
  unsetenv("DIRTY_TEST_SOCKET");
  unsetenv("XDG_RUNTIME_DIR");
  EXPECT_THAT(internal::SocketPaths("", "DIRTY_TEST_SOCKET", "dirty.sock"), ElementsAre("/run/dirty/dirty.sock"));

  internal::Connector connector({folder_ / "first.sock", folder_ / "second.sock"});
  EXPECT_THAT(connector.Get(internal::Clock::now(), {}).error().message,
              AllOf(HasSubstr("first.sock: absent; "), HasSubstr("second.sock: absent")));
  FakeArbiter second(folder_ / "second.sock", FakeArbiter::Echo);
  ASSERT_TRUE(connector.Get(internal::Clock::now() + 1h, {}).ok());
  FakeArbiter first(folder_ / "first.sock", FakeArbiter::Echo);
  second.Stop();
  EXPECT_THAT(connector.Get(internal::Clock::now(), {}).error().message,
              AllOf(HasSubstr("second.sock: "), ::testing::Not(HasSubstr("first.sock"))));
}

TEST(ClientSeconds, AreShort) {
  EXPECT_EQ(Seconds(5s), "5 s");
  EXPECT_EQ(Seconds(250ms), "0.25 s");
}

}  // namespace
}  // namespace dirty::client
