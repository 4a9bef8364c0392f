#include "client/cpp/socket.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace dirty::client::internal {
namespace {

std::string UserName(uid_t uid) {
  char buffer[4096];
  passwd entry, *found = nullptr;
  getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found);
  return found != nullptr ? found->pw_name : absl::StrCat(uid);
}

std::string GroupName(gid_t gid) {
  char buffer[4096];
  group entry, *found = nullptr;
  getgrgid_r(gid, &entry, buffer, sizeof(buffer), &found);
  return found != nullptr ? found->gr_name : absl::StrCat(gid);
}

// `dirty:dirty 0660, you are uid 33`
std::string WhoMay(const struct stat& file) {
  return absl::StrFormat("%s:%s %04o, you are uid %d", UserName(file.st_uid), GroupName(file.st_gid),
                         file.st_mode & 07777, geteuid());
}

constexpr char kAdminIsFor[] = "the admin socket is for root and dirtyd's own user only";

std::string PermissionDenied(const std::string& path, SocketKind kind) {
  struct stat file;
  if (stat(path.c_str(), &file) == 0) {
    std::string advice = kind == SocketKind::kAdmin      ? kAdminIsFor
                         : (file.st_mode & S_IWGRP) == 0 ? "its socket_mode lets only its owner in"
                         : file.st_gid == 0              ? "set socket_group to a group of yours"
                                                         : absl::StrCat("join group ", GroupName(file.st_gid));
    return absl::StrCat("permission denied: ", WhoMay(file), "; ", advice);
  }
  // Some folder above may not be searched: the outermost such one is the obstacle.
  for (std::size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string folder = path.substr(0, slash);
    if (access(folder.c_str(), X_OK) != 0 && stat(folder.c_str(), &file) == 0) {
      return absl::StrCat("permission denied: folder ", folder, " is ", WhoMay(file));
    }
  }
  return absl::StrCat("permission denied: you are uid ", geteuid());
}

std::string WhyNot(const std::string& path, SocketKind kind, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return "absent";
    case ECONNREFUSED:
      return "nobody is listening";
    case EACCES:
    case EPERM:
      return PermissionDenied(path, kind);
    case EAGAIN:
      return "busy: too many connections wait to be accepted";
    default:
      return std::strerror(error);
  }
}

}  // namespace

std::vector<std::string> SocketPaths(const std::string& chosen, const char* env, const std::string& file) {
  if (!chosen.empty()) return {chosen};
  std::vector<std::string> paths;
  auto add = [&paths](std::string path) {
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(std::move(path));
  };
  if (const char* path = std::getenv(env); path != nullptr && *path != '\0') add(path);
  add(absl::StrCat("/run/dirty/", file));
  if (const char* folder = std::getenv("XDG_RUNTIME_DIR"); folder != nullptr && *folder != '\0') {
    add(absl::StrCat(folder, "/dirty/", file));
  }
  return paths;
}

ConnectAttempt ConnectUnix(const std::string& path, SocketKind kind) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return {
        {},
        absl::StrCat("too long: ", path.size(), " bytes, a socket's path has at most ", sizeof(address.sun_path) - 1)};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd || connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return {{}, WhyNot(path, kind, errno)};
  }
  return {std::move(fd), {}};
}

Greeting AwaitGreeting(int fd, std::chrono::milliseconds time) {
  pollfd events{.fd = fd, .events = POLLIN, .revents = 0};
  if (poll(&events, 1, static_cast<int>(time.count())) <= 0) return Greeting::kSilent;
  char first;
  const ssize_t got = recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got > 0) return Greeting::kSpeaks;
  return got < 0 && (errno == EAGAIN || errno == EINTR) ? Greeting::kSilent : Greeting::kClosed;
}

bool HungUp(int fd) {
  pollfd events{.fd = fd, .events = POLLRDHUP, .revents = 0};
  return poll(&events, 1, 0) > 0 && (events.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

std::string RefusedAtAccept(SocketKind kind) {
  return absl::StrCat("accepted and closed at once: ",
                      kind == SocketKind::kAdmin ? kAdminIsFor : "check allow_uids and allow_gids of dirtyd",
                      ", you are uid ", geteuid(), " (", UserName(geteuid()), "), gid ", getegid(), " (",
                      GroupName(getegid()), ")");
}

std::string Seconds(std::chrono::nanoseconds time) {
  return absl::StrCat(absl::StrFormat("%.3g", std::chrono::duration<double>(time).count()), " s");
}

}  // namespace dirty::client::internal
