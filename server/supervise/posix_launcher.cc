#include "server/supervise/posix_launcher.h"

#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "server/loop/check.h"
#include "server/spawn/exec.h"
#include "server/supervise/workers_directory.h"

namespace dirty {
namespace {

// Variables that only a worker's own user has.
bool IsOfUser(absl::string_view name) { return name == "HOME" || name == "USER" || name == "LOGNAME"; }

}  // namespace

PosixLauncher::PosixLauncher(Options options, Watcher& watcher, Poster& poster, Logger& log)
    : options_(std::move(options)),
      watcher_(watcher),
      poster_(poster),
      log_(log),
      control_groups_(options_.control_groups) {}

PosixLauncher::~PosixLauncher() {
  for (auto& [worker, process] : processes_) process->Kill();
  for (auto& [worker, process] : processes_) {
    process.reset();
    (void)unlink(WorkerSocketPath(options_.runtime_dir, worker).c_str());
  }
}

absl::StatusOr<pid_t> PosixLauncher::Launch(const WorkerSpec& spec) {
  DIRTY_CHECK(events_ != nullptr && !processes_.contains(spec.id), "worker ", spec.id);
  WorkerId worker = spec.id;
  absl::StatusOr<std::string> control_group = control_groups_.Make(worker, spec.pool->memory_limit);
  if (!control_group.ok()) return control_group.status();
  absl::StatusOr<std::unique_ptr<ChildProcess>> process = ChildProcess::Start(
      {.arguments = Arguments(spec, *control_group),
       .environment = Environment(spec),
       .worker = worker,
       .hook = "",
       .input = std::nullopt,
       .on_ready = [this, worker] { events_->OnListening(worker); },
       .on_gone = [path = WorkerSocketPath(options_.runtime_dir, worker)] { (void)unlink(path.c_str()); },
       .on_dead = [this, worker] { OnDead(worker); }},
      watcher_, poster_, log_);
  if (!process.ok()) {
    RemoveControlGroup(worker);
    return process.status();
  }
  pid_t pid = (*process)->pid();
  processes_[worker] = *std::move(process);
  return pid;
}

void PosixLauncher::OnDead(WorkerId worker) {
  auto it = processes_.find(worker);
  DIRTY_CHECK(it != processes_.end(), "worker ", worker);
  std::unique_ptr<ChildProcess> process = std::move(it->second);
  processes_.erase(it);
  ExitStatus status = process->Reap();
  status.out_of_memory = status.signal == SIGKILL && !process->killed() && control_groups_.TakeOutOfMemoryKill(worker);
  RemoveControlGroup(worker);
  if (options_.after_reap) options_.after_reap();
  events_->OnExit(worker, status);
}

void PosixLauncher::RemoveControlGroup(WorkerId worker) {
  for (UniqueFd& ending : control_groups_.Remove(worker)) {
    watcher_.Watch(std::move(ending), EPOLLIN, [this, &poster = poster_, alive = std::weak_ptr(alive_)](int, uint32_t) {
      poster.Post([this, alive] {
        if (!alive.expired()) control_groups_.Sweep();
      });
      return Watcher::Next::kClose;
    });
  }
}

void PosixLauncher::Kill(WorkerId worker) {
  auto it = processes_.find(worker);
  if (it == processes_.end()) return;
  it->second->Kill();
  control_groups_.Kill(worker);
}

ProcessUsage PosixLauncher::Usage(WorkerId worker) {
  auto it = processes_.find(worker);
  if (it == processes_.end()) return {};
  // Of procfs: it does not wait for a disk. The second field is the program's name, which may hold anything.
  std::string stat = ReadKernelFile(absl::StrCat("/proc/", it->second->pid(), "/stat"));
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
  return std::any_of(processes_.begin(), processes_.end(), [pid](const auto& it) { return it.second->pid() == pid; });
}

std::vector<std::string> PosixLauncher::Arguments(const WorkerSpec& spec, const std::string& control_group) const {
  const PoolSettings& pool = *spec.pool;
  std::vector<std::string> all = HelperArguments(options_.libexec_folder, options_.descriptor_limit);
  auto add = [&all](absl::string_view option, const std::string& value) {
    all.emplace_back(option);
    all.push_back(value);
  };
  if (!control_group.empty()) add("--cgroup", control_group);
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

std::vector<std::string> PosixLauncher::Environment(const WorkerSpec& spec) const {
  const PoolSettings& pool = *spec.pool;
  const bool other_user = !pool.user.empty();
  std::map<std::string, std::string> all;
  for (const std::string& variable : options_.environment) {
    std::pair<std::string, std::string> parts = absl::StrSplit(variable, absl::MaxSplits('=', 1));
    if (!IsOfServiceManager(parts.first) && !(other_user && IsOfUser(parts.first))) all.insert(std::move(parts));
  }
  auto add = [&all, &spec](const std::map<std::string, std::string>& more) {
    for (const auto& [name, value] : more) {
      all[name] = absl::StrReplaceAll(value, {{"{worker_index}", absl::StrCat(spec.index)}});
    }
  };
  add(pool.env);
  for (const AppSettings& app : spec.apps) add(app.env);
  if (pool.runtime == WorkerRuntime::kPython) {
    all["PYTHONPATH"] = PythonSearchPath(pool, options_.python_folder, all["PYTHONPATH"]);
  }
  all["DIRTY_WORKER_SOCKET"] = WorkerSocketPath(options_.runtime_dir, spec.id);
  all["DIRTY_WORKER_ID"] = absl::StrCat(spec.id);
  all["DIRTY_READY_FD"] = absl::StrCat(kReadyFd);
  all["DIRTY_SOCKET"] = options_.client_socket;
  std::vector<std::string> variables;
  for (const auto& [name, value] : all) variables.push_back(absl::StrCat(name, "=", value));
  return variables;
}

}  // namespace dirty
