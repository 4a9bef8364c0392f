// Runs the operator's hooks as programs, through the exec helper, as dirtyd's own user. The event comes as one line of
// JSON on standard input; what they print goes to the log, with the hook's name.
//
// Owned by main; outlives what runs hooks. Loop-confined, on the main thread. Hooks that still run when it goes are
// killed, without a word to anybody.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "server/loop/timers.h"
#include "server/supervise/child_process.h"
#include "server/supervise/hook_runner.h"

namespace dirty {

class ExecHooks final : public HookRunner {
 public:
  struct Options {
    std::string libexec_folder;            // has dirty-exec
    std::string client_socket;             // $DIRTY_SOCKET of the hooks
    std::string admin_socket;              // $DIRTY_ADMIN_SOCKET of the hooks
    std::vector<std::string> environment;  // dirtyd's own, "NAME=value"
    rlim_t descriptor_limit = 0;           // the soft limit that dirtyd was started with (RaiseDescriptorLimit)
    std::function<void()> after_reap;      // on the loop, after each hook was reaped (ReapStrangers); may be empty
  };

  // The watcher may end before it; the others outlive it.
  ExecHooks(Options options, Watcher& watcher, Poster& poster, TimerQueue& timers, Logger& log);
  ~ExecHooks() override;

  void Run(const HookSettings& hook, const v1::HookEvent& event, absl::Duration timeout,
           std::function<void(absl::Status)> done) override;

  // Calls back once, on the loop, never from within, when no hook runs or waits: at the end, so that the last ones are
  // not cut off. One at a time.
  void WhenIdle(std::function<void()> idle);

  // Whether `pid` is a hook that was not reaped yet.
  bool Owns(pid_t pid) const;

 private:
  struct Job {
    std::string hook;  // its name
    std::vector<std::string> command;
    std::string input;
    absl::Duration timeout;
    std::function<void(absl::Status)> done;
    std::unique_ptr<ChildProcess> process;  // once it runs
    TimerQueue::TimerId timer = 0;
    bool timed_out = false;
  };
  using Jobs = std::deque<Job>;  // the first one runs

  void StartNext(WorkerId worker);
  void OnDead(WorkerId worker);
  // Ends the first job of the worker. `failure` is empty if all went well.
  void Finish(WorkerId worker, const std::string& failure);
  void TellIfIdle();
  // Later, on the loop, unless this is gone.
  void Post(std::function<void()> work);

  const Options options_;
  Watcher& watcher_;
  Poster& poster_;
  TimerQueue& timers_;
  Logger& log_;
  std::vector<std::string> environment_;
  absl::flat_hash_map<WorkerId, Jobs> jobs_;  // none is empty
  std::function<void()> idle_;
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace dirty
