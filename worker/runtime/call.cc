#include "worker/runtime/call.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/runtime/app_host.h"
#include "worker/runtime/failure.h"
#include "worker/runtime/json_text.h"
#include "worker/runtime/trace_context.h"

namespace dirty::worker {
namespace {

using Clock = std::chrono::steady_clock;

// Protocol Buffers cannot write 2 GiB or more; the frame around a result takes some of it.
constexpr uint64_t kLargestMessage = (uint64_t{1} << 31) - (1 << 16);

// Beyond it a limit is no limit, and would overflow the clock.
constexpr int64_t kLongestTime = int64_t{100} * 365 * 86400;

Clock::time_point DeadlineOf(const v1::StartCall& start) {
  if (!start.has_time_left() || start.time_left().seconds() > kLongestTime) return Clock::time_point::max();
  return Clock::now() + std::chrono::seconds(start.time_left().seconds()) +
         std::chrono::nanoseconds(start.time_left().nanos());
}

}  // namespace

Call::Call(std::unique_ptr<v1::StartCall> start, const CallLimits& limits, FrameSink& sink)
    : start_(std::move(start)),
      limits_(limits),
      sink_(sink),
      deadline_(DeadlineOf(*start_)),
      credits_(start_->credits()) {}

uint64_t Call::SizeLimit() const {
  return limits_.max_message_size == 0 ? kLargestMessage : std::min(limits_.max_message_size, kLargestMessage);
}

void Call::Cancel(v1::CancelReason reason) {
  if (reason == v1::CANCEL_REASON_UNSPECIFIED) reason = v1::CANCEL_REASON_OPERATOR;
  {
    MutexLock lock(mutex_);
    auto none = v1::CANCEL_REASON_UNSPECIFIED;
    cancel_reason_.compare_exchange_strong(none, reason, std::memory_order_acq_rel);
  }
  changed_.NotifyAll();
}

void Call::AddCredit(uint32_t chunks) {
  {
    MutexLock lock(mutex_);
    credits_ += chunks;
  }
  changed_.NotifyAll();
}

absl::Status Call::Emit(v1::Chunk chunk) {
  if (!streams()) {
    return absl::FailedPreconditionError(
        "the caller did not ask for a stream: call it with ExecuteStream (client.stream, dirtyctl call --stream)");
  }
  size_t size = chunk.ByteSizeLong();
  {
    MutexLock lock(mutex_);
    if (size > SizeLimit()) {
      oversized_chunk_ = size;
      return absl::ResourceExhaustedError(TooLargeError("chunk", size, SizeLimit()).message());
    }
    while (credits_ == 0 && !cancelled()) changed_.Wait(lock);
    if (cancelled()) return absl::CancelledError(CancelledError(cancel_reason()).message());
    --credits_;
  }
  v1::WorkerFrame frame;
  frame.mutable_chunk()->set_call(number());
  *frame.mutable_chunk()->mutable_chunk() = std::move(chunk);
  sink_.Send(frame);
  return absl::OkStatus();
}

void Call::Run(AppHost& host) {
  const ScopedTraceparent trace(start_->traceparent().c_str());
  v1::WorkerFrame frame;
  v1::CallDone& done = *frame.mutable_done();
  done.set_call(number());
  Execute(host, done);
  if (done.has_response()) {
    if (streams()) EmitResult(done);
    if (size_t size = done.response().ByteSizeLong(); size > SizeLimit()) {
      *done.mutable_error() = TooLargeError("result", size, SizeLimit());
    }
  } else if (MutexLock lock(mutex_); oversized_chunk_ > 0) {
    *done.mutable_error() = TooLargeError("chunk", oversized_chunk_, SizeLimit());
  }
  if (done.has_error()) {
    v1::Error& error = *done.mutable_error();
    error.set_app(request().app());
    error.set_action(request().action());
    error.set_call_id(call_id());
    error.set_worker_id(limits_.worker_id);
  }
  sink_.Send(frame);
}

void Call::Execute(AppHost& host, v1::CallDone& done) {
  if (cancelled()) {
    *done.mutable_error() = CancelledError(cancel_reason());
  } else if (auto wrong = CheckShapes(request(), limits_.max_json_depth)) {
    *done.mutable_error() = InvalidRequestError(*wrong);
  } else {
    host.Execute(*this, done);
  }
}

void Call::EmitResult(v1::CallDone& done) {
  v1::ExecuteResponse& response = *done.mutable_response();
  if (response.result().empty()) return;
  v1::Chunk chunk;
  chunk.set_value(std::move(*response.mutable_result()));
  chunk.mutable_attachments()->Swap(response.mutable_attachments());
  response.Clear();
  if (absl::Status status = Emit(std::move(chunk)); !status.ok()) *done.mutable_error() = EmitError(status);
}

v1::Error Call::EmitError(const absl::Status& status) const {
  if (status.code() == absl::StatusCode::kCancelled) return CancelledError(cancel_reason());
  v1::Error error = AppError("", status.message());
  error.set_reason(v1::REASON_TOO_LARGE);
  return error;
}

}  // namespace dirty::worker
