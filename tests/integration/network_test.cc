// The network listener: who gets in, what a reload changes, and what strangers cannot do to the others.

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <fstream>
#include <future>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/loop/unique_fd.h"
#include "tests/integration/certificates.h"
#include "tests/integration/harness.h"
#include "tests/integration/load.h"

namespace dirty::integration {
namespace {

using grpc::StatusCode;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kSlow[] = "libfaults.so:Slow";
constexpr char kEmitter[] = "libfaults.so:Emitter";
constexpr char kReadiness[] = "dirty.v1.Arbiter";

void Write(const std::string& path, absl::string_view text) { std::ofstream(path) << text; }

// The port, as the log names it.
int Port(Dirtyd& dirtyd) {
  const std::string line = dirtyd.process().WaitForLine("network: 127.0.0.1:");
  const std::string rest = line.substr(line.find("127.0.0.1:") + 10);
  return std::atoi(rest.c_str());
}

// What a client shows and whom it trusts; no certificates: not encrypted.
struct Identity {
  const Authority* trusts = nullptr;
  const Authority* signer = nullptr;
  std::string name = {};  // of the certificate that `signer` made
};

std::shared_ptr<grpc::Channel> Dial(int port, const Identity& identity = {}) {
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (identity.trusts != nullptr) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = identity.trusts->pem();
    if (identity.signer != nullptr) {
      options.pem_cert_chain = ReadText(identity.signer->Certificate(identity.name));
      options.pem_private_key = ReadText(identity.signer->Key(identity.name));
    }
    credentials = grpc::SslCredentials(options);
  }
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port), credentials, args);
}

void Show(grpc::ClientContext& context, const std::string& token) {
  if (!token.empty()) context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
}

v1::ExecuteRequest Request(const char* app, const char* action, const std::string& args) {
  v1::ExecuteRequest request;
  request.set_app(app);
  request.set_action(action);
  request.set_args(args);
  return request;
}

grpc::Status Add(const std::shared_ptr<grpc::Channel>& channel, const std::string& token = "") {
  Context context;
  Show(context, token);
  v1::ExecuteResponse response;
  grpc::Status status = v1::Arbiter::NewStub(channel)->Execute(&context, Request(kEcho, "add", "[1, 2]"), &response);
  if (status.ok()) {
    EXPECT_EQ(response.result(), "3.0");
  }
  return status;
}

// Of a service, or what went wrong.
std::string Health(const std::shared_ptr<grpc::Channel>& channel, const std::string& service) {
  Context context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  grpc::Status status = grpc::health::v1::Health::NewStub(channel)->Check(&context, request, &response);
  return status.ok() ? grpc::health::v1::HealthCheckResponse::ServingStatus_Name(response.status())
                     : status.error_message();
}

UniqueFd ConnectTcp(int port) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

// One authority for the servers' and one for the clients' certificates, shared by the tests: keys take time.
class Network : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    servers_ = new Authority("servers");
    clients_ = new Authority("clients");
    servers_->Sign("server");
    clients_->Sign("client");
  }
  static void TearDownTestSuite() {
    delete servers_;
    delete clients_;
  }

  static std::string Config(const std::string& network) {
    return absl::StrCat("apps: [", kEcho, ", ", kSlow, ", ", kEmitter, "]\nthreads: 4\nnetwork:\n", network);
  }
  std::string Tls() const {
    return absl::StrCat("  address: 127.0.0.1:0\n  certificate: ", servers_->Certificate("server"),
                        "\n  key: ", servers_->Key("server"), "\n");
  }
  std::string MutualTls() const { return absl::StrCat(Tls(), "  client_ca: ", clients_->file(), "\n"); }
  static Identity Anonymous() { return {.trusts = servers_}; }
  static Identity Client() { return {.trusts = servers_, .signer = clients_, .name = "client"}; }

  static inline Authority* servers_;
  static inline Authority* clients_;
  Folder folder_;
};

TEST_F(Network, ServesCallsStreamsAndSessionsOverMutualTlsWithAToken) {
  Write(folder_ / "tokens", "# of the web tier\n\n first \nsecond-token\n");
  Dirtyd dirtyd({}, {.config = Config(absl::StrCat(MutualTls(), "  token_file: ", folder_ / "tokens", "\n"))});
  const auto channel = Dial(Port(dirtyd), Client());
  EXPECT_TRUE(Add(channel, "first").ok());
  EXPECT_TRUE(Add(channel, "second-token").ok());
  const auto stub = v1::Arbiter::NewStub(channel);
  {
    Context context;
    Show(context, "first");
    auto reader = stub->ExecuteStream(&context, Request(kEmitter, "count", "[3]"));
    v1::Chunk chunk;
    std::string values;
    while (reader->Read(&chunk)) values += chunk.value();
    EXPECT_TRUE(reader->Finish().ok());
    EXPECT_EQ(values, "012");
  }
  {
    Context context;
    Show(context, "first");
    auto session = stub->Session(&context);
    v1::SessionRequest frame;
    frame.mutable_hello()->set_protocol_version(1);
    ASSERT_TRUE(session->Write(frame));
    for (uint64_t id = 1; id <= 3; ++id) {
      frame.mutable_execute()->set_id(id);
      *frame.mutable_execute()->mutable_request() = Request(kEcho, "add", absl::StrCat("[", id, ", 0]"));
      ASSERT_TRUE(session->Write(frame));
    }
    session->WritesDone();
    v1::SessionResponse answer;
    int done = 0;
    while (session->Read(&answer)) done += answer.has_done() && answer.done().has_response() ? 1 : 0;
    EXPECT_EQ(done, 3);
    EXPECT_TRUE(session->Finish().ok());
  }
  // Health is for balancers, which have no token; Admin is for the admin socket.
  EXPECT_EQ(Health(channel, ""), "SERVING");
  EXPECT_EQ(Health(channel, kReadiness), "SERVING");
  Context context;
  Show(context, "first");
  v1::StatusResponse response;
  EXPECT_EQ(v1::Admin::NewStub(channel)->Status(&context, v1::StatusRequest(), &response).error_code(),
            StatusCode::PERMISSION_DENIED);
  dirtyd.Stop(SIGQUIT);  // not to wait for the connections that stand
}

TEST_F(Network, RefusesWhoHasNoTokenOrAnother) {
  Write(folder_ / "tokens", "right\n");
  // Without TLS too: tokens are the transport's business either way.
  Dirtyd dirtyd({}, {.config = Config(absl::StrCat("  address: 127.0.0.1:0\n  token_file: ", folder_ / "tokens"))});
  const auto channel = Dial(Port(dirtyd));
  EXPECT_EQ(Health(channel, kReadiness), "SERVING");
  EXPECT_TRUE(Add(channel, "right").ok());
  grpc::Status status = Add(channel);
  EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(status.error_message(), HasSubstr("authorization: Bearer TOKEN"));
  for (const char* wrong : {"wrong", "righ", "rightright", "Right", "right right"}) {
    status = Add(channel, wrong);
    EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED) << wrong;
    EXPECT_THAT(status.error_message(), HasSubstr("none of dirtyd's tokens"));
  }
  // Every service but health.
  Context context;
  v1::StatusResponse response;
  EXPECT_EQ(v1::Admin::NewStub(channel)->Status(&context, v1::StatusRequest(), &response).error_code(),
            StatusCode::UNAUTHENTICATED);
  // The socket asks for none.
  EXPECT_TRUE(Add(ClientChannel(dirtyd.socket())).ok());
  dirtyd.Stop(SIGQUIT);  // not to wait for the connections that stand
}

TEST_F(Network, LetsNobodyInWithAWrongCertificate) {
  const Authority strangers("strangers");
  strangers.Sign("client");
  clients_->Sign("expired", -1);
  Dirtyd dirtyd({}, {.config = Config(MutualTls())});
  const int port = Port(dirtyd);
  const std::pair<const char*, Identity> refused[] = {
      {"no certificate", Anonymous()},
      {"another authority's", {.trusts = servers_, .signer = &strangers, .name = "client"}},
      {"one that expired", {.trusts = servers_, .signer = clients_, .name = "expired"}},
      {"one who does not trust the server", {.trusts = &strangers, .signer = clients_, .name = "client"}},
      {"not encrypted", {}},
  };
  for (const auto& [what, identity] : refused) {
    EXPECT_EQ(Add(Dial(port, identity)).error_code(), StatusCode::UNAVAILABLE) << what;
  }
  EXPECT_TRUE(Add(Dial(port, Client())).ok());
  EXPECT_THAT(dirtyd.process().WaitForLine("certificate verify failed"), HasSubstr(" WARNING gRPC: ")) << "in our log";
  dirtyd.Stop(SIGTERM);
}

TEST_F(Network, SaysWhenItsOwnCertificateExpired) {
  servers_->Sign("expired", -1);
  Dirtyd dirtyd(
      {}, {.config = Config(absl::StrCat("  address: 127.0.0.1:0\n  certificate: ", servers_->Certificate("expired"),
                                         "\n  key: ", servers_->Key("expired"), "\n"))});
  EXPECT_THAT(dirtyd.process().WaitForLine("expired on"), HasSubstr(servers_->Certificate("expired")));
  EXPECT_EQ(Add(Dial(Port(dirtyd), Anonymous())).error_code(), StatusCode::UNAVAILABLE);
  dirtyd.Stop(SIGTERM);
}

TEST_F(Network, TlsDoesNotGetThroughWhereNothingIsEncrypted) {
  Dirtyd dirtyd({kEcho, "--network_address=127.0.0.1:0"});
  const int port = Port(dirtyd);
  EXPECT_EQ(Add(Dial(port, Anonymous())).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_TRUE(Add(Dial(port)).ok());
  dirtyd.Stop(SIGTERM);
}

TEST_F(Network, AReloadReadsCertificatesAndTokensAgainAndCutsNobodyOff) {
  const Authority renewed("renewed");
  renewed.Sign("server");
  const std::string certificate = folder_ / "server.pem", key = folder_ / "server.key", tokens = folder_ / "tokens";
  auto install = [&](const Authority& authority) {
    Write(certificate, ReadText(authority.Certificate("server")));
    Write(key, ReadText(authority.Key("server")));
  };
  install(*servers_);
  Write(tokens, "old\n");
  Dirtyd dirtyd({}, {.config = Config(absl::StrCat("  address: 127.0.0.1:0\n  certificate: ", certificate,
                                                   "\n  key: ", key, "\n  token_file: ", tokens, "\n"))});
  const int port = Port(dirtyd);
  const auto before = Dial(port, Anonymous());
  ASSERT_TRUE(Add(before, "old").ok());
  // A call that runs meanwhile.
  const std::string go = folder_ / "go";
  auto running = std::async(std::launch::async, [&] {
    Context context;
    Show(context, "old");
    v1::ExecuteResponse response;
    return v1::Arbiter::NewStub(before)->Execute(
        &context, Request(kSlow, "wait_for_file", absl::StrCat("[\"", go, "\"]")), &response);
  });
  ASSERT_TRUE(dirtyd.WaitForRunning(kSlow, 1));

  // What cannot be used changes nothing.
  Write(key, "nonsense");
  Ran ran = RunProgram(dirtyd.Ctl({"reload"}));
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, HasSubstr(absl::StrCat("network.key: ", key, ": holds no private key")));
  EXPECT_TRUE(Add(Dial(port, Anonymous()), "old").ok());

  // Nor what only TLS would refuse.
  servers_->Sign("weak", 2, 1024);
  Write(certificate, ReadText(servers_->Certificate("weak")));
  Write(key, ReadText(servers_->Key("weak")));
  ran = RunProgram(dirtyd.Ctl({"reload"}));
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, HasSubstr("TLS refuses it: ee key too small"));
  EXPECT_TRUE(Add(Dial(port, Anonymous()), "old").ok());

  install(renewed);
  Write(tokens, "new\n");
  Touch(go);  // the old worker ends when its call has
  ran = RunProgram(dirtyd.Ctl({"reload"}));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(running.get().ok());
  EXPECT_TRUE(Add(before, "new").ok()) << "a connection that stood";
  EXPECT_EQ(Add(before, "old").error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(Add(Dial(port, {.trusts = &renewed}), "new").ok());
  EXPECT_EQ(Add(Dial(port, Anonymous()), "new").error_code(), StatusCode::UNAVAILABLE) << "the old certificate";
  dirtyd.Stop(SIGQUIT);  // not to wait for the connections that stand
}

TEST_F(Network, AReloadThatIsTakenBackTakesBackCertificatesAndTokensToo) {
  const Authority renewed("renewed");
  renewed.Sign("server");
  const std::string certificate = folder_ / "server.pem", key = folder_ / "server.key", tokens = folder_ / "tokens";
  auto install = [&](const Authority& authority, absl::string_view token) {
    Write(certificate, ReadText(authority.Certificate("server")));
    Write(key, ReadText(authority.Key("server")));
    Write(tokens, token);
  };
  install(*servers_, "old\n");
  auto config = [&](absl::string_view app) {
    return absl::StrCat("apps: [", kEcho, app, "]\nnetwork:\n  address: 127.0.0.1:0\n  certificate: ", certificate,
                        "\n  key: ", key, "\n  token_file: ", tokens, "\n");
  };
  Dirtyd dirtyd({}, {.config = config("")});
  const int port = Port(dirtyd);
  ASSERT_TRUE(Add(Dial(port, Anonymous()), "old").ok());

  install(renewed, "new\n");
  Configure(dirtyd, config(", libfaults.so:BadInit"));
  grpc::Status status = Reload(dirtyd);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION) << status.error_message();
  EXPECT_TRUE(Add(Dial(port, Anonymous()), "old").ok());
  EXPECT_EQ(Add(Dial(port, Anonymous()), "new").error_code(), StatusCode::UNAUTHENTICATED);

  Configure(dirtyd, config(""));
  ASSERT_TRUE(Reload(dirtyd).ok());
  EXPECT_TRUE(Add(Dial(port, {.trusts = &renewed}), "new").ok());
  dirtyd.Stop(SIGTERM);
}

TEST_F(Network, AKeyWhoseHandshakesAreSlowMakesItAcceptLessOften) {
  constexpr int kConnections = 64;
  servers_->Sign("slow", 2, 4096);
  Dirtyd dirtyd({},
                {.config = Config(absl::StrCat("  address: 127.0.0.1:0\n  certificate: ", servers_->Certificate("slow"),
                                               "\n  key: ", servers_->Key("slow"), "\n"))});
  EXPECT_THAT(dirtyd.process().WaitForLine("connections a second"),
              AllOf(HasSubstr(" WARNING network.key: "), HasSubstr("ECDSA")));
  const int port = Port(dirtyd);
  const size_t idle = Descriptors(dirtyd.pid());
  const absl::Time start = absl::Now();
  std::vector<UniqueFd> silent;
  for (int i = 0; i < kConnections; ++i) silent.push_back(ConnectTcp(port));
  EXPECT_TRUE(WaitUntil([&] { return Descriptors(dirtyd.pid()) >= idle + 2 * kConnections; }));
  // 16 each 100 ms, as for other keys, would be 0.3 s.
  EXPECT_GT(absl::Now() - start, absl::Milliseconds(700));
  EXPECT_TRUE(Add(Dial(port, Anonymous())).ok());
  silent.clear();  // the end waits for who is connected
  dirtyd.Stop(SIGTERM);
}

TEST_F(Network, SaysWhyItCannotStart) {
  Write(folder_ / "empty", "# none yet\n");
  Write(folder_ / "spaces", "good\nnot good\n");
  servers_->Sign("weak", 2, 1024);
  Authority::Run(
      {"ec", "-in", servers_->Key("server"), "-aes256", "-passout", "pass:x", "-out", folder_ / "locked.key"});
  UniqueFd taken(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(taken.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(taken.get(), 1), 0);
  ASSERT_EQ(getsockname(taken.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);

  const std::string certificate = "--network_certificate=" + servers_->Certificate("server");
  const std::string key = "--network_key=" + servers_->Key("server");
  const std::string own = "--network_address=127.0.0.1:0";
  const std::pair<Words, std::string> cases[] = {
      {{own, "--network_certificate=/nowhere.pem", key},
       "network.certificate: /nowhere.pem: cannot be read: No such file or directory; dirtyd's user has to"},
      {{own, "--network_certificate=" + (folder_ / "empty"), key}, "empty: holds no certificate"},
      {{own, certificate, "--network_key=" + clients_->Key("client")}, "is not the key of the first certificate in"},
      {{own, certificate, "--network_key=" + (folder_ / "locked.key")}, "is encrypted; give one without a passphrase"},
      {{own, "--network_certificate=" + servers_->Certificate("weak"), "--network_key=" + servers_->Key("weak")},
       absl::StrCat("network.certificate: ", servers_->Certificate("weak"), ": TLS refuses it: ee key too small; ")},
      {{own, certificate, key, "--network_client_ca=" + (folder_ / "empty")}, "network.client_ca: "},
      {{own, "--network_token_file=" + (folder_ / "empty")}, "holds no token"},
      {{own, "--network_token_file=" + (folder_ / "spaces")}, "line 2 is not a token"},
      {{absl::StrCat("--network_address=127.0.0.1:", ntohs(address.sin_port))},
       absl::StrCat("network.address: cannot listen on 127.0.0.1:", ntohs(address.sin_port),
                    ": Address already in use")},
      {{"--network_address=192.0.2.1:0", "--network_insecure=true"}, "Cannot assign requested address"},
      {{"--network_address=no.such.host.invalid:0", "--network_insecure=true"}, "network.address: cannot listen on"},
  };
  for (const auto& [flags, expected] : cases) {
    Words command = {Program("dirtyd"), kEcho, "--runtime_dir", folder_ / "rt", "--library_path", TestApps()};
    command.insert(command.end(), flags.begin(), flags.end());
    const Ran ran = RunProgram(command);
    EXPECT_EQ(ran.code, 1) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr(expected));
    EXPECT_THAT(ran.err, ::testing::Not(HasSubstr("good"))) << "a token in the log";
  }
}

TEST_F(Network, NeitherItNorMetricsTakeAnotherAddressOfTheirNameWhereThePortIsTaken) {
  if (!IsRoot() || RunProgram({"unshare", "--mount", "true"}).code != 0) GTEST_SKIP() << "needs a mount namespace";
  // Whoever knows both prefers the first.
  Write(folder_ / "hosts", "::1 both.test\n127.0.0.1 both.test localhost\n");
  UniqueFd taken(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  socklen_t size = sizeof address;
  if (bind(taken.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) GTEST_SKIP() << "needs IPv6 on loopback";
  ASSERT_EQ(listen(taken.get(), 1), 0);
  ASSERT_EQ(getsockname(taken.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const int port = ntohs(address.sin6_port);
  for (const auto& [flags, key] :
       {std::pair("--network_insecure=true --network_address", "network.address"), std::pair("--metrics", "metrics")}) {
    Folder folder;
    Process process({"unshare", "--mount", "sh", "-c",
                     absl::StrCat("mount --bind ", folder_ / "hosts", " /etc/hosts && exec ", Program("dirtyd"), " ",
                                  kEcho, " --runtime_dir ", folder / "rt", " --library_path ", TestApps(), " ", flags,
                                  " both.test:", port)});
    EXPECT_EQ(process.WaitExit().code, 1);
    EXPECT_NE(process.WaitForLine(absl::StrCat(key, ": cannot listen on both.test:", port, ": Address already in use")),
              "");
  }
}

TEST_F(Network, SilentConnectionsHoldUpNobodyAndAreCutOff) {
  Dirtyd dirtyd({}, {.config = Config(Tls())});
  const int port = Port(dirtyd);
  const size_t idle = Descriptors(dirtyd.pid());
  const int count = Repetitions(1000, 200);
  std::vector<UniqueFd> silent;
  for (int i = 0; i < count; ++i) silent.push_back(ConnectTcp(port));
  EXPECT_TRUE(Add(ClientChannel(dirtyd.socket())).ok());
  EXPECT_TRUE(Add(Dial(port, Anonymous())).ok()) << "behind them in the queue";
  EXPECT_TRUE(Add(ClientChannel(dirtyd.socket())).ok());
  for (UniqueFd& fd : silent) {
    pollfd events = {.fd = fd.get(), .events = POLLRDHUP, .revents = 0};
    ASSERT_EQ(poll(&events, 1, 60'000), 1) << "not cut off";
  }
  silent.clear();
  EXPECT_TRUE(WaitUntil([&] { return Descriptors(dirtyd.pid()) <= idle; }))
      << Descriptors(dirtyd.pid()) << " of " << idle;
  dirtyd.Stop(SIGTERM);
}

TEST_F(Network, TakesNoMoreThanHalfOfTheDescriptors) {
  // A limit that is hard: the program cannot raise it.
  Folder folder;
  Process process({"/bin/sh", "-c",
                   absl::StrCat("ulimit -n 200; exec ", Program("dirtyd"), " ", kEcho, " --runtime_dir ", folder / "rt",
                                " --library_path ", TestApps(), " --network_address 127.0.0.1:0")});
  const std::string line = process.WaitForLine("network: 127.0.0.1:");
  const int port = std::atoi(line.substr(line.find("127.0.0.1:") + 10).c_str());
  process.WaitForLine("ready: ");
  std::vector<UniqueFd> many;
  for (int i = 0; i < 60; ++i) many.push_back(ConnectTcp(port));
  EXPECT_THAT(process.WaitForLine("connection refused: the network has half of all descriptors"),
              AllOf(HasSubstr("connections=50"), HasSubstr("peer=127.0.0.1:")));
  EXPECT_TRUE(Add(ClientChannel(folder / "rt/dirty.sock")).ok()) << "by the socket";
  many.clear();
  EXPECT_TRUE(WaitUntil([&] { return Add(Dial(port)).ok(); }));
  process.Signal(SIGTERM);
  EXPECT_EQ(process.WaitExit().code, 0);
}

// The timer of the connection to `port` as the kernel keeps it: "02" is one that asks whether the peer is there.
std::string KernelTimer(int port) {
  std::ifstream connections("/proc/net/tcp");
  for (std::string line; std::getline(connections, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (fields.size() > 5 && absl::EndsWith(fields[1], absl::StrFormat(":%04X", port)) && fields[3] == "01")
      return fields[5];
  }
  return "";
}

TEST_F(Network, AsksClientsThatAreSilentWhetherTheyAreThere) {
  Dirtyd dirtyd({kEcho, "--network_address=127.0.0.1:0"});
  const int port = Port(dirtyd);
  const auto channel = Dial(port);
  ASSERT_TRUE(Add(channel).ok());
  std::string timer;
  ASSERT_TRUE(WaitUntil([&] { return absl::StartsWith(timer = KernelTimer(port), "02:"); })) << timer;
  // In hundredths of a second, hexadecimal.
  EXPECT_LE(std::stoul(timer.substr(3), nullptr, 16), 3000u);
  dirtyd.Stop(SIGQUIT);  // not to wait for the connections that stand
}

TEST_F(Network, GoesOnAnsweringAtItsEndUntilBalancersKnow) {
  Dirtyd dirtyd({kEcho, "--network_address=127.0.0.1:0"});
  const int port = Port(dirtyd);
  auto channel = Dial(port);
  ASSERT_TRUE(Add(channel).ok());
  ASSERT_EQ(Health(channel, kReadiness), "SERVING");
  dirtyd.process().Signal(SIGTERM);
  ASSERT_TRUE(WaitUntil([&] { return Health(channel, kReadiness) == "NOT_SERVING"; }));
  EXPECT_EQ(Health(channel, ""), "SERVING") << "it lives";
  // The last worker is gone, and nobody is cut off.
  ASSERT_TRUE(WaitUntil([&] { return dirtyd.Status().workers().empty(); }));
  grpc::Status status = Add(channel);
  EXPECT_EQ(ErrorOf(status).reason(), v1::REASON_SHUTTING_DOWN) << status.error_message();
  EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_TRUE(dirtyd.process().running());
  EXPECT_EQ(ErrorOf(Add(Dial(port))).reason(), v1::REASON_SHUTTING_DOWN) << "who comes now";
  // When the last one has left, it does.
  const absl::Time left = absl::Now();
  channel.reset();
  EXPECT_EQ(dirtyd.process().WaitExit().code, 0);
  if (kMeasured) {
    EXPECT_LT(absl::Now() - left, absl::Seconds(2));
  }
  dirtyd.ExpectNothingLeft();
}

TEST_F(Network, DoesNotWaitForBalancersIfItIsToEndAtOnce) {
  for (const bool twice : {false, true}) {
    Dirtyd dirtyd({kEcho, "--network_address=127.0.0.1:0"});
    const auto channel = Dial(Port(dirtyd));
    ASSERT_TRUE(Add(channel).ok());
    const absl::Time asked = absl::Now();
    dirtyd.process().Signal(twice ? SIGTERM : SIGQUIT);
    if (twice) {
      ASSERT_TRUE(WaitUntil([&] { return Health(channel, kReadiness) == "NOT_SERVING"; }));
      dirtyd.process().Signal(SIGTERM);
    }
    EXPECT_EQ(dirtyd.process().WaitExit().code, 0);
    if (kMeasured) {
      EXPECT_LT(absl::Now() - asked, absl::Seconds(3));
    }
    dirtyd.ExpectNothingLeft();
  }
}

}  // namespace
}  // namespace dirty::integration
