#include "client/cpp/connection.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

namespace dirty::client::internal {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstBackoff{5};
constexpr milliseconds kLongestBackoff{250};
constexpr milliseconds kLongestBackoffIfRefused{1000};  // each attempt costs dirtyd a line in its log
constexpr milliseconds kGreetingSlice{50};

std::shared_ptr<grpc::Channel> MakeChannel(int fd) {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(-1);                  // the arbiter limits results
  args.SetMaxSendMessageSize(-1);                     // checked before, with a better error
  args.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 64 << 10);  // details of errors
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  args.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
  args.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  args.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  return grpc::CreateCustomInsecureChannelFromFd("dirty", fd, args);
}

}  // namespace

Connection::Connection(std::string path, UniqueFd fd)
    : path_(std::move(path)),
      probe_(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)),
      channel_(MakeChannel(fd.release())),
      arbiter_(v1::Arbiter::NewStub(channel_)) {}

// Large writes start a poller in gRPC, for 10 s or until something happens, and gRPC's own shutdown waits for it. So
// something happens.
Connection::~Connection() { Cut(); }

void Connection::Cut() const {
  if (probe_) shutdown(probe_.get(), SHUT_RDWR);
}

bool Connection::Alive() const { return probe_ && !HungUp(probe_.get()); }

bool Connection::WaitForHangUp(milliseconds time) const {
  pollfd events{.fd = probe_.get(), .events = POLLRDHUP, .revents = 0};
  poll(&events, 1, static_cast<int>(time.count()));
  return !Alive();
}

pid_t Connection::PeerPid() const {
  ucred peer{};
  socklen_t size = sizeof(peer);
  return getsockopt(probe_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

Connector::Connector(std::vector<std::string> paths, SocketKind kind) : kind_(kind), backoff_(kFirstBackoff) {
  for (std::string& path : paths) places_.push_back({.path = std::move(path)});
}

std::shared_ptr<Connection> Connector::Attempt(Place& place) const {
  place.refused = false;
  if (!place.silent) {
    ConnectAttempt attempt = ConnectUnix(place.path, kind_);
    place.silent = std::move(attempt.fd);
    place.failure = std::move(attempt.failure);
    if (!place.silent) return nullptr;
  }
  switch (AwaitGreeting(place.silent.get(), kGreetingSlice)) {
    case Greeting::kSpeaks:
      return std::make_shared<Connection>(place.path, std::move(place.silent));
    case Greeting::kSilent:
      place.failure = "connected, but no answer: is it stopped, or not dirtyd?";
      return nullptr;
    case Greeting::kClosed:
      place.failure = RefusedAtAccept(kind_);
      place.refused = true;
      place.silent.reset();
      return nullptr;
  }
  return nullptr;
}

std::shared_ptr<Connection> Connector::Current() {
  std::lock_guard lock(mutex_);
  if (current_ != nullptr && (closed_ || !current_->Alive())) current_ = nullptr;
  return current_;
}

std::shared_ptr<Connection> Connector::TryGet() {
  if (auto connection = Current(); connection != nullptr) return connection;
  std::lock_guard attempting(attempt_mutex_);
  if (auto connection = Current(); connection != nullptr) return connection;
  if (closed() || Clock::now() < NextAttempt()) return nullptr;
  for (Place& place : places_) {
    if (auto connection = Attempt(place); connection != nullptr) {
      Succeeded(std::move(place), connection);
      return closed() ? nullptr : connection;
    }
  }
  Failed();
  return nullptr;
}

void Connector::Succeeded(Place place, std::shared_ptr<Connection> connection) {
  places_.clear();
  places_.push_back(std::move(place));
  backoff_ = kFirstBackoff;
  {
    std::lock_guard lock(mutex_);
    current_ = std::move(connection);
    next_attempt_ = {};
  }
  changed_.notify_all();
}

void Connector::Failed() {
  std::string failure;
  bool silent = false;
  bool refused = false;
  for (const Place& place : places_) {
    absl::StrAppend(&failure, failure.empty() ? "" : "; ", place.path, ": ", place.failure);
    silent |= static_cast<bool>(place.silent);
    refused |= place.refused;
  }
  std::lock_guard lock(mutex_);
  if (!closed_) failure_ = std::move(failure);
  next_attempt_ = Clock::now() + (silent ? milliseconds(0) : backoff_);
  backoff_ = std::min(backoff_ * 2, refused ? kLongestBackoffIfRefused : kLongestBackoff);
}

Outcome<std::shared_ptr<Connection>> Connector::Get(Clock::time_point deadline, const std::stop_token& stop) {
  for (;;) {
    if (auto connection = TryGet(); connection != nullptr) return connection;
    if (stop.stop_requested()) return CancelledUnsent();
    if (closed() || Clock::now() >= deadline) return Failure();
    std::unique_lock lock(mutex_);
    const Clock::time_point until = std::min(next_attempt_, deadline);  // a copy: it is read without the lock
    changed_.wait_until(lock, stop, until, [this] { return current_ != nullptr || closed_; });
  }
}

void Connector::Close(const std::string& why) {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    failure_ = why;
  }
  changed_.notify_all();
}

bool Connector::closed() const {
  std::lock_guard lock(mutex_);
  return closed_;
}

Error Connector::Failure() const {
  std::lock_guard lock(mutex_);
  return {.reason = Reason::kConnection, .message = absl::StrCat("cannot reach dirtyd: ", failure_)};
}

Clock::time_point Connector::NextAttempt() const {
  std::lock_guard lock(mutex_);
  return next_attempt_;
}

Error CancelledUnsent() { return {.reason = Reason::kCancelled, .message = "cancelled before it was sent"}; }

}  // namespace dirty::client::internal
