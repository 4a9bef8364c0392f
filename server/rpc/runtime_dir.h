// The runtime directory: one dirtyd's place for its sockets. Its lock keeps a second dirtyd from stealing them, and
// lets the next one tell what a killed dirtyd left from what is in use.
//
// Owned by main, from before the sockets are bound until after they are closed. Thread-compatible. Does file I/O: at
// the start and the end only.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/loop/unique_fd.h"

namespace dirty {

class RuntimeDir {
 public:
  // Makes `path` (0755) if it is missing, but not its parent; takes its lock; clears stale sockets from `sockets`,
  // which may also be elsewhere. Each error says what is wrong where, and what to do; a path that is in use, by whom.
  static absl::StatusOr<std::unique_ptr<RuntimeDir>> Take(absl::string_view path, std::vector<std::string> sockets);

  // The kernel's limit of a Unix socket's path.
  static absl::Status CheckSocketPath(absl::string_view path);

  // Removes.
  ~RuntimeDir();
  RuntimeDir(const RuntimeDir&) = delete;
  RuntimeDir& operator=(const RuntimeDir&) = delete;

  const std::string& path() const { return path_; }

  // Removes its own sockets from it, the folder of the workers' sockets, the lock, and itself if a dirtyd made it and
  // nothing else is there. Errors are of no use then. Idempotent.
  void Remove();

 private:
  RuntimeDir() = default;

  absl::Status Open();
  absl::Status Lock();

  std::string path_;
  std::vector<std::string> sockets_;
  UniqueFd directory_;
  UniqueFd lock_;
  bool made_ = false;  // by a dirtyd: this one, or one that was killed
};

}  // namespace dirty
