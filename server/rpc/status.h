// Errors as gRPC statuses: the code of each reason, and details that fit into the trailing metadata.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "dirty/v1/call.pb.h"

namespace dirty {

// Metadata, status text and details together must stay below 8 KiB in several languages, after percent-encoding.
inline constexpr size_t kMaxStatusText = 256;
inline constexpr size_t kMaxDetails = 4096;

// The status of an error: its code, its text's beginning, and a RpcStatus with the error (and, of QUEUE_FULL, a
// RetryInfo) as details. What is too long is cut: stderr lines and tracebacks keep their end.
grpc::Status ToStatus(const v1::Error& error);

// The status of what an operator asked for and cannot have: the same code, its whole text in the details' Error.
grpc::Status ToStatus(const absl::Status& status);

// The code of a reason: the table in docs/architecture.md.
grpc::StatusCode CodeOf(v1::Reason reason);

}  // namespace dirty
