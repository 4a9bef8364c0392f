#include <fcntl.h>
#include <sys/stat.h>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/rpc/passed_sockets.h"
#include "tests/unit/rpc_fixture.h"

namespace dirty {
namespace {

using testing::AllOf;
using testing::HasSubstr;

enum class Kind { kListening, kBound, kDatagram };

class PassedSocketsTest : public ::testing::Test {
 protected:
  // As the service manager makes it: it blocks. `path` empty: an abstract name of the kernel's.
  static UniqueFd MakeSocket(const std::string& path, Kind kind = Kind::kListening) {
    UniqueFd fd(socket(AF_UNIX, (kind == Kind::kDatagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0));
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    memcpy(address.sun_path, path.data(), path.size());
    socklen_t size = path.empty() ? sizeof(sa_family_t) : sizeof address;
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0) << strerror(errno);
    if (kind == Kind::kListening) {
      EXPECT_EQ(listen(fd.get(), 16), 0);
    }
    return fd;
  }

  absl::StatusOr<PassedSockets> Assign(UniqueFd fd, const std::string& name) {
    std::vector<PassedDescriptor> passed;
    passed.push_back({.fd = std::move(fd), .name = name});
    return AssignSockets(std::move(passed), client_path_, admin_path_);
  }
  std::string ErrorOf(UniqueFd fd, const std::string& name) {
    absl::StatusOr<PassedSockets> sockets = Assign(std::move(fd), name);
    EXPECT_FALSE(sockets.ok());
    return std::string(sockets.status().message());
  }

  TempDir dir_;
  std::string client_path_ = dir_ / "dirty.sock";
  std::string admin_path_ = dir_ / "admin.sock";
};

TEST_F(PassedSocketsTest, AreKnownByNameOrByPath) {
  for (bool named : {true, false}) {
    std::vector<PassedDescriptor> passed;
    passed.push_back({.fd = MakeSocket(admin_path_), .name = named ? "admin" : "dirtyd.socket"});
    passed.push_back({.fd = MakeSocket(client_path_), .name = named ? "dirty" : ""});
    int admin = passed[0].fd.get(), client = passed[1].fd.get();
    absl::StatusOr<PassedSockets> sockets = AssignSockets(std::move(passed), client_path_, admin_path_);
    ASSERT_TRUE(sockets.ok()) << sockets.status();
    EXPECT_EQ(sockets->admin.get(), admin);
    EXPECT_EQ(sockets->client.get(), client);
    EXPECT_TRUE(fcntl(client, F_GETFL) & O_NONBLOCK);
    std::filesystem::remove(client_path_);
    std::filesystem::remove(admin_path_);
  }
}

TEST_F(PassedSocketsTest, NoneIsFine) {
  absl::StatusOr<PassedSockets> sockets = AssignSockets({}, client_path_, admin_path_);
  ASSERT_TRUE(sockets.ok());
  EXPECT_FALSE(sockets->client.ok());
  EXPECT_FALSE(sockets->admin.ok());
}

TEST_F(PassedSocketsTest, APathMayBeSpelledInAnotherWay) {
  std::filesystem::create_directory_symlink(dir_ / "", dir_ / "link");
  EXPECT_TRUE(Assign(MakeSocket(dir_ / "link/dirty.sock"), "").ok());
}

TEST_F(PassedSocketsTest, SaysWhatIsWrong) {
  EXPECT_THAT(ErrorOf(UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)), "dirty"),
              AllOf(HasSubstr("(dirty), passed by the service manager"), HasSubstr("not a listening Unix stream")));
  EXPECT_THAT(ErrorOf(UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), "x"), HasSubstr("not a listening"));
  EXPECT_THAT(ErrorOf(MakeSocket(dir_ / "a", Kind::kDatagram), "dirty"), HasSubstr("not a listening Unix stream"));
  EXPECT_THAT(ErrorOf(MakeSocket(dir_ / "b", Kind::kBound), "dirty"), HasSubstr("not a listening Unix stream"));
  EXPECT_THAT(ErrorOf(MakeSocket(""), "dirty"), HasSubstr("is bound to no path"));
  EXPECT_THAT(ErrorOf(MakeSocket(dir_ / "c"), "dirty"),
              HasSubstr(absl::StrCat("listens on ", dir_ / "c", ", but socket is ", client_path_)));
  EXPECT_THAT(ErrorOf(MakeSocket(dir_ / "d"), "admin"), HasSubstr("but admin_socket is"));
  EXPECT_THAT(ErrorOf(MakeSocket(dir_ / "e"), "web"),
              AllOf(HasSubstr("(web)"), HasSubstr("neither socket"), HasSubstr("FileDescriptorName=dirty or admin")));
  std::vector<PassedDescriptor> twice;
  UniqueFd one = MakeSocket(client_path_);
  twice.push_back({.fd = UniqueFd(fcntl(one.get(), F_DUPFD_CLOEXEC, 0)), .name = "dirty"});
  twice.push_back({.fd = std::move(one), .name = "dirty"});
  EXPECT_THAT(std::string(AssignSockets(std::move(twice), client_path_, admin_path_).status().message()),
              HasSubstr("is a second socket"));
}

// A server whose sockets were passed.
class PassedListenerTest : public RpcTest {
 protected:
  bool Serves(const std::string& path) {
    grpc::ClientContext context;
    SetDeadline(context);
    grpc::health::v1::HealthCheckResponse response;
    return grpc::health::v1::Health::NewStub(Connect(path))
        ->Check(&context, grpc::health::v1::HealthCheckRequest(), &response)
        .ok();
  }
};

TEST_F(PassedListenerTest, ServesWithoutTouchingThePath) {
  StopServer();
  // Before there is a server: a client that came early waits in the backlog.
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  memcpy(address.sun_path, client_path_.data(), client_path_.size());
  UniqueFd passed(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(passed.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(passed.get(), 16), 0);
  ASSERT_EQ(chmod(client_path_.c_str(), 0604), 0);
  UniqueFd kept(fcntl(passed.get(), F_DUPFD_CLOEXEC, 0));  // the service manager keeps its own
  StartServer({.path = "", .mode = 0660, .group = std::nullopt}, std::move(passed));
  EXPECT_TRUE(Serves(client_path_));
  struct stat entry;
  ASSERT_EQ(stat(client_path_.c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0604u) << "its mode is the service manager's";
  StopServer();
  EXPECT_TRUE(std::filesystem::exists(client_path_)) << "and its path";
  EXPECT_FALSE(std::filesystem::exists(admin_path_)) << "what it made itself it removes";
  UniqueFd late(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(late.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << "clients wait meanwhile";
}

}  // namespace
}  // namespace dirty
