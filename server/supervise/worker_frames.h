// What the frames of one worker mean, in their order: events for the supervisor, and outcomes for the dispatcher.
// Apart from the link, which reads them, so that the frames of a hostile worker can be tried without a socket.
//
// Pure. Loop-confined. A link owns it.
#pragma once

#include "absl/status/status.h"
#include "dirty/v1/worker.pb.h"
#include "server/dispatch/dispatcher.h"
#include "server/supervise/worker_process.h"

namespace dirty {

inline constexpr uint32_t kLinkProtocolVersion = 1;

class WorkerFrames {
 public:
  WorkerFrames(WorkerId worker, WorkerLinks::Events& events, Dispatcher& dispatcher)
      : worker_(worker), events_(events), dispatcher_(dispatcher) {}

  // Moves out of the frame. An error: the worker violates the protocol, and why. Then the link is to be broken, and
  // nothing that the worker still says counts.
  absl::Status Handle(v1::WorkerFrame& frame);

 private:
  const WorkerId worker_;
  WorkerLinks::Events& events_;
  Dispatcher& dispatcher_;
  bool greeted_ = false;
  bool violated_ = false;
};

}  // namespace dirty
