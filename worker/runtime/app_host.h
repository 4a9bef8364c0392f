// What a language runtime gives to the worker: a way to load apps and to run calls on them. NativeHost is the one for
// shared libraries; the Python extension has its own. Owned by main, which outlives the Worker.
//
// Nothing is thrown across this interface: a host turns whatever user code throws into a v1::Error.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "dirty/v1/call.pb.h"
#include "dirty/v1/worker.pb.h"
#include "worker/runtime/call.h"
#include "worker/runtime/stack_dump.h"

namespace dirty::worker {

// How loading an app went.
struct LoadResult {
  std::optional<v1::Error> error;  // AppError: what was raised, or where the app was looked for
  uint32_t workers = 0;            // how many workers of the pool the app itself wants; 0: it does not say
  bool skipped = false;            // this is not one of them: init did not run
};

class AppHost {
 public:
  virtual ~AppHost() = default;

  // What WorkerHello.runtime says, such as `native/0.1.0`. Main thread, once, before anything else.
  virtual std::string Describe() const = 0;

  // Takes what it needs of the configuration. Main thread, once, before the first Load.
  virtual void Configure(const v1::WorkerConfig& config) = 0;

  // Loads one app and runs its init. Main thread, one after the other, before any Execute.
  virtual LoadResult Load(const v1::AppSpec& spec) = 0;

  // All apps were tried. Main thread, once, before any Execute. An error, which is for people, ends the worker: this
  // start has failed.
  virtual absl::Status FinishLoading() { return absl::OkStatus(); }

  // Runs `call` and fills in the response or the error of `done`. Executor threads, up to `slots` at once, only for
  // apps that were loaded. `args` and `kwargs` have passed CheckShapes.
  virtual void Execute(Call& call, v1::CallDone& done) = 0;

  // `call` was asked to stop; it may not run yet, or not any more. The thread that leads (lead.h): must not block,
  // nor wait for user code.
  virtual void OnCancelled(const Call&) {}

  // Closes every loaded app once, the last loaded first. Main thread, once, when no call runs any more.
  virtual void CloseAll() = 0;

  // Writes the stack of every thread to standard error within kStackDumpTime. The thread that leads, while anything
  // else runs.
  virtual void DumpStacks() { DumpAllStacks(); }
};

}  // namespace dirty::worker
