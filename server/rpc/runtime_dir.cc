#include "server/rpc/runtime_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace dirty {
namespace {

constexpr char kLockName[] = "dirty.lock";
constexpr char kWorkersName[] = "workers";  // made by PrepareWorkersDirectory
constexpr char kMadeMark[] = "made the directory\n";
// How often the directory or its lock may vanish under us because another dirtyd stops.
constexpr int kAttempts = 10;
constexpr absl::string_view kOther = "or choose another --runtime_dir";

std::string User(uid_t uid) {
  char buffer[4096];
  passwd entry;
  passwd* found = nullptr;
  if (getpwuid_r(uid, &entry, buffer, sizeof buffer, &found) != 0 || found == nullptr) return absl::StrCat("uid ", uid);
  return absl::StrCat(entry.pw_name, " (uid ", uid, ")");
}

std::string We() { return absl::StrCat("dirtyd runs as ", User(geteuid())); }

bool Trusted(const struct stat& entry) { return entry.st_uid == geteuid() || entry.st_uid == 0; }

const char* Kind(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISREG(mode)) return "a file";
  if (S_ISLNK(mode)) return "a symbolic link";
  return "a special file";
}

std::string Octal(mode_t mode) { return absl::StrFormat("%04o", mode & 07777); }

absl::Status Unusable(absl::string_view path, absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat("cannot use runtime directory ", path, ": ", why));
}

absl::Status CannotWrite(const std::string& path, int error) {
  struct stat entry = {};
  std::string owner = stat(path.c_str(), &entry) == 0 ? User(entry.st_uid) : "somebody";
  return Unusable(path,
                  absl::StrCat("cannot create files in it: ", strerror(error), "; it belongs to ", owner, " with mode ",
                               Octal(entry.st_mode), ", and ", We(), "; let that user write to it, ", kOther));
}

// Unlinks the sockets in an open directory. False, and none is touched, if anything else is in it.
bool ClearOfSockets(int directory) {
  int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* entries = copy < 0 ? nullptr : fdopendir(copy);
  if (entries == nullptr) {
    if (copy >= 0) close(copy);
    return false;
  }
  std::vector<std::string> sockets;
  bool only_sockets = true;
  while (dirent* item = readdir(entries)) {
    std::string name = item->d_name;
    if (name == "." || name == "..") continue;
    struct stat entry;
    if (fstatat(directory, item->d_name, &entry, AT_SYMLINK_NOFOLLOW) != 0) continue;
    only_sockets = only_sockets && S_ISSOCK(entry.st_mode);
    sockets.push_back(std::move(name));
  }
  closedir(entries);
  if (!only_sockets) return false;
  for (const std::string& name : sockets) unlinkat(directory, name.c_str(), 0);
  return true;
}

// OK: nothing is at `path` any more.
absl::Status ClearSocket(const std::string& path) {
  struct stat entry;
  if (lstat(path.c_str(), &entry) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("cannot use socket path ", path, ": ", strerror(errno), "; ", We()));
  }
  if (!S_ISSOCK(entry.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat("cannot make socket ", path, ": ", Kind(entry.st_mode),
                                                      " is in its place; move that away, or configure another path"));
  }
  // Whether somebody listens: also on a socket outside the directory, which our lock does not guard.
  UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.ok()) return absl::InternalError(absl::StrCat("cannot make a socket: ", strerror(errno)));
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  memcpy(address.sun_path, path.data(), path.size());
  if (connect(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN) {
    ucred peer = {};
    socklen_t size = sizeof peer;
    std::string who = "somebody";
    if (getsockopt(probe.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0) {
      who = absl::StrCat("pid ", peer.pid);
    }
    return absl::FailedPreconditionError(
        absl::StrCat("socket ", path, " is in use: ", who, " listens on it; stop that, or configure another path"));
  }
  if (errno != ECONNREFUSED && errno != ENOENT) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot tell whether socket ", path, " is in use: ", strerror(errno), "; it belongs to ",
                     User(entry.st_uid), ", and ", We(), "; remove it, or configure another path"));
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return absl::FailedPreconditionError(absl::StrCat("cannot remove stale socket ", path, ": ", strerror(errno),
                                                      "; it belongs to ", User(entry.st_uid), ", and ", We()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RuntimeDir::CheckSocketPath(absl::string_view path) {
  constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (path.empty()) return absl::InvalidArgumentError("the path of a socket is empty");
  if (path.size() <= kLongest) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("socket path ", path, " has ", path.size(),
                                                 " bytes and the kernel takes ", kLongest,
                                                 "; choose a shorter --runtime_dir or socket path"));
}

absl::StatusOr<std::unique_ptr<RuntimeDir>> RuntimeDir::Take(absl::string_view path, std::vector<std::string> sockets) {
  while (path.size() > 1 && absl::ConsumeSuffix(&path, "/")) {
  }
  if (path.empty())
    return absl::InvalidArgumentError("the runtime directory's path is empty; give one as --runtime_dir");
  for (const std::string& socket : sockets) {
    if (absl::Status status = CheckSocketPath(socket); !status.ok()) return status;
  }
  std::unique_ptr<RuntimeDir> dir(new RuntimeDir);
  dir->path_ = std::string(path);
  absl::Status status;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    status = dir->Open();
    if (status.ok()) status = dir->Lock();
    if (!absl::IsAborted(status)) break;
  }
  if (!status.ok()) return status;
  for (const std::string& socket : sockets) {
    if (absl::Status cleared = ClearSocket(socket); !cleared.ok()) return cleared;
  }
  dir->sockets_ = std::move(sockets);
  return dir;
}

// Aborted: it vanished meanwhile; again.
absl::Status RuntimeDir::Open() {
  struct stat entry;
  bool made = mkdir(path_.c_str(), 0755) == 0;
  made_ = made_ || made;
  if (!made && errno != EEXIST) {
    int error = errno;
    size_t slash = path_.rfind('/');
    std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : path_.substr(0, slash);
    if (stat(parent.c_str(), &entry) != 0) {
      return Unusable(
          path_, absl::StrCat("cannot create it: ", parent, ": ", strerror(errno), "; create that first, ", kOther));
    }
    return Unusable(path_, absl::StrCat("cannot create it: ", strerror(error), "; ", parent, " belongs to ",
                                        User(entry.st_uid), ", and ", We(), "; create it for that user, ", kOther));
  }
  if (lstat(path_.c_str(), &entry) != 0) {
    if (errno == ENOENT) return absl::AbortedError("the runtime directory comes and goes");
    return Unusable(path_, strerror(errno));
  }
  if (S_ISLNK(entry.st_mode) && !Trusted(entry)) {
    return Unusable(
        path_, absl::StrCat("it is a symbolic link of ", User(entry.st_uid), ", and ", We(), "; remove it, ", kOther));
  }
  directory_.Reset(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory_.ok()) {
    int error = errno;
    if (error == ENOENT && !S_ISLNK(entry.st_mode)) return absl::AbortedError("the runtime directory comes and goes");
    if (error == ENOTDIR) return Unusable(path_, absl::StrCat("it is ", Kind(entry.st_mode), "; remove it, ", kOther));
    return Unusable(path_, absl::StrCat("cannot open it: ", strerror(error), "; it belongs to ", User(entry.st_uid),
                                        ", and ", We(), "; let that user in, ", kOther));
  }
  if (fstat(directory_.get(), &entry) != 0) return Unusable(path_, strerror(errno));
  if (!Trusted(entry)) {
    return Unusable(path_, absl::StrCat("it belongs to ", User(entry.st_uid), ", and ", We(),
                                        "; run dirtyd as that user, chown it, ", kOther));
  }
  if ((entry.st_mode & (S_IWOTH | S_ISVTX)) == S_IWOTH) {
    return Unusable(path_, absl::StrCat("everybody may replace files in it; chmod o-w it, ", kOther));
  }
  // Whatever the umask: clients of other users reach the socket through it.
  if (made && fchmod(directory_.get(), 0755) != 0) return Unusable(path_, strerror(errno));
  return absl::OkStatus();
}

// Aborted: a dirtyd that stopped took the lock's file away.
absl::Status RuntimeDir::Lock() {
  UniqueFd lock(openat(directory_.get(), kLockName, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (!lock.ok()) {
    int error = errno;
    struct stat entry;
    if (error == ENOENT) return absl::AbortedError("the runtime directory comes and goes");
    if (fstatat(directory_.get(), kLockName, &entry, AT_SYMLINK_NOFOLLOW) == 0) {
      return Unusable(
          path_, absl::StrCat("cannot open its ", kLockName, ": ", strerror(error), "; it is ", Kind(entry.st_mode),
                              " of ", User(entry.st_uid), ", and ", We(), "; remove it, ", kOther));
    }
    absl::Status status = CannotWrite(path_, error);
    if (made_) rmdir(path_.c_str());
    return status;
  }
  struct stat entry, now;
  if (fstat(lock.get(), &entry) != 0) return Unusable(path_, strerror(errno));
  if (!S_ISREG(entry.st_mode) || !Trusted(entry)) {
    return Unusable(path_, absl::StrCat("its ", kLockName, " is not a file of ours: it belongs to ", User(entry.st_uid),
                                        ", and ", We(), "; remove it, ", kOther));
  }
  char content[64] = {};
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return Unusable(path_, absl::StrCat("cannot lock its ", kLockName, ": ", strerror(errno)));
    (void)!pread(lock.get(), content, sizeof content - 1, 0);
    long pid = atol(content);
    return absl::AlreadyExistsError(absl::StrCat("runtime directory ", path_, " is in use by ",
                                                 pid > 0 ? absl::StrCat("dirtyd pid ", pid) : "another dirtyd",
                                                 "; stop it ", kOther));
  }
  if (fstatat(directory_.get(), kLockName, &now, AT_SYMLINK_NOFOLLOW) != 0 || now.st_ino != entry.st_ino) {
    return absl::AbortedError("the lock comes and goes");
  }
  (void)!pread(lock.get(), content, sizeof content - 1, 0);
  if (strstr(content, kMadeMark) != nullptr) made_ = true;  // a killed dirtyd did
  std::string record = absl::StrCat(getpid(), "\n", made_ ? kMadeMark : "");
  if (ftruncate(lock.get(), 0) != 0 ||
      pwrite(lock.get(), record.data(), record.size(), 0) != static_cast<ssize_t>(record.size())) {
    return Unusable(path_, absl::StrCat("cannot write its ", kLockName, ": ", strerror(errno)));
  }
  lock_ = std::move(lock);
  return absl::OkStatus();
}

RuntimeDir::~RuntimeDir() { Remove(); }

void RuntimeDir::Remove() {
  if (!lock_.ok()) return;
  UniqueFd workers(openat(directory_.get(), kWorkersName, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (workers.ok()) {
    ClearOfSockets(workers.get());
    unlinkat(directory_.get(), kWorkersName, AT_REMOVEDIR);
  }
  for (const std::string& socket : sockets_) {
    // Elsewhere our lock guards nothing: what is there now may be another's.
    struct stat entry;
    if (absl::StartsWith(socket, path_ + "/") && lstat(socket.c_str(), &entry) == 0 && S_ISSOCK(entry.st_mode)) {
      unlink(socket.c_str());
    }
  }
  unlinkat(directory_.get(), kLockName, 0);
  if (made_) rmdir(path_.c_str());
  lock_.Reset();
  directory_.Reset();
}

}  // namespace dirty
