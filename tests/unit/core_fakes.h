// A world for the pure core: a clock that the test moves, processes and links that do what the test says.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "server/dispatch/dispatcher.h"
#include "server/loop/timers.h"
#include "server/observe/log.h"
#include "server/supervise/hook_runner.h"
#include "server/supervise/worker_process.h"

namespace dirty {

class FakeClock final : public Clock {
 public:
  absl::Time Now() const override { return now_; }
  void Set(absl::Time now) { now_ = now; }

 private:
  absl::Time now_ = absl::FromUnixSeconds(1000);
};

// A call of `app`, action `act`, to be completed and submitted.
inline Submission MakeSubmission(CallListener& caller, const std::string& app = "a") {
  Submission submission;
  submission.request = std::make_unique<v1::ExecuteRequest>();
  submission.request->set_app(app);
  submission.request->set_action("act");
  submission.listener = &caller;
  return submission;
}

// Moves the clock from timer to timer, as a loop would.
class FakeTime {
 public:
  FakeClock clock;
  TimerQueue timers{clock};

  // Runs what is due now.
  void Settle() { Advance(absl::ZeroDuration()); }
  void Advance(absl::Duration duration) {
    absl::Time end = clock.Now() + duration;
    timers.RunDue();
    while (timers.NextDeadline() <= end) {
      clock.Set(std::max(clock.Now(), timers.NextDeadline()));
      timers.RunDue();
    }
    clock.Set(end);
  }
};

class FakeLog final : public Logger {
 public:
  void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields) override {
    lines.emplace_back(message);
    levels.push_back(level);
    last_fields.clear();
    for (const LogField& field : fields) last_fields.emplace(field.first, field.second);
  }
  bool Enabled(LogLevel) const override { return true; }
  bool Has(absl::string_view part) const {
    for (const std::string& line : lines) {
      if (absl::string_view(line).find(part) != absl::string_view::npos) return true;
    }
    return false;
  }
  // Of the last line that has it; of none: debug.
  LogLevel LevelOf(absl::string_view part) const {
    size_t i = lines.size();
    while (i > 0 && !absl::StrContains(lines[i - 1], part)) --i;
    return i == 0 ? LogLevel::kDebug : levels[i - 1];
  }

  std::vector<std::string> lines;
  std::vector<LogLevel> levels;  // of each line
  std::map<std::string, std::string, std::less<>> last_fields;
};

// A worker as the dispatcher sees it.
class FakePort final : public WorkerPort {
 public:
  void Start(std::unique_ptr<v1::StartCall> start) override { started.push_back(std::move(start)); }
  void Cancel(CallNumber call, v1::CancelReason reason) override { cancelled.emplace_back(call, reason); }
  void Credit(CallNumber call, uint32_t chunks) override { credits[call] += chunks; }

  std::vector<std::unique_ptr<v1::StartCall>> started;
  std::vector<std::pair<CallNumber, v1::CancelReason>> cancelled;
  std::map<CallNumber, uint32_t> credits;
};

// A caller.
class FakeCaller final : public CallListener {
 public:
  void OnChunk(std::unique_ptr<v1::Chunk> chunk) override { chunks.push_back(chunk->value()); }
  void OnDone(Outcome result) override {
    ++outcomes;
    outcome = std::move(result);
  }
  bool done() const { return outcomes > 0; }
  bool ok() const { return outcome.response != nullptr; }
  v1::Reason reason() const { return outcome.error == nullptr ? v1::REASON_UNSPECIFIED : outcome.error->reason(); }

  int outcomes = 0;
  Outcome outcome;
  std::vector<std::string> chunks;
};

inline LimitSettings TestLimits() {
  LimitSettings limits;
  limits.timeout = absl::Seconds(300);
  limits.queue_timeout = absl::Seconds(60);
  limits.queue_size = 1000;
  limits.boot_timeout = absl::Seconds(100);
  limits.kill_after = absl::Seconds(5);
  limits.stream_idle_timeout = absl::InfiniteDuration();
  limits.slow_call = absl::Seconds(30);
  return limits;
}

inline AppSettings TestApp(std::string name) {
  AppSettings app;
  app.name = app.path = std::move(name);
  app.limits = TestLimits();
  return app;
}

inline PoolSettings TestPool(std::string name, uint32_t workers, std::vector<AppSettings> apps) {
  PoolSettings pool;
  pool.name = std::move(name);
  pool.workers = workers;
  pool.threads = 1;
  pool.surge = 1;
  pool.apps = std::move(apps);
  return pool;
}

inline Settings TestSettings(std::vector<PoolSettings> pools) {
  Settings settings;
  settings.graceful_timeout = absl::Seconds(30);
  settings.heartbeat_interval = absl::Seconds(5);
  settings.heartbeat_timeout = absl::Seconds(30);
  settings.max_message_size = 1 << 20;
  settings.restart = {.initial_backoff = absl::Milliseconds(100), .max_backoff = absl::Seconds(30), .give_up_after = 5};
  settings.pools = std::move(pools);
  return settings;
}

// Hooks end when the test says so.
class FakeHooks final : public HookRunner {
 public:
  struct Run1 {
    HookSettings hook;
    v1::HookEvent event;
    std::function<void(absl::Status)> done;
  };
  void Run(const HookSettings& hook, const v1::HookEvent& event, absl::Duration,
           std::function<void(absl::Status)> done) override {
    runs.push_back({hook, event, std::move(done)});
  }

  std::vector<Run1> runs;
};

// Processes and links in one: Listen, Boot and Die are what a worker does; `alive` is what there is.
class FakeWorkers final : public WorkerLauncher, public WorkerLinks {
 public:
  struct Process {
    WorkerSpec spec;
    FakePort port;
    bool attached = false;
    bool draining = false;
    bool killed = false;
    int pings = 0;
    int dumps = 0;
    int reopened = 0;
  };

  // WorkerLauncher
  absl::StatusOr<pid_t> Launch(const WorkerSpec& spec) override {
    ++launches;
    if (!launch_error.ok()) return launch_error;
    alive[spec.id].spec = spec;
    most = std::max(most, alive.size());
    return static_cast<pid_t>(1000 + spec.id);
  }
  void Kill(WorkerId worker) override {
    if (alive.contains(worker)) alive[worker].killed = true;
  }
  ProcessUsage Usage(WorkerId worker) override {
    return {.resident_bytes = memory.contains(worker) ? memory[worker] : 1 << 20, .cpu_time = absl::Seconds(1)};
  }

  // WorkerLinks
  void Open(const WorkerSpec& spec) override { alive[spec.id].attached = true; }
  void Ping(WorkerId worker, uint64_t) override { ++alive[worker].pings; }
  void Drain(WorkerId worker) override { alive[worker].draining = true; }
  void DumpStacks(WorkerId worker, uint64_t) override { ++alive[worker].dumps; }
  void ReopenLogs(WorkerId worker) override { ++alive[worker].reopened; }
  WorkerPort* Port(WorkerId worker) override { return &alive[worker].port; }
  void Close(WorkerId) override {}

  absl::Status launch_error;
  int launches = 0;
  size_t most = 0;  // processes at once
  std::map<WorkerId, Process> alive;
  std::map<WorkerId, uint64_t> memory;
};

}  // namespace dirty
