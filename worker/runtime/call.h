// One call that a worker runs: the request, the cancellation token, the credit for chunks, and the way to its outcome.
// Shared by the executor thread that runs it and the one that leads, which cancels it and brings credit. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "dirty/v1/worker.pb.h"
#include "worker/runtime/mutex.h"

namespace dirty::worker {

class AppHost;

// Where frames to the arbiter go. Thread-safe; never blocks.
class FrameSink {
 public:
  virtual ~FrameSink() = default;
  virtual void Send(const v1::WorkerFrame& frame) = 0;
};

// The limits of one worker. 0: none.
struct CallLimits {
  uint64_t max_message_size = 0;
  uint32_t max_json_depth = 0;
  uint32_t worker_id = 0;  // for errors
};

class Call {
 public:
  // `sink` outlives the call.
  Call(std::unique_ptr<v1::StartCall> start, const CallLimits& limits, FrameSink& sink);

  uint64_t number() const { return start_->call(); }
  const std::string& call_id() const { return start_->call_id(); }
  const v1::StartCall& start() const { return *start_; }
  const v1::ExecuteRequest& request() const { return start_->request(); }
  const CallLimits& limits() const { return limits_; }
  // W3C; empty if there is none.
  const std::string& traceparent() const { return start_->traceparent(); }
  bool streams() const { return start_->stream(); }

  // When the arbiter stops waiting; max(): never.
  std::chrono::steady_clock::time_point deadline() const { return deadline_; }

  bool cancelled() const { return cancel_reason() != v1::CANCEL_REASON_UNSPECIFIED; }
  // CANCEL_REASON_UNSPECIFIED: it is not cancelled.
  v1::CancelReason cancel_reason() const { return cancel_reason_.load(std::memory_order_acquire); }

  // Sends one value of a streamed result; waits for credit. Any thread but the one that leads, while Execute runs.
  // CANCELLED: nobody reads any more. FAILED_PRECONDITION: the caller did not ask for a stream. RESOURCE_EXHAUSTED: the
  // chunk is too large; if the call now fails, it fails as TOO_LARGE.
  absl::Status Emit(v1::Chunk chunk);

  // The thread that leads. The first reason stays.
  void Cancel(v1::CancelReason reason);
  void AddCredit(uint32_t chunks);

  // Checks the request, has `host` run it and sends the one CallDone. Executor thread, once.
  void Run(AppHost& host);

 private:
  void Execute(AppHost& host, v1::CallDone& done);
  // The result of a streaming call is its last chunk.
  void EmitResult(v1::CallDone& done);
  v1::Error EmitError(const absl::Status& status) const;
  uint64_t SizeLimit() const;

  const std::unique_ptr<v1::StartCall> start_;
  const CallLimits limits_;
  FrameSink& sink_;
  const std::chrono::steady_clock::time_point deadline_;
  std::atomic<v1::CancelReason> cancel_reason_{v1::CANCEL_REASON_UNSPECIFIED};

  Mutex mutex_;
  Condition changed_;  // more credit, or cancelled
  uint64_t credits_ ABSL_GUARDED_BY(mutex_);
  uint64_t oversized_chunk_ ABSL_GUARDED_BY(mutex_) = 0;  // bytes of a chunk that was refused; 0: none was
};

}  // namespace dirty::worker
