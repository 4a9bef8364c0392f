// The listening sockets. We accept connections ourselves, because gRPC tells nobody who is at the other end: peer
// credentials are checked at accept, then the descriptor goes to gRPC, and from then on a call shows only by which
// socket it came (IsAdmin).
//
// From the network only so many connections are taken in a second as their handshakes leave time for others, and at
// most so many at a time that half of the descriptors remain.
//
// A duplicate of every accepted descriptor is kept until its peer hangs up or gRPC ends the connection, so that
// ShutdownConnections can end a connection that a stopped client would hold open, and the server's shutdown with it. A
// connection costs two descriptors therefore.
//
// Owned by main. Connections are accepted on the watcher's thread. The methods belong to one thread, the loop's (or
// main's before it runs), but for SetAllowed and count, which are thread-safe.
#pragma once

#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>
#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/loop/timers.h"
#include "server/loop/watcher.h"
#include "server/observe/log.h"
#include "server/rpc/network.h"

namespace dirty {

class Listener {
 public:
  struct ClientSocket {
    std::string path;
    mode_t mode = 0660;
    std::optional<gid_t> group;  // nullopt: left alone
  };

  // All outlive the watcher's thread: stop the watcher before they go.
  Listener(Watcher& watcher, const Clock& clock, Logger& log);
  // Stops accepting.
  ~Listener();

  // Bind and listen, and have the server that `builder` is to start take the connections. Before it is built. The path
  // is free: see RuntimeDir. Nobody can connect before owner and mode are right. Connections wait until Start.
  //
  // A `passed` descriptor (AssignSockets) listens on the path already: then owner, mode and removal of the path are the
  // service manager's.
  absl::Status AddClientSocket(const ClientSocket& socket, grpc::ServerBuilder& builder, UniqueFd passed = UniqueFd());
  // Mode 0600; only our own uid and root may connect, whatever the mode becomes.
  absl::Status AddAdminSocket(const std::string& path, grpc::ServerBuilder& builder, UniqueFd passed = UniqueFd());

  // Has the server take the connections of a TCP socket that listens (ListenOnNetwork), from clients as `access`, which
  // outlives the watcher's thread, lets them in. Before the server is built; after the limit of descriptors was raised.
  void AddNetworkSocket(TcpSocket socket, NetworkAccess& access, grpc::ServerBuilder& builder);

  // Who may connect to the client socket: by uid or by primary gid; both empty: whoever its mode lets in. Others are
  // closed and logged, at most ten a second. Connections that stand are left alone. Thread-safe.
  void SetAllowed(std::vector<uid_t> uids, std::vector<gid_t> gids);

  // Accepts connections from now on. Once the server has started.
  void Start();

  // Accepts no more, and removes the paths of the sockets that it made. When it returns, gRPC is handed no more
  // connections: the server may shut down. Connections that stand are left alone. Idempotent.
  void StopAccepting();

  // Ends every connection, at once and for both sides. After StopAccepting; before the watcher is stopped.
  void ShutdownConnections();

  // Connections that stand; of the network only. Thread-safe.
  size_t count() const;
  size_t network_count() const;

 private:
  struct Socket;
  class Connections;

  enum class Kind { kClient, kAdmin, kNetwork };

  absl::Status Add(const ClientSocket& socket, Kind kind, grpc::ServerBuilder& builder, UniqueFd passed);
  absl::Status Bind(const ClientSocket& options, const std::shared_ptr<Socket>& socket);

  Watcher& watcher_;
  std::shared_ptr<Connections> connections_;      // shared with the watcher's callbacks
  std::vector<std::shared_ptr<Socket>> sockets_;  // likewise
};

// Whether a call came by the admin socket. Thread-safe; while the call is under way.
bool IsAdmin(const grpc::ServerContext& context);

}  // namespace dirty
