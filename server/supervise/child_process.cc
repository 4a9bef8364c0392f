#include "server/supervise/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
extern "C" {
#include <sys/pidfd.h>  // glibc 2.36's has no extern "C" of its own
}

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/loop/check.h"
#include "server/observe/worker_output.h"
#include "server/spawn/exec.h"

namespace dirty {
namespace {

constexpr int kAboveChildsDescriptors = 10;
constexpr size_t kReadSize = 65536;
constexpr int kDeathLimitMilliseconds = 1000;  // for a killed process, in the destructor

absl::Status Failed(absl::string_view what, int error = errno) { return absl::ErrnoToStatus(error, what); }

struct Pipe {
  UniqueFd ours;    // does not block
  UniqueFd childs;  // numbered so high that no dup2 for the child overwrites it
};

enum class Direction { kFromChild, kToChild };

absl::StatusOr<Pipe> MakePipe(Direction direction) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return Failed("cannot make a pipe");
  UniqueFd ends[2] = {UniqueFd(fds[0]), UniqueFd(fds[1])};
  bool from_child = direction == Direction::kFromChild;
  Pipe pipe{.ours = std::move(ends[from_child ? 0 : 1]), .childs = {}};
  pipe.childs = UniqueFd(fcntl(ends[from_child ? 1 : 0].get(), F_DUPFD_CLOEXEC, kAboveChildsDescriptors));
  if (!pipe.childs.ok() || fcntl(pipe.ours.get(), F_SETFL, O_NONBLOCK) != 0) return Failed("cannot make a pipe");
  return pipe;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// What becomes the child's descriptor `number`; one that is not ok: closed, or for standard input /dev/null.
struct Inherited {
  int number;
  const UniqueFd& fd;
};

absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                            std::initializer_list<Inherited> descriptors) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const Inherited& inherited : descriptors) {
    if (inherited.fd.ok()) {
      posix_spawn_file_actions_adddup2(&actions, inherited.fd.get(), inherited.number);
    } else if (inherited.number == STDIN_FILENO) {
      posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    } else {
      posix_spawn_file_actions_addclose(&actions, inherited.number);
    }
  }
  pid_t pid = 0;
  int error = posix_spawn(&pid, arguments[0].c_str(), &actions, nullptr, Pointers(arguments).data(),
                          Pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return Failed(absl::StrCat("cannot run ", arguments[0]), error);
  return pid;
}

void KillGroup(pid_t pid) {
  // Until the helper has called setsid there is no such group.
  if (kill(-pid, SIGKILL) != 0) kill(pid, SIGKILL);
}

// Whether the process is on its way out already: its descriptors are closed, which others may notice, before it is
// dead.
bool IsEnding(pid_t pid) {
  std::string stat = ReadKernelFile(absl::StrCat("/proc/", pid, "/stat"));
  // The second field is the program's name, which may hold anything; what follows it is field 3 of proc(5).
  std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(stat).substr(stat.rfind(')') + 1), ' ', absl::SkipEmpty());
  constexpr size_t kFlags = 9 - 3;
  constexpr uint64_t kExiting = 4;  // the kernel's PF_EXITING
  uint64_t flags = 0;
  return fields.size() > kFlags && absl::SimpleAtoi(fields[kFlags], &flags) && (flags & kExiting) != 0;
}

}  // namespace

// A pipe from the child.
struct ChildProcess::Stream {
  int fd = -1;  // -1: closed
  Watcher::Id watch = 0;
  std::function<void(absl::string_view)> take;

  // What is in it now, without waiting for its end: a grandchild may hold it open, and write for ever.
  void Drain() {
    int left = 0;
    if (fd < 0 || ioctl(fd, FIONREAD, &left) != 0) return;
    std::string data(static_cast<size_t>(left), '\0');
    ssize_t size = read(fd, data.data(), data.size());
    if (size > 0) take(absl::string_view(data).substr(0, static_cast<size_t>(size)));
  }
};

// What the child writes and reads. Made on the loop; of the watcher's thread while it is watched; the loop's again once
// it is `over`.
struct ChildProcess::Pipes {
  Pipes(const Options& options, Logger& log, Poster& to, std::weak_ptr<char> of)
      : out(options.worker, "stdout", log, options.hook),
        err(options.worker, "stderr", log, options.hook),
        poster(to),
        child(std::move(of)) {}

  // Runs `work` on the loop, unless the child's object is gone by then. On the watcher's thread, where it may be gone
  // already.
  void Post(std::function<void()> work) const {
    poster.Post([alive = child, work = std::move(work)] {
      if (!alive.expired()) work();
    });
  }

  static void Read(const std::shared_ptr<Pipes>& self, Stream& stream, Watcher& watcher, UniqueFd fd,
                   std::function<void(absl::string_view)> take) {
    stream.fd = fd.get();
    stream.take = std::move(take);
    stream.watch = watcher.Watch(std::move(fd), EPOLLIN, [self, &stream](int descriptor, uint32_t) {
      if (self->over) return Watcher::Next::kClose;
      char data[kReadSize];
      ssize_t size = read(descriptor, data, sizeof data);
      if (size > 0) stream.take(absl::string_view(data, static_cast<size_t>(size)));
      if (size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR))) return Watcher::Next::kKeep;
      stream.fd = -1;
      return Watcher::Next::kClose;
    });
  }

  // A child that closes its standard input early wants no more of it: that is no failure.
  static void Write(const std::shared_ptr<Pipes>& self, Watcher& watcher, UniqueFd fd, std::string text) {
    self->input = std::move(text);
    self->input_watch = watcher.Watch(std::move(fd), EPOLLOUT, [self](int descriptor, uint32_t) {
      absl::string_view left = absl::string_view(self->input).substr(self->written);
      ssize_t size = left.empty() ? 0 : write(descriptor, left.data(), left.size());
      if (size < 0 && (errno == EAGAIN || errno == EINTR)) return Watcher::Next::kKeep;
      if (size > 0) self->written += static_cast<size_t>(size);
      return size < 0 || self->written == self->input.size() ? Watcher::Next::kClose : Watcher::Next::kKeep;
    });
  }

  WorkerOutput out;
  WorkerOutput err;
  std::string failure;  // why the helper could not run the program
  std::string input;
  size_t written = 0;  // of input
  Poster& poster;
  const std::weak_ptr<char> child;
  Stream streams[4];
  Watcher::Id input_watch = 0;  // 0: none
  bool over = false;
  bool ready = false;
};

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(Options options, Watcher& watcher, Poster& poster,
                                                                  Logger& log) {
  absl::StatusOr<Pipe> out = MakePipe(Direction::kFromChild), err = MakePipe(Direction::kFromChild),
                       status = MakePipe(Direction::kFromChild);
  absl::StatusOr<Pipe> ready = options.on_ready ? MakePipe(Direction::kFromChild) : Pipe{.ours = {}, .childs = {}};
  absl::StatusOr<Pipe> in = options.input.has_value() ? MakePipe(Direction::kToChild) : Pipe{.ours = {}, .childs = {}};
  for (const absl::StatusOr<Pipe>* pipe : {&out, &err, &status, &ready, &in}) {
    if (!pipe->ok()) return pipe->status();
  }
  absl::StatusOr<pid_t> pid = Spawn(options.arguments, options.environment,
                                    {{STDIN_FILENO, options.standard_input.ok() ? options.standard_input : in->childs},
                                     {STDOUT_FILENO, out->childs},
                                     {STDERR_FILENO, err->childs},
                                     {kReadyFd, ready->childs},
                                     {kStatusFd, status->childs}});
  if (!pid.ok()) return pid.status();
  UniqueFd pidfd(pidfd_open(*pid, 0));
  if (!pidfd.ok()) {
    absl::Status failed = Failed("cannot watch a process");
    KillGroup(*pid);
    (void)waitpid(*pid, nullptr, 0);
    return failed;
  }

  std::unique_ptr<ChildProcess> self(new ChildProcess(*pid, log));
  self->pipes_ = std::make_shared<Pipes>(options, log, poster, self->alive_);
  self->on_ready_ = std::move(options.on_ready);
  self->on_gone_ = std::move(options.on_gone);
  self->on_dead_ = std::move(options.on_dead);
  const std::shared_ptr<Pipes>& pipes = self->pipes_;
  Pipes& to = *pipes;
  Pipes::Read(pipes, to.streams[0], watcher, std::move(out->ours),
              [&to](absl::string_view data) { to.out.Append(data); });
  Pipes::Read(pipes, to.streams[1], watcher, std::move(err->ours),
              [&to](absl::string_view data) { to.err.Append(data); });
  Pipes::Read(pipes, to.streams[2], watcher, std::move(status->ours),
              [&to](absl::string_view data) { absl::StrAppend(&to.failure, data); });
  if (self->on_ready_) {
    Pipes::Read(pipes, to.streams[3], watcher, std::move(ready->ours),
                [&to, child = self.get()](absl::string_view data) {
                  if (!absl::StrContains(data, '\n') || std::exchange(to.ready, true)) return;
                  to.Post([child] { child->on_ready_(); });
                });
  }
  if (options.input.has_value()) Pipes::Write(pipes, watcher, std::move(in->ours), *std::move(options.input));
  // Last: from here on the watcher's thread may find it dead, and forget the others.
  self->WatchDeath(watcher, std::move(pidfd));
  return self;
}

void ChildProcess::WatchDeath(Watcher& watcher, UniqueFd pidfd) {
  auto dead = [this, &watcher, pipes = pipes_, on_gone = on_gone_](int, uint32_t) {
    for (Stream& stream : pipes->streams) {
      stream.Drain();
      if (stream.watch != 0) watcher.Forget(stream.watch);
    }
    if (pipes->input_watch != 0) watcher.Forget(pipes->input_watch);
    pipes->out.Finish();
    pipes->err.Finish();
    pipes->over = true;
    if (on_gone) on_gone();
    // It may let this object go, and with it the function.
    pipes->Post([this] { std::exchange(on_dead_, nullptr)(); });
    return Watcher::Next::kClose;
  };
  watcher.Watch(std::move(pidfd), EPOLLIN, std::move(dead));
}

ChildProcess::~ChildProcess() {
  if (reaped_) return;
  KillGroup(pid_);
  // A process that the kernel does not let go of must not hold up the exit.
  UniqueFd pidfd(pidfd_open(pid_, 0));
  pollfd dead = {.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  if (pidfd.ok()) (void)poll(&dead, 1, kDeathLimitMilliseconds);
  siginfo_t info;
  (void)waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG);
}

void ChildProcess::Kill() {
  killed_ = killed_ || !IsEnding(pid_);
  KillGroup(pid_);
}

ExitStatus ChildProcess::Reap() {
  DIRTY_CHECK(!reaped_ && pipes_->over, "pid ", pid_);
  // Its pid, and thus its group's number, is its own until it is reaped: what it left behind goes first.
  kill(-pid_, SIGKILL);
  siginfo_t info = {};
  ExitStatus status;
  if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED) != 0) {
    log_.Error(absl::StrCat("the exit code of a process is lost: ", strerror(errno)), {{"pid", absl::StrCat(pid_)}});
    status.exit_code = 255;
  } else if (info.si_code == CLD_EXITED) {
    status.exit_code = info.si_status;
  } else {
    status.signal = info.si_status;
  }
  reaped_ = true;
  status.stderr_tail = pipes_->err.Tail();
  status.last_words = pipes_->err.LastWords();
  if (std::string failure = Failure(); !failure.empty()) status.stderr_tail.push_back(status.last_words = failure);
  return status;
}

std::string ChildProcess::Failure() const { return Printable(pipes_->failure); }

std::vector<std::string> HelperArguments(const std::string& libexec_folder, rlim_t descriptor_limit) {
  std::vector<std::string> all = {absl::StrCat(libexec_folder, "/dirty-exec"), "--parent", absl::StrCat(getpid())};
  if (descriptor_limit != 0) all.insert(all.end(), {"--nofile", absl::StrCat(descriptor_limit)});
  return all;
}

bool IsOfServiceManager(absl::string_view variable) {
  for (absl::string_view systemds : {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES",
                                     "WATCHDOG_USEC", "WATCHDOG_PID"}) {
    if (variable == systemds) return true;
  }
  return false;
}

std::string ReadKernelFile(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(kReadSize, '\0');
  ssize_t size = fd.ok() ? read(fd.get(), text.data(), text.size()) : 0;
  text.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return text;
}

std::string PythonSearchPath(const PoolSettings& pool, const std::string& python_folder, const std::string& before) {
  // What `python -m` would do by itself comes first explicitly: $PYTHONSAFEPATH turns that off.
  std::vector<std::string> folders;
  if (!pool.chdir.empty()) folders.push_back(pool.chdir);
  folders.insert(folders.end(), pool.pythonpath.begin(), pool.pythonpath.end());
  folders.push_back(python_folder);
  if (!before.empty()) folders.push_back(before);
  return absl::StrJoin(folders, ":");
}

}  // namespace dirty
