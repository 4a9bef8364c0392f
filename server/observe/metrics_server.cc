#include "server/observe/metrics_server.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/loop/check.h"
#include "server/loop/tcp_socket.h"

namespace dirty {
namespace {

constexpr int kBacklog = 128;
constexpr int kAcceptsAtOnce = 64;
constexpr char kTextType[] = "text/plain; charset=utf-8";

absl::Status Refused(const std::string& address, absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat("metrics: cannot listen on ", address, ": ", why));
}

absl::StatusOr<UniqueFd> ListenOnPath(const std::string& address, const std::string& path, std::optional<gid_t> group) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = {}};
  if (path.size() >= sizeof name.sun_path) return Refused(address, "the path is too long for a socket");
  memcpy(name.sun_path, path.data(), path.size());
  if (!fd.ok() || bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) {
    return Refused(address, strerror(errno));
  }
  // Before anybody can connect.
  if (chmod(path.c_str(), 0660) != 0 || (group && chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) ||
      listen(fd.get(), kBacklog) != 0) {
    const int error = errno;
    unlink(path.c_str());
    return Refused(address, strerror(error));
  }
  return fd;
}

std::shared_ptr<const std::string> Response(absl::string_view status, absl::string_view type, absl::string_view body,
                                            absl::string_view more = "") {
  return std::make_shared<const std::string>(absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Type: ", type,
                                                          "\r\nContent-Length: ", body.size(), "\r\n", more,
                                                          "Connection: close\r\n\r\n", body));
}

// What a request that is complete gets at once; null: it is for the metrics.
std::shared_ptr<const std::string> AnswerOf(absl::string_view request) {
  const absl::string_view line = request.substr(0, request.find_first_of("\r\n"));
  const size_t method_end = line.find(' ');
  const size_t path_end = line.find(' ', method_end + 1);
  if (method_end == 0 || path_end == absl::string_view::npos ||
      !absl::StartsWith(line.substr(path_end + 1), "HTTP/1.")) {
    return Response("400 Bad Request", kTextType, "this is no HTTP/1.1 request\n");
  }
  absl::string_view path = line.substr(method_end + 1, path_end - method_end - 1);
  path = path.substr(0, path.find('?'));
  if (path != "/metrics") return Response("404 Not Found", kTextType, "the metrics are at /metrics\n");
  if (line.substr(0, method_end) == "GET") return nullptr;
  return Response("405 Method Not Allowed", kTextType, "use GET\n", "Allow: GET\r\n");
}

bool IsComplete(const std::string& request) {
  return absl::StrContains(request, "\r\n\r\n") || absl::StrContains(request, "\n\n");
}

}  // namespace

absl::StatusOr<UniqueFd> MetricsServer::Listen(const std::string& address, std::optional<gid_t> group) {
  absl::string_view path = address;
  if (absl::ConsumePrefix(&path, "unix:")) return ListenOnPath(address, std::string(path), group);
  absl::StatusOr<UniqueFd> fd = ListenTcp(address, kBacklog);
  return fd.ok() ? std::move(fd) : Refused(address, fd.status().message());
}

MetricsServer::MetricsServer(UniqueFd listener, Collect collect, absl::Duration patience)
    : collect_(std::move(collect)), patience_(patience) {
  UniqueFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  DIRTY_CHECK(timer.ok(), "timerfd_create: ", strerror(errno));
  timer_ = timer.get();
  watcher_.Run([] { pthread_setname_np(pthread_self(), "dirtyd-metrics"); });
  watcher_.Watch(std::move(timer), EPOLLIN, [this](int fd, uint32_t) { return OnTick(fd); });
  watcher_.Watch(std::move(listener), EPOLLIN, [this](int fd, uint32_t) { return OnConnect(fd); });
}

Watcher::Next MetricsServer::OnConnect(int listener) {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    UniqueFd peer(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (peer.ok()) {
      Accept(std::move(peer));
    } else if (errno == EAGAIN) {
      return Watcher::Next::kKeep;
    } else if (errno != ECONNABORTED && errno != EINTR) {
      return Watcher::Next::kPause;  // no descriptor or memory is free
    }
  }
  return Watcher::Next::kKeep;
}

// Edge-triggered, both ways: a connection reads, and then it writes, until the kernel says to wait.
void MetricsServer::Accept(UniqueFd peer) {
  if (connections_.size() >= kMostConnections && !MakeRoom()) return;
  const uint64_t key = ++last_key_;
  Connection& connection = connections_[key];
  connection.fd = peer.get();
  connection.until = clock_.Now() + patience_;
  connection.id = watcher_.Watch(std::move(peer), EPOLLIN | EPOLLOUT | EPOLLET,
                                 [this, key](int, uint32_t) { return OnEvent(key); });
  SetTicking(true);
}

// The oldest that has not asked for anything yet goes.
bool MetricsServer::MakeRoom() {
  auto idle = std::find_if(connections_.begin(), connections_.end(),
                           [](const auto& entry) { return entry.second.state == State::kReading; });
  if (idle == connections_.end()) return false;
  Drop(idle->first);
  return true;
}

void MetricsServer::Drop(uint64_t key) {
  auto found = connections_.find(key);
  watcher_.Forget(found->second.id);
  connections_.erase(found);
}

Watcher::Next MetricsServer::OnEvent(uint64_t key) {
  auto found = connections_.find(key);
  if (found == connections_.end()) return Watcher::Next::kKeep;  // dropped, and soon closed
  Connection& connection = found->second;
  bool open = true;
  if (connection.state == State::kReading) {
    open = Read(connection);
  } else if (connection.state == State::kWriting) {
    open = Write(connection);
  }
  if (open) return Watcher::Next::kKeep;
  connections_.erase(found);
  return Watcher::Next::kClose;
}

bool MetricsServer::Read(Connection& connection) {
  std::array<char, 4096> bytes;
  for (;;) {
    const ssize_t size = recv(connection.fd, bytes.data(), bytes.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return true;
    if (size <= 0) return false;
    connection.request.append(bytes.data(), static_cast<size_t>(size));
    if (IsComplete(connection.request)) break;
    if (connection.request.size() > kLongestRequest) {
      return Answer(connection, Response("431 Request Header Fields Too Large", kTextType, "too long\n"));
    }
  }
  if (Text answer = AnswerOf(connection.request)) return Answer(connection, std::move(answer));
  connection.state = State::kWaiting;
  AskIfDue();
  return true;
}

bool MetricsServer::Answer(Connection& connection, Text text) {
  connection.answer = std::move(text);
  connection.state = State::kWriting;
  return Write(connection);
}

bool MetricsServer::Write(Connection& connection) {
  while (connection.sent < connection.answer->size()) {
    const ssize_t size = send(connection.fd, connection.answer->data() + connection.sent,
                              connection.answer->size() - connection.sent, MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return true;
    if (size < 0) return false;
    connection.sent += static_cast<size_t>(size);
  }
  // What is unread would make the close a reset, which may overtake the answer.
  std::array<char, 4096> rest;
  for (int i = 0; i < 16 && recv(connection.fd, rest.data(), rest.size(), 0) > 0; ++i) {
  }
  return false;
}

void MetricsServer::AskIfDue() {
  if (asking_ || clock_.Now() - asked_ < kMinimumInterval) return;  // a tick comes
  bool wanted = false;
  for (auto& [key, connection] : connections_) {
    if (connection.state != State::kWaiting) continue;
    connection.state = State::kAsked;
    wanted = true;
  }
  if (!wanted) return;
  asking_ = true;
  asked_ = clock_.Now();
  collect_(
      [this](Snapshot snapshot) { watcher_.Run([this, snapshot = std::move(snapshot)] { OnSnapshot(snapshot); }); });
}

void MetricsServer::OnSnapshot(const Snapshot& snapshot) {
  asking_ = false;
  const Text text = Response("200 OK", kMetricsContentType, RenderMetrics(*snapshot, ReadProcessMetrics()));
  std::vector<uint64_t> over;
  for (auto& [key, connection] : connections_) {
    if (connection.state == State::kAsked && !Answer(connection, text)) over.push_back(key);
  }
  for (const uint64_t key : over) Drop(key);
  AskIfDue();
}

Watcher::Next MetricsServer::OnTick(int timer) {
  uint64_t ticks;
  (void)!read(timer, &ticks, sizeof ticks);
  const absl::Time now = clock_.Now();
  std::vector<uint64_t> late;
  for (const auto& [key, connection] : connections_) {
    if (connection.until <= now) late.push_back(key);
  }
  for (const uint64_t key : late) Drop(key);
  AskIfDue();
  SetTicking(!connections_.empty());
  return Watcher::Next::kKeep;
}

void MetricsServer::SetTicking(bool ticking) {
  if (std::exchange(ticking_, ticking) == ticking) return;
  const timespec interval = absl::ToTimespec(ticking ? kMinimumInterval : absl::ZeroDuration());
  const itimerspec times = {.it_interval = interval, .it_value = interval};
  timerfd_settime(timer_, 0, &times, nullptr);
}

}  // namespace dirty
