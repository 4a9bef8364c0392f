// A worker process: attached to by one arbiter, it loads apps, runs calls, and ends by closing the apps. Owned by main.
//
//   ProcessTitle title = ProcessTitle::Prepare();
//   NativeHost host;
//   return Worker(host, title).Run(*environment);
//
// Threads: the caller of Run is the main thread (inits, closes); an I/O thread serves the link, or watches who does
// (lead.h); `slots` executor threads run calls; one waits for signals.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "worker/runtime/app_host.h"
#include "worker/runtime/executor.h"
#include "worker/runtime/link.h"
#include "worker/runtime/mutex.h"
#include "worker/runtime/process_title.h"

namespace dirty::worker {

// What dirtyd tells a worker that it starts.
struct WorkerEnvironment {
  std::string socket;           // $DIRTY_WORKER_SOCKET: where to serve
  std::optional<int> ready_fd;  // $DIRTY_READY_FD: gets a newline once the worker listens, and is closed

  // An error says which variable is missing or wrong.
  static absl::StatusOr<WorkerEnvironment> Read();
};

class Worker final : private Link::Receiver {
 public:
  // Both outlive the worker.
  Worker(AppHost& host, ProcessTitle& title);
  ~Worker() override;

  // The worker's whole life. Returns the exit code: 0 after a drain, or a SIGTERM before it was ready, 1 if it could
  // not listen, its start failed or the link was lost. May end the process itself when what runs does not end in time.
  // Main thread, once.
  int Run(const WorkerEnvironment& environment);

 private:
  // Ordered: a worker only moves on. Lost: the arbiter is gone; the rest of its life lasts at most Link::kLostGrace.
  enum class State { kWaiting, kConfigured, kReady, kDraining, kLost };

  void OnFrame(v1::ArbiterFrame& frame) override;
  void OnLost() override;
  void OnLostTooLong() override;

  void Configure(v1::WorkerConfig& config);
  void StartCall(v1::ArbiterFrame& frame);
  void OnTerm(int count);
  void MoveTo(State state);
  bool Ending();

  // False: this start has failed, and why is on standard error.
  bool LoadApps();
  void Load(const v1::AppSpec& spec);

  AppHost& host_;
  ProcessTitle& title_;
  Link link_;
  Executor executor_;
  v1::WorkerConfig config_;  // written on the I/O thread before kConfigured, then read by all
  CallLimits limits_;

  Mutex mutex_;
  Condition changed_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kWaiting;
};

}  // namespace dirty::worker
