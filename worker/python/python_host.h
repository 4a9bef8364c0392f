// Runs Python apps: the interpreter's side of a worker. Owned by RunWorker (worker_bindings.cc).
//
// What happens once is written in Python (the package dirty_worker); what happens on every call is here. The I/O thread
// never waits for the GIL: a cancellation is handed to a thread of its own, which does, and a dump of the stacks needs
// none. Executor threads keep their thread states.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "worker/python/extension/python_object.h"
#include "worker/runtime/app_host.h"
#include "worker/runtime/mutex.h"

namespace dirty::worker {

using python::Object;

class PythonHost final : public AppHost {
 public:
  // `apps`: a dirty_worker.Apps. `cancelled`: the exception class to raise in calls that are cancelled.
  // Made and destroyed without the GIL.
  PythonHost(Object apps, Object cancelled);
  ~PythonHost() override;

  // The signal at which faulthandler prints every thread's stack.
  static int StackDumpSignal();

  std::string Describe() const override;
  void Configure(const v1::WorkerConfig& config) override;
  LoadResult Load(const v1::AppSpec& spec) override;
  absl::Status FinishLoading() override;
  void Execute(Call& call, v1::CallDone& done) override;
  void OnCancelled(const Call& call) override;
  void CloseAll() override;
  void DumpStacks() override;

 private:
  // A call that runs. Guarded by the GIL.
  struct Running {
    unsigned long thread = 0;
    bool interruptible = false;  // user code runs on the thread itself
    bool interrupted = false;    // once is enough
    Object task;                 // of the event loop, that the thread waits for; has cancel()
  };
  class Attempt;  // one Execute

  void RunInterruptions();
  void Interrupt(uint64_t call);

  Object apps_, cancelled_;

  // Guarded by the GIL.
  absl::flat_hash_map<std::string, Object> callables_;
  absl::flat_hash_map<uint64_t, Running*> running_;

  Mutex mutex_;
  Condition changed_;
  std::vector<uint64_t> to_interrupt_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread interrupter_;
};

}  // namespace dirty::worker
