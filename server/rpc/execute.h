// The Arbiter service on the loop: unary Execute and server-streaming ExecuteStream.
//
// Owned by main. Loop-confined, but for construction and service(). It outlives Loop::Drain, after which none of its
// calls is left.
#pragma once

#include <functional>

#include "dirty/v1/arbiter.grpc.pb.h"
#include "server/dispatch/dispatcher.h"
#include "server/loop/loop.h"

namespace dirty {

class ArbiterService {
 public:
  explicit ArbiterService(Dispatcher& dispatcher) : dispatcher_(dispatcher) {}

  grpc::Service& service() { return service_; }

  // Takes calls from now on. Once the server has started.
  void Start(Loop& loop);

  // Calls `idle` once, from the loop, when no call is open: every answer was handed to the transport.
  void WhenIdle(std::function<void()> idle);

 private:
  class UnaryCall;
  class StreamCall;
  class SessionCall;

  void CallOpened() { ++open_; }
  void CallClosed();

  size_t open_ = 0;  // calls that arrived and are not over
  std::function<void()> idle_;
  Dispatcher& dispatcher_;
  Loop* loop_ = nullptr;
  v1::Arbiter::AsyncService service_;
};

}  // namespace dirty
