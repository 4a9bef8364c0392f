#ifndef DIRTY_CLIENT_CPP_SOCKET_H_
#define DIRTY_CLIENT_CPP_SOCKET_H_

// Unix sockets, and why they cannot be reached. Free of gRPC; thread-safe.

#include <chrono>
#include <string>
#include <vector>

#include "client/cpp/unique_fd.h"

namespace dirty::client::internal {

// Where to look for the socket `file` (such as `dirty.sock`): `chosen` alone if it is not empty, else the value of the
// environment variable `env`, /run/dirty and $XDG_RUNTIME_DIR/dirty.
std::vector<std::string> SocketPaths(const std::string& chosen, const char* env, const std::string& file);

// Whom a socket lets in, which its user is told who is not: the clients' by its mode and dirtyd's settings, the admin
// socket always root and dirtyd's own user.
enum class SocketKind { kClient, kAdmin };

// A connected, non-blocking descriptor, or why there is none.
struct ConnectAttempt {
  UniqueFd fd;
  std::string failure;
};

// Connects without waiting.
ConnectAttempt ConnectUnix(const std::string& path, SocketKind kind = SocketKind::kClient);

// What the other side does with a fresh connection.
enum class Greeting { kSilent, kSpeaks, kClosed };

// Waits at most `time` for the first byte, which stays unread: an HTTP/2 server speaks first.
Greeting AwaitGreeting(int fd, std::chrono::milliseconds time);

// Whether the other side has closed the connection. Never waits.
bool HungUp(int fd);

// The failure of a connection that was accepted and closed at once: peer credentials that dirtyd does not let in.
std::string RefusedAtAccept(SocketKind kind);

// `5 s`, `0.25 s`.
std::string Seconds(std::chrono::nanoseconds time);

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_SOCKET_H_
