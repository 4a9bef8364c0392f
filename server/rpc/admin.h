// The Admin service on the loop. On the client socket every RPC of it is PERMISSION_DENIED.
//
// Owned by main. Loop-confined, but for construction and service(). It outlives Loop::Drain.
#pragma once

#include <functional>
#include <utility>

#include "dirty/v1/admin.grpc.pb.h"
#include "server/arbiter.h"
#include "server/loop/loop.h"
#include "server/observe/metrics.h"

namespace dirty {

class AdminService {
 public:
  // `metrics`: a snapshot of everything.
  AdminService(Arbiter& arbiter, std::function<MetricsSnapshot()> metrics)
      : arbiter_(arbiter), metrics_(std::move(metrics)) {}

  grpc::Service& service() { return service_; }

  // Takes calls from now on. Once the server has started.
  void Start(Loop& loop);

 private:
  // `Base`: where gRPC's generated service declares the method.
  template <typename Base, typename Request, typename Response, typename Handle>
  void Serve(Loop& loop, const char* name,
             void (Base::*arm)(grpc::ServerContext*, Request*, grpc::ServerAsyncResponseWriter<Response>*,
                               grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*),
             Handle handle);

  Arbiter& arbiter_;
  const std::function<MetricsSnapshot()> metrics_;
  v1::Admin::AsyncService service_;
};

}  // namespace dirty
