// Sockets that the service manager listens on for dirtyd (socket activation): which of them is which. For main, at the
// start.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/loop/unique_fd.h"
#include "server/observe/systemd.h"

namespace dirty {

// Not ok: that one was not passed, and is dirtyd's own to make.
struct PassedSockets {
  UniqueFd client;
  UniqueFd admin;
};

// By name, "dirty" or "admin" (FileDescriptorName=), else by the path it is bound to. An error says what is wrong with
// which descriptor, and what to do.
absl::StatusOr<PassedSockets> AssignSockets(std::vector<PassedDescriptor> passed, const std::string& socket,
                                            const std::string& admin_socket);

}  // namespace dirty
