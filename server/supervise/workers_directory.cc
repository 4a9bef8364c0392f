#include "server/supervise/workers_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/loop/unique_fd.h"
#include "server/supervise/accounts.h"

namespace dirty {
namespace {

// Removes what a killed dirtyd's workers left: sockets. False: it holds something else, `what`, and is left alone.
bool Clear(UniqueFd folder, std::string* what) {
  DIR* entries = fdopendir(folder.get());
  if (entries == nullptr) return true;
  (void)folder.Release();  // closedir's
  std::vector<std::string> sockets;
  while (const dirent* entry = readdir(entries)) {
    absl::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat status;
    bool socket = fstatat(dirfd(entries), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(status.st_mode);
    if (socket) {
      sockets.emplace_back(name);
    } else {
      *what = std::string(name);
    }
  }
  if (what->empty()) {
    for (const std::string& name : sockets) (void)unlinkat(dirfd(entries), name.c_str(), 0);
  }
  closedir(entries);
  return what->empty();
}

}  // namespace

absl::Status PrepareWorkersDirectory(const std::string& runtime_dir, const std::string& user,
                                     const std::string& group) {
  std::string path = absl::StrCat(runtime_dir, "/workers");
  auto failed = [&path](absl::string_view why) {
    return absl::FailedPreconditionError(absl::StrCat("runtime_dir: ", path, ": ", why));
  };
  absl::StatusOr<Owner> owner = FindOwner(user, group);
  if (!owner.ok()) return owner.status();
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return failed(strerror(errno));
  UniqueFd folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder.ok()) {
    bool link = errno == ELOOP || errno == ENOTDIR;
    return failed(link ? "is not a folder, or a symbolic link to one: remove it" : strerror(errno));
  }
  struct stat status;
  if (fstat(folder.get(), &status) != 0) return failed(strerror(errno));
  if (geteuid() != 0 && status.st_uid != geteuid()) {
    return failed(absl::StrCat("belongs to uid ", status.st_uid, ", not to dirtyd's uid ", geteuid()));
  }
  // It may be somebody's folder of that name: nothing of it is taken over.
  std::string stranger;
  if (!Clear(UniqueFd(fcntl(folder.get(), F_DUPFD_CLOEXEC, 0)), &stranger)) {
    return failed(absl::StrCat("holds \"", stranger,
                               "\", which is no worker's socket: is this a folder of dirtyd's? Remove it, "
                               "or choose another --runtime_dir"));
  }
  const bool theirs = owner->uid == status.st_uid && owner->gid == status.st_gid;
  if (!theirs && fchown(folder.get(), owner->uid, owner->gid) != 0) {
    return failed(absl::StrCat("cannot be given to uid ", owner->uid, ", gid ", owner->gid, ": ", strerror(errno)));
  }
  if (fchmod(folder.get(), 0700) != 0) return failed(strerror(errno));
  return absl::OkStatus();
}

std::string WorkerSocketPath(absl::string_view runtime_dir, uint32_t worker) {
  return absl::StrCat(runtime_dir, "/workers/worker-", worker, ".sock");
}

}  // namespace dirty
