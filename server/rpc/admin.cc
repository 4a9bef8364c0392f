#include "server/rpc/admin.h"

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/dispatch/errors.h"
#include "server/loop/start_thread.h"
#include "server/rpc/listener.h"
#include "server/rpc/status.h"
#include "server/rpc/unary.h"
#include "server/rpc/watch.h"

namespace dirty {
namespace {

absl::Status Ending() { return absl::UnavailableError("dirtyd is shutting down"); }

}  // namespace

// An RPC of which the answer is there at once, or comes later: `handle(request, done)`, with an absl::StatusOr.
template <typename Base, typename Request, typename Response, typename Handle>
void AdminService::Serve(Loop& loop, const char* name,
                         void (Base::*arm)(grpc::ServerContext*, Request*, grpc::ServerAsyncResponseWriter<Response>*,
                                           grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*),
                         Handle handle) {
  UnaryRpc<v1::Admin::AsyncService, Request, Response>::Start(
      loop, service_, arm, [name, handle](const grpc::ServerContext& context, const Request& request, auto reply) {
        if (!IsAdmin(context)) return reply(ToStatus(*errors::PermissionDenied(absl::StrCat("Admin.", name))), {});
        handle(request, [reply](const absl::StatusOr<Response>& response) {
          response.ok() ? reply(grpc::Status::OK, *response) : reply(ToStatus(response.status()), {});
        });
      });
}

void AdminService::Start(Loop& loop) {
  using Service = v1::Admin::AsyncService;
  Serve(loop, "Status", &Service::RequestStatus,
        [this](const v1::StatusRequest&, auto done) { done(arbiter_.Status()); });
  Serve(loop, "Reload", &Service::RequestReload,
        [this](const v1::ReloadRequest& request, auto done) { arbiter_.Reload(request, "Admin.Reload", done); });
  Serve(loop, "Restart", &Service::RequestRestart,
        [this](const v1::RestartRequest& request, auto done) { arbiter_.Restart(request, done); });
  Serve(loop, "Scale", &Service::RequestScale,
        [this](const v1::ScaleRequest& request, auto done) { done(arbiter_.Scale(request)); });
  Serve(loop, "Cancel", &Service::RequestCancel,
        [this](const v1::CancelRequest& request, auto done) { done(arbiter_.Cancel(request)); });
  Serve(loop, "Shutdown", &Service::RequestShutdown, [this](const v1::ShutdownRequest& request, auto done) {
    bool immediate = request.immediate();  // the request is gone once it is answered
    done(v1::ShutdownResponse());
    arbiter_.Shutdown(immediate, "Admin.Shutdown");
  });
  Serve(loop, "ReopenLogs", &Service::RequestReopenLogs, [this](const v1::ReopenLogsRequest&, auto done) {
    arbiter_.ReopenLogs("Admin.ReopenLogs");
    done(v1::ReopenLogsResponse());
  });
  Serve(loop, "SetLogLevel", &Service::RequestSetLogLevel,
        [this](const v1::SetLogLevelRequest& request, auto done) { done(arbiter_.SetLogLevel(request)); });
  Serve(loop, "Metrics", &Service::RequestMetrics, [this, &loop](const v1::MetricsRequest&, auto done) {
    if (stopped_) return done(Ending());
    waiting_.push_back(std::move(done));
    if (!rendering_) Render(loop);
  });
  StartWatch(service_, arbiter_, loop);
}

void AdminService::Render(Loop& loop) {
  Join();
  rendering_ = true;
  rendered_ = std::exchange(waiting_, {});
  absl::StatusOr<std::thread> thread = StartThread([this, &loop, snapshot = metrics_()] {
    v1::MetricsResponse response;
    response.set_text(RenderMetrics(snapshot, ReadProcessMetrics()));
    loop.Post([this, &loop, response = std::move(response)] { OnRendered(loop, response); });
  });
  if (thread.ok()) {
    renderer_ = *std::move(thread);
  } else {
    OnRendered(loop, thread.status());
  }
}

void AdminService::OnRendered(Loop& loop, const absl::StatusOr<v1::MetricsResponse>& response) {
  rendering_ = false;
  for (const MetricsDone& done : std::exchange(rendered_, {})) done(response);
  if (!waiting_.empty() && !stopped_) return Render(loop);
  for (const MetricsDone& done : std::exchange(waiting_, {})) done(Ending());
}

void AdminService::Stop() {
  stopped_ = true;
  Join();
}

void AdminService::Join() {
  if (renderer_.joinable()) renderer_.join();
}

}  // namespace dirty
