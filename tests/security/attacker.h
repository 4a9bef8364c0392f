// What the tests of this folder attack with: a connection that says what no client would, and what dirtyd took for it.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "server/loop/unique_fd.h"
#include "tests/integration/harness.h"

namespace dirty::security {

inline constexpr size_t kMiB = size_t{1} << 20;

// A line of /proc/PID/status that is a number of kilobytes, in bytes.
inline size_t StatusBytes(pid_t pid, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(integration::ReadText(absl::StrCat("/proc/", pid, "/status")), '\n')) {
    if (!absl::ConsumePrefix(&line, name) || !absl::ConsumePrefix(&line, ":")) continue;
    absl::ConsumeSuffix(&line, " kB");
    size_t kilobytes = 0;
    if (absl::SimpleAtoi(absl::StripAsciiWhitespace(line), &kilobytes)) return kilobytes << 10;
  }
  return 0;
}

// The most memory that a process ever had.
inline size_t PeakBytes(pid_t pid) { return StatusBytes(pid, "VmHWM"); }

// A connection to a Unix socket. Thread-compatible.
class Attacker {
 public:
  enum class Reads { kYes, kNo };

  explicit Attacker(const std::string& path, Reads reads = Reads::kYes)
      : reads_(reads), fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    memcpy(address.sun_path, path.data(), path.size());
    connected_ = connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }

  bool connected() const { return connected_; }
  int fd() const { return fd_.get(); }
  // What dirtyd has said: its last bytes.
  const std::string& heard() const { return heard_; }

  // Sends everything, and reads meanwhile so that nobody waits for the other. False: dirtyd has closed the connection,
  // or takes no more.
  bool Send(absl::string_view bytes, absl::Duration patience = integration::kBound) {
    while (!bytes.empty()) {
      pollfd poller = {.fd = fd_.get(), .events = POLLOUT, .revents = 0};
      if (reads_ == Reads::kYes) poller.events |= POLLIN;
      if (poll(&poller, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) <= 0) return false;
      if ((poller.revents & POLLIN) != 0 && !Hear()) return false;
      if ((poller.revents & (POLLERR | POLLHUP)) != 0) return false;
      if ((poller.revents & POLLOUT) == 0) continue;
      ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno != EAGAIN) return false;
      if (sent > 0) bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  // Waits until dirtyd has said something that `is_it` knows. False: it has closed the connection, or says nothing.
  bool HearUntil(const std::function<bool(absl::string_view heard)>& is_it) {
    while (!is_it(heard_)) {
      pollfd poller = {.fd = fd_.get(), .events = POLLIN, .revents = 0};
      if (poll(&poller, 1, static_cast<int>(absl::ToInt64Milliseconds(integration::kBound))) <= 0 || !Hear()) {
        return false;
      }
    }
    return true;
  }

  // Waits until dirtyd closes the connection.
  bool WaitClosed() {
    HearUntil([](absl::string_view) { return false; });
    char byte;
    return recv(fd_.get(), &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
  }

 private:
  bool Hear() {
    constexpr size_t kKept = 4096;
    char buffer[65536];
    ssize_t size = recv(fd_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (size < 0) return errno == EAGAIN;
    heard_.append(buffer, static_cast<size_t>(size));
    if (heard_.size() > kKept) heard_.erase(0, heard_.size() - kKept);
    return size > 0;
  }

  const Reads reads_;
  UniqueFd fd_;
  bool connected_ = false;
  std::string heard_;
};

// Calls of others, while somebody attacks: each is answered, and soon.
inline void ExpectOthersAreServed(const integration::Dirtyd& dirtyd, const char* app, int calls = 100) {
  client::Client client = dirtyd.NewClient();
  absl::Duration longest;
  for (int i = 0; i < calls; ++i) {
    absl::Time start = absl::Now();
    auto result = client.Execute(app, "echo", client::Json::array({i}), client::Json::object(),
                                 {.timeout = std::chrono::seconds(60)});
    ASSERT_TRUE(result.ok()) << i << ": " << result.error().message;
    longest = std::max(longest, absl::Now() - start);
  }
  printf("[ LONGEST  ] %.1f ms for a call of somebody else\n", absl::ToDoubleMilliseconds(longest));
  if (integration::kMeasured) {
    EXPECT_LE(longest, absl::Seconds(2));
  }
}

}  // namespace dirty::security
