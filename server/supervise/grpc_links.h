// The arbiter's side of the worker links: one connection and one Attach stream to each worker, on the loop's queue.
//
// Owned by main. Loop-confined. Frames are queued and written one at a time; messages are moved into them, not copied.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "server/loop/loop.h"
#include "server/supervise/worker_process.h"

namespace dirty {

class GrpcLinks final : public WorkerLinks, private WorkerLauncher::Events {
 public:
  struct Options {
    std::function<std::string(WorkerId)> socket_path;
    // Finds a native app's library; see LocateApp.
    std::function<std::string(const AppSettings&, const PoolSettings&)> locate;
    uint64_t max_message_size = 0;
    uint32_t max_json_depth = 0;
    double arbiter_start_time = 0;  // seconds since the epoch
  };

  // The loop and the dispatcher outlive it; Loop::Drain comes before its end.
  GrpcLinks(Loop& loop, Options options);
  ~GrpcLinks() override;

  // Before the first Open.
  void SetEvents(WorkerLinks::Events* events, Dispatcher* dispatcher) {
    events_ = events;
    dispatcher_ = dispatcher;
  }

  // What a launcher is to tell, so that `events` hears of an exit after everything that the worker had said: which app
  // it was initialising, which call it had ended. Before the first Open.
  WorkerLauncher::Events* BeforeExits(WorkerLauncher::Events* events) {
    exits_ = events;
    return this;
  }

  void Open(const WorkerSpec& spec) override;
  void Ping(WorkerId worker, uint64_t sequence) override;
  void Drain(WorkerId worker) override;
  void DumpStacks(WorkerId worker, uint64_t call) override;
  void ReopenLogs(WorkerId worker) override;
  WorkerPort* Port(WorkerId worker) override;
  void Close(WorkerId worker) override;

 private:
  class Link;

  // WorkerLauncher::Events
  void OnListening(WorkerId worker) override { exits_->OnListening(worker); }
  void OnExit(WorkerId worker, const ExitStatus& status) override;

  Link* Find(WorkerId worker);

  Loop& loop_;
  Options options_;
  WorkerLinks::Events* events_ = nullptr;
  Dispatcher* dispatcher_ = nullptr;
  WorkerLauncher::Events* exits_ = nullptr;
  absl::flat_hash_map<WorkerId, std::unique_ptr<Link>> links_;
  // Closed, until their last tag is back.
  absl::flat_hash_map<Link*, std::unique_ptr<Link>> closing_;
};

}  // namespace dirty
