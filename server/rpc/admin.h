// The Admin service on the loop. On the client socket every RPC of it is PERMISSION_DENIED.
//
// Owned by main. Loop-confined, but for construction and service(). It outlives Loop::Drain.
#pragma once

#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
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

  ~AdminService() { Join(); }

  // Takes calls from now on. Once the server has started.
  void Start(Loop& loop);

  // Starts no thread any more and waits for the one that it has. What that posts is to be run by the loop, while
  // answers can still be sent: before the server is shut down.
  void Stop();

 private:
  using MetricsDone = std::function<void(const absl::StatusOr<v1::MetricsResponse>&)>;

  // `Base`: where gRPC's generated service declares the method.
  template <typename Base, typename Request, typename Response, typename Handle>
  void Serve(Loop& loop, const char* name,
             void (Base::*arm)(grpc::ServerContext*, Request*, grpc::ServerAsyncResponseWriter<Response>*,
                               grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*),
             Handle handle);

  // Answers those who wait for metrics. The text is made on a thread: of 1,000 apps it took 50 ms with one action each,
  // and 300 ms with eight.
  void Render(Loop& loop);
  void OnRendered(Loop& loop, const absl::StatusOr<v1::MetricsResponse>& response);
  void Join();

  Arbiter& arbiter_;
  const std::function<MetricsSnapshot()> metrics_;
  v1::Admin::AsyncService service_;
  std::vector<MetricsDone> waiting_;   // for the next text, which they share
  std::vector<MetricsDone> rendered_;  // for the one that is being made
  bool rendering_ = false;
  bool stopped_ = false;
  std::thread renderer_;
};

}  // namespace dirty
