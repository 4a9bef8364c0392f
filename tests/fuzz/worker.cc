// Fuzzes the core with hostile workers: the input is a history of callers that submit, cancel and leave, of time that
// passes, and of workers that send any frame at any moment, good ones too, through the real translation of frames. In
// the end everybody behaves: new workers do as they should, and what is left must come to rest, and to an end.
//
// What must be true: one outcome for each call, and one that fits what was done for it; no more chunks than there was
// credit; no slot used twice; counters that add up; errors that fit into a gRPC status; no worker that comes and goes
// without end; nothing left after a shutdown.

#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/arbiter.h"
#include "server/rpc/status.h"
#include "server/supervise/worker_frames.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/core_fakes.h"

namespace dirty {
namespace {

using fuzz::Choices;

constexpr uint32_t kMostCallers = 40;
// Longer than it takes to find a silent worker dead, and to try an app again.
constexpr absl::Duration kRest = absl::Minutes(3);

constexpr const char* kApps[] = {"a", "a", "b", "few", "c", "nobody", ""};
constexpr const char* kNames[] = {"a", "b", "few", "c", "nobody", "", "a b", "\xc3\xa9"};

Settings MakeSettings() {
  auto app = [](const char* name) {
    AppSettings settings = TestApp(name);
    settings.limits.timeout = absl::Seconds(10);
    settings.limits.queue_timeout = absl::Seconds(5);
    settings.limits.queue_size = 4;
    settings.limits.boot_timeout = absl::Seconds(20);
    settings.limits.kill_after = absl::Seconds(1);
    return settings;
  };
  AppSettings few = app("few");
  few.workers = 1;
  AppSettings idle = app("c");
  idle.limits.stream_idle_timeout = absl::Seconds(2);
  idle.limits.max_requests = 5;
  Settings settings = TestSettings({TestPool("p", 2, {app("a"), app("b"), few}), TestPool("q", 1, {idle})});
  settings.pools[0].threads = 2;
  settings.max_message_size = 512;
  settings.heartbeat_interval = absl::Seconds(15);
  settings.restart.max_backoff = absl::Seconds(5);
  return settings;
}

class World final : WorkerLauncher, WorkerLinks, HookRunner, Logger {
 public:
  explicit World(Choices& choices) : choices_(choices), settings_(MakeSettings()) {
    Arbiter::Host host;
    host.on_stopped = [this] { ++stopped_; };
    host.read_settings = [this](auto done) {
      timers_.Schedule(timers_.Now(), [this, done = std::move(done)] { done(settings_); });
    };
    arbiter_ = std::make_unique<Arbiter>(
        Arbiter::World{.timers = timers_, .launcher = *this, .links = *this, .hooks = *this, .log = *this},
        Arbiter::Options{.version = "1", .pid = 1, .id_prefix = "f-", .chance = [] { return 0.5; }}, std::move(host));
  }

  void Live() {
    arbiter_->Start(settings_);
    for (int step = 1; !choices_.empty(); ++step) {
      Step();
      timers_.RunDue();
      if (step % 8 == 0) CheckStatus();
    }
    CheckStatus();
    Rest();
    End();
  }

 private:
  class Caller;
  struct Process;

  // WorkerLauncher
  absl::StatusOr<pid_t> Launch(const WorkerSpec& spec) override;
  void Kill(WorkerId id) override;
  ProcessUsage Usage(WorkerId) override { return {.resident_bytes = 1 << 20, .cpu_time = {}}; }

  // WorkerLinks
  void Open(const WorkerSpec& spec) override;
  void Ping(WorkerId id, uint64_t sequence) override;
  void Drain(WorkerId id) override;
  void DumpStacks(WorkerId, uint64_t) override {}
  void ReopenLogs(WorkerId) override {}
  WorkerPort* Port(WorkerId id) override;
  void Close(WorkerId id) override;

  // HookRunner, Logger
  void Run(const HookSettings&, const v1::HookEvent&, absl::Duration, std::function<void(absl::Status)>) override {}
  void Log(LogLevel, absl::string_view, std::initializer_list<LogField>) override {}
  bool Enabled(LogLevel) const override { return true; }

  void Step();
  void Submit();
  void Operate();
  void Send(WorkerId id, v1::WorkerFrame frame);
  void SendHostile(WorkerId id);
  void FillError(v1::Error& error);
  uint64_t SomeCall(WorkerId id);
  v1::WorkerFrame Frame(const std::function<void(v1::WorkerFrame&)>& fill);
  void Behave();
  void BootWell(WorkerId id);
  void EndCalls(WorkerId id);
  void Exit(WorkerId id, int code, int signal);
  void Advance(absl::Duration by);
  void Rest();
  void End();
  void CheckStatus();
  bool HasFailedApp(const v1::StatusResponse& status) const;

  Process* Some();
  Caller* SomeCaller();

  Choices& choices_;
  FakeClock clock_;
  TimerQueue timers_{clock_};
  Settings settings_;
  std::map<WorkerId, std::unique_ptr<Process>> processes_;
  std::vector<std::unique_ptr<Caller>> callers_;
  std::map<std::string, uint64_t> received_;
  std::set<CallNumber> started_;  // ever
  uint64_t launches_ = 0;
  int stopped_ = 0;
  bool behave_ = false;       // from now on everybody does
  bool own_workers_ = false;  // a worker said how many workers an app wants
  std::unique_ptr<Arbiter> arbiter_;
};

// One call as its caller sees it.
class World::Caller final : public CallListener {
 public:
  explicit Caller(World& of) : world(of) {}

  void OnChunk(std::unique_ptr<v1::Chunk> chunk) override {
    FUZZ_EXPECT(chunk != nullptr && stream && !done && !left, "a chunk that nobody waits for");
    FUZZ_EXPECT(credit-- > 0, "a chunk without credit");
  }
  void OnDone(Outcome outcome) override {
    FUZZ_EXPECT(!left && !std::exchange(done, true), "call ", number, " ends twice");
    FUZZ_EXPECT((outcome.response == nullptr) != (outcome.error == nullptr), "call ", number);
    const bool started = world.started_.contains(number);
    if (outcome.response != nullptr) {
      FUZZ_EXPECT(started, "call ", number, " never started and has a result");
      return;
    }
    const v1::Error& error = *outcome.error;
    FUZZ_EXPECT(v1::Reason_IsValid(error.reason()) && error.reason() != v1::REASON_UNSPECIFIED, error.reason());
    const bool of_running = error.reason() == v1::REASON_WORKER_LOST || error.reason() == v1::REASON_TIMEOUT ||
                            error.reason() == v1::REASON_APP_ERROR;
    FUZZ_EXPECT(!of_running || started, "call ", number, " never started: ", error.ShortDebugString());
    const bool of_waiting = error.reason() == v1::REASON_QUEUE_TIMEOUT || error.reason() == v1::REASON_NO_WORKERS ||
                            error.reason() == v1::REASON_APP_NOT_FOUND || error.reason() == v1::REASON_QUEUE_FULL ||
                            error.reason() == v1::REASON_SHUTTING_DOWN;
    FUZZ_EXPECT(!of_waiting || !started, "call ", number, " had started: ", error.ShortDebugString());
    FUZZ_EXPECT(error.call_id() == absl::StrCat("f-", number), error.ShortDebugString());
    const grpc::Status status = ToStatus(error);
    FUZZ_EXPECT(status.error_message().size() <= kMaxStatusText, status.error_message());
    FUZZ_EXPECT(status.error_details().size() <= kMaxDetails, status.error_details().size(), " bytes of details");
  }

  World& world;
  CallNumber number = 0;
  bool stream = false;
  bool done = false;
  bool left = false;
  uint64_t credit = 0;
};

struct World::Process final : WorkerPort {
  Process(World& of, const WorkerSpec& its) : world(of), spec(its) {}

  // WorkerPort
  void Start(std::unique_ptr<v1::StartCall> start) override {
    FUZZ_EXPECT(start->call() != 0 && world.started_.insert(start->call()).second, "call ", start->call(),
                " is started twice");
    FUZZ_EXPECT(!broken && !closed, "call ", start->call(), " is started on a link that is broken");
    running.push_back(start->call());
    FUZZ_EXPECT(running.size() <= spec.pool->threads, "a slot is used twice");
  }
  void Cancel(CallNumber, v1::CancelReason) override {}
  void Credit(CallNumber, uint32_t) override {}

  World& world;
  const WorkerSpec spec;
  std::unique_ptr<WorkerFrames> frames;  // once its link is open
  std::vector<CallNumber> running;
  bool listening = false;
  bool draining = false;
  bool broken = false;
  bool ended = false;  // its link is at an end: no frame comes
  bool closed = false;
  bool killed = false;
};

// --- What the core asks for ---

absl::StatusOr<pid_t> World::Launch(const WorkerSpec& spec) {
  ++launches_;
  FUZZ_EXPECT(processes_.emplace(spec.id, std::make_unique<Process>(*this, spec)).second, "worker ", spec.id);
  return static_cast<pid_t>(1000 + spec.id);
}

void World::Kill(WorkerId id) {
  auto it = processes_.find(id);
  if (it != processes_.end()) it->second->killed = true;
}

void World::Open(const WorkerSpec& spec) {
  Process& process = *processes_.at(spec.id);
  FUZZ_EXPECT(process.frames == nullptr, "a worker is attached twice");
  process.frames = std::make_unique<WorkerFrames>(spec.id, arbiter_->supervisor(), arbiter_->dispatcher());
}

void World::Ping(WorkerId id, uint64_t sequence) {
  if (!behave_) return;
  timers_.Schedule(timers_.Now(), [this, id, sequence] {
    Send(id, Frame([&](v1::WorkerFrame& frame) { frame.mutable_pong()->set_sequence(sequence); }));
  });
}

void World::Drain(WorkerId id) { processes_.at(id)->draining = true; }

WorkerPort* World::Port(WorkerId id) { return processes_.at(id).get(); }

void World::Close(WorkerId id) {
  auto it = processes_.find(id);
  if (it != processes_.end()) it->second->closed = true;
}

// --- What happens ---

void World::Step() {
  static constexpr absl::Duration kTimes[] = {absl::ZeroDuration(), absl::Milliseconds(1), absl::Milliseconds(100),
                                              absl::Seconds(1),     absl::Seconds(3),      absl::Seconds(6),
                                              absl::Seconds(30),    absl::Minutes(3)};
  Process* process = nullptr;
  switch (choices_.Below(16)) {
    case 0:
    case 1:
      return Submit();
    case 2:
      if (Caller* caller = SomeCaller()) arbiter_->dispatcher().CancelByCaller(caller->number);
      return;
    case 3:
      if (Caller* caller = SomeCaller(); caller != nullptr && !caller->done) {
        caller->left = true;
        arbiter_->dispatcher().Abandon(caller->number);
      }
      return;
    case 4:
      if (Caller* caller = SomeCaller()) {
        const auto chunks = static_cast<uint32_t>(choices_.Number());
        if (caller->stream) caller->credit += chunks;
        arbiter_->dispatcher().Credit(caller->number, chunks);
      }
      return;
    case 5:
      return Operate();
    case 6:
    case 7:
      return Advance(choices_.OneOf(kTimes));
    case 8:
      if ((process = Some()) != nullptr) BootWell(process->spec.id);
      return;
    case 9:
      if ((process = Some()) != nullptr) EndCalls(process->spec.id);
      return;
    case 10:
      if ((process = Some()) == nullptr) return;
      if (process->frames != nullptr && !process->broken && choices_.Below(2) == 0) {
        process->broken = process->ended = true;
        return arbiter_->supervisor().OnLinkBroken(process->spec.id, "reset");
      }
      return Exit(process->spec.id, choices_.Below(3), choices_.Below(2) == 0 ? 9 : 0);
    default:
      if ((process = Some()) != nullptr) SendHostile(process->spec.id);
  }
}

void World::Submit() {
  if (callers_.size() == kMostCallers) return;
  auto caller = std::make_unique<Caller>(*this);
  Submission submission = MakeSubmission(*caller, choices_.OneOf(kApps));
  const uint8_t kind = choices_.Byte();
  caller->stream = submission.stream = (kind & 1) != 0;
  if (caller->stream) submission.credits = static_cast<uint32_t>(choices_.Number());
  caller->credit = submission.credits == 0 ? 16 : submission.credits;  // the dispatcher gives some
  if ((kind & 6) == 6) {
    submission.request->mutable_timeout()->set_seconds(static_cast<int64_t>(choices_.Number()));
    submission.request->mutable_timeout()->set_nanos(static_cast<int32_t>(choices_.Number()));
  }
  if ((kind & 24) == 24) submission.client_deadline = timers_.Now() + absl::Seconds(choices_.Below(8));
  if ((kind & 96) == 96) submission.request->set_args(std::string(600, ' '));
  if ((kind & 128) != 0) submission.request->set_request_id(std::string(300, 'r'));
  ++received_[submission.request->app()];
  Admission admission = arbiter_->dispatcher().Submit(std::move(submission));
  FUZZ_EXPECT((admission.call == 0) == (admission.refused != nullptr), admission.call);
  if (admission.refused != nullptr) return;
  caller->number = admission.call;
  callers_.push_back(std::move(caller));
}

void World::Operate() {
  switch (choices_.Below(5)) {
    case 0: {
      v1::ScaleRequest request;
      request.set_pool(choices_.Below(2) == 0 ? "p" : "q");
      request.set_workers(choices_.Below(4));
      (void)arbiter_->Scale(request);
      return;
    }
    case 1:
      return arbiter_->Reload({}, "fuzz", [](const auto&) {});
    case 2: {
      v1::RestartRequest request;
      request.set_worker_id(choices_.Below(8));
      return arbiter_->Restart(request, [](const auto&) {});
    }
    case 3: {
      v1::CancelRequest request;
      request.set_call_id(absl::StrCat("f-", choices_.Below(64)));
      (void)arbiter_->Cancel(request);
      return;
    }
    default:
      settings_.pools[0].surge ^= 1;
      return arbiter_->Reload({}, "fuzz", [](const auto&) {});
  }
}

// --- What workers do ---

World::Process* World::Some() {
  if (processes_.empty()) return nullptr;
  return std::next(processes_.begin(), choices_.Below(static_cast<uint32_t>(processes_.size())))->second.get();
}

World::Caller* World::SomeCaller() {
  return callers_.empty() ? nullptr : callers_[choices_.Below(static_cast<uint32_t>(callers_.size()))].get();
}

v1::WorkerFrame World::Frame(const std::function<void(v1::WorkerFrame&)>& fill) {
  v1::WorkerFrame frame;
  fill(frame);
  return frame;
}

// As the link does it.
void World::Send(WorkerId id, v1::WorkerFrame frame) {
  auto it = processes_.find(id);
  if (it == processes_.end() || it->second->frames == nullptr) return;
  Process& process = *it->second;
  if (process.ended || process.closed) return;
  if (frame.has_done()) std::erase(process.running, frame.done().call());
  if (frame.app_ready().workers() > 0 || frame.app_skipped().workers() > 0) own_workers_ = true;
  const absl::Status status = process.frames->Handle(frame);
  if (status.ok()) return;
  process.broken = true;
  arbiter_->supervisor().OnLinkBroken(id, std::string(status.message()));
}

// One that it runs, one of another, or any number.
uint64_t World::SomeCall(WorkerId id) {
  const std::vector<CallNumber>& running = processes_.at(id)->running;
  switch (choices_.Below(4)) {
    case 0:
    case 1:
      return running.empty() ? 0 : running[choices_.Below(static_cast<uint32_t>(running.size()))];
    case 2:
      return callers_.empty() ? 0 : SomeCaller()->number;
    default:
      return choices_.Number();
  }
}

void World::FillError(v1::Error& error) {
  const uint8_t kind = choices_.Byte();
  error.set_reason(static_cast<v1::Reason>(choices_.Number()));
  if ((kind & 1) != 0) error.set_message(std::string(choices_.Number() % 400, 'm') + "\xe2\x82\xac");
  if ((kind & 2) != 0) error.set_traceback(std::string(choices_.Number() % 600, 't'));
  if ((kind & 4) != 0) error.set_call_id("f-1");
  if ((kind & 8) != 0) error.mutable_retry_delay()->set_seconds(static_cast<int64_t>(choices_.Number()));
  if ((kind & 16) != 0) error.mutable_timeout()->set_nanos(static_cast<int32_t>(choices_.Number()));
  if ((kind & 32) != 0) error.set_exit_code(static_cast<int32_t>(choices_.Number()));
  if ((kind & 64) != 0) error.set_exception_type(std::string(choices_.Number() % 400, 'e'));
  for (uint32_t i = 0; (kind & 128) != 0 && i < 40; ++i) error.add_stderr_tail(std::string(20, '\x01'));
}

void World::SendHostile(WorkerId id) {
  v1::WorkerFrame frame;
  switch (choices_.Below(11)) {
    case 0:
      frame.mutable_hello()->set_protocol_version(choices_.Below(3));
      break;
    case 1:
      frame.mutable_app_starting()->set_app(choices_.OneOf(kNames));
      break;
    case 2:
      frame.mutable_app_ready()->set_app(choices_.OneOf(kNames));
      frame.mutable_app_ready()->set_workers(static_cast<uint32_t>(choices_.Number()));
      frame.mutable_app_ready()->mutable_init_time()->set_seconds(static_cast<int64_t>(choices_.Number()));
      break;
    case 3:
      frame.mutable_app_failed()->set_app(choices_.OneOf(kNames));
      FillError(*frame.mutable_app_failed()->mutable_error());
      break;
    case 4:
      frame.mutable_app_skipped()->set_app(choices_.OneOf(kNames));
      frame.mutable_app_skipped()->set_workers(static_cast<uint32_t>(choices_.Number()));
      break;
    case 5:
      frame.mutable_ready();
      break;
    case 6:
      frame.mutable_pong()->set_sequence(choices_.Number());
      break;
    case 7:
      frame.mutable_done()->set_call(SomeCall(id));
      if (const uint8_t kind = choices_.Byte(); (kind & 3) == 1) {
        FillError(*frame.mutable_done()->mutable_error());
      } else if ((kind & 3) == 2) {
        frame.mutable_done()->mutable_response()->set_result("1");
        frame.mutable_done()->mutable_response()->set_call_id("mine");
        if ((kind & 12) == 12) frame.mutable_done()->mutable_response()->add_attachments(std::string(2 << 20, 'a'));
      }
      break;
    case 8:
      frame.mutable_chunk()->set_call(SomeCall(id));
      if (const uint8_t kind = choices_.Byte(); (kind & 1) == 1) {
        frame.mutable_chunk()->mutable_chunk()->set_value("1");
        if ((kind & 12) == 12) frame.mutable_chunk()->mutable_chunk()->add_attachments(std::string(2 << 20, 'a'));
      }
      break;
    default:
      // Whatever Protocol Buffers take; what they do not, ends the stream.
      if (const std::string bytes = choices_.Bytes(); !frame.ParseFromString(bytes)) {
        Process& process = *processes_.at(id);
        if (process.frames == nullptr || std::exchange(process.ended, true)) return;
        process.broken = true;
        return arbiter_->supervisor().OnLinkBroken(id, "a frame that cannot be parsed");
      }
  }
  Send(id, std::move(frame));
}

void World::BootWell(WorkerId id) {
  Process& process = *processes_.at(id);
  if (!std::exchange(process.listening, true)) arbiter_->supervisor().OnListening(id);
  if (process.frames == nullptr) return;
  Send(id, Frame([](v1::WorkerFrame& frame) { frame.mutable_hello()->set_protocol_version(1); }));
  for (const AppSettings& app : process.spec.apps) {
    Send(id, Frame([&](v1::WorkerFrame& frame) { frame.mutable_app_starting()->set_app(app.name); }));
    Send(id, Frame([&](v1::WorkerFrame& frame) { frame.mutable_app_ready()->set_app(app.name); }));
  }
  Send(id, Frame([](v1::WorkerFrame& frame) { frame.mutable_ready(); }));
}

void World::EndCalls(WorkerId id) {
  for (CallNumber call : std::vector<CallNumber>(processes_.at(id)->running)) {
    Send(id, Frame([&](v1::WorkerFrame& frame) {
           frame.mutable_done()->set_call(call);
           frame.mutable_done()->mutable_response()->set_result("1");
         }));
  }
}

void World::Exit(WorkerId id, int code, int signal) {
  const std::unique_ptr<Process> gone = std::move(processes_.at(id));  // its port is valid until Close
  processes_.erase(id);
  gone->closed = true;
  ExitStatus status;
  if (signal != 0) {
    status.signal = signal;
  } else {
    status.exit_code = code;
  }
  status.stderr_tail.assign(2, status.last_words = "last words");
  arbiter_->supervisor().OnExit(id, status);
}

// --- The end ---

// What workers that do as they should do now. Those that said something wrong before are left to the supervisor.
void World::Behave() {
  std::vector<WorkerId> ids;
  for (const auto& [id, process] : processes_) ids.push_back(id);
  for (WorkerId id : ids) {
    auto it = processes_.find(id);
    if (it == processes_.end()) continue;
    Process& process = *it->second;
    if (process.killed || process.closed) {
      Exit(id, 0, 9);
    } else if (process.broken) {
      continue;
    } else if (!process.listening) {
      BootWell(id);
    } else if (!process.running.empty()) {
      EndCalls(id);
    } else if (process.draining) {
      Exit(id, 0, 0);
    }
  }
}

void World::Advance(absl::Duration by) {
  const absl::Time end = timers_.Now() + by;
  timers_.RunDue();
  for (;;) {
    if (behave_) Behave();
    if (timers_.NextDeadline() > end) break;
    clock_.Set(std::max(clock_.Now(), timers_.NextDeadline()));
    timers_.RunDue();
  }
  clock_.Set(end);
}

void World::Rest() {
  behave_ = true;
  Advance(kRest);
  const uint64_t launches = launches_;
  Advance(kRest);
  FUZZ_EXPECT(launches_ == launches, launches_ - launches, " workers come and go although nothing happens");
  CheckStatus();
  const v1::StatusResponse status = arbiter_->Status();
  for (const auto& caller : callers_) FUZZ_EXPECT(caller->done || caller->left, "call ", caller->number, " has no end");
  for (const auto& [id, process] : processes_) FUZZ_EXPECT(process->running.empty(), "a slot of worker ", id);
  if (own_workers_ || HasFailedApp(status)) return;
  for (const v1::PoolStatus& pool : status.pools()) {
    const auto ready = std::count_if(status.workers().begin(), status.workers().end(), [&](const auto& worker) {
      return worker.pool() == pool.name() && worker.state() == v1::WorkerStatus::READY;
    });
    FUZZ_EXPECT(ready == pool.desired_workers(), pool.name(), " has ", ready, " of ", pool.desired_workers());
  }
}

bool World::HasFailedApp(const v1::StatusResponse& status) const {
  return std::any_of(status.apps().begin(), status.apps().end(),
                     [](const v1::AppStatus& app) { return app.state() == v1::AppStatus::FAILED; });
}

void World::End() {
  for (int i = 0; i < 6; ++i) Submit();
  arbiter_->Shutdown(/*immediate=*/false, "the end");
  Advance(kRest);
  FUZZ_EXPECT(stopped_ == 1, stopped_, " ends");
  FUZZ_EXPECT(processes_.empty(), processes_.size(), " processes are left");
  for (const auto& caller : callers_) FUZZ_EXPECT(caller->done || caller->left, "call ", caller->number, " has no end");
}

void World::CheckStatus() {
  const v1::StatusResponse status = arbiter_->Status();
  for (const v1::AppStatus& app : status.apps()) {
    const v1::Counters& counters = app.counters();
    uint64_t outcomes = 0;
    for (int i = 0; i < v1::Counters::descriptor()->field_count(); ++i) {
      const auto* field = v1::Counters::descriptor()->field(i);
      if (field->name() != "received") outcomes += v1::Counters::GetReflection()->GetUInt64(counters, field);
    }
    FUZZ_EXPECT(counters.received() == app.queued() + app.running() + outcomes, app.ShortDebugString());
    FUZZ_EXPECT(counters.received() == received_[app.name()], app.ShortDebugString());
  }
  FUZZ_EXPECT(status.workers_size() == static_cast<int>(processes_.size()), status.workers_size(), " workers");
  std::string bytes;
  FUZZ_EXPECT(status.SerializeToString(&bytes) && v1::StatusResponse().ParseFromString(bytes), "Status is not UTF-8");
}

}  // namespace
}  // namespace dirty

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  google::protobuf::SetLogHandler(nullptr);  // texts that are no UTF-8 are nothing to tell here
  dirty::fuzz::Choices choices(data, size);
  dirty::World(choices).Live();
  return 0;
}
