// What the supervisor needs of the world: processes and links. Real ones are PosixLauncher and GrpcLinks; tests use
// fakes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "dirty/v1/call.pb.h"
#include "server/config/settings.h"
#include "server/dispatch/dispatcher.h"

namespace dirty {

// One worker process to be. Immutable.
struct WorkerSpec {
  WorkerId id = 0;
  uint32_t index = 0;  // place in the pool
  uint64_t generation = 0;
  std::shared_ptr<const PoolSettings> pool;
  std::vector<AppSettings> apps;  // what it loads: of the pool's
  std::string init_hook;          // a function that the worker itself calls after every init; empty: none
};

// How a process ended: exactly one of the two.
struct ExitStatus {
  std::optional<int> exit_code;
  int signal = 0;
  bool out_of_memory = false;
  std::vector<std::string> stderr_tail;  // its last lines, oldest first, at most 20 of 512 bytes
  std::string last_words;                // what of them tells most (WorkerOutput::LastWords)

  std::string SignalName() const;  // "SIGKILL"; empty if none
  std::string Describe() const;    // "killed by SIGSEGV", "exited with 3"
};

// What a process has taken, its children left out.
struct ProcessUsage {
  uint64_t resident_bytes = 0;
  absl::Duration cpu_time;  // user and system, since its spawn
};

// Starts processes and tells of them. Loop-confined.
class WorkerLauncher {
 public:
  // Called on the loop, never from within a call to the launcher.
  class Events {
   public:
    virtual ~Events() = default;
    // The worker listens on its socket.
    virtual void OnListening(WorkerId worker) = 0;
    // The process is gone and reaped, its process group killed, its output drained. The last event of it.
    virtual void OnExit(WorkerId worker, const ExitStatus& status) = 0;
  };

  virtual ~WorkerLauncher() = default;
  // An error means that nothing was started (its message says what to do) and that no event will come.
  virtual absl::StatusOr<pid_t> Launch(const WorkerSpec& spec) = 0;
  // SIGKILL to its whole process group. One that is gone is ignored.
  virtual void Kill(WorkerId worker) = 0;
  // All zero if it cannot be read.
  virtual ProcessUsage Usage(WorkerId worker) = 0;
};

// The arbiter's streams to its workers, as the supervisor sees them. Loop-confined.
class WorkerLinks {
 public:
  // Called on the loop, never from within a call to the links.
  class Events {
   public:
    virtual ~Events() = default;
    virtual void OnAppStarting(WorkerId worker, absl::string_view app) = 0;
    // `workers`: as AppReady.workers.
    virtual void OnAppReady(WorkerId worker, absl::string_view app, absl::Duration init_time, uint32_t workers) = 0;
    virtual void OnAppFailed(WorkerId worker, absl::string_view app, const v1::Error& error) = 0;
    virtual void OnAppSkipped(WorkerId worker, absl::string_view app, uint32_t workers) = 0;
    // Every app was tried.
    virtual void OnWorkerReady(WorkerId worker) = 0;
    // Somebody else told it to end. It goes on until it is drained.
    virtual void OnWorkerEnding(WorkerId worker) = 0;
    virtual void OnPong(WorkerId worker, uint64_t sequence) = 0;
    // The stream ended or broke, or the worker violated the protocol. Never after Close.
    virtual void OnLinkBroken(WorkerId worker, const std::string& why) = 0;
  };

  virtual ~WorkerLinks() = default;
  // Connects to the worker's socket, attaches and says hello.
  virtual void Open(const WorkerSpec& spec) = 0;
  virtual void Ping(WorkerId worker, uint64_t sequence) = 0;
  virtual void Drain(WorkerId worker) = 0;
  virtual void DumpStacks(WorkerId worker, uint64_t call) = 0;
  // Files that the worker itself holds open for logs are opened again.
  virtual void ReopenLogs(WorkerId worker) = 0;
  // The dispatcher's way to the worker; valid until Close.
  virtual WorkerPort* Port(WorkerId worker) = 0;
  // Cancels the stream, if there is one; no more events of it.
  virtual void Close(WorkerId worker) = 0;
};

}  // namespace dirty
