#include "server/rpc/status.h"

#include <string>
#include <utility>

#include "server/dispatch/text.h"

namespace dirty {
namespace {

// Bytes of the details that are not the error: two type URLs, code, text and lengths.
constexpr size_t kMaxError = kMaxDetails - kMaxStatusText - 256;

void Fit(v1::Error& error) {
  size_t size = error.ByteSizeLong();
  while (size > kMaxError && error.stderr_tail_size() > 1) {
    error.mutable_stderr_tail()->erase(error.stderr_tail().begin());
    size = error.ByteSizeLong();
  }
  auto cut = [&](std::string* field, size_t least, auto part) {
    if (size <= kMaxError || field->size() <= least) return;
    size_t excess = size - kMaxError;
    *field = std::string(part(*field, field->size() > excess + least ? field->size() - excess : least));
    size = error.ByteSizeLong();
  };
  if (!error.traceback().empty()) cut(error.mutable_traceback(), 1024, Ending);
  cut(error.mutable_message(), 1024, Beginning);
  if (!error.traceback().empty()) cut(error.mutable_traceback(), 0, Ending);
  if (error.stderr_tail_size() > 0) cut(error.mutable_stderr_tail(0), 0, Ending);
  cut(error.mutable_exception_type(), 128, Beginning);
  cut(error.mutable_message(), 0, Beginning);
  cut(error.mutable_app(), 256, Beginning);
  cut(error.mutable_action(), 256, Beginning);
}

}  // namespace

grpc::StatusCode CodeOf(v1::Reason reason) {
  switch (reason) {
    case v1::REASON_INVALID_REQUEST:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case v1::REASON_APP_NOT_FOUND:
      return grpc::StatusCode::NOT_FOUND;
    case v1::REASON_NO_WORKERS:
    case v1::REASON_SHUTTING_DOWN:
      return grpc::StatusCode::UNAVAILABLE;
    case v1::REASON_QUEUE_FULL:
    case v1::REASON_TOO_LARGE:
      return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case v1::REASON_QUEUE_TIMEOUT:
    case v1::REASON_TIMEOUT:
      return grpc::StatusCode::DEADLINE_EXCEEDED;
    case v1::REASON_CANCELLED:
      return grpc::StatusCode::CANCELLED;
    case v1::REASON_APP_ERROR:
      return grpc::StatusCode::UNKNOWN;
    case v1::REASON_WORKER_LOST:
      return grpc::StatusCode::ABORTED;
    case v1::REASON_PERMISSION_DENIED:
      return grpc::StatusCode::PERMISSION_DENIED;
    case v1::REASON_UNSPECIFIED:
    case v1::Reason_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::Reason_INT_MAX_SENTINEL_DO_NOT_USE_:
      return grpc::StatusCode::INTERNAL;
  }
  return grpc::StatusCode::INTERNAL;
}

namespace {

grpc::Status ToStatus(const v1::Error& error, grpc::StatusCode code) {
  v1::Error fitted = error;
  Fit(fitted);
  v1::RpcStatus status;
  status.set_code(code);
  status.set_message(std::string(Beginning(error.message(), kMaxStatusText)));
  status.add_details()->PackFrom(fitted);
  if (error.has_retry_delay()) {
    v1::RetryInfo retry;
    *retry.mutable_retry_delay() = error.retry_delay();
    google::protobuf::Any* detail = status.add_details();
    detail->set_type_url("type.googleapis.com/google.rpc.RetryInfo");
    retry.SerializeToString(detail->mutable_value());
  }
  std::string details;
  status.SerializeToString(&details);
  return grpc::Status(code, status.message(), std::move(details));
}

}  // namespace

grpc::Status ToStatus(const v1::Error& error) { return ToStatus(error, CodeOf(error.reason())); }

grpc::Status ToStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  v1::Error error;
  if (absl::IsInvalidArgument(status)) error.set_reason(v1::REASON_INVALID_REQUEST);
  error.set_message(std::string(status.message()));
  // The codes are the same by number.
  return ToStatus(error, static_cast<grpc::StatusCode>(status.code()));
}

}  // namespace dirty
