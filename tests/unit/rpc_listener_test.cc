#include <fcntl.h>
#include <grp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "dirty/v1/admin.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.pb.h"
#include "server/rpc/listener.h"
#include "tests/unit/rpc_fixture.h"
#include "tests/unit/rpc_http2.h"

namespace dirty {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uid_t kNobody = 65534;

size_t OpenDescriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
}

// Waits until the peer has closed; false if it talks instead (a server says its settings first).
bool EndsAtOnce(int fd) {
  char byte;
  return read(fd, &byte, 1) <= 0;
}

class ListenerTest : public RpcTest {
 protected:
  grpc::Status Check(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    SetDeadline(context);
    HealthCheckResponse response;
    return Health::NewStub(channel)->Check(&context, HealthCheckRequest(), &response);
  }

  // Connects as another user, in a process of its own. True: the server talked to it.
  static bool TalksAs(uid_t uid, gid_t gid, const std::string& path, pid_t* pid = nullptr) {
    pid_t child = fork();
    if (child == 0) {
      if (setgroups(0, nullptr) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) _exit(9);
      UniqueFd fd = ConnectTo(path);
      if (!fd.ok()) _exit(errno == EACCES ? 2 : 3);
      _exit(EndsAtOnce(fd.get()) ? 1 : 0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) != 9 && WEXITSTATUS(status) != 3) << status;
    if (pid != nullptr) *pid = child;
    last_exit_ = WEXITSTATUS(status);
    return last_exit_ == 0;
  }
  static inline int last_exit_ = 0;
};

// Another server on the same sockets, that tells by which socket a call came.
class WhichSocket final : public v1::Admin::Service {
 public:
  grpc::Status Status(grpc::ServerContext* context, const v1::StatusRequest*, v1::StatusResponse* response) override {
    response->set_version(IsAdmin(*context) ? "admin" : "client");
    return grpc::Status::OK;
  }
};

TEST_F(ListenerTest, TellsAdminCallsFromOthers) {
  StopServer();
  WhichSocket service;
  Watcher watcher;
  Listener listener(watcher, clock_, log_);
  grpc::ServerBuilder builder;
  builder.RegisterService(&service);
  ASSERT_TRUE(listener.AddClientSocket({.path = client_path_, .mode = 0660, .group = std::nullopt}, builder).ok());
  ASSERT_TRUE(listener.AddAdminSocket(admin_path_, builder).ok());
  auto server = builder.BuildAndStart();
  listener.Start();
  for (const auto& [path, expected] : {std::pair(client_path_, "client"), std::pair(admin_path_, "admin")}) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::StatusResponse response;
    ASSERT_TRUE(v1::Admin::NewStub(Connect(path))->Status(&context, v1::StatusRequest(), &response).ok());
    EXPECT_EQ(response.version(), expected);
  }
  listener.StopAccepting();
  server->Shutdown();
}

TEST_F(ListenerTest, PathsHaveTheirModeAndGroup) {
  StopServer();
  mode_t before = umask(0);
  if (geteuid() == 0) {
    StartServer({.path = "", .mode = 0660, .group = kNobody});
  } else {
    StartServer({.path = "", .mode = 0660, .group = getegid()});
  }
  umask(before);
  struct stat entry;
  ASSERT_EQ(stat(client_path_.c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0660u);
  EXPECT_EQ(entry.st_gid, geteuid() == 0 ? kNobody : getegid());
  ASSERT_EQ(stat(admin_path_.c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0600u);
}

TEST_F(ListenerTest, RefusesAPathThatIsTakenOrTooLong) {
  grpc::ServerBuilder builder;
  Listener other(*watcher_, clock_, log_);
  absl::Status taken = other.AddClientSocket({.path = client_path_, .mode = 0660, .group = std::nullopt}, builder);
  EXPECT_THAT(std::string(taken.message()), HasSubstr("Address already in use"));
  EXPECT_THAT(std::string(other.AddAdminSocket(dir_ / std::string(200, 'x'), builder).message()), HasSubstr("107"));
  other.StopAccepting();
  EXPECT_TRUE(std::filesystem::exists(client_path_)) << "another's path was removed";
  EXPECT_TRUE(Check(Connect(client_path_)).ok());
}

TEST_F(ListenerTest, ModeLetsOthersInOrNot) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  EXPECT_FALSE(TalksAs(kNobody, kNobody, client_path_));
  EXPECT_EQ(last_exit_, 2) << "not by the mode";
  StopServer();
  StartServer({.path = "", .mode = 0660, .group = kNobody});
  EXPECT_TRUE(TalksAs(kNobody, kNobody, client_path_));
}

TEST_F(ListenerTest, RefusesUsersWhoAreNotListed) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  StopServer();
  StartServer({.path = "", .mode = 0666, .group = std::nullopt});
  listener_->SetAllowed({1001}, {1002});
  pid_t pid = 0;
  EXPECT_FALSE(TalksAs(kNobody, 1003, client_path_, &pid));
  EXPECT_EQ(last_exit_, 1);
  EXPECT_THAT(log_.Lines(1), ElementsAre(absl::StrCat("connection refused: this user may not connect socket=",
                                                      client_path_, " pid=", pid, " uid=65534 gid=1003")));
  EXPECT_TRUE(TalksAs(1001, 1003, client_path_)) << "listed by uid";
  EXPECT_TRUE(TalksAs(kNobody, 1002, client_path_)) << "listed by gid";
  listener_->SetAllowed({}, {});
  EXPECT_TRUE(TalksAs(kNobody, 1003, client_path_)) << "nobody is listed: whoever the mode lets in";
}

TEST_F(ListenerTest, OnlyRootAndOurselvesAreAdminsWhateverTheMode) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  ASSERT_EQ(chmod(admin_path_.c_str(), 0666), 0);
  EXPECT_FALSE(TalksAs(kNobody, kNobody, admin_path_));
  EXPECT_EQ(last_exit_, 1);
  EXPECT_THAT(log_.Lines(1), ElementsAre(HasSubstr(admin_path_)));
  listener_->SetAllowed({kNobody}, {});
  EXPECT_FALSE(TalksAs(kNobody, kNobody, admin_path_)) << "the list is the client socket's";
  EXPECT_TRUE(Check(Connect(admin_path_)).ok());
}

TEST_F(ListenerTest, LogsTenRefusalsASecondAndCountsTheRest) {
  listener_->SetAllowed({geteuid() + 1}, {});
  for (int i = 0; i < 25; ++i) EXPECT_TRUE(EndsAtOnce(ConnectTo(client_path_).get()));
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(EndsAtOnce(ConnectTo(client_path_).get()));
  // Ten, the count of fifteen, and the one a second later.
  auto lines = log_.Lines(12);
  ASSERT_EQ(lines.size(), 12u);
  EXPECT_THAT(lines[9], HasSubstr("refused: this user"));
  EXPECT_EQ(lines[10], "more connections were refused than lines written count=15");
  EXPECT_THAT(lines[11], HasSubstr("refused: this user"));
  // The rest is told at the end.
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(EndsAtOnce(ConnectTo(client_path_).get()));
  OnLoop([&] { listener_->StopAccepting(); });
  EXPECT_EQ(log_.Lines(22).back(), "more connections were refused than lines written count=1");
}

TEST_F(ListenerTest, AThousandConnectionsLeaveNoDescriptor) {
  ASSERT_TRUE(Check(Connect(client_path_)).ok());
  ASSERT_TRUE(Eventually([&] { return listener_->count() == 0; }));
  size_t before = OpenDescriptors();
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(Check(Connect(client_path_)).ok()) << i;
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(ConnectTo(i % 2 ? client_path_ : admin_path_).ok()) << i;
  EXPECT_TRUE(Eventually([&] { return listener_->count() == 0; })) << listener_->count();
  EXPECT_TRUE(Eventually([&] { return OpenDescriptors() <= before; })) << before << ", then " << OpenDescriptors();
}

TEST_F(ListenerTest, ForgettingAConnectionLeavesGrpcsOwnAlone) {
  auto stays = Connect(client_path_);
  ASSERT_TRUE(Check(stays).ok());
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Check(Connect(client_path_)).ok());
  EXPECT_TRUE(Eventually([&] { return listener_->count() == 1; }));
  EXPECT_TRUE(Check(stays).ok());
  EXPECT_EQ(stays->GetState(false), GRPC_CHANNEL_READY);
}

TEST_F(ListenerTest, OutOfDescriptorsClientsWaitAndOneLineSaysSo) {
  ASSERT_TRUE(Check(Connect(client_path_)).ok());
  ASSERT_TRUE(Eventually([&] { return listener_->count() == 0; }));
  UniqueFd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  memcpy(address.sun_path, client_path_.data(), client_path_.size());
  rlimit before, none;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  none = before;
  // No number is free below a limit that is no more than the lowest one in use.
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  int connected = connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  auto lines = log_.Lines(1);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(connected, 0);
  EXPECT_FALSE(EndsAtOnce(client.get())) << "served once there is a descriptor";
  EXPECT_EQ(log_.Lines(1).size(), 1u);
  EXPECT_THAT(lines, ElementsAre(HasSubstr("Too many open files")));
}

TEST_F(ListenerTest, StopAcceptingRemovesThePathsAndKeepsConnections) {
  auto stays = Connect(client_path_);
  ASSERT_TRUE(Check(stays).ok());
  OnLoop([&] { listener_->StopAccepting(); });
  EXPECT_FALSE(std::filesystem::exists(client_path_));
  EXPECT_FALSE(std::filesystem::exists(admin_path_));
  EXPECT_FALSE(ConnectTo(client_path_).ok());
  EXPECT_TRUE(Check(stays).ok());
}

TEST_F(ListenerTest, APathThatBecameAnothersIsLeftAlone) {
  ASSERT_EQ(unlink(client_path_.c_str()), 0);
  UniqueFd file(open(client_path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  OnLoop([&] { listener_->StopAccepting(); });
  EXPECT_TRUE(std::filesystem::exists(client_path_));
}

TEST_F(ListenerTest, ConnectionsThatRaceWithTheShutdownAreClosed) {
  std::atomic<bool> stop = false;
  std::thread connecting([&] {
    while (!stop) ConnectTo(client_path_);
  });
  ASSERT_TRUE(Eventually([&] { return listener_->count() > 0; }));
  OnLoop([&] { listener_->StopAccepting(); });
  server_->Shutdown();
  stop = true;
  connecting.join();
  EXPECT_TRUE(Eventually([&] { return listener_->count() == 0; })) << listener_->count();
}

// A client that is stopped in the middle of a large transfer: it has asked for much, with windows that let the server
// send all of it, and reads nothing.
std::string QuestionsOfAStoppedClient() {
  grpc::reflection::v1::ServerReflectionRequest request;
  request.set_file_containing_symbol("dirty.v1.Admin");
  constexpr uint32_t kWindow = 0x7fff0000;
  std::string bytes = http2::Preface(kWindow) + http2::OpenWindow(0, kWindow) +
                      http2::Call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
  // Below the server's own windows, as nobody looks when they open again.
  for (int i = 0; i < 1000; ++i) bytes += http2::Message(request.SerializeAsString());
  return bytes;
}

TEST_F(ListenerTest, AClientThatDoesNotReadCannotHoldUpTheShutdown) {
  UniqueFd client = ConnectTo(client_path_);
  std::string questions = QuestionsOfAStoppedClient();
  ASSERT_EQ(write(client.get(), questions.data(), questions.size()), static_cast<ssize_t>(questions.size()));
  // The server has filled the socket's buffer when what waits there grows no more; it is more than half full by then.
  int size = 0;
  socklen_t length = sizeof size;
  ASSERT_EQ(getsockopt(client.get(), SOL_SOCKET, SO_SNDBUF, &size, &length), 0);
  ASSERT_TRUE(Eventually([&] {
    int waiting = 0;
    return ioctl(client.get(), FIONREAD, &waiting) == 0 && waiting > size / 4;
  }));
  // Others are served meanwhile.
  EXPECT_TRUE(Check(Connect(client_path_)).ok());
  OnLoop([&] {
    health_->Shutdown();
    reflection_->Shutdown();
    listener_->StopAccepting();
  });
  EXPECT_GE(listener_->count(), 1u);
  StopServer();  // hangs if the connection is not shut down
}

}  // namespace
}  // namespace dirty
