#include "server/rpc/health.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/loop/check.h"

namespace dirty {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// A watch keeps its service's name; no app has a longer one.
constexpr size_t kLongestName = 4096;
// Of all clients together: whoever reaches the network's port may ask, without a token.
constexpr size_t kMostWatches = 1000;

HealthCheckResponse::ServingStatus ToProto(std::optional<bool> serving) {
  if (!serving.has_value()) return HealthCheckResponse::SERVICE_UNKNOWN;
  return *serving ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

grpc::Status Unavailable() { return {grpc::StatusCode::UNAVAILABLE, "dirtyd is shutting down"}; }

}  // namespace

// One Check, from waiting for a client to the answer. Deletes itself.
class HealthService::CheckCall {
 public:
  explicit CheckCall(HealthService* health) : health_(health), responder_(&context_) {
    ++health_->calls_;
    auto* queue = health_->loop_->queue();
    health_->service_.RequestCheck(&context_, &request_, &responder_, queue, queue, &requested_);
  }
  ~CheckCall() { --health_->calls_; }

 private:
  void OnRequested(bool ok) {
    if (!ok) {
      delete this;
      return;
    }
    if (!health_->stopping_) new CheckCall(health_);
    std::optional<bool> serving = health_->source_.Serving(request_.service());
    if (!serving.has_value()) {
      responder_.FinishWithError(
          grpc::Status(grpc::StatusCode::NOT_FOUND,
                       "no such service: known are the empty name, dirty.v1.Arbiter and the names of apps"),
          &finished_);
      return;
    }
    HealthCheckResponse response;
    response.set_status(ToProto(serving));
    responder_.Finish(response, grpc::Status::OK, &finished_);
  }

  void OnFinished(bool) { delete this; }

  HealthService* health_;
  grpc::ServerContext context_;
  HealthCheckRequest request_;
  grpc::ServerAsyncResponseWriter<HealthCheckResponse> responder_;
  MemberCompletion<CheckCall> requested_{this, &CheckCall::OnRequested};
  MemberCompletion<CheckCall> finished_{this, &CheckCall::OnFinished};
};

// One Watch. Deletes itself when gRPC says that the call is done and no operation of it is under way.
class HealthService::WatchCall {
 public:
  explicit WatchCall(HealthService* health) : health_(health), writer_(&context_) {
    ++health_->calls_;
    context_.AsyncNotifyWhenDone(&done_tag_);
    auto* queue = health_->loop_->queue();
    health_->service_.RequestWatch(&context_, &request_, &writer_, queue, queue, &requested_);
  }
  ~WatchCall() { --health_->calls_; }

  // Sends the status if it is news and nothing is under way.
  void Update() {
    if (busy_ || ending_ || done_) return;
    HealthCheckResponse response;
    if (!News(&response)) return;
    busy_ = true;
    writer_.Write(response, &written_);
  }

  // Ends the stream, once what is under way has been taken.
  void End(grpc::Status status) {
    if (ending_) return;
    ending_ = true;
    end_status_ = std::move(status);
    if (!busy_ && !done_) Finish();
  }

 private:
  void OnRequested(bool ok) {
    if (!ok) {
      delete this;  // the done tag of a call that never was does not come
      return;
    }
    if (!health_->stopping_) new WatchCall(health_);
    health_->watches_.insert(this);
    if (request_.service().size() > kLongestName) {
      broken_ = true;
      End(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "the service's name is too long"));
    } else if (health_->stopping_) {
      End(Unavailable());
    } else if (health_->watches_.size() > kMostWatches) {
      broken_ = true;
      End(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                       absl::StrCat(kMostWatches, " health watches are open, which is as many as may be; use Check")));
    } else {
      Update();
    }
  }

  void OnWritten(bool ok) {
    busy_ = false;
    if (!ok) broken_ = true;  // the client has left: the done tag says so too
    if (done_) {
      delete this;
    } else if (ending_) {
      Finish();
    } else if (!broken_) {
      Update();
    }
  }

  void OnFinished(bool) {
    busy_ = false;
    if (done_) delete this;
  }

  void OnDone(bool) {
    done_ = true;
    health_->watches_.erase(this);
    if (!busy_) delete this;
  }

  void Finish() {
    busy_ = true;
    HealthCheckResponse response;
    if (!broken_ && News(&response)) {
      writer_.WriteAndFinish(response, grpc::WriteOptions(), end_status_, &finished_);
    } else {
      writer_.Finish(end_status_, &finished_);
    }
  }

  // Whether the status differs from the last one sent; it counts as sent then.
  bool News(HealthCheckResponse* response) {
    HealthCheckResponse::ServingStatus status = ToProto(health_->source_.Serving(request_.service()));
    if (status == last_sent_) return false;
    last_sent_ = status;
    response->set_status(status);
    return true;
  }

  HealthService* health_;
  grpc::ServerContext context_;
  HealthCheckRequest request_;
  grpc::ServerAsyncWriter<HealthCheckResponse> writer_;
  std::optional<HealthCheckResponse::ServingStatus> last_sent_;
  grpc::Status end_status_;
  bool busy_ = false;    // a write or the finish is under way
  bool ending_ = false;  // it finishes when not busy
  bool broken_ = false;  // no more statuses: a write failed, or the request is not one
  bool done_ = false;    // gRPC is through with the call
  MemberCompletion<WatchCall> requested_{this, &WatchCall::OnRequested};
  MemberCompletion<WatchCall> written_{this, &WatchCall::OnWritten};
  MemberCompletion<WatchCall> finished_{this, &WatchCall::OnFinished};
  MemberCompletion<WatchCall> done_tag_{this, &WatchCall::OnDone};
};

HealthService::HealthService(HealthSource& source) : source_(source) {}

HealthService::~HealthService() { DIRTY_CHECK(calls_ == 0, "health calls outlived the loop: ", calls_); }

void HealthService::Start(Loop& loop) {
  loop_ = &loop;
  new CheckCall(this);
  new WatchCall(this);
}

void HealthService::Changed() {
  for (WatchCall* watch : watches_) watch->Update();
}

void HealthService::Shutdown() {
  if (std::exchange(stopping_, true)) return;
  for (WatchCall* watch : watches_) watch->End(Unavailable());
}

}  // namespace dirty
