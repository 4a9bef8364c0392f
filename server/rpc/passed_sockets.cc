#include "server/rpc/passed_sockets.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/observe/log.h"

namespace dirty {
namespace {

constexpr absl::string_view kClientName = "dirty";
constexpr absl::string_view kAdminName = "admin";

int Option(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof value;
  return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

// The path it is bound to; empty: none.
std::string BoundPath(int fd) {
  sockaddr_un address = {};
  socklen_t size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "";
  size_t length = size - offsetof(sockaddr_un, sun_path);
  if (size <= offsetof(sockaddr_un, sun_path) || address.sun_path[0] == '\0') return "";
  return std::string(address.sun_path, strnlen(address.sun_path, length));
}

// Whether two paths are one file, such as below /run and /var/run.
bool SameFile(const std::string& a, const std::string& b) {
  if (a == b) return true;
  struct stat left, right;
  return stat(a.c_str(), &left) == 0 && stat(b.c_str(), &right) == 0 && left.st_dev == right.st_dev &&
         left.st_ino == right.st_ino;
}

}  // namespace

absl::StatusOr<PassedSockets> AssignSockets(std::vector<PassedDescriptor> passed, const std::string& socket,
                                            const std::string& admin_socket) {
  PassedSockets sockets;
  for (PassedDescriptor& descriptor : passed) {
    int fd = descriptor.fd.get();
    std::string name = Printable(descriptor.name);
    auto wrong = [&](const auto&... why) {
      return absl::FailedPreconditionError(absl::StrCat("descriptor ", fd,
                                                        name.empty() ? "" : absl::StrCat(" (", name, ")"),
                                                        ", passed by the service manager, ", why...));
    };
    if (Option(fd, SO_DOMAIN) != AF_UNIX || Option(fd, SO_TYPE) != SOCK_STREAM || Option(fd, SO_ACCEPTCONN) != 1) {
      return wrong("is not a listening Unix stream socket; use ListenStream= with a path, and Accept=no");
    }
    std::string path = BoundPath(fd);
    if (path.empty()) return wrong("is bound to no path; use ListenStream= with a path");
    bool admin = name == kAdminName || (name != kClientName && SameFile(path, admin_socket));
    const std::string& expected = admin ? admin_socket : socket;
    absl::string_view key = admin ? "admin_socket" : "socket";
    if (!SameFile(path, expected)) {
      if (name == kClientName || name == kAdminName) {
        return wrong("listens on ", path, ", but ", key, " is ", expected, "; make ListenStream= and ", key,
                     " the same");
      }
      return wrong("listens on ", path, ", which is neither socket (", socket, ") nor admin_socket (", admin_socket,
                   "); make ListenStream= one of these, or say which it is: FileDescriptorName=", kClientName, " or ",
                   kAdminName);
    }
    UniqueFd& place = admin ? sockets.admin : sockets.client;
    if (place.ok()) return wrong("is a second ", key, "; pass one");
    // The watcher accepts until nothing is left.
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return wrong("cannot be used: ", strerror(errno));
    place = std::move(descriptor.fd);
  }
  return sockets;
}

}  // namespace dirty
