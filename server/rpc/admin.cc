#include "server/rpc/admin.h"

#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/dispatch/errors.h"
#include "server/rpc/listener.h"
#include "server/rpc/status.h"
#include "server/rpc/unary.h"

namespace dirty {
namespace {

// Nullopt: the call came by the admin socket.
std::optional<grpc::Status> Refusal(const grpc::ServerContext& context, const char* name) {
  if (IsAdmin(context)) return std::nullopt;
  return ToStatus(*errors::PermissionDenied(absl::StrCat("Admin.", name)));
}

grpc::Status Unbuilt(const char* name) {
  return grpc::Status(grpc::StatusCode::UNIMPLEMENTED,
                      absl::StrCat("dirty.v1.Admin.", name, " is not built in this version of dirtyd"));
}

}  // namespace

// Admin.Watch, until it is built.
class AdminService::WatchCall final {
 public:
  WatchCall(AdminService& owner, Loop& loop) : owner_(owner), loop_(loop), writer_(&context_) {
    owner_.service_.RequestWatch(&context_, &request_, &writer_, loop_.queue(), loop_.queue(), &arrived_);
  }

 private:
  void OnArrived(bool ok) {
    if (!ok) {
      delete this;
      return;
    }
    new WatchCall(owner_, loop_);
    writer_.Finish(Refusal(context_, "Watch").value_or(Unbuilt("Watch")), &answered_);
  }
  void OnAnswered(bool) { delete this; }

  AdminService& owner_;
  Loop& loop_;
  grpc::ServerContext context_;
  v1::WatchRequest request_;
  grpc::ServerAsyncWriter<v1::Event> writer_;
  MemberCompletion<WatchCall> arrived_{this, &WatchCall::OnArrived};
  MemberCompletion<WatchCall> answered_{this, &WatchCall::OnAnswered};
};

template <typename Base, typename Request, typename Response>
void AdminService::NotBuilt(Loop& loop, const char* name,
                            void (Base::*arm)(grpc::ServerContext*, Request*,
                                              grpc::ServerAsyncResponseWriter<Response>*, grpc::CompletionQueue*,
                                              grpc::ServerCompletionQueue*, void*)) {
  UnaryRpc<v1::Admin::AsyncService, Request, Response>::Start(
      loop, service_, arm, [name](const grpc::ServerContext& context, const Request&, auto reply) {
        reply(Refusal(context, name).value_or(Unbuilt(name)), {});
      });
}

void AdminService::Start(Loop& loop) {
  using Service = v1::Admin::AsyncService;
  UnaryRpc<Service, v1::StatusRequest, v1::StatusResponse>::Start(
      loop, service_, &Service::RequestStatus,
      [this](const grpc::ServerContext& context, const v1::StatusRequest&, auto reply) {
        if (auto refusal = Refusal(context, "Status")) return reply(*refusal, {});
        reply(grpc::Status::OK, arbiter_.Status());
      });
  UnaryRpc<Service, v1::ShutdownRequest, v1::ShutdownResponse>::Start(
      loop, service_, &Service::RequestShutdown,
      [this](const grpc::ServerContext& context, const v1::ShutdownRequest& request, auto reply) {
        if (auto refusal = Refusal(context, "Shutdown")) return reply(*refusal, {});
        bool immediate = request.immediate();
        reply(grpc::Status::OK, {});
        arbiter_.Shutdown(immediate, "Admin.Shutdown");
      });
  NotBuilt(loop, "Reload", &Service::RequestReload);
  NotBuilt(loop, "Restart", &Service::RequestRestart);
  NotBuilt(loop, "Scale", &Service::RequestScale);
  NotBuilt(loop, "Cancel", &Service::RequestCancel);
  NotBuilt(loop, "ReopenLogs", &Service::RequestReopenLogs);
  NotBuilt(loop, "SetLogLevel", &Service::RequestSetLogLevel);
  NotBuilt(loop, "Metrics", &Service::RequestMetrics);
  new WatchCall(*this, loop);
}

}  // namespace dirty
