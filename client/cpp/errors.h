#ifndef DIRTY_CLIENT_CPP_ERRORS_H_
#define DIRTY_CLIENT_CPP_ERRORS_H_

// From dirty.v1 and gRPC to the client's own types. Stateless.

#include <grpcpp/support/status.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "dirty/client_types.h"
#include "dirty/v1/call.pb.h"

namespace dirty::client::internal {

std::chrono::nanoseconds FromProto(const google::protobuf::Duration& time);
google::protobuf::Duration ToProto(std::chrono::nanoseconds time);

// What the arbiter decided about a call.
Error FromProto(v1::Error&& error);

// The failure of an RPC: the dirty.v1.Error in its details, else what the transport's refusal means for a call that
// was sent. `path` is the socket it was sent to.
Error FromStatus(const grpc::Status& status, const std::string& path);

// kTooLarge, if a request of `size` bytes is above `limit`; 0: no limit.
std::optional<Error> TooLarge(std::size_t size, std::uint64_t limit);

RawResponse FromProto(v1::ExecuteResponse&& response);
RawChunk FromProto(v1::Chunk&& chunk);

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_ERRORS_H_
