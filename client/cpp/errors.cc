#include "client/cpp/errors.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include <iterator>
#include <utility>

namespace dirty::client::internal {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

template <typename Repeated>
std::vector<std::string> TakeAll(Repeated* values) {
  return {std::make_move_iterator(values->begin()), std::make_move_iterator(values->end())};
}

Reason ReasonOf(v1::Reason reason) {
  return v1::Reason_IsValid(reason) ? static_cast<Reason>(static_cast<int>(reason)) : Reason::kUnknown;
}

static_assert(static_cast<int>(Reason::kInvalidRequest) == v1::REASON_INVALID_REQUEST);
static_assert(static_cast<int>(Reason::kPermissionDenied) == v1::Reason_MAX, "a reason without a name here");

// The transport said no: the arbiter never saw the call, or its answer was lost.
Error FromTransport(const grpc::Status& status, const std::string& path) {
  switch (status.error_code()) {
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return {.reason = Reason::kTooLarge,
              .message = absl::StrCat("refused by the transport: ", status.error_message())};
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return {.reason = Reason::kTimeout,
              .message = absl::StrCat("no answer from ", path, " in time: outcome unknown")};
    case grpc::StatusCode::CANCELLED:
      return {.reason = Reason::kCancelled, .message = "cancelled"};
    case grpc::StatusCode::PERMISSION_DENIED:
      return {.reason = Reason::kPermissionDenied, .message = status.error_message()};
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::UNKNOWN:
      return {.reason = Reason::kOutcomeUnknown,
              .message = absl::StrCat("outcome unknown: the connection to ", path, " broke during the call (",
                                      status.error_message(), ")")};
    default:
      return {.reason = Reason::kUnknown,
              .message = absl::StrCat(status.error_message(), " (gRPC code ", status.error_code(), ", ", path, ")")};
  }
}

}  // namespace

nanoseconds FromProto(const google::protobuf::Duration& time) {
  return seconds(time.seconds()) + nanoseconds(time.nanos());
}

google::protobuf::Duration ToProto(nanoseconds time) {
  google::protobuf::Duration proto;
  const auto whole = std::chrono::duration_cast<seconds>(time);
  proto.set_seconds(whole.count());
  proto.set_nanos(static_cast<int>((time - whole).count()));
  return proto;
}

Error FromProto(v1::Error&& error) {
  Error result{.reason = ReasonOf(error.reason()),
               .message = std::move(*error.mutable_message()),
               .app = std::move(*error.mutable_app()),
               .action = std::move(*error.mutable_action()),
               .call_id = std::move(*error.mutable_call_id()),
               .worker_id = error.worker_id(),
               .exception_type = std::move(*error.mutable_exception_type()),
               .traceback = std::move(*error.mutable_traceback()),
               .signal = std::move(*error.mutable_signal()),
               .stderr_tail = TakeAll(error.mutable_stderr_tail())};
  if (error.has_retry_delay()) result.retry_delay = FromProto(error.retry_delay());
  if (error.has_timeout()) result.timeout = FromProto(error.timeout());
  if (error.has_exit_code()) result.exit_code = error.exit_code();
  return result;
}

Error FromStatus(const grpc::Status& status, const std::string& path) {
  v1::RpcStatus details;
  std::optional<Error> result;
  std::optional<nanoseconds> retry_delay;
  if (!status.error_details().empty() && details.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& detail : details.details()) {
      v1::Error error;
      v1::RetryInfo retry;
      if (detail.Is<v1::Error>() && detail.UnpackTo(&error)) {
        result = FromProto(std::move(error));
      } else if (absl::EndsWith(detail.type_url(), "/google.rpc.RetryInfo") && retry.ParseFromString(detail.value())) {
        retry_delay = FromProto(retry.retry_delay());
      }
    }
  }
  if (!result) result = FromTransport(status, path);
  if (!result->retry_delay) result->retry_delay = retry_delay;
  return *std::move(result);
}

std::optional<Error> TooLarge(std::size_t size, std::uint64_t limit) {
  if (limit == 0 || size <= limit) return std::nullopt;
  return Error{.reason = Reason::kTooLarge,
               .message = absl::StrCat("the request has ", size, " bytes, max_message_size is ", limit)};
}

RawResponse FromProto(v1::ExecuteResponse&& response) {
  return {.result = std::move(*response.mutable_result()),
          .attachments = TakeAll(response.mutable_attachments()),
          .call_id = std::move(*response.mutable_call_id()),
          .worker_id = response.worker_id(),
          .queued_time = FromProto(response.queued_time()),
          .run_time = FromProto(response.run_time())};
}

RawChunk FromProto(v1::Chunk&& chunk) {
  return {.value = std::move(*chunk.mutable_value()), .attachments = TakeAll(chunk.mutable_attachments())};
}

}  // namespace dirty::client::internal
