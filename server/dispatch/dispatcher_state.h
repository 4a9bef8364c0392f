// What the dispatcher keeps of calls, apps and workers. Of dispatcher*.cc only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/dispatch/action_times.h"
#include "server/dispatch/dispatcher.h"
#include "server/dispatch/load_shedder.h"
#include "server/dispatch/recent_times.h"

namespace dirty {

// Until an app has ended a call, QUEUE_FULL guesses that one takes this long.
inline constexpr absl::Duration kFirstServiceTime = absl::Seconds(1);

// A call waits (no worker), runs (a worker and a listener), or holds its slot after its caller had an answer (a
// worker, no listener).
struct Dispatcher::Call {
  CallNumber number = 0;
  App* app = nullptr;
  Worker* worker = nullptr;
  CallListener* listener = nullptr;
  std::unique_ptr<v1::ExecuteRequest> request;  // until it starts
  std::string call_id;
  std::string request_id;
  std::string action;
  std::string traceparent;
  bool stream = false;
  bool asked_to_stop = false;
  bool will_be_killed = false;
  uint32_t credits = 0;  // chunks that the worker may send, or will once it has the call
  bool has_streamed = false;
  absl::Duration idle_timeout = absl::InfiniteDuration();  // of a stream
  absl::Time chunk_due = absl::InfiniteFuture();           // the next one; infinite while the reader holds it up
  absl::Time queued_at;
  absl::Time started_at;
  absl::Time caller_deadline;  // waiting and running
  absl::Time queue_deadline;   // of waiting
  absl::Time run_deadline;
  TimerQueue::TimerId timer = 0;
  Call* previous = nullptr;  // in its app's queue
  Call* next = nullptr;
};

struct Dispatcher::App {
  std::string name;
  std::string path;
  LimitSettings limits;
  bool configured = true;  // false: removed, kept for the calls that it still has
  bool leaving = false;    // to be removed once its last worker drains
  bool available = true;
  std::string why;
  uint32_t slots = 0;                               // of its ready workers
  absl::Duration service_time = kFirstServiceTime;  // moving average of run times
  LoadShedder shedder;
  Call* head = nullptr;
  Call* tail = nullptr;
  uint32_t queued = 0;
  uint32_t running = 0;  // callers that still wait
  uint32_t holding = 0;  // calls on slots, answered or not
  std::vector<Worker*> workers;
  v1::Counters counters;
  RecentTimes waited;  // of the calls that started
  RecentTimes ran;
  ActionTimes times;    // since the start
  uint64_t chunks = 0;  // passed on
};

struct Dispatcher::Worker {
  WorkerId id = 0;
  uint32_t slots = 0;
  bool draining = false;
  uint64_t calls = 0;  // ended
  WorkerPort* port = nullptr;
  std::vector<App*> apps;
  std::vector<Call*> running;

  // One that drains still runs what waits for removed apps that nobody else has.
  bool HasFreeSlot() const { return (!draining || !apps.empty()) && running.size() < slots; }
};

}  // namespace dirty
