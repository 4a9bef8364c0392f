// The world that the core is simulated in: a clock that jumps from event to event, workers that boot, run calls, hang,
// die, fall silent and break their protocol, and callers that submit, cancel, leave and read slowly. Beside the core it
// keeps a model of its own of what must be true, much simpler than the core, and says where the two differ.
//
// Everything comes from one seed: the same seed is the same history.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "server/arbiter.h"
#include "tests/unit/core_fakes.h"

namespace dirty::simulation {

// What happened, over all histories.
struct Figures {
  uint64_t steps = 0;
  uint64_t histories = 0;
  uint64_t calls = 0;
  std::map<std::string, uint64_t> outcomes;
  std::map<std::string, uint64_t> faults;
  absl::Duration time;  // simulated
};

class World final : private WorkerLauncher, private WorkerLinks, private HookRunner, private Logger {
 public:
  World(uint64_t seed, Figures& figures);
  ~World() override;

  // Lives through so many steps, lets everything come to rest, and shuts down. The first thing that was wrong, or
  // nothing.
  std::string Live(uint64_t steps);

 private:
  class Caller;
  class LinkPort;
  struct Process;
  struct Event {
    absl::Time time;
    uint64_t number;
    std::function<void()> run;
    bool operator<(const Event& other) const {
      return std::tie(time, number) > std::tie(other.time, other.number);  // the earliest is on top
    }
  };

  // WorkerLauncher
  absl::StatusOr<pid_t> Launch(const WorkerSpec& spec) override;
  void Kill(WorkerId worker) override;
  ProcessUsage Usage(WorkerId) override { return {.resident_bytes = Chance(50) ? 9u << 20 : 1u << 20, .cpu_time = {}}; }
  // WorkerLinks
  void Open(const WorkerSpec& spec) override;
  void Ping(WorkerId worker, uint64_t sequence) override;
  void Drain(WorkerId worker) override;
  void DumpStacks(WorkerId, uint64_t) override {}
  void ReopenLogs(WorkerId) override {}
  WorkerPort* Port(WorkerId worker) override;
  void Close(WorkerId worker) override;
  // HookRunner
  void Run(const HookSettings&, const v1::HookEvent&, absl::Duration, std::function<void(absl::Status)> done) override;
  // Logger
  void Log(LogLevel, absl::string_view, std::initializer_list<LogField>) override {}
  bool Enabled(LogLevel) const override { return false; }

  // Chance. One in `n`; below `n`; a duration below `most`.
  bool Chance(uint32_t n) { return random_() % n == 0; }
  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  absl::Duration Within(absl::Duration most) { return most * (static_cast<double>(random_() % 1000) / 1000); }
  bool Fault(const char* name, uint32_t one_in);

  void After(absl::Duration delay, std::function<void()> run);
  // The same, if the process is there then and can act: neither stopped nor, for what goes over the link, cut off.
  void Later(WorkerId id, absl::Duration delay, std::function<void(Process&)> run);
  bool Step();
  bool RunFor(absl::Duration time);

  // What workers do.
  Process* Find(WorkerId id);
  void BootNext(WorkerId id, size_t app);
  void Begin(WorkerId id, std::unique_ptr<v1::StartCall> start);
  void EmitChunks(WorkerId id, CallNumber call);
  void End(WorkerId id, CallNumber call, v1::Reason reason);
  void ExitIfDrained(WorkerId id);
  void Exit(WorkerId id, int code, int signal);

  // What callers and operators do.
  void Act();
  void Submit();
  Caller* SomeCaller();
  void Operate();
  void Reload();

  // The model.
  void OnStarted(Caller& caller, const Process& process);
  void Forget(Caller& caller);
  void CheckStatus();
  void CheckAtRest();
  void Wrong(std::string what);

  Figures& figures_;
  std::mt19937_64 random_;
  std::string wrong_;
  bool faults_ = true;
  FakeClock clock_;
  TimerQueue timers_{clock_};
  std::priority_queue<Event> events_;
  uint64_t event_number_ = 0;
  Settings settings_;
  int stopped_ = 0;
  WorkerId last_worker_ = 0;

  std::map<WorkerId, std::unique_ptr<Process>> processes_;
  std::vector<std::unique_ptr<LinkPort>> closed_ports_;
  std::map<std::string, std::unique_ptr<Caller>> callers_;  // by request_id, those that are admitted and have no end
  std::map<std::string, std::map<CallNumber, Caller*>> waiting_;  // by app, in order
  std::map<std::string, uint64_t> received_;                      // by app, as the counters should say
  Caller* submitting_ = nullptr;
  uint64_t next_caller_ = 1;
  std::unique_ptr<Arbiter> arbiter_;
};

}  // namespace dirty::simulation
