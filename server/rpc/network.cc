#include "server/rpc/network.h"

#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/loop/check.h"
#include "server/loop/tcp_socket.h"

namespace dirty {
namespace {

constexpr int kBacklog = 4096;
// A peer that vanished is asked after so many seconds of silence, and so often again, and given up in 60 s; so is one
// that does not take what was sent to it.
constexpr int kKeepaliveIdle = 30;
constexpr int kKeepaliveInterval = 10;
constexpr int kKeepaliveProbes = 3;
constexpr int kUnansweredMilliseconds = 60'000;
// For the TLS handshake and the first frame of HTTP/2.
constexpr int kHandshakeMilliseconds = 20'000;
// On one connection, calls beyond that wait in the client.
constexpr int kMostStreams = 10000;

constexpr absl::string_view kBearer = "Bearer ";
constexpr absl::string_view kHealth = "/grpc.health.v1.Health/";

absl::string_view View(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
}

// gRPC's C credentials, which it can make and C++ cannot: with certificates that it asks for at each handshake.
class Credentials final : public grpc::ServerCredentials {
 public:
  explicit Credentials(grpc_server_credentials* credentials) : credentials_(credentials) {}
  ~Credentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    DIRTY_CHECK(false, "these have one");
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

grpc_ssl_certificate_config_reload_status FetchCertificates(void* access, grpc_ssl_server_certificate_config** config) {
  *config = static_cast<NetworkAccess*>(access)->NewCertificates();
  return *config == nullptr ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

// Before any service sees the RPC, and answers from within. What says who somebody is goes no further.
void CheckToken(void* access, grpc_auth_context*, const grpc_metadata* metadata, size_t count,
                grpc_process_auth_metadata_done_cb done, void* call) {
  bool given = false, right = false, health = false;
  const grpc_metadata* consumed = nullptr;
  for (const grpc_metadata* entry = metadata; entry != metadata + count; ++entry) {
    if (View(entry->key) == ":path") health = absl::StartsWith(View(entry->value), kHealth);
    if (View(entry->key) != "authorization") continue;
    given = true;
    consumed = entry;
    if (static_cast<NetworkAccess*>(access)->HasToken(View(entry->value))) right = true;
  }
  if (right || health) return done(call, consumed, consumed == nullptr ? 0 : 1, nullptr, 0, GRPC_STATUS_OK, nullptr);
  done(call, nullptr, 0, nullptr, 0, GRPC_STATUS_UNAUTHENTICATED,
       given ? "the metadata \"authorization\" holds none of dirtyd's tokens; it has to be \"Bearer TOKEN\""
             : "dirtyd asks for a token; send the metadata \"authorization: Bearer TOKEN\"");
}

// Looks at every byte of `given`, whatever it finds.
bool Equal(absl::string_view given, absl::string_view token) {
  unsigned difference = given.size() == token.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    difference |= static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(token[i % token.size()]);
  }
  return difference == 0;
}

}  // namespace

NetworkAccess::NetworkAccess(const NetworkSettings& settings, NetworkFiles files)
    : settings_(settings), files_(std::make_shared<const NetworkFiles>(std::move(files))) {}

void NetworkAccess::Use(NetworkFiles files) {
  auto next = std::make_shared<const NetworkFiles>(std::move(files));
  MutexLock lock(&mutex_);
  files_ = std::move(next);
  handed_out_ = false;
}

std::shared_ptr<const NetworkFiles> NetworkAccess::files() const {
  MutexLock lock(&mutex_);
  return files_;
}

std::shared_ptr<grpc::ServerCredentials> NetworkAccess::MakeCredentials() {
  grpc_server_credentials* credentials;
  if (settings_.certificate.empty()) {
    credentials = grpc_insecure_server_credentials_create();
  } else {
    credentials =
        grpc_ssl_server_credentials_create_with_options(grpc_ssl_server_credentials_create_options_using_config_fetcher(
            settings_.client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                        : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY,
            FetchCertificates, this));
  }
  if (!settings_.token_file.empty()) {
    grpc_server_credentials_set_auth_metadata_processor(credentials,
                                                        {.process = CheckToken, .destroy = nullptr, .state = this});
  }
  return std::make_shared<Credentials>(credentials);
}

void NetworkAccess::Configure(grpc::ServerBuilder& builder) {
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMilliseconds);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMostStreams);
}

bool NetworkAccess::HasToken(absl::string_view authorization) const {
  if (!absl::ConsumePrefix(&authorization, kBearer)) return false;
  bool found = false;
  const std::shared_ptr<const NetworkFiles> files = this->files();
  for (const std::string& token : files->tokens) found |= Equal(authorization, token);
  return found;
}

grpc_ssl_server_certificate_config* NetworkAccess::NewCertificates() const {
  std::shared_ptr<const NetworkFiles> files;
  {
    MutexLock lock(&mutex_);
    if (std::exchange(handed_out_, true)) return nullptr;
    files = files_;
  }
  const grpc_ssl_pem_key_cert_pair pair = {files->key.c_str(), files->certificate.c_str()};
  // gRPC insists on some authorities, also where it asks no client for a certificate.
  const std::string& authorities = files->client_ca.empty() ? files->certificate : files->client_ca;
  return grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
}

std::string NetworkAccess::Describe() const {
  return absl::StrCat(settings_.certificate.empty() ? "not encrypted" : "TLS",
                      settings_.client_ca.empty() ? "" : ", client certificates",
                      settings_.token_file.empty() ? "" : ", tokens");
}

absl::StatusOr<TcpSocket> ListenOnNetwork(const std::string& address) {
  auto error = [&](absl::string_view why) {
    return absl::FailedPreconditionError(
        absl::StrCat("network.address: cannot listen on ", address, ": ", why,
                     "; give an address of this machine and a port that is free, or leave network out"));
  };
  absl::StatusOr<UniqueFd> fd = ListenTcp(address, kBacklog);
  if (!fd.ok()) return error(fd.status().message());
  sockaddr_storage own = {};
  socklen_t size = sizeof own;
  DIRTY_CHECK(getsockname(fd->get(), reinterpret_cast<sockaddr*>(&own), &size) == 0, "getsockname");
  return TcpSocket{.fd = *std::move(fd), .address = SpellTcp(own, size)};
}

void SetTcpOptions(int fd) {
  const std::pair<int, int> options[] = {{TCP_NODELAY, 1},
                                         {TCP_KEEPIDLE, kKeepaliveIdle},
                                         {TCP_KEEPINTVL, kKeepaliveInterval},
                                         {TCP_KEEPCNT, kKeepaliveProbes},
                                         {TCP_USER_TIMEOUT, kUnansweredMilliseconds}};
  for (const auto& [name, value] : options) setsockopt(fd, IPPROTO_TCP, name, &value, sizeof value);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

std::string TcpPeer(int fd) {
  sockaddr_storage peer = {};
  socklen_t size = sizeof peer;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return "unknown";
  return SpellTcp(peer, size);
}

}  // namespace dirty
