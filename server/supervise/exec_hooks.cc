#include "server/supervise/exec_hooks.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/loop/check.h"

namespace dirty {
namespace {

// As `dirtyctl status --json`: the names of the .proto, defaults printed.
std::string ToJsonLine(const v1::HookEvent& event) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  auto status = google::protobuf::util::MessageToJsonString(event, &json, options);
  DIRTY_CHECK(status.ok(), "hook ", event.hook());
  return json + "\n";
}

}  // namespace

ExecHooks::ExecHooks(Options options, Watcher& watcher, Poster& poster, TimerQueue& timers, Logger& log)
    : options_(std::move(options)), watcher_(watcher), poster_(poster), timers_(timers), log_(log) {
  for (const std::string& variable : options_.environment) {
    std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(variable, absl::MaxSplits('=', 1));
    if (IsOfServiceManager(parts.first) || parts.first == "DIRTY_SOCKET" || parts.first == "DIRTY_ADMIN_SOCKET")
      continue;
    environment_.push_back(variable);
  }
  environment_.push_back(absl::StrCat("DIRTY_SOCKET=", options_.client_socket));
  environment_.push_back(absl::StrCat("DIRTY_ADMIN_SOCKET=", options_.admin_socket));
}

ExecHooks::~ExecHooks() {
  for (auto& [worker, jobs] : jobs_) {
    timers_.Cancel(jobs.front().timer);
    if (jobs.front().process != nullptr) jobs.front().process->Kill();  // all of them, before the first is waited for
  }
}

void ExecHooks::Run(const HookSettings& hook, const v1::HookEvent& event, absl::Duration timeout,
                    std::function<void(absl::Status)> done) {
  DIRTY_CHECK(!hook.exec.empty(), "hook ", event.hook());
  Job job{.hook = event.hook(),
          .command = hook.exec,
          .input = ToJsonLine(event),
          .timeout = timeout,
          .done = std::move(done),
          .process = nullptr};
  WorkerId worker = event.worker().id();
  Jobs& jobs = jobs_[worker];
  jobs.push_back(std::move(job));
  if (jobs.size() == 1) StartNext(worker);
}

void ExecHooks::StartNext(WorkerId worker) {
  Job& job = jobs_[worker].front();
  auto fail = [this, worker](std::string why) { Post([this, worker, why = std::move(why)] { Finish(worker, why); }); };
  std::vector<std::string> arguments = HelperArguments(options_.libexec_folder, options_.descriptor_limit);
  arguments.emplace_back("--");
  arguments.insert(arguments.end(), job.command.begin(), job.command.end());
  absl::StatusOr<std::unique_ptr<ChildProcess>> process =
      ChildProcess::Start({.arguments = std::move(arguments),
                           .environment = environment_,
                           .worker = worker,
                           .hook = job.hook,
                           .input = std::move(job.input),
                           .on_ready = nullptr,
                           .on_gone = nullptr,
                           .on_dead = [this, worker] { OnDead(worker); }},
                          watcher_, poster_, log_);
  if (!process.ok()) return fail(std::string(process.status().message()));
  job.process = *std::move(process);
  job.timer = timers_.ScheduleIn(job.timeout, [this, worker] {
    Job& late = jobs_[worker].front();
    late.timed_out = true;
    late.process->Kill();
  });
}

void ExecHooks::OnDead(WorkerId worker) {
  Job& job = jobs_[worker].front();
  timers_.Cancel(job.timer);
  ExitStatus status = job.process->Reap();
  std::string failure = job.process->Failure();
  if (failure.empty() && status.exit_code != 0) {
    failure = job.timed_out ? absl::StrCat("killed after its timeout of ", absl::FormatDuration(job.timeout))
                            : status.Describe();
    if (!status.last_words.empty()) absl::StrAppend(&failure, ": ", status.last_words);
  }
  job.process.reset();
  if (options_.after_reap) options_.after_reap();
  Finish(worker, failure);
}

void ExecHooks::Finish(WorkerId worker, const std::string& failure) {
  auto it = jobs_.find(worker);
  DIRTY_CHECK(it != jobs_.end(), "worker ", worker);
  Job job = std::move(it->second.front());
  it->second.pop_front();
  bool more = !it->second.empty();
  if (!more) jobs_.erase(it);
  absl::Status status;
  if (!failure.empty()) {
    std::string message = absl::StrCat("hook ", job.hook, " failed: ", failure);
    if (worker != 0) {
      log_.Error(message, {{"hook", job.hook}, {"worker", absl::StrCat(worker)}});
    } else {
      log_.Error(message, {{"hook", job.hook}});
    }
    status = job.timed_out ? absl::DeadlineExceededError(message) : absl::AbortedError(message);
  }
  // Before `done`, which may ask for more.
  if (more) StartNext(worker);
  job.done(std::move(status));
  TellIfIdle();
}

void ExecHooks::WhenIdle(std::function<void()> idle) {
  idle_ = std::move(idle);
  Post([this] { TellIfIdle(); });
}

void ExecHooks::TellIfIdle() {
  if (jobs_.empty() && idle_) std::exchange(idle_, nullptr)();
}

void ExecHooks::Post(std::function<void()> work) {
  poster_.Post([alive = std::weak_ptr(alive_), work = std::move(work)] {
    if (!alive.expired()) work();
  });
}

bool ExecHooks::Owns(pid_t pid) const {
  return std::any_of(jobs_.begin(), jobs_.end(), [pid](const auto& it) {
    return it.second.front().process != nullptr && it.second.front().process->pid() == pid;
  });
}

}  // namespace dirty
