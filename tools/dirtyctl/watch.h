#ifndef DIRTY_TOOLS_DIRTYCTL_WATCH_H_
#define DIRTY_TOOLS_DIRTYCTL_WATCH_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "dirty/v1/admin.grpc.pb.h"

namespace dirty::ctl {

// `12:01:02.003  worker 1 (pid 12): ready`, after a line for events that were missed. Ends with a newline.
std::string EventText(const v1::Event& event);

// Prints events to standard output until dirtyd goes away; the exit code. SIGINT and SIGTERM end the program with 0.
int PrintEvents(v1::Admin::Stub& admin, const std::string& socket, bool json);

// Prints events to standard error, from a thread of its own, while another RPC runs. Where they cannot be had, there
// are none. One thread makes and ends it.
class Progress {
 public:
  explicit Progress(v1::Admin::Stub& admin);
  ~Progress();

  // No more. `reloaded`: the event that ends a reload is sure to come, so it is waited for, if not for long.
  void End(bool reloaded);

 private:
  void Print();

  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientReader<v1::Event>> reader_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool complete_ = false;  // guarded by mutex_: the reload's end was printed, or there are no more events
  std::thread thread_;
};

}  // namespace dirty::ctl

#endif  // DIRTY_TOOLS_DIRTYCTL_WATCH_H_
