#include "server/supervise/posix_launcher.h"

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

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/loop/check.h"
#include "server/observe/worker_output.h"
#include "server/spawn/exec.h"
#include "server/supervise/workers_directory.h"

namespace dirty {
namespace {

constexpr int kAboveChildsDescriptors = 10;
constexpr size_t kReadSize = 65536;
constexpr int kDeathLimitMilliseconds = 1000;  // for a killed process, in the destructor

absl::Status Failed(absl::string_view what, int error = errno) { return absl::ErrnoToStatus(error, what); }

struct Pipe {
  UniqueFd read;   // ours: does not block
  UniqueFd write;  // the child's; numbered so high that no dup2 for the child overwrites it
};

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return Failed("cannot make a pipe");
  Pipe pipe{.read = UniqueFd(fds[0]), .write = {}};
  UniqueFd write(fds[1]);
  pipe.write = UniqueFd(fcntl(write.get(), F_DUPFD_CLOEXEC, kAboveChildsDescriptors));
  if (!pipe.write.ok() || fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK) != 0) return Failed("cannot make a pipe");
  return pipe;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& arguments,
                            const std::map<std::string, std::string>& variables, const UniqueFd& out,
                            const UniqueFd& err, const UniqueFd& ready, const UniqueFd& status) {
  std::vector<std::string> environment;
  for (const auto& [name, value] : variables) environment.push_back(absl::StrCat(name, "=", value));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err.get(), STDERR_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ready.get(), kReadyFd);
  posix_spawn_file_actions_adddup2(&actions, status.get(), kStatusFd);
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

// Variables with which systemd talks to dirtyd alone, and those that only a worker's own user has.
bool IsForDirtydOnly(absl::string_view name, bool other_user) {
  for (absl::string_view systemds : {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES",
                                     "WATCHDOG_USEC", "WATCHDOG_PID"}) {
    if (name == systemds) return true;
  }
  return other_user && (name == "HOME" || name == "USER" || name == "LOGNAME");
}

std::string ReadSmallFile(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(4096, '\0');
  ssize_t size = fd.ok() ? read(fd.get(), text.data(), text.size()) : 0;
  text.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return text;
}

// The file of our control group that counts kills for lack of memory: version 2's, else version 1's.
std::string FindOutOfMemoryFile() {
  std::string v1, v2;
  for (absl::string_view line : absl::StrSplit(ReadSmallFile("/proc/self/cgroup"), '\n', absl::SkipEmpty())) {
    std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    if (parts[1].empty()) v2 = absl::StrCat("/sys/fs/cgroup", parts[2], "/memory.events");
    if (parts[1] == "memory") v1 = absl::StrCat("/sys/fs/cgroup/memory", parts[2], "/memory.oom_control");
  }
  for (const std::string& file :
       {v2, v1, std::string("/sys/fs/cgroup/memory.events"), std::string("/sys/fs/cgroup/memory/memory.oom_control")}) {
    if (!file.empty() && absl::StrContains(ReadSmallFile(file), "oom_kill ")) return file;
  }
  return "";
}

uint64_t ReadOutOfMemoryKills(const std::string& file) {
  if (file.empty()) return 0;
  uint64_t kills = 0;
  for (absl::string_view line : absl::StrSplit(ReadSmallFile(file), '\n')) {
    if (absl::ConsumePrefix(&line, "oom_kill ")) (void)absl::SimpleAtoi(line, &kills);
  }
  return kills;
}

}  // namespace

// A pipe from a worker.
struct PosixLauncher::Stream {
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

// What a worker writes. Made on the loop; of the watcher's thread while it is watched; the loop's again once it is
// `over`.
struct PosixLauncher::Output {
  Output(WorkerId worker, std::string path, Logger& log, Poster& to, std::weak_ptr<char> of)
      : out(worker, "stdout", log),
        err(worker, "stderr", log),
        socket_path(std::move(path)),
        poster(to),
        launcher(std::move(of)) {}

  // Runs `work` on the loop, unless the launcher is gone by then. On the watcher's thread, where it may be gone
  // already.
  void Post(std::function<void()> work) const {
    poster.Post([alive = launcher, work = std::move(work)] {
      if (!alive.expired()) work();
    });
  }

  WorkerOutput out;
  WorkerOutput err;
  std::string failure;  // why the helper could not start the worker
  const std::string socket_path;
  Poster& poster;
  const std::weak_ptr<char> launcher;
  Stream streams[4];
  bool over = false;
  bool listening = false;
};

PosixLauncher::PosixLauncher(Options options, Watcher& watcher, Poster& poster, Logger& log)
    : options_(std::move(options)),
      watcher_(watcher),
      poster_(poster),
      log_(log),
      oom_file_(FindOutOfMemoryFile()),
      oom_kills_(ReadOutOfMemoryKills(oom_file_)) {}

PosixLauncher::~PosixLauncher() {
  for (auto& [worker, process] : processes_) KillGroup(process.pid);
  for (auto& [worker, process] : processes_) {
    // A process that the kernel does not let go of must not hold up the exit.
    UniqueFd pidfd(pidfd_open(process.pid, 0));
    pollfd dead = {.fd = pidfd.get(), .events = POLLIN, .revents = 0};
    if (pidfd.ok()) (void)poll(&dead, 1, kDeathLimitMilliseconds);
    siginfo_t info;
    (void)waitid(P_PID, static_cast<id_t>(process.pid), &info, WEXITED | WNOHANG);
    (void)unlink(WorkerSocketPath(options_.runtime_dir, worker).c_str());
  }
}

absl::StatusOr<pid_t> PosixLauncher::Launch(const WorkerSpec& spec) {
  DIRTY_CHECK(events_ != nullptr && !processes_.contains(spec.id), "worker ", spec.id);
  absl::StatusOr<Pipe> pipes[4] = {MakePipe(), MakePipe(), MakePipe(), MakePipe()};
  for (const absl::StatusOr<Pipe>& pipe : pipes) {
    if (!pipe.ok()) return pipe.status();
  }
  auto& [out, err, ready, status] = pipes;
  absl::StatusOr<pid_t> pid =
      Spawn(Arguments(spec), Environment(spec), out->write, err->write, ready->write, status->write);
  if (!pid.ok()) return pid.status();
  UniqueFd pidfd(pidfd_open(*pid, 0));
  if (!pidfd.ok()) {
    absl::Status failed = Failed("cannot watch a process");
    KillGroup(*pid);
    (void)waitpid(*pid, nullptr, 0);
    return failed;
  }

  WorkerId worker = spec.id;
  auto output = std::make_shared<Output>(worker, WorkerSocketPath(options_.runtime_dir, worker), log_, poster_, alive_);
  Output& to = *output;
  processes_[worker] = Process{.pid = *pid, .output = output};
  WatchStream(output, to.streams[0], std::move(out->read), [&to](absl::string_view data) { to.out.Append(data); });
  WatchStream(output, to.streams[1], std::move(err->read), [&to](absl::string_view data) { to.err.Append(data); });
  WatchStream(output, to.streams[2], std::move(status->read),
              [&to](absl::string_view data) { absl::StrAppend(&to.failure, data); });
  WatchStream(output, to.streams[3], std::move(ready->read), [this, &to, worker](absl::string_view data) {
    if (!absl::StrContains(data, '\n') || std::exchange(to.listening, true)) return;
    to.Post([this, worker] { OnListening(worker); });
  });
  // Last: from here on the watcher's thread may find it dead, and forget the others.
  WatchDeath(worker, std::move(output), std::move(pidfd));
  return *pid;
}

void PosixLauncher::WatchStream(const std::shared_ptr<Output>& output, Stream& stream, UniqueFd fd,
                                std::function<void(absl::string_view)> take) {
  stream.fd = fd.get();
  stream.take = std::move(take);
  stream.watch = watcher_.Watch(std::move(fd), EPOLLIN, [output, &stream](int descriptor, uint32_t) {
    if (output->over) return Watcher::Next::kClose;
    char data[kReadSize];
    ssize_t size = read(descriptor, data, sizeof data);
    if (size > 0) stream.take(absl::string_view(data, static_cast<size_t>(size)));
    if (size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR))) return Watcher::Next::kKeep;
    stream.fd = -1;
    return Watcher::Next::kClose;
  });
}

void PosixLauncher::WatchDeath(WorkerId worker, std::shared_ptr<Output> output, UniqueFd pidfd) {
  auto on_dead = [this, &watcher = watcher_, worker, output = std::move(output)](int, uint32_t) {
    for (Stream& stream : output->streams) {
      stream.Drain();
      watcher.Forget(stream.watch);
    }
    output->out.Finish();
    output->err.Finish();
    output->over = true;
    (void)unlink(output->socket_path.c_str());
    output->Post([this, worker] { OnDead(worker); });
    return Watcher::Next::kClose;
  };
  watcher_.Watch(std::move(pidfd), EPOLLIN, std::move(on_dead));
}

void PosixLauncher::OnListening(WorkerId worker) {
  if (processes_.contains(worker)) events_->OnListening(worker);
}

void PosixLauncher::OnDead(WorkerId worker) {
  auto it = processes_.find(worker);
  DIRTY_CHECK(it != processes_.end(), "worker ", worker);
  Process process = std::move(it->second);
  processes_.erase(it);

  // Its pid, and thus its group's number, is its own until it is reaped: what it left behind goes first.
  kill(-process.pid, SIGKILL);
  siginfo_t info = {};
  ExitStatus status;
  if (waitid(P_PID, static_cast<id_t>(process.pid), &info, WEXITED) != 0) {
    log_.Error(absl::StrCat("the exit code of a worker is lost: ", strerror(errno)),
               {{"worker", absl::StrCat(worker)}});
    status.exit_code = 255;
  } else if (info.si_code == CLD_EXITED) {
    status.exit_code = info.si_status;
  } else {
    status.signal = info.si_status;
    status.out_of_memory = status.signal == SIGKILL && !process.killed && TakeOutOfMemoryKill();
  }
  status.stderr_tail = process.output->err.Tail();
  if (!process.output->failure.empty()) status.stderr_tail.push_back(Printable(process.output->failure));
  if (options_.after_reap) options_.after_reap();
  events_->OnExit(worker, status);
}

void PosixLauncher::Kill(WorkerId worker) {
  auto it = processes_.find(worker);
  if (it == processes_.end()) return;
  it->second.killed = true;
  KillGroup(it->second.pid);
}

ProcessUsage PosixLauncher::Usage(WorkerId worker) {
  auto it = processes_.find(worker);
  if (it == processes_.end()) return {};
  // Of procfs: it does not wait for a disk. The second field is the program's name, which may hold anything.
  std::string stat = ReadSmallFile(absl::StrCat("/proc/", it->second.pid, "/stat"));
  std::vector<absl::string_view> fields = absl::StrSplit(stat.substr(stat.rfind(')') + 1), ' ', absl::SkipEmpty());
  // Numbered as in proc(5), where what follows the name is field 3.
  constexpr size_t kUserTime = 14 - 3, kSystemTime = 15 - 3, kResident = 24 - 3;
  uint64_t user = 0, system = 0, pages = 0;
  if (fields.size() <= kResident || !absl::SimpleAtoi(fields[kUserTime], &user) ||
      !absl::SimpleAtoi(fields[kSystemTime], &system) || !absl::SimpleAtoi(fields[kResident], &pages)) {
    return {};
  }
  return {.resident_bytes = pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)),
          .cpu_time = absl::Seconds(static_cast<double>(user + system) / static_cast<double>(sysconf(_SC_CLK_TCK)))};
}

bool PosixLauncher::Owns(pid_t pid) const {
  return std::any_of(processes_.begin(), processes_.end(), [pid](const auto& it) { return it.second.pid == pid; });
}

bool PosixLauncher::TakeOutOfMemoryKill() {
  uint64_t kills = ReadOutOfMemoryKills(oom_file_);
  if (kills <= oom_kills_) return false;
  ++oom_kills_;
  return true;
}

std::vector<std::string> PosixLauncher::Arguments(const WorkerSpec& spec) const {
  const PoolSettings& pool = *spec.pool;
  std::vector<std::string> all = {absl::StrCat(options_.libexec_folder, "/dirty-exec")};
  auto add = [&all](absl::string_view option, const std::string& value) {
    all.emplace_back(option);
    all.push_back(value);
  };
  add("--parent", absl::StrCat(getpid()));
  if (options_.descriptor_limit != 0) add("--nofile", absl::StrCat(options_.descriptor_limit));
  if (pool.oom_score_adj.has_value()) add("--oom-score-adj", absl::StrCat(*pool.oom_score_adj));
  for (const auto& [name, value] : pool.rlimits) add("--rlimit", absl::StrCat(name, "=", value));
  if (!pool.user.empty()) add("--user", pool.user);
  if (!pool.group.empty()) add("--group", pool.group);
  if (!pool.chdir.empty()) add("--chdir", pool.chdir);
  all.emplace_back("--");
  switch (pool.runtime) {
    case WorkerRuntime::kNative:
      all.push_back(absl::StrCat(options_.bin_folder, "/dirty-worker"));
      break;
    case WorkerRuntime::kPython:
      add(pool.python, "-m");
      all.emplace_back("dirty_worker");
      break;
    case WorkerRuntime::kExec:
      all.insert(all.end(), pool.command.begin(), pool.command.end());
      break;
  }
  return all;
}

std::map<std::string, std::string> PosixLauncher::Environment(const WorkerSpec& spec) const {
  const PoolSettings& pool = *spec.pool;
  std::map<std::string, std::string> all;
  for (const std::string& variable : options_.environment) {
    std::pair<std::string, std::string> parts = absl::StrSplit(variable, absl::MaxSplits('=', 1));
    if (!IsForDirtydOnly(parts.first, !pool.user.empty())) all.insert(std::move(parts));
  }
  auto add = [&all, &spec](const std::map<std::string, std::string>& more) {
    for (const auto& [name, value] : more) {
      all[name] = absl::StrReplaceAll(value, {{"{worker_index}", absl::StrCat(spec.index)}});
    }
  };
  add(pool.env);
  for (const AppSettings& app : spec.apps) add(app.env);
  if (pool.runtime == WorkerRuntime::kPython) {
    // What `python -m` would do by itself comes first explicitly: $PYTHONSAFEPATH turns that off.
    std::vector<std::string> folders;
    if (!pool.chdir.empty()) folders.push_back(pool.chdir);
    folders.insert(folders.end(), pool.pythonpath.begin(), pool.pythonpath.end());
    folders.push_back(options_.python_folder);
    if (!all["PYTHONPATH"].empty()) folders.push_back(all["PYTHONPATH"]);
    all["PYTHONPATH"] = absl::StrJoin(folders, ":");
  }
  all["DIRTY_WORKER_SOCKET"] = WorkerSocketPath(options_.runtime_dir, spec.id);
  all["DIRTY_WORKER_ID"] = absl::StrCat(spec.id);
  all["DIRTY_READY_FD"] = absl::StrCat(kReadyFd);
  all["DIRTY_SOCKET"] = options_.client_socket;
  return all;
}

}  // namespace dirty
