// The network listener: its TCP socket, and what a client has to show. Connections are accepted by Listener, and served
// by the same server and loop as those of the sockets.
//
// Owned by main; outlives the server. Thread-safe: gRPC asks for certificates and tokens on whichever thread it is.
#pragma once

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/loop/mutex.h"
#include "server/loop/unique_fd.h"
#include "server/rpc/network_files.h"

struct grpc_ssl_server_certificate_config;

namespace dirty {

// What clients have to show. Checked by the transport, before a service sees an RPC: what comes by the sockets never
// passes here.
class NetworkAccess {
 public:
  // Of `settings` and their files, as they were read.
  NetworkAccess(const NetworkSettings& settings, NetworkFiles files);
  NetworkAccess(const NetworkAccess&) = delete;
  NetworkAccess& operator=(const NetworkAccess&) = delete;

  const NetworkSettings& settings() const { return settings_; }

  // How many connections may begin in kHandshakeInterval.
  int connections() const { return files()->connections; }

  // From now on: for new connections the certificates, for new RPCs the tokens.
  void Use(NetworkFiles files);

  // For the server. Once.
  std::shared_ptr<grpc::ServerCredentials> MakeCredentials();

  // What the server has to know of clients that are far away; it holds for those on the sockets too.
  static void Configure(grpc::ServerBuilder& builder);

  // Whether `authorization`, the metadata of that name, holds a token. Takes as long for a wrong one as for a right
  // one.
  bool HasToken(absl::string_view authorization) const;

  // For gRPC: the certificates, if they are others than the last time; else null.
  grpc_ssl_server_certificate_config* NewCertificates() const;

  // What it asks for, for the log: "TLS, client certificates, tokens".
  std::string Describe() const;

 private:
  std::shared_ptr<const NetworkFiles> files() const;

  const NetworkSettings settings_;
  mutable Mutex mutex_;
  std::shared_ptr<const NetworkFiles> files_ ABSL_GUARDED_BY(mutex_);
  mutable bool handed_out_ ABSL_GUARDED_BY(mutex_) = false;  // to gRPC, as they are
};

// A socket that listens.
struct TcpSocket {
  UniqueFd fd;
  std::string address;  // "127.0.0.1:8443", with the port that it got
};

// ListenTcp on `network.address`. The error names the key and what to do.
absl::StatusOr<TcpSocket> ListenOnNetwork(const std::string& address);

// Of an accepted connection: answers are sent at once, and a peer that vanished is found in a minute.
void SetTcpOptions(int fd);

// "192.0.2.1:40000", of the peer; "unknown" if it is gone.
std::string TcpPeer(int fd);

}  // namespace dirty
