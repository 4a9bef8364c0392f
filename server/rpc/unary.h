// A unary RPC on the loop: arms itself, calls a handler, answers when the handler's reply is called.
//
// The handler gets a Reply that it calls exactly once, at once or later, on the loop. Objects own themselves and are
// gone after Loop::Drain.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <utility>

#include "server/loop/loop.h"

namespace dirty {

template <typename Service, typename Request, typename Response>
class UnaryRpc {
 public:
  using Reply = std::function<void(const grpc::Status& status, const Response& response)>;
  using Handler = std::function<void(const grpc::ServerContext& context, const Request& request, Reply reply)>;
  using Arm = void (Service::*)(grpc::ServerContext*, Request*, grpc::ServerAsyncResponseWriter<Response>*,
                                grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*);

  // Takes calls from now on.
  static void Start(Loop& loop, Service& service, Arm arm, Handler handler) {
    new UnaryRpc(loop, service, arm, std::make_shared<Handler>(std::move(handler)));
  }

 private:
  UnaryRpc(Loop& loop, Service& service, Arm arm, std::shared_ptr<Handler> handler)
      : loop_(loop), service_(service), arm_(arm), handler_(std::move(handler)), responder_(&context_) {
    (service_.*arm_)(&context_, &request_, &responder_, loop_.queue(), loop_.queue(), &arrived_);
  }

  void OnArrived(bool ok) {
    if (!ok) {
      delete this;
      return;
    }
    new UnaryRpc(loop_, service_, arm_, handler_);
    (*handler_)(context_, request_, [this](const grpc::Status& status, const Response& response) {
      if (status.ok()) {
        responder_.Finish(response, status, &answered_);
      } else {
        responder_.FinishWithError(status, &answered_);
      }
    });
  }

  void OnAnswered(bool) { delete this; }

  Loop& loop_;
  Service& service_;
  const Arm arm_;
  const std::shared_ptr<Handler> handler_;
  grpc::ServerContext context_;
  Request request_;
  grpc::ServerAsyncResponseWriter<Response> responder_;
  MemberCompletion<UnaryRpc> arrived_{this, &UnaryRpc::OnArrived};
  MemberCompletion<UnaryRpc> answered_{this, &UnaryRpc::OnAnswered};
};

}  // namespace dirty
