#include "tests/simulation/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/dispatch/proto_time.h"

namespace dirty::simulation {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(10);
constexpr absl::Duration kQueueTimeout = absl::Seconds(5);
constexpr uint32_t kQueueSize = 8;
constexpr absl::Duration kGrace = absl::Seconds(20);
// After its deadline a call that ignores it is killed after one second, and its process dumps stacks for one more.
constexpr absl::Duration kKillAfter = absl::Seconds(1);
// A worker may be found dead only by its heartbeat, an app is retried after half a minute at most.
constexpr absl::Duration kRest = absl::Minutes(10);

AppSettings SimulatedApp(const std::string& name) {
  AppSettings app = TestApp(name);
  app.limits.timeout = kTimeout;
  app.limits.queue_timeout = kQueueTimeout;
  app.limits.queue_size = kQueueSize;
  app.limits.boot_timeout = absl::Seconds(20);
  app.limits.kill_after = kKillAfter;
  return app;
}

}  // namespace

// One call, as whoever made it sees it.
class World::Caller final : public CallListener {
 public:
  Caller(World& of, std::string called) : world(of), name(std::move(called)) {}

  void OnChunk(std::unique_ptr<v1::Chunk> chunk) override {
    if (!started || left) return world.Wrong(absl::StrCat(name, " got a chunk that nobody waits for"));
    if (chunk->value() != absl::StrCat(chunks)) world.Wrong(absl::StrCat(name, " got chunk ", chunk->value()));
    ++chunks;
  }

  void OnDone(Outcome outcome) override {
    if (left) return world.Wrong(absl::StrCat(name, " has left and is told of an end"));
    const absl::Time now = world.timers_.Now();
    if (outcome.response != nullptr) {
      ++world.figures_.outcomes["ok"];
      if (!started) world.Wrong(absl::StrCat(name, " never started and has a result"));
      if (!stream && outcome.response->result() != name) world.Wrong(absl::StrCat(name, " got another call's result"));
      if (stream && static_cast<uint32_t>(chunks) != values) world.Wrong(absl::StrCat(name, " misses chunks"));
    } else {
      const v1::Reason reason = outcome.error->reason();
      ++world.figures_.outcomes[v1::Reason_Name(reason)];
      const bool fits_waiting = reason == v1::REASON_QUEUE_TIMEOUT || reason == v1::REASON_NO_WORKERS ||
                                reason == v1::REASON_APP_NOT_FOUND || reason == v1::REASON_SHUTTING_DOWN;
      const bool fits_running =
          reason == v1::REASON_TIMEOUT || reason == v1::REASON_APP_ERROR || reason == v1::REASON_WORKER_LOST;
      const bool cancelled = reason == v1::REASON_CANCELLED && (asked || stream);
      if (!cancelled && !(started ? fits_running : fits_waiting)) {
        world.Wrong(
            absl::StrCat(name, started ? " was started" : " was never started", " and got ", v1::Reason_Name(reason)));
      }
      if (reason == v1::REASON_QUEUE_TIMEOUT && now != wait_until && !TooLateToStart(now)) {
        world.Wrong(absl::StrCat(name, now > wait_until ? " waited too long" : " was given up too early"));
      }
      if (reason == v1::REASON_TIMEOUT && now != run_until) world.Wrong(absl::StrCat(name, " ran too long"));
    }
    world.Forget(*this);
  }

  // Whether it may be given up when its turn comes: it has waited, and some of its caller's time is gone.
  bool TooLateToStart(absl::Time now) const {
    return sent < now && now < caller_until && caller_until < absl::InfiniteFuture();
  }

  World& world;
  const std::string name;  // its request_id, and its result
  std::string app;
  CallNumber number = 0;
  std::string call_id;
  bool stream = false;
  bool started = false;
  bool asked = false;  // to be cancelled
  bool left = false;
  uint32_t values = 0;  // chunks that the app makes
  int chunks = 0;
  absl::Time sent, caller_until, wait_until, run_until;
};

class World::LinkPort final : public WorkerPort {
 public:
  LinkPort(World& world, WorkerId id) : world_(world), id_(id) {}
  void Start(std::unique_ptr<v1::StartCall> start) override { world_.Begin(id_, std::move(start)); }
  void Cancel(CallNumber call, v1::CancelReason reason) override;
  void Credit(CallNumber call, uint32_t chunks) override;

 private:
  World& world_;
  const WorkerId id_;
};

struct World::Process {
  // A call that it runs. It outlives its caller's interest.
  struct Running {
    std::string name;
    bool obeys = true;
    bool ends = true;
    bool stream = false;
    uint32_t values = 0, emitted = 0, credit = 0;
  };

  WorkerSpec spec;
  std::unique_ptr<LinkPort> port;
  std::set<std::string> ready_apps;
  std::map<CallNumber, Running> running;
  bool attached = false;
  bool ready = false;
  bool cut_off = false;  // its link is broken or closed
  bool draining = false;
  bool stopped = false;  // as by SIGSTOP: only SIGKILL ends it
  bool killed = false;
  bool exiting = false;
};

void World::LinkPort::Cancel(CallNumber call, v1::CancelReason) {
  Process* process = world_.Find(id_);
  if (process == nullptr || !process->running.contains(call)) return;
  if (!process->running[call].obeys) return;
  world_.Later(id_, world_.Within(absl::Milliseconds(200)),
               [world = &world_, id = id_, call](Process&) { world->End(id, call, v1::REASON_CANCELLED); });
}

void World::LinkPort::Credit(CallNumber call, uint32_t chunks) {
  Process* process = world_.Find(id_);
  if (process == nullptr || !process->running.contains(call)) return;
  process->running[call].credit += chunks;
  world_.Later(id_, world_.Within(absl::Milliseconds(20)),
               [world = &world_, id = id_, call](Process&) { world->EmitChunks(id, call); });
}

World::World(uint64_t seed, Figures& figures) : figures_(figures), random_(seed) {
  AppSettings few = SimulatedApp("few");
  few.workers = 1;
  settings_ = TestSettings(
      {TestPool("p", 3, {SimulatedApp("a"), SimulatedApp("b"), few}), TestPool("q", 1, {SimulatedApp("c")})});
  settings_.graceful_timeout = kGrace;
  settings_.restart.max_backoff = absl::Seconds(5);
  settings_.restart.give_up_after = 3;
  settings_.pools[0].threads = 1 + Below(3);
  settings_.pools[0].surge = Below(2);
  if (Chance(3)) settings_.pools[0].apps[0].limits.max_requests = 20;
  if (Chance(3)) settings_.pools[0].apps[1].limits.max_memory = 4 << 20;
  Arbiter::Host host;
  host.on_stopped = [this] { ++stopped_; };
  host.read_settings = [this](auto done) {
    After(Within(absl::Milliseconds(50)), [this, done = std::move(done)] {
      if (Fault("bad configuration", 5)) return done(absl::InvalidArgumentError("f:1:1: bad"));
      done(settings_);
    });
  };
  arbiter_ = std::make_unique<Arbiter>(
      Arbiter::World{.timers = timers_, .launcher = *this, .links = *this, .hooks = *this, .log = *this},
      Arbiter::Options{.version = "1",
                       .pid = 1,
                       .id_prefix = "s-",
                       .chance = [this] { return static_cast<double>(Below(1000)) / 1000; }},
      std::move(host));
}

World::~World() = default;

std::string World::Live(uint64_t steps) {
  const absl::Time start = timers_.Now();
  ++figures_.histories;
  arbiter_->Start(settings_);
  After(absl::ZeroDuration(), [this] { Act(); });
  for (uint64_t i = 0; i < steps && wrong_.empty(); ++i) {
    Step();
    if (i % 64 == 0) CheckStatus();
  }
  faults_ = false;
  if (wrong_.empty() && !Chance(4) && RunFor(kRest)) {
    const WorkerId last = last_worker_;
    RunFor(kRest);
    if (last_worker_ != last) Wrong("workers come and go although nothing happens");
    CheckAtRest();
  }
  if (wrong_.empty()) {
    const bool immediate = Chance(4);
    arbiter_->Shutdown(immediate, "the end");
    RunFor((immediate ? absl::ZeroDuration() : kGrace) + absl::Seconds(30));
    if (stopped_ != 1) Wrong(absl::StrCat("a shutdown ended ", stopped_, " times; processes: ", processes_.size()));
    if (!processes_.empty()) Wrong("a process outlives the shutdown");
    if (!callers_.empty()) Wrong(absl::StrCat(callers_.begin()->first, " never had an outcome"));
  }
  figures_.time += timers_.Now() - start;
  return wrong_;
}

void World::Wrong(std::string what) {
  if (wrong_.empty()) wrong_ = std::move(what);
}

bool World::Fault(const char* name, uint32_t one_in) {
  if (!faults_ || !Chance(one_in)) return false;
  ++figures_.faults[name];
  return true;
}

// --- Time ---

void World::After(absl::Duration delay, std::function<void()> run) {
  events_.push({timers_.Now() + delay, event_number_++, std::move(run)});
}

void World::Later(WorkerId id, absl::Duration delay, std::function<void(Process&)> run) {
  After(delay, [this, id, run = std::move(run)] {
    Process* process = Find(id);
    if (process != nullptr && !process->stopped && !process->cut_off && !process->exiting) run(*process);
  });
}

bool World::Step() {
  ++figures_.steps;
  const absl::Time timer = timers_.NextDeadline();
  if (events_.empty() && timer == absl::InfiniteFuture()) return false;
  if (events_.empty() || timer <= events_.top().time) {
    clock_.Set(std::max(timers_.Now(), timer));
    timers_.RunDue();
  } else {
    clock_.Set(std::max(timers_.Now(), events_.top().time));
    auto run = events_.top().run;
    events_.pop();
    run();
    timers_.RunDue();
  }
  return wrong_.empty();
}

bool World::RunFor(absl::Duration time) {
  const absl::Time end = timers_.Now() + time;
  for (uint64_t at_once = 0; at_once < 1000000; ++at_once) {
    const absl::Time next =
        events_.empty() ? timers_.NextDeadline() : std::min(events_.top().time, timers_.NextDeadline());
    if (next > end) {
      clock_.Set(end);
      return wrong_.empty();
    }
    if (!Step()) return false;
  }
  Wrong("it does not come to rest");
  return false;
}

// --- Workers ---

World::Process* World::Find(WorkerId id) {
  auto it = processes_.find(id);
  return it == processes_.end() ? nullptr : it->second.get();
}

absl::StatusOr<pid_t> World::Launch(const WorkerSpec& spec) {
  if (Fault("launch fails", 30)) return absl::ResourceExhaustedError("no more processes");
  last_worker_ = spec.id;
  auto process = std::make_unique<Process>();
  process->spec = spec;
  process->port = std::make_unique<LinkPort>(*this, spec.id);
  if (!processes_.emplace(spec.id, std::move(process)).second) Wrong("a worker's id is used twice");
  if (Fault("dies at once", 30)) {
    After(Within(absl::Milliseconds(20)), [this, id = spec.id] { Exit(id, 1, 0); });
  } else if (!Fault("never listens", 60)) {
    After(Within(absl::Milliseconds(50)), [this, id = spec.id] {
      Process* starting = Find(id);
      if (starting != nullptr && !starting->stopped && !starting->exiting) arbiter_->supervisor().OnListening(id);
    });
  }
  return static_cast<pid_t>(1000 + spec.id);
}

void World::Kill(WorkerId worker) {
  Process* process = Find(worker);
  if (process == nullptr || std::exchange(process->killed, true)) return;
  After(absl::Milliseconds(1) + Within(absl::Milliseconds(20)), [this, worker] { Exit(worker, 0, 9); });
}

void World::Exit(WorkerId id, int code, int signal) {
  Process* process = Find(id);
  if (process == nullptr) return;
  process->exiting = true;
  closed_ports_.push_back(std::move(process->port));  // valid until Close
  processes_.erase(id);
  ExitStatus status;
  if (signal != 0) {
    status.signal = signal;
  } else {
    status.exit_code = code;
  }
  arbiter_->supervisor().OnExit(id, status);
  closed_ports_.clear();
}

void World::Open(const WorkerSpec& spec) {
  Process* process = Find(spec.id);
  if (process == nullptr) return;
  if (std::exchange(process->attached, true)) Wrong("a worker is attached twice");
  Later(spec.id, Within(absl::Milliseconds(20)), [this, id = spec.id](Process&) { BootNext(id, 0); });
}

void World::BootNext(WorkerId id, size_t number) {
  Process& process = *Find(id);
  if (number == process.spec.apps.size()) {
    process.ready = true;
    arbiter_->supervisor().OnWorkerReady(id);
    return;
  }
  const std::string app = process.spec.apps[number].name;
  arbiter_->supervisor().OnAppStarting(id, app);
  if (Fault("an init hangs", 100)) return;
  Later(id, Within(absl::Seconds(2)), [this, id, app, number](Process& booting) {
    if (Fault("an init crashes", 60)) return Exit(id, 0, 11);
    if (Fault("an init raises", 15)) {
      v1::Error error;
      error.set_message("no model");
      arbiter_->supervisor().OnAppFailed(id, app, error);
    } else {
      booting.ready_apps.insert(app);
      arbiter_->supervisor().OnAppReady(id, app, absl::Milliseconds(1), 0);
    }
    if (Find(id) != nullptr && !booting.cut_off) BootNext(id, number + 1);
  });
}

void World::Ping(WorkerId worker, uint64_t sequence) {
  Later(worker, Within(absl::Milliseconds(5)),
        [this, worker, sequence](Process&) { arbiter_->supervisor().OnPong(worker, sequence); });
}

void World::Drain(WorkerId worker) {
  Process* process = Find(worker);
  if (process == nullptr) return;
  process->draining = true;
  ExitIfDrained(worker);
}

void World::ExitIfDrained(WorkerId id) {
  Process* process = Find(id);
  if (process == nullptr || !process->draining || !process->running.empty()) return;
  if (Fault("a close hangs", 40)) return;
  Later(id, Within(absl::Milliseconds(100)), [this, id](Process&) { Exit(id, 0, 0); });
}

WorkerPort* World::Port(WorkerId worker) {
  Process* process = Find(worker);
  return process == nullptr ? nullptr : process->port.get();
}

void World::Close(WorkerId worker) {
  if (Process* process = Find(worker)) {
    process->cut_off = true;
    // A worker whose link ends exits, if it can.
    if (!process->stopped) After(Within(absl::Milliseconds(100)), [this, worker] { Exit(worker, 1, 0); });
  }
}

void World::Run(const HookSettings&, const v1::HookEvent&, absl::Duration, std::function<void(absl::Status)> done) {
  After(absl::ZeroDuration(), [done = std::move(done)] { done(absl::OkStatus()); });
}

void World::Begin(WorkerId id, std::unique_ptr<v1::StartCall> start) {
  Process* process = Find(id);
  if (process == nullptr || !process->ready) return Wrong("a call is started on a worker that is not ready");
  const std::string name = start->request().request_id();
  if (process->running.size() >= process->spec.pool->threads) Wrong("a slot is used twice");
  if (!process->ready_apps.contains(start->request().app())) Wrong(name + " is started where its app is not");
  auto it = callers_.find(name);
  if (it == callers_.end()) return Wrong(name + " is started and has ended");
  Caller& caller = *it->second;
  if (caller.number == 0) caller.number = start->call();
  OnStarted(caller, *process);
  if (process->cut_off) Wrong(name + " is started on a worker whose link is broken");

  const CallNumber call = start->call();
  Process::Running running;
  running.name = name;
  running.stream = start->stream();
  running.values = caller.values;
  running.credit = start->credits();
  running.obeys = !Fault("ignores a cancel", 10);
  running.ends = !Fault("never ends", 40);
  process->running.emplace(call, running);
  if (!running.ends) return;
  if (Fault("dies in a call", 60)) return After(Within(absl::Seconds(1)), [this, id] { Exit(id, 0, 11); });
  if (running.stream) {
    return Later(id, Within(absl::Milliseconds(20)), [this, id, call](Process&) { EmitChunks(id, call); });
  }
  const absl::Duration runs = Chance(10) ? Within(kTimeout * 1.5) : Within(absl::Milliseconds(300));
  const v1::Reason reason = Chance(10) ? v1::REASON_APP_ERROR : v1::REASON_UNSPECIFIED;
  Later(id, runs, [this, id, call, reason](Process&) { End(id, call, reason); });
}

void World::EmitChunks(WorkerId id, CallNumber call) {
  Process* process = Find(id);
  auto it = process->running.find(call);
  if (it == process->running.end()) return;
  while (it->second.emitted < it->second.values && (it->second.credit > 0 || Fault("a chunk without credit", 200))) {
    v1::CallChunk chunk;
    chunk.set_call(call);
    chunk.mutable_chunk()->set_value(absl::StrCat(it->second.emitted++));
    if (it->second.credit > 0) --it->second.credit;
    arbiter_->dispatcher().OnCallChunk(id, chunk);
    process = Find(id);
    if (process == nullptr || process->cut_off) return;
    it = process->running.find(call);
    if (it == process->running.end()) return;
  }
  if (it->second.emitted == it->second.values) End(id, call, v1::REASON_UNSPECIFIED);
}

void World::End(WorkerId id, CallNumber call, v1::Reason reason) {
  Process* process = Find(id);
  auto it = process->running.find(call);
  if (it == process->running.end()) return;
  v1::CallDone done;
  done.set_call(call);
  if (reason == v1::REASON_UNSPECIFIED) {
    done.mutable_response();
    if (!it->second.stream) done.mutable_response()->set_result(it->second.name);
  } else {
    done.mutable_error()->set_reason(reason);
  }
  process->running.erase(it);
  v1::CallDone again = done;
  arbiter_->dispatcher().OnCallDone(id, done);
  if (Fault("ends a call twice", 100)) arbiter_->dispatcher().OnCallDone(id, again);
  if (Fault("ends a stranger's call", 100) && !callers_.empty()) {
    v1::CallDone stranger;
    stranger.set_call(SomeCaller()->number);
    stranger.mutable_response()->set_result("not yours");
    Process* mine = Find(id);
    if (mine != nullptr && !mine->running.contains(stranger.call())) arbiter_->dispatcher().OnCallDone(id, stranger);
  }
  ExitIfDrained(id);
}

// --- Callers and operators ---

void World::Act() {
  if (!faults_) return;
  const uint32_t calls = Chance(20) ? Below(30) : 1;
  for (uint32_t i = 0; i < calls; ++i) Submit();
  if (Chance(10) && !callers_.empty()) {
    Caller& caller = *SomeCaller();
    switch (Below(4)) {
      case 0:
        caller.asked = true;
        arbiter_->dispatcher().CancelByCaller(caller.number);
        break;
      case 1: {
        caller.asked = true;
        v1::CancelRequest request;
        request.set_call_id(absl::StrCat("s-", caller.number));
        (void)arbiter_->Cancel(request);
        break;
      }
      case 2:
        caller.left = true;
        ++figures_.outcomes["left"];
        arbiter_->dispatcher().Abandon(caller.number);
        Forget(caller);
        break;
      case 3:
        arbiter_->dispatcher().Credit(caller.number, Below(5));
        break;
    }
  }
  if (!processes_.empty() && Chance(60)) {
    auto it = std::next(processes_.begin(), Below(static_cast<uint32_t>(processes_.size())));
    const WorkerId id = it->first;
    Process& process = *it->second;
    if (Fault("killed from outside", 4)) {
      Exit(id, 0, 9);
    } else if (Fault("stopped from outside", 6)) {
      process.stopped = true;
    } else if (process.attached && !process.cut_off && Fault("told to end from outside", 4)) {
      arbiter_->supervisor().OnWorkerEnding(id);
    } else if (process.attached && !process.cut_off && Fault("a link breaks", 4)) {
      process.cut_off = true;
      arbiter_->supervisor().OnLinkBroken(id, "reset");
    }
  }
  if (Chance(200)) Operate();
  After(Within(absl::Milliseconds(Chance(20) ? 2000 : 60)), [this] { Act(); });
}

World::Caller* World::SomeCaller() {
  auto it = callers_.lower_bound(absl::StrCat("call-", Below(static_cast<uint32_t>(next_caller_))));
  return (it == callers_.end() ? callers_.begin() : it)->second.get();
}

void World::Submit() {
  static constexpr const char* kApps[] = {"a", "a", "b", "b", "few", "c", "late", "nobody"};
  auto owned = std::make_unique<Caller>(*this, absl::StrCat("call-", next_caller_++));
  Caller& caller = *owned;
  caller.app = kApps[Below(8)];
  caller.stream = Chance(5);
  caller.values = caller.stream ? Below(40) : 0;
  const absl::Time now = timers_.Now();
  Submission submission = MakeSubmission(caller, caller.app);
  submission.request->set_request_id(caller.name);
  submission.stream = caller.stream;
  submission.credits = caller.stream ? 1 + Below(50) : 0;
  caller.caller_until = absl::InfiniteFuture();
  if (Chance(5)) {
    const absl::Duration timeout = absl::Milliseconds(1 + Below(8000));
    ToProto(timeout, submission.request->mutable_timeout());
    caller.caller_until = now + timeout;
  }
  caller.sent = now;
  caller.wait_until = std::min(now + kQueueTimeout, caller.caller_until);
  ++figures_.calls;
  ++received_[caller.app];
  callers_.emplace(caller.name, std::move(owned));
  submitting_ = &caller;
  Admission admission = arbiter_->dispatcher().Submit(std::move(submission));
  submitting_ = nullptr;
  if (admission.refused != nullptr) {
    ++figures_.outcomes[absl::StrCat("refused: ", v1::Reason_Name(admission.refused->reason()))];
    if (caller.started) Wrong(caller.name + " was refused and started");
    if (admission.refused->reason() == v1::REASON_QUEUE_FULL && waiting_[caller.app].size() < kQueueSize) {
      Wrong(caller.name + " was refused by a queue that is not full");
    }
    callers_.erase(caller.name);
    return;
  }
  caller.number = admission.call;
  if (!caller.started) {
    std::map<CallNumber, Caller*>& queue = waiting_[caller.app];
    queue.emplace(admission.call, &caller);
    if (queue.size() > kQueueSize) Wrong(absl::StrCat("the queue of ", caller.app, " has no bound"));
  }
}

void World::Operate() {
  switch (Below(5)) {
    case 0: {
      v1::ScaleRequest request;
      request.set_pool(Chance(3) ? "q" : "p");
      request.set_workers(Chance(10) ? 0 : 1 + Below(4));
      (void)arbiter_->Scale(request);
      break;
    }
    case 1: {
      v1::RestartRequest request;
      if (!processes_.empty() && Chance(2)) request.set_worker_id(processes_.begin()->first);
      arbiter_->Restart(request, [](const auto&) {});
      break;
    }
    case 2:
      arbiter_->ReloadSoon("SIGHUP");
      break;
    default:
      Reload();
      break;
  }
}

void World::Reload() {
  settings_.pools[0].workers = 1 + Below(4);
  settings_.pools[0].env["X"] = absl::StrCat(Below(3));
  std::vector<AppSettings>& apps = settings_.pools[1].apps;
  const bool has_late = apps.size() == 2;
  if (Chance(2) && !has_late) apps.push_back(SimulatedApp("late"));
  if (Chance(2) && has_late) apps.pop_back();
  arbiter_->Reload({}, "test", [](const auto&) {});
}

// --- The model ---

void World::OnStarted(Caller& caller, const Process& process) {
  if (std::exchange(caller.started, true)) return Wrong(caller.name + " is started twice");
  caller.run_until = std::min(timers_.Now() + kTimeout, caller.caller_until);
  waiting_[caller.app].erase(caller.number);
  for (const std::string& app : process.ready_apps) {
    const std::map<CallNumber, Caller*>& queue = waiting_[app];
    if (queue.empty() || queue.begin()->first > caller.number) continue;
    // A worker that drains takes only the calls of removed apps.
    if (app == caller.app || (&caller == submitting_ && caller.app != "late")) {
      Wrong(absl::StrCat(caller.name, " is started before ", queue.begin()->second->name, ", which came first"));
    }
  }
}

void World::Forget(Caller& caller) {
  if (!caller.started) waiting_[caller.app].erase(caller.number);
  // Not from within its own listener.
  auto it = callers_.find(caller.name);
  auto node = std::make_shared<std::unique_ptr<Caller>>(std::move(it->second));
  callers_.erase(it);
  After(absl::ZeroDuration(), [node] {});
}

void World::CheckStatus() {
  const v1::StatusResponse status = arbiter_->Status();
  const absl::Time now = timers_.Now();
  for (const auto& [name, caller] : callers_) {
    if ((caller->started ? caller->run_until : caller->wait_until) < now) Wrong(name + " has outlived its deadline");
  }
  std::map<std::string, uint32_t> desired;
  for (const v1::PoolStatus& pool : status.pools()) desired[pool.name()] = pool.desired_workers();
  for (const v1::AppStatus& app : status.apps()) {
    if (app.ready_workers() > 0 && desired[app.pool()] > 0 && app.state() != v1::AppStatus::READY) {
      Wrong(absl::StrCat(app.ready_workers(), " workers serve ", app.name(), ", which is ",
                         v1::AppStatus::State_Name(app.state())));
    }
    const v1::Counters& c = app.counters();
    const uint64_t ended = c.ok() + c.invalid_request() + c.app_not_found() + c.no_workers() + c.queue_full() +
                           c.queue_timeout() + c.timeout() + c.cancelled() + c.app_error() + c.worker_lost() +
                           c.too_large() + c.shutting_down() + c.permission_denied();
    if (c.received() != app.queued() + app.running() + ended) {
      Wrong(absl::StrCat("the counters of ", app.name(), " do not add up"));
    }
    if (app.name() != "late" && c.received() != received_[app.name()]) {
      Wrong(absl::StrCat(app.name(), " received ", received_[app.name()], " and counts ", c.received()));
    }
    if (app.queued() != waiting_[app.name()].size()) {
      Wrong(absl::StrCat(app.name(), " has ", waiting_[app.name()].size(), " waiting and says ", app.queued()));
    }
  }
  for (const v1::WorkerStatus& worker : status.workers()) {
    const Process* process = Find(worker.id());
    if (process == nullptr) {
      Wrong(absl::StrCat("worker ", worker.id(), " is gone and listed"));
      continue;
    }
    if (worker.state() != v1::WorkerStatus::READY) continue;
    if (static_cast<uint32_t>(worker.running_size()) > worker.threads()) Wrong("more runs than there are slots");
    if (static_cast<uint32_t>(worker.running_size()) == worker.threads()) continue;
    for (const std::string& app : process->ready_apps) {
      if (!waiting_[app].empty()) {
        Wrong(absl::StrCat(waiting_[app].begin()->second->name, " waits for ", app, ", and worker ", worker.id(),
                           " has a free slot"));
      }
    }
  }
  if (static_cast<size_t>(status.workers_size()) != processes_.size()) {
    Wrong(absl::StrCat(processes_.size(), " processes, and ", status.workers_size(), " are listed"));
  }
}

void World::CheckAtRest() {
  CheckStatus();
  if (!callers_.empty()) Wrong(callers_.begin()->first + " never had an outcome");
  const v1::StatusResponse status = arbiter_->Status();
  for (const v1::PoolStatus& pool : status.pools()) {
    uint32_t ready = 0;
    for (const v1::WorkerStatus& worker : status.workers()) {
      if (worker.pool() == pool.name() && worker.state() == v1::WorkerStatus::READY) ++ready;
    }
    if (ready != pool.desired_workers()) {
      Wrong(absl::StrCat("pool ", pool.name(), " should have ", pool.desired_workers(), " workers and has ", ready));
    }
    for (const v1::AppStatus& app : status.apps()) {
      if (app.pool() == pool.name() && pool.desired_workers() > 0 && app.state() != v1::AppStatus::READY) {
        Wrong(absl::StrCat(app.name(), " is ", v1::AppStatus::State_Name(app.state()), ": ", app.reason()));
      }
    }
  }
  if (processes_.size() != static_cast<size_t>(status.workers_size())) Wrong("a process is left over");
  for (const auto& [id, process] : processes_) {
    if (!process->running.empty()) Wrong(absl::StrCat("a slot of worker ", id, " has leaked"));
  }
}

}  // namespace dirty::simulation
