// The folder of the workers' sockets, `<runtime_dir>/workers`.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace dirty {

// Makes the folder, mode 0700 and the workers' user's, and removes the sockets that a killed dirtyd left in it. Refuses
// a symbolic link and a folder of somebody else. `user` and `group` as in PoolSettings. At start, before any worker; it
// looks up names, hence not on the loop.
absl::Status PrepareWorkersDirectory(const std::string& runtime_dir, const std::string& user, const std::string& group);

// Where worker number `worker` serves.
std::string WorkerSocketPath(absl::string_view runtime_dir, uint32_t worker);

}  // namespace dirty
