#include "server/supervise/worker_frames.h"

#include "absl/strings/str_cat.h"
#include "server/dispatch/proto_time.h"

namespace dirty {

absl::Status WorkerFrames::Handle(v1::WorkerFrame& frame) {
  if (violated_) return absl::OkStatus();
  if (!greeted_) {
    violated_ = true;
    if (!frame.has_hello()) return absl::FailedPreconditionError("the worker's first frame was no hello");
    if (uint32_t version = frame.hello().protocol_version(); version != kLinkProtocolVersion) {
      return absl::FailedPreconditionError(
          absl::StrCat("the worker speaks protocol version ", version, ", this dirtyd ", kLinkProtocolVersion));
    }
    violated_ = false;
    greeted_ = true;
    return absl::OkStatus();
  }
  switch (frame.frame_case()) {
    case v1::WorkerFrame::kDone:
      dispatcher_.OnCallDone(worker_, *frame.mutable_done());
      break;
    case v1::WorkerFrame::kChunk:
      dispatcher_.OnCallChunk(worker_, *frame.mutable_chunk());
      break;
    case v1::WorkerFrame::kPong:
      events_.OnPong(worker_, frame.pong().sequence());
      break;
    case v1::WorkerFrame::kAppStarting:
      events_.OnAppStarting(worker_, frame.app_starting().app());
      break;
    case v1::WorkerFrame::kAppReady:
      events_.OnAppReady(worker_, frame.app_ready().app(), FromProto(frame.app_ready().init_time()),
                         frame.app_ready().workers());
      break;
    case v1::WorkerFrame::kAppFailed:
      events_.OnAppFailed(worker_, frame.app_failed().app(), frame.app_failed().error());
      break;
    case v1::WorkerFrame::kAppSkipped:
      events_.OnAppSkipped(worker_, frame.app_skipped().app(), frame.app_skipped().workers());
      break;
    case v1::WorkerFrame::kReady:
      events_.OnWorkerReady(worker_);
      break;
    case v1::WorkerFrame::kEnding:
      events_.OnWorkerEnding(worker_);
      break;
    case v1::WorkerFrame::kHello:
    case v1::WorkerFrame::FRAME_NOT_SET:  // newer than we are
      break;
  }
  return absl::OkStatus();
}

}  // namespace dirty
