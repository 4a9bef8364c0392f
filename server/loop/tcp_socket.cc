#include "server/loop/tcp_socket.h"

#include <netdb.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace dirty {
namespace {

// A socket that listens there; none: errno says why.
UniqueFd ListenAt(const addrinfo& place, int backlog) {
  UniqueFd fd(socket(place.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (fd.ok()) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!fd.ok() || bind(fd.get(), place.ai_addr, place.ai_addrlen) != 0 || listen(fd.get(), backlog) != 0) {
    const int error = errno;
    fd.Reset();
    errno = error;
  }
  return fd;
}

}  // namespace

absl::StatusOr<UniqueFd> ListenTcp(const std::string& address, int backlog) {
  auto error = [](absl::string_view why) { return absl::FailedPreconditionError(why); };
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return error("it is not HOST:PORT");
  absl::string_view host = absl::string_view(address).substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(std::string(host).c_str(), address.c_str() + colon + 1, &hints, &found);
  if (code != 0) return error(code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, freeaddrinfo);
  int failed = 0;  // at the last address that was tried; at the first, which the resolver prefers, if none is here
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    UniqueFd fd = ListenAt(*each, backlog);
    if (fd.ok()) return fd;
    // Only what this machine does not have is passed over: of a port that is taken, another address would serve others.
    const int why = errno;
    const bool absent = why == EADDRNOTAVAIL || why == EAFNOSUPPORT || why == EPROTONOSUPPORT;
    if (failed == 0 || !absent) failed = why;
    if (!absent) break;
  }
  return error(strerror(failed));
}

std::string SpellTcp(const sockaddr_storage& address, socklen_t size) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "unknown";
  }
  return address.ss_family == AF_INET6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

}  // namespace dirty
