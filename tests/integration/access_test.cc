// Who may do what, and what those who may not, or who misbehave, cannot do to the others.

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <future>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/loop/unique_fd.h"
#include "tests/integration/harness.h"
#include "tests/unit/rpc_http2.h"

namespace dirty::integration {
namespace {

using client::Json;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kEmitter[] = "libfaults.so:Emitter";
constexpr uid_t kNobody = 65534;  // and group nogroup
constexpr uid_t kDaemon = 1;

// --- Other users ---

class OtherUser : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!IsRoot()) GTEST_SKIP() << "needs root, to be somebody else";
  }
  static Words Add(const Dirtyd& dirtyd) {
    return dirtyd.Ctl({"call", kEcho, "add", "1", "2", "--connect-timeout", "1"});
  }
};

TEST_F(OtherUser, GetsInByTheSocketsGroup) {
  Dirtyd dirtyd({kEcho, "--socket_group", absl::StrCat(kNobody)});
  Ran ran = RunProgram(Add(dirtyd), {.uid = kNobody});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "3.0\n");
  Ran other = RunProgram(Add(dirtyd), {.uid = kDaemon});
  EXPECT_EQ(other.code, 3);
  EXPECT_THAT(other.err, AllOf(HasSubstr(dirtyd.socket()), HasSubstr("permission denied: root:nogroup 0660"),
                               HasSubstr("you are uid 1"), HasSubstr("join group nogroup")));
  dirtyd.Stop(SIGTERM);
}

TEST_F(OtherUser, GetsInByTheSocketsMode) {
  Dirtyd dirtyd({kEcho, "--socket_mode", "0666"});
  EXPECT_EQ(RunProgram(Add(dirtyd), {.uid = kNobody}).code, 0);
  dirtyd.Stop(SIGTERM);
}

TEST_F(OtherUser, IsToldWhyNot) {
  Dirtyd dirtyd({kEcho});
  Ran ran = RunProgram(Add(dirtyd), {.uid = kNobody});
  EXPECT_EQ(ran.code, 3);
  EXPECT_THAT(ran.err,
              AllOf(HasSubstr("permission denied: root:root 0660, you are uid 65534"), HasSubstr("socket_group")));
  // The admin socket is its owner's and root's only.
  ran = RunProgram(dirtyd.Ctl({"status"}), {.uid = kNobody});
  EXPECT_EQ(ran.code, 3);
  EXPECT_THAT(ran.err,
              HasSubstr("permission denied: root:root 0600, you are uid 65534; the admin socket is for root and "
                        "dirtyd's own user only"));
  // Also where somebody widened its mode.
  ASSERT_EQ(chmod(dirtyd.admin_socket().c_str(), 0666), 0);
  ran = RunProgram(dirtyd.Ctl({"status"}), {.uid = kNobody});
  EXPECT_EQ(ran.code, 3);
  EXPECT_THAT(ran.err, HasSubstr("closed at once: the admin socket is for root and dirtyd's own user only, you are uid "
                                 "65534"));
  dirtyd.Stop(SIGTERM);
}

TEST_F(OtherUser, IsClosedOutByAllowUids) {
  for (const Words& rule : {Words{"--allow_uids", "0"}, Words{"--allow_gids", "0"}}) {
    Words args = {kEcho, "--socket_mode", "0666"};
    args.insert(args.end(), rule.begin(), rule.end());
    Dirtyd dirtyd(args);
    Process ctl(Add(dirtyd), {.uid = kNobody});
    const std::string line = dirtyd.process().WaitForLine("connection refused");
    EXPECT_THAT(line,
                AllOf(HasSubstr(absl::StrCat("pid=", ctl.pid())), HasSubstr("uid=65534"), HasSubstr("gid=65534")));
    EXPECT_EQ(ctl.WaitExit().code, 3);
    EXPECT_TRUE(WaitUntil([&] { return ctl.OutputEnded(); }));
    EXPECT_THAT(ctl.err(), AllOf(HasSubstr("allow_uids"), HasSubstr("uid 65534")));
    EXPECT_EQ(RunProgram(Add(dirtyd)).code, 0);
    dirtyd.Stop(SIGTERM);
  }
  Dirtyd dirtyd({kEcho, "--socket_mode", "0666", "--allow_uids", absl::StrCat(kNobody)});
  EXPECT_EQ(RunProgram(Add(dirtyd), {.uid = kNobody}).code, 0);
  dirtyd.Stop(SIGTERM);
}

// --- Operators' RPCs ---

using AdminRpc = std::function<grpc::Status(v1::Admin::Stub&, grpc::ClientContext*)>;

template <typename Request, typename Response>
AdminRpc Rpc(grpc::Status (v1::Admin::Stub::*rpc)(grpc::ClientContext*, const Request&, Response*)) {
  return [rpc](v1::Admin::Stub& stub, grpc::ClientContext* context) {
    Response response;
    return (stub.*rpc)(context, Request(), &response);
  };
}

// With empty requests; the code is the admin socket's answer to them.
const struct {
  const char* name;
  grpc::StatusCode code;
  AdminRpc call;
} kAdminRpcs[] = {
    {"Status", grpc::StatusCode::OK, Rpc(&v1::Admin::Stub::Status)},
    {"Reload", grpc::StatusCode::OK, Rpc(&v1::Admin::Stub::Reload)},
    {"Restart", grpc::StatusCode::OK, Rpc(&v1::Admin::Stub::Restart)},
    {"Scale", grpc::StatusCode::OK, Rpc(&v1::Admin::Stub::Scale)},
    {"Cancel", grpc::StatusCode::NOT_FOUND, Rpc(&v1::Admin::Stub::Cancel)},
    {"ReopenLogs", grpc::StatusCode::OK, Rpc(&v1::Admin::Stub::ReopenLogs)},
    {"SetLogLevel", grpc::StatusCode::INVALID_ARGUMENT, Rpc(&v1::Admin::Stub::SetLogLevel)},
    {"Metrics", grpc::StatusCode::OK, Rpc(&v1::Admin::Stub::Metrics)},
    {"Watch", grpc::StatusCode::DEADLINE_EXCEEDED,  // it goes on until its reader leaves
     [](v1::Admin::Stub& stub, grpc::ClientContext* context) {
       context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(kSanitized ? 10 : 1));
       auto reader = stub.Watch(context, {});
       v1::Event event;
       while (reader->Read(&event)) {
       }
       return reader->Finish();
     }},
    {"Shutdown", grpc::StatusCode::OK, Rpc(&v1::Admin::Stub::Shutdown)},
};

TEST(AdminRpcs, AreRefusedOnTheClientSocket) {
  Dirtyd dirtyd({kEcho});
  for (const auto& channel : {ClientChannel(dirtyd.socket()), AdminChannel(dirtyd.socket())}) {
    auto stub = v1::Admin::NewStub(channel);
    for (const auto& rpc : kAdminRpcs) {
      SCOPED_TRACE(rpc.name);
      Context context;
      grpc::Status status = rpc.call(*stub, &context);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED) << status.error_message();
      EXPECT_EQ(ErrorOf(status).reason(), v1::REASON_PERMISSION_DENIED);
      EXPECT_THAT(ErrorOf(status).message(), HasSubstr(rpc.name));
    }
  }
  EXPECT_EQ(dirtyd.Status().state(), v1::StatusResponse::RUNNING);
  dirtyd.Stop(SIGTERM);
}

TEST(AdminRpcs, AnswerOnTheAdminSocket) {
  Dirtyd dirtyd({kEcho});
  for (const auto& rpc : kAdminRpcs) {
    SCOPED_TRACE(rpc.name);
    Context context;
    grpc::Status status = rpc.call(dirtyd.admin(), &context);
    EXPECT_EQ(status.error_code(), rpc.code) << status.error_message();
  }
  // The last was Shutdown.
  EXPECT_EQ(dirtyd.process().WaitExit().code, 0);
  dirtyd.ExpectNothingLeft();
}

// --- Health and reflection, on both sockets ---

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

HealthCheckRequest About(const std::string& service) {
  HealthCheckRequest request;
  request.set_service(service);
  return request;
}

TEST(HealthService, ChecksAndWatchesEveryApp) {
  Dirtyd dirtyd({kEcho});
  for (const auto& channel : {ClientChannel(dirtyd.socket()), AdminChannel(dirtyd.admin_socket())}) {
    auto stub = Health::NewStub(channel);
    for (const char* service : {"", "dirty.v1.Arbiter", kEcho}) {
      SCOPED_TRACE(service);
      Context context;
      HealthCheckResponse response;
      ASSERT_TRUE(stub->Check(&context, About(service), &response).ok());
      EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
    }
    Context context;
    HealthCheckResponse response;
    EXPECT_EQ(stub->Check(&context, About("nobody"), &response).error_code(), grpc::StatusCode::NOT_FOUND);
  }
  auto stub = Health::NewStub(ClientChannel(dirtyd.socket()));
  Context context;
  auto watch = stub->Watch(&context, About(kEcho));
  HealthCheckResponse response;
  auto next = [&] { return watch->Read(&response) ? response.status() : HealthCheckResponse::UNKNOWN; };
  EXPECT_EQ(next(), HealthCheckResponse::SERVING);
  kill(dirtyd.ReadyWorkers().at(0).pid(), SIGKILL);
  EXPECT_EQ(next(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(next(), HealthCheckResponse::SERVING);
  dirtyd.process().Signal(SIGTERM);
  // A watcher learns of the shutdown and does not delay it.
  EXPECT_EQ(next(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(dirtyd.process().WaitExit().code, 0);
}

// The names that a version of the reflection service lists.
template <typename Reflection, typename Request, typename Response>
std::vector<std::string> Listed(const std::shared_ptr<grpc::Channel>& channel) {
  auto stub = Reflection::NewStub(channel);
  Context context;
  auto stream = stub->ServerReflectionInfo(&context);
  Request request;
  request.set_list_services("*");
  Response response;
  std::vector<std::string> names;
  EXPECT_TRUE(stream->Write(request) && stream->WritesDone() && stream->Read(&response));
  for (const auto& service : response.list_services_response().service()) names.push_back(service.name());
  EXPECT_TRUE(stream->Finish().ok());
  return names;
}

TEST(ReflectionService, ListsWhatIsServed) {
  namespace v1r = grpc::reflection::v1;
  namespace v1a = grpc::reflection::v1alpha;
  Dirtyd dirtyd({kEcho});
  for (const auto& channel : {ClientChannel(dirtyd.socket()), AdminChannel(dirtyd.admin_socket())}) {
    auto names = Listed<v1r::ServerReflection, v1r::ServerReflectionRequest, v1r::ServerReflectionResponse>(channel);
    EXPECT_THAT(names, IsSupersetOf({"dirty.v1.Arbiter", "dirty.v1.Admin", "grpc.health.v1.Health"}));
    auto old = Listed<v1a::ServerReflection, v1a::ServerReflectionRequest, v1a::ServerReflectionResponse>(channel);
    EXPECT_EQ(old, names);
  }
  dirtyd.Stop(SIGTERM);
}

// --- Abuse ---

// Calls of others, while somebody misbehaves.
void ExpectOthersDoNotNotice(const Dirtyd& dirtyd) {
  client::Client client = dirtyd.NewClient();
  absl::Duration longest;
  for (int i = 0; i < 200; ++i) {
    absl::Time start = absl::Now();
    auto result = client.Execute(kEcho, "echo", Json::array({i}), Json::object(), {.timeout = seconds(60)});
    ASSERT_TRUE(result.ok()) << i << ": " << result.error().message;
    longest = std::max(longest, absl::Now() - start);
  }
  if (kMeasured) {
    EXPECT_LE(longest, absl::Seconds(2));
  }
}

void ExpectTermEndsIt(Dirtyd& dirtyd, absl::Duration graceful_timeout) {
  absl::Time start = absl::Now();
  dirtyd.Stop(SIGTERM);
  if (kMeasured) {
    EXPECT_LE(absl::Now() - start, graceful_timeout + absl::Seconds(2));
  }
}

TEST(StoppedClient, InTheMiddleOfAStreamIsNoticedByNobody) {
  Dirtyd dirtyd({kEcho, kEmitter, "--workers", "2", "--graceful_timeout", "1s"});
  Process reader(dirtyd.Ctl({"call", kEmitter, "blocks", "1000000", "1048576", "--stream"}));
  ASSERT_NE(reader.WaitForOutput("\"i\":"), "");
  reader.Signal(SIGSTOP);
  ASSERT_TRUE(WaitUntil([&] { return ProcessState(reader.pid()) == 'T'; }));
  ExpectOthersDoNotNotice(dirtyd);
  const size_t memory = ResidentBytes(dirtyd.pid());
  if (kMeasured) {
    EXPECT_LE(memory, size_t{256} << 20) << "its chunks pile up";
  }
  EXPECT_EQ(dirtyd.App(kEmitter).running(), 1u);
  ExpectTermEndsIt(dirtyd, absl::Seconds(1));
}

TEST(StoppedClient, WithLargeResultsOnTheirWayIsNoticedByNobody) {
  Dirtyd dirtyd({kEcho, "--graceful_timeout", "1s"});
  // HTTP/2 by hand: large windows, and nothing is ever read.
  std::vector<UniqueFd> sockets;
  for (int i = 0; i < 4; ++i) {
    UniqueFd& fd = sockets.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    memcpy(address.sun_path, dirtyd.socket().data(), dirtyd.socket().size());
    ASSERT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    v1::ExecuteRequest request;
    request.set_app(kEcho);
    request.set_action("bytes");
    request.set_args("[33554432]");
    constexpr uint32_t kWindow = 1 << 30;
    http2::Send(fd.get(), http2::Preface(kWindow) + http2::OpenWindow(0, kWindow) +
                              http2::Call("/dirty.v1.Arbiter/Execute") +
                              http2::Message(request.SerializeAsString(), true));
  }
  ASSERT_TRUE(WaitUntil([&] { return dirtyd.App(kEcho).counters().ok() == sockets.size(); }));
  ExpectOthersDoNotNotice(dirtyd);
  ExpectTermEndsIt(dirtyd, absl::Seconds(1));
}

TEST(HostileClient, ThatSendsAGigabyteDoesNotMakeDirtydGrow) {
  constexpr size_t kMiB = 1 << 20;
  const int megabytes = kSanitized ? 256 : 1024;
  Dirtyd dirtyd({kEcho, "--max_memory_in_flight", "128MiB"});
  const size_t before = ResidentBytes(dirtyd.pid());
  // One message, as often the same megabyte.
  grpc::Slice slice(std::string(kMiB, 'x'));
  std::vector<grpc::Slice> slices(static_cast<size_t>(megabytes), slice);
  grpc::ByteBuffer message(slices.data(), slices.size()), answer;
  grpc::GenericStub stub(ClientChannel(dirtyd.socket()));
  Context context;
  std::promise<grpc::Status> done;
  auto ended = done.get_future();
  stub.UnaryCall(&context, "/dirty.v1.Arbiter/Execute", grpc::StubOptions(), &message, &answer,
                 [&](grpc::Status status) { done.set_value(std::move(status)); });
  size_t peak = 0;
  while (ended.wait_for(std::chrono::milliseconds(5)) != std::future_status::ready) {
    peak = std::max(peak, ResidentBytes(dirtyd.pid()));
  }
  grpc::Status status = ended.get();
  EXPECT_FALSE(status.ok());
  printf("[ MEMORY   ] %zu MiB before, %zu MiB at most; %s\n", before / kMiB, peak / kMiB,
         status.error_message().c_str());
  if (kMeasured) {
    EXPECT_LE(peak, (128 + 256) * kMiB);
  }
  ExpectOthersDoNotNotice(dirtyd);
  dirtyd.Stop(SIGTERM);
}

}  // namespace
}  // namespace dirty::integration
