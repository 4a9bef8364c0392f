#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "absl/strings/str_cat.h"
#include "server/rpc/runtime_dir.h"

namespace dirty {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

constexpr uid_t kNobody = 65534;

class RuntimeDirTest : public testing::Test {
 protected:
  RuntimeDirTest() {
    char name[] = "/tmp/dirty-test-XXXXXX";
    base_ = mkdtemp(name);
    fs::permissions(base_, fs::perms(0755));
    dir_ = base_ + "/run";
  }
  ~RuntimeDirTest() override { fs::remove_all(base_); }

  std::vector<std::string> Sockets() const { return {dir_ + "/dirty.sock", dir_ + "/admin.sock"}; }
  std::string Error(const std::string& dir, std::vector<std::string> sockets = {}) {
    auto taken = RuntimeDir::Take(dir, std::move(sockets));
    return taken.ok() ? "OK" : std::string(taken.status().message());
  }

  // It listens until the descriptor is closed.
  static UniqueFd Bind(const std::string& path, int type = SOCK_STREAM) {
    UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << strerror(errno);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(listen(fd.get(), 1), 0);
    }
    return fd;
  }

  // What `work` returns in a process of its own, which is `user`'s.
  static std::string InProcess(uid_t user, const std::function<std::string()>& work) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
      if (user != geteuid() &&
          (setgroups(0, nullptr) != 0 || setresgid(user, user, user) != 0 || setresuid(user, user, user) != 0)) {
        _exit(9);
      }
      std::string said = work();
      (void)!write(ends[1], said.data(), said.size());
      _exit(0);
    }
    close(ends[1]);
    std::string said;
    char buffer[4096];
    for (ssize_t size; (size = read(ends[0], buffer, sizeof buffer)) > 0;) said.append(buffer, size);
    close(ends[0]);
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    return said;
  }

  // A process that has taken the directory and bound a socket there, until it is killed.
  struct Holder {
    pid_t pid = 0;
    UniqueFd ready;
    ~Holder() { Kill(); }
    void Kill() {
      if (pid == 0) return;
      kill(pid, SIGKILL);
      waitpid(std::exchange(pid, 0), nullptr, 0);
    }
  };
  void StartHolder(Holder& holder) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    holder.pid = fork();
    if (holder.pid == 0) {
      auto taken = RuntimeDir::Take(dir_, Sockets());
      if (!taken.ok()) _exit(1);
      fs::create_directory(dir_ + "/workers");
      UniqueFd socket = Bind(dir_ + "/dirty.sock"), worker = Bind(dir_ + "/workers/worker-1.sock");
      (void)!write(ends[1], "\n", 1);
      for (;;) pause();
    }
    close(ends[1]);
    holder.ready.Reset(ends[0]);
    char byte;
    ASSERT_EQ(read(ends[0], &byte, 1), 1);
  }

  std::string base_;
  std::string dir_;
};

TEST_F(RuntimeDirTest, MakesTheDirectoryWhateverTheUmaskAndRemovesItAgain) {
  mode_t before = umask(077);
  auto taken = RuntimeDir::Take(dir_ + "/", Sockets());
  umask(before);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ((*taken)->path(), dir_);
  struct stat entry;
  ASSERT_EQ(stat(dir_.c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0755u);
  std::string pid;
  std::ifstream(dir_ + "/dirty.lock") >> pid;
  EXPECT_EQ(pid, absl::StrCat(getpid()));
  UniqueFd socket = Bind(dir_ + "/dirty.sock");
  fs::create_directory(dir_ + "/workers");
  UniqueFd worker = Bind(dir_ + "/workers/worker-1.sock");
  (*taken)->Remove();
  EXPECT_FALSE(fs::exists(dir_));
}

TEST_F(RuntimeDirTest, LeavesADirectoryThatItDidNotMakeAndFilesOfOthers) {
  fs::create_directory(dir_);
  UniqueFd strangers = Bind(dir_ + "/stranger.sock");
  EXPECT_EQ(Error(dir_, Sockets()), "OK");
  EXPECT_TRUE(fs::exists(dir_ + "/stranger.sock"));
  EXPECT_FALSE(fs::exists(dir_ + "/dirty.lock"));
}

TEST_F(RuntimeDirTest, ASecondOneIsToldWhoHoldsIt) {
  Holder holder;
  StartHolder(holder);
  EXPECT_EQ(Error(dir_, Sockets()), absl::StrCat("runtime directory ", dir_, " is in use by dirtyd pid ", holder.pid,
                                                 "; stop it or choose another --runtime_dir"));
  EXPECT_TRUE(fs::exists(dir_ + "/dirty.sock"));
}

TEST_F(RuntimeDirTest, CleansUpAfterAKilledOne) {
  Holder holder;
  StartHolder(holder);
  holder.Kill();
  ASSERT_TRUE(fs::exists(dir_ + "/dirty.sock"));
  {
    auto taken = RuntimeDir::Take(dir_, Sockets());
    ASSERT_TRUE(taken.ok()) << taken.status();
    EXPECT_FALSE(fs::exists(dir_ + "/dirty.sock"));
  }
  EXPECT_FALSE(fs::exists(dir_)) << "the killed one had made it";
}

TEST_F(RuntimeDirTest, OneAfterTheOtherEachHoldsItAlone) {
  // Processes that take and leave it as fast as they can: two at once would both create the file.
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    pid_t child = fork();
    if (child == 0) {
      for (int taken = 0; taken < 50;) {
        auto dir = RuntimeDir::Take(dir_, {});
        if (!dir.ok()) {
          if (absl::IsAlreadyExists(dir.status()) || absl::IsAborted(dir.status())) continue;
          fprintf(stderr, "%s\n", dir.status().ToString().c_str());
          _exit(2);
        }
        UniqueFd alone(open((base_ + "/alone").c_str(), O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (!alone.ok()) _exit(1);
        unlink((base_ + "/alone").c_str());
        ++taken;
      }
      _exit(0);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
}

TEST_F(RuntimeDirTest, OtherThingsThanSocketsAreNotRemoved) {
  fs::create_directory(dir_);
  std::ofstream(dir_ + "/dirty.sock") << "precious";
  EXPECT_THAT(Error(dir_, Sockets()), HasSubstr("a file is in its place"));
  EXPECT_TRUE(fs::exists(dir_ + "/dirty.sock"));
  fs::remove(dir_ + "/dirty.sock");

  fs::create_directory(dir_ + "/workers");
  std::ofstream(dir_ + "/workers/precious") << "precious";
  EXPECT_EQ(Error(dir_, Sockets()), "OK");
  EXPECT_TRUE(fs::exists(dir_ + "/workers/precious"));
}

TEST_F(RuntimeDirTest, ASocketElsewhereThatIsInUseIsNotStolen) {
  std::string elsewhere = base_ + "/elsewhere.sock";
  UniqueFd listening = Bind(elsewhere);
  EXPECT_THAT(Error(dir_, {elsewhere}),
              HasSubstr(absl::StrCat("socket ", elsewhere, " is in use: pid ", getpid(), " listens on it")));
  EXPECT_TRUE(fs::exists(elsewhere));
  listening.Reset();
  EXPECT_EQ(Error(dir_, {elsewhere}), "OK");
  EXPECT_FALSE(fs::exists(elsewhere)) << "stale";
  UniqueFd datagrams = Bind(elsewhere, SOCK_DGRAM);
  EXPECT_THAT(Error(dir_, {elsewhere}), HasSubstr("cannot tell whether socket"));
  EXPECT_TRUE(fs::exists(elsewhere));
  EXPECT_FALSE(fs::exists(dir_)) << "nothing stays behind after a failure";
}

TEST_F(RuntimeDirTest, PathsThatAreTooLong) {
  std::string longest = dir_ + "/" + std::string(107 - dir_.size() - 1, 'x');
  EXPECT_TRUE(RuntimeDir::CheckSocketPath(longest).ok());
  EXPECT_EQ(Error(dir_, {longest}), "OK");
  EXPECT_EQ(Error(dir_, {longest + "x"}), absl::StrCat("socket path ", longest,
                                                       "x has 108 bytes and the kernel takes 107; choose a shorter "
                                                       "--runtime_dir or socket path"));
  EXPECT_FALSE(fs::exists(dir_));
}

TEST_F(RuntimeDirTest, SaysWhyItCannotBeMade) {
  EXPECT_THAT(Error(base_ + "/no/run"),
              StartsWith(absl::StrCat("cannot use runtime directory ", base_, "/no/run: cannot create it: ", base_,
                                      "/no: No such file or directory; create that first")));
  std::ofstream(dir_) << "a file";
  EXPECT_THAT(Error(dir_), HasSubstr("it is a file; remove it, or choose another --runtime_dir"));
  fs::remove(dir_);
  fs::create_symlink(base_ + "/nowhere", dir_);
  EXPECT_THAT(Error(dir_), HasSubstr("cannot open it: No such file"));
}

TEST_F(RuntimeDirTest, OurOwnLinksAreFollowed) {
  fs::create_directory(base_ + "/real");
  fs::create_symlink(base_ + "/real", dir_);
  EXPECT_EQ(Error(dir_, Sockets()), "OK");
}

TEST_F(RuntimeDirTest, LinksInItAreNotFollowed) {
  fs::create_directory(dir_);
  const std::string precious = base_ + "/precious";
  std::ofstream(precious) << "precious";
  // In place of a socket: neither what it leads to is removed nor the link itself.
  fs::create_symlink(precious, dir_ + "/dirty.sock");
  EXPECT_THAT(Error(dir_, Sockets()), HasSubstr("a symbolic link is in its place"));
  UniqueFd listening = Bind(base_ + "/other.sock");
  fs::remove(dir_ + "/dirty.sock");
  fs::create_symlink(base_ + "/other.sock", dir_ + "/dirty.sock");
  EXPECT_THAT(Error(dir_, Sockets()), HasSubstr("a symbolic link is in its place"));
  EXPECT_TRUE(fs::is_symlink(dir_ + "/dirty.sock") && fs::exists(base_ + "/other.sock"));
  fs::remove(dir_ + "/dirty.sock");
  // In place of the lock: the file would be emptied and written to.
  fs::create_symlink(precious, dir_ + "/dirty.lock");
  EXPECT_THAT(Error(dir_, Sockets()), HasSubstr("cannot open its dirty.lock: Too many levels of symbolic links"));
  fs::remove(dir_ + "/dirty.lock");
  // In place of the workers' folder: what is in it is another's.
  fs::create_directory(base_ + "/elsewhere");
  UniqueFd worker = Bind(base_ + "/elsewhere/worker-1.sock");
  fs::create_directory_symlink(base_ + "/elsewhere", dir_ + "/workers");
  EXPECT_EQ(Error(dir_, Sockets()), "OK");
  EXPECT_TRUE(fs::exists(base_ + "/elsewhere/worker-1.sock"));
  std::ifstream file(precious);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "precious");
}

TEST_F(RuntimeDirTest, ADirectoryWhereEverybodyMayReplaceFilesIsRefused) {
  fs::create_directory(dir_);
  fs::permissions(dir_, fs::perms(0777));
  EXPECT_THAT(Error(dir_), HasSubstr("everybody may replace files in it"));
  fs::permissions(dir_, fs::perms(01777));
  EXPECT_EQ(Error(dir_), "OK");
}

TEST_F(RuntimeDirTest, AnotherUserIsToldOwnerAndUid) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  auto error_of_nobody = [&] { return InProcess(kNobody, [&] { return Error(dir_); }); };
  EXPECT_EQ(error_of_nobody(),
            absl::StrCat("cannot use runtime directory ", dir_, ": cannot create it: Permission denied; ", base_,
                         " belongs to root (uid 0), and dirtyd runs as nobody (uid 65534); create it for that user, or "
                         "choose another --runtime_dir"));
  fs::create_directory(dir_);
  EXPECT_EQ(
      error_of_nobody(),
      absl::StrCat("cannot use runtime directory ", dir_,
                   ": cannot create files in it: Permission denied; it belongs to root (uid 0) with mode 0755, and "
                   "dirtyd runs as nobody (uid 65534); let that user write to it, or choose another --runtime_dir"));
  fs::permissions(dir_, fs::perms(0700));
  EXPECT_THAT(error_of_nobody(), HasSubstr("cannot open it: Permission denied; it belongs to root (uid 0)"));
  ASSERT_EQ(chown(dir_.c_str(), kNobody, kNobody), 0);
  EXPECT_EQ(error_of_nobody(), "OK");
  // Root keeps away from what another user controls.
  EXPECT_THAT(Error(dir_), HasSubstr("it belongs to nobody (uid 65534), and dirtyd runs as root (uid 0); run dirtyd as "
                                     "that user, chown it"));
  fs::remove(dir_);
  fs::create_directory(base_ + "/real");
  fs::create_symlink(base_ + "/real", dir_);
  ASSERT_EQ(lchown(dir_.c_str(), kNobody, kNobody), 0);
  EXPECT_THAT(Error(dir_), HasSubstr("it is a symbolic link of nobody (uid 65534)"));
}

TEST_F(RuntimeDirTest, ALockOfAnotherUserIsNotWaitedFor) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  fs::create_directory(dir_);
  std::ofstream(dir_ + "/dirty.lock") << "1\n";
  ASSERT_EQ(chown((dir_ + "/dirty.lock").c_str(), kNobody, kNobody), 0);
  EXPECT_THAT(Error(dir_), HasSubstr("its dirty.lock is not a file of ours: it belongs to nobody"));
}

}  // namespace
}  // namespace dirty
