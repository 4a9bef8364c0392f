#include "server/rpc/listener.h"

#include <fcntl.h>
#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/server_credentials.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "server/loop/check.h"
#include "server/loop/mutex.h"
#include "server/rpc/runtime_dir.h"

namespace dirty {
namespace {

using grpc::experimental::ExternalConnectionAcceptor;

// What one wake-up accepts before the watcher turns to others.
constexpr int kAcceptBatch = 64;
constexpr int kBacklog = 4096;
constexpr int kDescriptorsPerConnection = 2;
constexpr int kRefusalLinesPerSecond = 10;
// Who connects need not have shown a token: what connections take is bounded apart from descriptors.
constexpr size_t kMostNetworkConnections = 10000;

}  // namespace

// One listening socket. Immutable once it is watched.
struct Listener::Socket {
  std::string path;  // of the network: its address
  Kind kind = Kind::kClient;
  std::unique_ptr<ExternalConnectionAcceptor> acceptor;
  dev_t device = 0;  // of the path, to tell it from another's; of a passed one 0: never ours to remove
  ino_t inode = 0;
  UniqueFd fd;  // until it is watched
  Watcher::Id id = 0;
};

// What the loop and the watcher's thread share: who may connect, and what stands. Thread-safe.
class Listener::Connections {
 public:
  Connections(Watcher& watcher, const Clock& clock, Logger& log) : watcher_(watcher), clock_(clock), log_(log) {}

  // Accepts what waits at a listening descriptor. On the watcher's thread.
  static Watcher::Next Accept(const std::shared_ptr<Connections>& self, const Socket& socket, int listening) {
    for (int i = 0; i < kAcceptBatch; ++i) {
      if (socket.kind == Kind::kNetwork && !self->NetworkMayGoOn()) return Watcher::Next::kPause;
      UniqueFd fd(accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd.ok()) {
        if (errno == EAGAIN) {
          self->starved_ = false;
          return Watcher::Next::kKeep;
        }
        if (errno == EINTR || errno == ECONNABORTED) continue;
        return self->Pause(socket, errno);
      }
      if (socket.kind == Kind::kNetwork) {
        --self->network_left_;
        SetTcpOptions(fd.get());
      }
      if (!self->Admit(socket, fd.get())) continue;
      UniqueFd kept(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
      if (!kept.ok()) return self->Pause(socket, errno);
      HandOver(self, socket, std::move(fd), std::move(kept));
    }
    return Watcher::Next::kKeep;
  }

  void SetAllowed(std::vector<uid_t> uids, std::vector<gid_t> gids) {
    MutexLock lock(&mutex_);
    uids_ = std::move(uids);
    gids_ = std::move(gids);
  }

  void SetNetwork(const NetworkAccess& access, size_t connections) {
    network_access_ = &access;
    network_limit_ = connections;
  }

  // When it returns, nothing is handed to gRPC any more.
  void Stop() {
    int64_t unlogged;
    {
      MutexLock lock(&mutex_);
      stopped_ = true;
      while (handing_over_ > 0) idle_.Wait(&mutex_);
      unlogged = std::exchange(unlogged_, 0);
    }
    if (unlogged > 0) LogUnlogged(unlogged);
  }

  void ShutdownAll() {
    MutexLock lock(&mutex_);
    for (int fd : kept_) shutdown(fd, SHUT_RDWR);
  }

  size_t count() {
    MutexLock lock(&mutex_);
    return kept_.size();
  }

  size_t network_count() {
    MutexLock lock(&mutex_);
    return network_;
  }

 private:
  // Gives the connection to gRPC, unless Stop came.
  static void HandOver(const std::shared_ptr<Connections>& self, const Socket& socket, UniqueFd fd, UniqueFd kept) {
    {
      MutexLock lock(&self->mutex_);
      if (self->stopped_) return;
      ++self->handing_over_;
      self->kept_.insert(kept.get());
      if (socket.kind == Kind::kNetwork) ++self->network_;
    }
    // gRPC shuts a connection down before it closes it, which is a hang-up here too. Kept descriptors leave the set
    // before they are closed, so that no number in it is ever another's.
    self->watcher_.Watch(std::move(kept), EPOLLRDHUP, [self, kind = socket.kind](int gone, uint32_t) {
      MutexLock lock(&self->mutex_);
      self->kept_.erase(gone);
      if (kind == Kind::kNetwork) --self->network_;
      return Watcher::Next::kClose;
    });
    ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.fd = fd.Release();
    socket.acceptor->HandleNewConnection(&connection);
    MutexLock lock(&self->mutex_);
    if (--self->handing_over_ == 0) self->idle_.NotifyAll();
  }

  // Whether another connection of the network may be accepted now.
  bool NetworkMayGoOn() {
    absl::Time now = clock_.Now();
    if (now - network_since_ >= kHandshakeInterval) {  // also the watcher's pause
      network_since_ = now;
      network_left_ = network_access_->connections();
    }
    return network_left_ > 0;
  }

  // Whether the peer may connect; if not, says so.
  bool Admit(const Socket& socket, int fd) {
    if (socket.kind == Kind::kNetwork) {
      if (network_count() < network_limit_) return true;
      LogRefusal(
          "connection refused: the network has half of all descriptors; raise the limit of open files (ulimit "
          "-n, LimitNOFILE), or have fewer clients",
          {{"address", socket.path}, {"peer", TcpPeer(fd)}, {"connections", absl::StrCat(network_limit_)}});
      return false;
    }
    ucred peer = {};
    socklen_t size = sizeof peer;
    DIRTY_CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0, "SO_PEERCRED of ", socket.path);
    bool admin = socket.kind == Kind::kAdmin;
    if (admin ? peer.uid == 0 || peer.uid == own_uid_ : Allowed(peer)) return true;
    LogRefusal("connection refused: this user may not connect", {{"socket", socket.path},
                                                                 {"pid", absl::StrCat(peer.pid)},
                                                                 {"uid", absl::StrCat(peer.uid)},
                                                                 {"gid", absl::StrCat(peer.gid)}});
    return false;
  }

  // At most so many lines in a second.
  void LogRefusal(absl::string_view message, std::initializer_list<LogField> fields) {
    int64_t unlogged;
    {
      MutexLock lock(&mutex_);
      absl::Time now = clock_.Now();
      if (now - second_ >= absl::Seconds(1)) {
        second_ = now;
        refusals_ = 0;
      }
      if (++refusals_ > kRefusalLinesPerSecond) {
        ++unlogged_;
        return;
      }
      unlogged = std::exchange(unlogged_, 0);
    }
    if (unlogged > 0) LogUnlogged(unlogged);
    log_.Warning(message, fields);
  }

  bool Allowed(const ucred& peer) {
    MutexLock lock(&mutex_);
    return (uids_.empty() && gids_.empty()) || std::count(uids_.begin(), uids_.end(), peer.uid) > 0 ||
           std::count(gids_.begin(), gids_.end(), peer.gid) > 0;
  }

  void LogUnlogged(int64_t count) {
    log_.Warning("more connections were refused than lines written", {{"count", absl::StrCat(count)}});
  }

  // Nothing can be accepted now. One line until everything that waits has been accepted.
  Watcher::Next Pause(const Socket& socket, int error) {
    if (!std::exchange(starved_, true)) {
      log_.Error("cannot accept connections, clients wait; raise the limit of open files (ulimit -n, LimitNOFILE)",
                 {{"socket", socket.path}, {"error", strerror(error)}, {"connections", absl::StrCat(count())}});
    }
    return Watcher::Next::kPause;
  }

  Watcher& watcher_;
  const Clock& clock_;
  Logger& log_;
  const uid_t own_uid_ = geteuid();
  // Before connections come:
  const NetworkAccess* network_access_ = nullptr;
  size_t network_limit_ = 0;
  // Of the watcher's thread:
  bool starved_ = false;
  absl::Time network_since_ = absl::InfinitePast();  // that network_left_ is for
  int network_left_ = 0;
  Mutex mutex_;
  Condition idle_;  // handing_over_ became 0
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  int handing_over_ ABSL_GUARDED_BY(mutex_) = 0;  // connections that gRPC is being given
  absl::flat_hash_set<int> kept_ ABSL_GUARDED_BY(mutex_);
  size_t network_ ABSL_GUARDED_BY(mutex_) = 0;  // of kept_
  std::vector<uid_t> uids_ ABSL_GUARDED_BY(mutex_);
  std::vector<gid_t> gids_ ABSL_GUARDED_BY(mutex_);
  absl::Time second_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();  // that refusals_ counts
  int refusals_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t unlogged_ ABSL_GUARDED_BY(mutex_) = 0;  // refusals that had no line
};

Listener::Listener(Watcher& watcher, const Clock& clock, Logger& log)
    : watcher_(watcher), connections_(std::make_shared<Connections>(watcher, clock, log)) {}

Listener::~Listener() { StopAccepting(); }

absl::Status Listener::AddClientSocket(const ClientSocket& socket, grpc::ServerBuilder& builder, UniqueFd passed) {
  return Add(socket, Kind::kClient, builder, std::move(passed));
}

absl::Status Listener::AddAdminSocket(const std::string& path, grpc::ServerBuilder& builder, UniqueFd passed) {
  return Add({.path = path, .mode = 0600, .group = std::nullopt}, Kind::kAdmin, builder, std::move(passed));
}

absl::Status Listener::Add(const ClientSocket& options, Kind kind, grpc::ServerBuilder& builder, UniqueFd passed) {
  auto socket = std::make_shared<Socket>();
  socket->path = options.path;
  socket->kind = kind;
  if (passed.ok()) {
    socket->fd = std::move(passed);
    sockets_.push_back(socket);
  } else if (absl::Status status = Bind(options, socket); !status.ok()) {
    return status;
  }
  socket->acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      kind == Kind::kAdmin ? grpc::experimental::LocalServerCredentials(UDS) : grpc::InsecureServerCredentials());
  return absl::OkStatus();
}

void Listener::AddNetworkSocket(TcpSocket listening, NetworkAccess& access, grpc::ServerBuilder& builder) {
  rlimit limit;
  DIRTY_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0, "RLIMIT_NOFILE");
  connections_->SetNetwork(
      access, std::clamp<size_t>(limit.rlim_cur / (2 * kDescriptorsPerConnection), 1, kMostNetworkConnections));
  auto socket = std::make_shared<Socket>();
  socket->path = std::move(listening.address);
  socket->kind = Kind::kNetwork;
  socket->fd = std::move(listening.fd);
  socket->acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, access.MakeCredentials());
  sockets_.push_back(std::move(socket));
}

absl::Status Listener::Bind(const ClientSocket& options, const std::shared_ptr<Socket>& socket) {
  if (absl::Status status = RuntimeDir::CheckSocketPath(options.path); !status.ok()) return status;
  const char* path = options.path.c_str();
  socket->fd.Reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  memcpy(address.sun_path, options.path.data(), options.path.size());
  auto error = [&](absl::string_view what) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot listen on ", options.path, ": ", what, ": ", strerror(errno), ", as uid ", geteuid()));
  };
  if (!socket->fd.ok()) return error("socket");
  if (bind(socket->fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return error("cannot create it");
  // From here on the path is ours to remove.
  struct stat entry;
  if (lstat(path, &entry) != 0) return error("cannot find it again");
  socket->device = entry.st_dev;
  socket->inode = entry.st_ino;
  sockets_.push_back(socket);
  // The order matters: a socket that does not listen yet refuses everybody, whatever the umask made its mode.
  if (options.group.has_value() && lchown(path, static_cast<uid_t>(-1), *options.group) != 0) {
    return error(absl::StrCat("cannot give it to group ", *options.group));
  }
  if (chmod(path, options.mode) != 0) return error("cannot set its mode");
  if (listen(socket->fd.get(), kBacklog) != 0) return error("listen");
  return absl::OkStatus();
}

void Listener::SetAllowed(std::vector<uid_t> uids, std::vector<gid_t> gids) {
  connections_->SetAllowed(std::move(uids), std::move(gids));
}

void Listener::Start() {
  for (const auto& socket : sockets_) {
    socket->id = watcher_.Watch(std::move(socket->fd), EPOLLIN, [connections = connections_, socket](int fd, uint32_t) {
      return Connections::Accept(connections, *socket, fd);
    });
  }
}

void Listener::StopAccepting() {
  connections_->Stop();
  for (const auto& socket : sockets_) {
    struct stat entry;
    if (socket->kind != Kind::kNetwork && lstat(socket->path.c_str(), &entry) == 0 && entry.st_dev == socket->device &&
        entry.st_ino == socket->inode) {
      unlink(socket->path.c_str());
    }
    if (socket->id != 0) watcher_.Forget(socket->id);
  }
  sockets_.clear();
}

void Listener::ShutdownConnections() { connections_->ShutdownAll(); }

size_t Listener::count() const { return connections_->count(); }
size_t Listener::network_count() const { return connections_->network_count(); }

bool IsAdmin(const grpc::ServerContext& context) {
  for (grpc::string_ref type : context.auth_context()->FindPropertyValues("transport_security_type")) {
    if (type == "local") return true;
  }
  return false;
}

}  // namespace dirty
