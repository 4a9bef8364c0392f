#include "server/supervise/python_hooks.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/loop/check.h"

namespace dirty {
namespace {

constexpr size_t kReadSize = 65536;
// Room for an event, so that writing never waits.
constexpr int kSocketBuffer = 1 << 20;

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  DIRTY_CHECK(status.ok(), "hook");
  return json;
}

}  // namespace

PythonHooks::PythonHooks(Options options, Watcher& watcher, Poster& poster, TimerQueue& timers, Logger& log)
    : options_(std::move(options)),
      watcher_(watcher),
      poster_(poster),
      timers_(timers),
      log_(log),
      started_at_(timers.Now()) {}

PythonHooks::~PythonHooks() { timers_.Cancel(timer_); }

void PythonHooks::Run(const HookSettings& hook, const v1::HookEvent& event, absl::Duration timeout,
                      std::function<void(absl::Status)> done) {
  google::protobuf::Value function;
  function.set_string_value(hook.python);
  jobs_.push_back({.hook = event.hook(),
                   .worker = event.worker().id(),
                   .request = absl::StrCat("{\"function\":", ToJson(function),
                                           ",\"arbiter_age\":", absl::ToDoubleSeconds(timers_.Now() - started_at_),
                                           ",\"event\":", ToJson(event), "}\n"),
                   .timeout = timeout,
                   .done = std::move(done)});
  if (jobs_.size() == 1) StartNext();
}

void PythonHooks::StartNext() {
  if (leaving_) return;
  auto fail = [this](std::string why) { Post([this, why = std::move(why)] { Finish(why); }); };
  if (helper_ == nullptr) {
    if (absl::Status started = StartHelper(); !started.ok()) return fail(std::string(started.message()));
  }
  const std::string& request = jobs_.front().request;
  timed_out_ = false;
  timer_ = timers_.ScheduleIn(jobs_.front().timeout, [this] {
    timer_ = 0;
    timed_out_ = true;
    if (helper_ != nullptr) helper_->Kill();
  });
  // One that is about to die says so by its death. What does not fit means that nobody reads.
  ssize_t sent = send(channel_, request.data(), request.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0 && static_cast<size_t>(sent) < request.size()) helper_->Kill();
}

absl::Status PythonHooks::StartHelper() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make a socket pair");
  }
  UniqueFd ours(fds[0]), childs(fds[1]);
  (void)setsockopt(ours.get(), SOL_SOCKET, SO_SNDBUF, &kSocketBuffer, sizeof kSocketBuffer);
  absl::StatusOr<std::unique_ptr<ChildProcess>> helper =
      ChildProcess::Start({.arguments = Arguments(options_.pool()),
                           .environment = Environment(options_.pool()),
                           .worker = 0,
                           .hook = "python",
                           .input = std::nullopt,
                           .standard_input = std::move(childs),
                           .on_ready = nullptr,
                           .on_gone = nullptr,
                           .on_dead = [this] { OnDead(); }},
                          watcher_, poster_, log_);
  if (!helper.ok()) return helper.status();
  helper_ = *std::move(helper);
  replies_.clear();
  channel_ = ours.get();
  channel_watch_ = watcher_.Watch(
      std::move(ours), EPOLLIN, [this, number = ++helper_number_, alive = std::weak_ptr(alive_)](int fd, uint32_t) {
        char data[kReadSize];
        ssize_t size = recv(fd, data, sizeof data, MSG_DONTWAIT);
        // Its end is told by its death, and the descriptor stays open until then: the loop may still write.
        if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) return Watcher::Next::kPause;
        if (size > 0) {
          poster_.Post([this, number, alive, reply = std::string(data, static_cast<size_t>(size))] {
            if (!alive.expired()) OnReply(number, reply);
          });
        }
        return Watcher::Next::kKeep;
      });
  return absl::OkStatus();
}

std::vector<std::string> PythonHooks::Arguments(const PoolSettings& pool) const {
  std::vector<std::string> all = HelperArguments(options_.libexec_folder, options_.descriptor_limit);
  if (!pool.chdir.empty()) all.insert(all.end(), {"--chdir", pool.chdir});
  all.insert(all.end(), {"--", pool.python, "-m", "dirty_worker.hooks"});
  return all;
}

std::vector<std::string> PythonHooks::Environment(const PoolSettings& pool) const {
  std::map<std::string, std::string> all;
  for (const std::string& variable : options_.environment) {
    std::pair<std::string, std::string> parts = absl::StrSplit(variable, absl::MaxSplits('=', 1));
    if (!IsOfServiceManager(parts.first)) all.insert(std::move(parts));
  }
  for (const auto& [name, value] : pool.env) {
    if (!absl::StrContains(value, "{worker_index}")) all[name] = value;
  }
  all["PYTHONPATH"] = PythonSearchPath(pool, options_.python_folder, all["PYTHONPATH"]);
  all["DIRTY_SOCKET"] = options_.client_socket;
  all["DIRTY_ADMIN_SOCKET"] = options_.admin_socket;
  std::vector<std::string> variables;
  for (const auto& [name, value] : all) variables.push_back(absl::StrCat(name, "=", value));
  return variables;
}

void PythonHooks::OnReply(uint64_t helper, const std::string& data) {
  if (helper != helper_number_ || helper_ == nullptr) return;
  replies_ += data;
  size_t end = replies_.find('\n');
  if (end == std::string::npos || jobs_.empty()) return;
  std::string line = std::exchange(replies_, std::string()).substr(0, end);
  google::protobuf::Struct reply;
  if (!google::protobuf::util::JsonStringToMessage(line, &reply).ok()) return helper_->Kill();
  Finish(reply.fields().contains("error") ? reply.fields().at("error").string_value() : std::string());
}

void PythonHooks::OnDead() {
  ExitStatus status = helper_->Reap();
  std::string failure = helper_->Failure();
  helper_.reset();
  watcher_.Forget(channel_watch_);
  channel_ = -1;
  if (options_.after_reap) options_.after_reap();
  if (std::exchange(leaving_, false)) {
    if (!jobs_.empty()) StartNext();
    return;
  }
  if (jobs_.empty()) return;
  if (failure.empty()) {
    failure = timed_out_ ? absl::StrCat("killed after its timeout of ", absl::FormatDuration(jobs_.front().timeout))
                         : absl::StrCat("the helper ", status.Describe());
    if (!status.last_words.empty()) absl::StrAppend(&failure, ": ", status.last_words);
  }
  Finish(failure);
}

void PythonHooks::Finish(const std::string& failure) {
  timers_.Cancel(timer_);
  timer_ = 0;
  Job job = std::move(jobs_.front());
  jobs_.pop_front();
  absl::Status status;
  if (!failure.empty()) {
    std::string message = absl::StrCat("hook ", job.hook, " failed: ", failure);
    log_.Error(message, {{"hook", job.hook}, {"worker", job.worker == 0 ? "" : absl::StrCat(job.worker)}});
    status = timed_out_ ? absl::DeadlineExceededError(message) : absl::AbortedError(message);
  }
  if (std::exchange(renew_, false)) LetHelperGo();
  // Before `done`, which may ask for more.
  if (!jobs_.empty()) StartNext();
  job.done(std::move(status));
  TellIfIdle();
}

void PythonHooks::Renew() {
  renew_ = !jobs_.empty();
  if (!renew_) LetHelperGo();
}

// OnDead goes on with what waits.
void PythonHooks::LetHelperGo() {
  if (helper_ == nullptr) return;
  leaving_ = true;
  helper_->Kill();
}

void PythonHooks::WhenIdle(std::function<void()> idle) {
  idle_ = std::move(idle);
  Post([this] { TellIfIdle(); });
}

void PythonHooks::TellIfIdle() {
  if (jobs_.empty() && idle_) std::exchange(idle_, nullptr)();
}

void PythonHooks::Post(std::function<void()> work) {
  poster_.Post([alive = std::weak_ptr(alive_), work = std::move(work)] {
    if (!alive.expired()) work();
  });
}

}  // namespace dirty
