// The Arbiter service on the loop: unary Execute, server-streaming ExecuteStream, and Session (session.h).
//
// Owned by main. Loop-confined, but for construction and service(). It outlives Loop::Drain, after which none of its
// calls is left.
#pragma once

#include <functional>

#include "absl/container/flat_hash_set.h"
#include "dirty/v1/arbiter.grpc.pb.h"
#include "server/config/settings.h"
#include "server/dispatch/dispatcher.h"
#include "server/loop/loop.h"

namespace dirty {

class ArbiterService {
 public:
  // `settings`: as the last reload left them; max_calls_per_session and max_message_size are read from there.
  ArbiterService(Dispatcher& dispatcher, const Settings& settings) : dispatcher_(dispatcher), settings_(settings) {}

  grpc::Service& service() { return service_; }

  // Takes calls from now on. Once the server has started.
  void Start(Loop& loop);

  // Sessions that are open.
  size_t sessions() const { return sessions_.size(); }

  // Calls `idle` once, from the loop, when no call is open: every answer was handed to the transport. Sessions end now,
  // with UNAVAILABLE, each when its calls are answered.
  void WhenIdle(std::function<void()> idle);

 private:
  class Rpc;
  class UnaryCall;
  class StreamCall;
  class Session;

  // The generated service, but that a session may read its frames as a type of our own.
  class Service final : public v1::Arbiter::AsyncService {
   public:
    void RequestSession(grpc::ServerContext* context, grpc::internal::ServerAsyncStreamingInterface* stream,
                        grpc::ServerCompletionQueue* queue, void* tag);
  };

  void CallOpened() { ++open_; }
  void CallClosed();

  size_t open_ = 0;  // calls and sessions that arrived and are not over
  bool stopping_ = false;
  std::function<void()> idle_;
  absl::flat_hash_set<Session*> sessions_;
  Dispatcher& dispatcher_;
  const Settings& settings_;
  Loop* loop_ = nullptr;
  Service service_;
};

}  // namespace dirty
