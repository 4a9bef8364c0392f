// TCP sockets that listen, by address as people write it.
#pragma once

#include <sys/socket.h>

#include <string>

#include "absl/status/statusor.h"
#include "server/loop/unique_fd.h"

namespace dirty {

// Listens on `address`: HOST:PORT or [HOST]:PORT; port 0 is any that is free. Of a host's addresses the first that
// this machine has. Looks the host up: not on the loop. The error is why, alone.
absl::StatusOr<UniqueFd> ListenTcp(const std::string& address, int backlog);

// "192.0.2.1:40000", "[::1]:40000".
std::string SpellTcp(const sockaddr_storage& address, socklen_t size);

}  // namespace dirty
