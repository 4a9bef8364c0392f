#include "server/observe/systemd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/observe/log.h"

namespace dirty {
namespace {

constexpr int kFirstPassed = 3;  // as sd_listen_fds(3) says
constexpr int kMostPassed = 1024;

// The value of a variable, which is gone then.
std::string TakeVariable(const char* name) {
  const char* value = getenv(name);
  std::string text = value != nullptr ? value : "";
  unsetenv(name);
  return text;
}

bool IsOurs(const std::string& pid) {
  int number = 0;
  return absl::SimpleAtoi(pid, &number) && number == getpid();
}

int64_t MonotonicMicroseconds() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000LL + now.tv_nsec / 1000;
}

}  // namespace

ServiceEnvironment TakeServiceEnvironment() {
  ServiceEnvironment environment;
  environment.notify_socket = TakeVariable("NOTIFY_SOCKET");
  std::string watchdog = TakeVariable("WATCHDOG_USEC"), watchdog_pid = TakeVariable("WATCHDOG_PID");
  int64_t microseconds = 0;
  if ((watchdog_pid.empty() || IsOurs(watchdog_pid)) && absl::SimpleAtoi(watchdog, &microseconds) && microseconds > 0) {
    environment.watchdog_timeout = absl::Microseconds(microseconds);
  }
  std::string listen_pid = TakeVariable("LISTEN_PID"), count = TakeVariable("LISTEN_FDS");
  std::string names_list = TakeVariable("LISTEN_FDNAMES");
  unsetenv("LISTEN_PIDFDID");
  std::vector<std::string> names = absl::StrSplit(names_list, ':');
  int descriptors = 0;
  if (!IsOurs(listen_pid) || !absl::SimpleAtoi(count, &descriptors)) return environment;
  for (int i = 0; i < descriptors && i < kMostPassed; ++i) {
    int fd = kFirstPassed + i;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) continue;  // not there
    environment.descriptors.push_back(
        {.fd = UniqueFd(fd), .name = static_cast<size_t>(i) < names.size() ? names[static_cast<size_t>(i)] : ""});
  }
  return environment;
}

ServiceNotifier::ServiceNotifier(const ServiceEnvironment& environment)
    : address_(environment.notify_socket), watchdog_timeout_(environment.watchdog_timeout) {
  // A path or, with an @ for the zero, an abstract name. What else there may be (vsock) is not for us.
  bool known = !address_.empty() && (address_[0] == '/' || address_[0] == '@');
  if (known && address_.size() < sizeof(sockaddr_un::sun_path)) {
    socket_.Reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  }
}

void ServiceNotifier::Send(const std::string& message) {
  if (!socket_.ok()) return;
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  memcpy(address.sun_path, address_.data(), address_.size());
  if (address_[0] == '@') address.sun_path[0] = '\0';
  socklen_t size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  (void)sendto(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
               reinterpret_cast<const sockaddr*>(&address), size);
}

void ServiceNotifier::StartWatchdog(TimerQueue& timers) {
  timers_ = &timers;
  if (!socket_.ok()) return;
  Extend();
  if (watchdog_timeout_ != absl::InfiniteDuration()) Ping();
}

void ServiceNotifier::Ping() {
  Send("WATCHDOG=1");
  timers_->ScheduleIn(watchdog_timeout_ / 2, [this] { Ping(); });
}

void ServiceNotifier::Extend() {
  if (timers_ == nullptr || (state_ != State::kStarting && state_ != State::kStopping)) return;
  Send(absl::StrCat("EXTEND_TIMEOUT_USEC=", absl::ToInt64Microseconds(kExtension)));
  State at = state_;
  timers_->ScheduleIn(kExtension / 3, [this, at] {
    if (state_ == at) Extend();
  });
}

void ServiceNotifier::Ready() {
  if (state_ != State::kStarting) return;
  state_ = State::kRunning;
  Send(absl::StrCat("READY=1\nMAINPID=", getpid()));
}

void ServiceNotifier::Reloading() {
  if (state_ != State::kRunning) return;
  state_ = State::kReloading;
  Send(absl::StrCat("RELOADING=1\nMONOTONIC_USEC=", MonotonicMicroseconds()));
}

void ServiceNotifier::ReloadDone() {
  if (state_ != State::kReloading) return;
  state_ = State::kRunning;
  Send("READY=1");
}

void ServiceNotifier::Stopping() {
  if (state_ == State::kStopping) return;
  state_ = State::kStopping;
  Send("STOPPING=1");
  if (socket_.ok()) Extend();
}

void ServiceNotifier::Status(absl::string_view text) {
  std::string line = Printable(text);
  if (line == status_) return;
  status_ = std::move(line);
  Send(absl::StrCat("STATUS=", status_));
}

}  // namespace dirty
