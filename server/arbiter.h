// The arbiter: the dispatcher and the supervisor, and what is between them. It says when everything is ready, answers
// Status and health, and takes the two through a shutdown.
//
// Pure: sockets, processes and links are behind interfaces. Loop-confined. main.cc owns it.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "dirty/v1/admin.pb.h"
#include "server/config/settings.h"
#include "server/dispatch/dispatcher.h"
#include "server/loop/timers.h"
#include "server/observe/log.h"
#include "server/supervise/supervisor.h"

namespace dirty {

class Arbiter final : private Dispatcher::Events, private Supervisor::Events {
 public:
  // What the process does about it. All optional, all called on the loop.
  struct Hooks {
    std::function<void()> on_changed;  // something that health or the process title shows
    std::function<void()> on_stopped;  // after a shutdown: no call and no worker is left
  };
  struct Options {
    std::string version;
    int32_t pid = 0;
    std::string id_prefix;           // of call ids
    std::function<double()> chance;  // random, in [0, 1)
  };

  Arbiter(TimerQueue& timers, WorkerLauncher& launcher, WorkerLinks& links, Logger& log, Options options, Hooks hooks);

  Dispatcher& dispatcher() { return dispatcher_; }
  Supervisor& supervisor() { return supervisor_; }

  // Starts workers. Once.
  void Start(const Settings& settings);

  // Graceful: new calls are refused, the others have `graceful_timeout`. Immediate: they end now. A second one, of
  // either kind, is immediate. `why` is for the log.
  void Shutdown(bool immediate, absl::string_view why);
  bool shutting_down() const { return shutdown_ != ShutdownPhase::kNone; }

  v1::StatusResponse Status() const;

  // As grpc.health.v1 names services: "" is liveness, "dirty.v1.Arbiter" readiness, others are apps. Nullopt: unknown.
  std::optional<bool> Serving(absl::string_view service) const;

  // `dirtyd [2/2 workers]`.
  std::string Title() const;

 private:
  enum class ShutdownPhase {
    kNone,
    kFinishing,  // calls go on
    kStopping,   // workers end
    kStopped,
  };

  // Dispatcher::Events
  void OnWorkerIdle(WorkerId worker) override { supervisor_.OnWorkerIdle(worker); }
  void OnSlotFree(WorkerId worker, uint64_t calls) override { supervisor_.OnSlotFree(worker, calls); }
  void OnCallStuck(WorkerId worker, CallNumber call, const std::string& what) override {
    supervisor_.OnCallStuck(worker, call, what);
  }
  void OnAllCallsEnded() override;
  void OnCallRecord(const CallRecord& record) override;

  // Supervisor::Events
  void OnSupervisorChanged() override;
  void OnWorkersStopped() override;

  void OnGraceOver();
  void StopWorkers();

  TimerQueue& timers_;
  Logger& log_;
  Options options_;
  Hooks hooks_;
  absl::Time started_at_;
  absl::Time started_wall_;
  Settings settings_;
  bool ready_ = false;         // the line was printed
  bool told_unready_ = false;  // likewise
  ShutdownPhase shutdown_ = ShutdownPhase::kNone;
  TimerQueue::TimerId grace_timer_ = 0;
  Dispatcher dispatcher_;
  Supervisor supervisor_;
};

}  // namespace dirty
