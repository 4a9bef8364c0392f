// Runs the operator's Python hooks, one after the other, in one helper process that lives as long as dirtyd: what a
// hook's module keeps in globals is there for the next one. The helper is `python -m dirty_worker.hooks`, started with
// the first hook; one that dies or overruns its time is replaced with the next.
//
// The helper's standard input is a socket: a line of JSON with function and event there, a line with the outcome back.
//
// Owned by main; outlives what runs hooks. Loop-confined, on the main thread. A hook that still runs when it goes is
// killed, without a word to anybody.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/loop/timers.h"
#include "server/supervise/child_process.h"
#include "server/supervise/hook_runner.h"

namespace dirty {

class PythonHooks final : public HookRunner {
 public:
  struct Options {
    std::string libexec_folder;            // has dirty-exec
    std::string python_folder;             // has the package dirty_worker
    std::string client_socket;             // $DIRTY_SOCKET of the helper
    std::string admin_socket;              // $DIRTY_ADMIN_SOCKET of the helper
    std::vector<std::string> environment;  // dirtyd's own, "NAME=value"
    rlim_t descriptor_limit = 0;           // the soft limit that dirtyd was started with (RaiseDescriptorLimit)
    // Whose interpreter, search path and folder the helper has. Asked for when it starts.
    std::function<const PoolSettings&()> pool;
    std::function<void()> after_reap;  // on the loop, after the helper was reaped (ReapStrangers); may be empty
  };

  // The watcher may end before it; the others outlive it.
  PythonHooks(Options options, Watcher& watcher, Poster& poster, TimerQueue& timers, Logger& log);
  ~PythonHooks() override;

  void Run(const HookSettings& hook, const v1::HookEvent& event, absl::Duration timeout,
           std::function<void(absl::Status)> done) override;

  // The next hook starts a helper anew, with the code as it is by then: for a reload. The one that runs ends first.
  void Renew();

  // Calls back once, on the loop, never from within, when no hook runs or waits. One at a time.
  void WhenIdle(std::function<void()> idle);

  // Whether `pid` is the helper, not reaped yet.
  bool Owns(pid_t pid) const { return helper_ != nullptr && helper_->pid() == pid; }

 private:
  struct Job {
    std::string hook;
    WorkerId worker = 0;
    std::string request;
    absl::Duration timeout;
    std::function<void(absl::Status)> done;
  };

  void StartNext();
  absl::Status StartHelper();
  std::vector<std::string> Arguments(const PoolSettings& pool) const;
  std::vector<std::string> Environment(const PoolSettings& pool) const;
  void OnReply(uint64_t helper, const std::string& data);
  void OnDead();
  void LetHelperGo();
  void Finish(const std::string& failure);
  void TellIfIdle();
  void Post(std::function<void()> work);

  const Options options_;
  Watcher& watcher_;
  Poster& poster_;
  TimerQueue& timers_;
  Logger& log_;
  const absl::Time started_at_;
  std::unique_ptr<ChildProcess> helper_;
  uint64_t helper_number_ = 0;
  int channel_ = -1;  // ours of the socket, owned by the watcher; -1: none
  Watcher::Id channel_watch_ = 0;
  std::string replies_;   // not yet a line
  std::deque<Job> jobs_;  // the first one runs
  bool timed_out_ = false;
  bool renew_ = false;
  bool leaving_ = false;  // the helper was killed to be renewed, and is not dead yet
  TimerQueue::TimerId timer_ = 0;
  std::function<void()> idle_;
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace dirty
