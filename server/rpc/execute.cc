#include "server/rpc/execute.h"

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "server/rpc/status.h"

namespace dirty {
namespace {

// Calls that wait for a client in the queue: a burst of this many is taken without a new round through gRPC.
constexpr int kArmed = 16;
// A reader's credit: chunks between the worker and its socket.
constexpr uint32_t kStreamCredits = 16;

Submission MakeSubmission(const grpc::ServerContext& context, std::unique_ptr<v1::ExecuteRequest> request,
                          const Clock& clock, CallListener* listener) {
  Submission submission;
  submission.request = std::move(request);
  submission.listener = listener;
  if (context.deadline() != std::chrono::system_clock::time_point::max()) {
    submission.client_deadline = clock.Now() + (absl::FromChrono(context.deadline()) - absl::Now());
  }
  auto parent = context.client_metadata().find("traceparent");
  if (parent != context.client_metadata().end()) {
    submission.traceparent.assign(parent->second.data(), std::min<size_t>(parent->second.size(), 64));
  }
  return submission;
}

}  // namespace

// Execute. It lives from its arming until both its tags are back: `done`, which tells of a cancellation, and the
// answer's.
class ArbiterService::UnaryCall final : public CallListener {
 public:
  explicit UnaryCall(ArbiterService& owner) : owner_(owner), responder_(&context_) {
    context_.AsyncNotifyWhenDone(&done_);
    owner_.service_.RequestExecute(&context_, request_.get(), &responder_, owner_.loop_->queue(), owner_.loop_->queue(),
                                   &arrived_);
  }

 private:
  void OnArrived(bool ok) {
    if (!ok) {
      delete this;  // shutdown; `done` never comes for a call that did not start
      return;
    }
    new UnaryCall(owner_);
    owner_.CallOpened();
    pending_ = 1;
    Admission admission =
        owner_.dispatcher_.Submit(MakeSubmission(context_, std::move(request_), owner_.loop_->timers().clock(), this));
    if (admission.refused != nullptr) {
      ++pending_;
      responder_.FinishWithError(ToStatus(*admission.refused), &answered_);
    } else {
      call_ = admission.call;
    }
  }

  void OnChunk(std::unique_ptr<v1::Chunk>) override {}

  void OnDone(Outcome outcome) override {
    call_ = 0;
    ++pending_;
    if (outcome.response != nullptr) {
      responder_.Finish(*outcome.response, grpc::Status::OK, &answered_);
    } else {
      responder_.FinishWithError(ToStatus(*outcome.error), &answered_);
    }
  }

  void OnAnswered(bool) { Returned(); }

  // The RPC is over, answered or cancelled.
  void OnDoneTag(bool) {
    if (call_ != 0) owner_.dispatcher_.Abandon(std::exchange(call_, 0));
    Returned();
  }

  void Returned() {
    if (--pending_ > 0) return;
    owner_.CallClosed();
    delete this;
  }

  ArbiterService& owner_;
  grpc::ServerContext context_;
  std::unique_ptr<v1::ExecuteRequest> request_ = std::make_unique<v1::ExecuteRequest>();
  grpc::ServerAsyncResponseWriter<v1::ExecuteResponse> responder_;
  CallNumber call_ = 0;  // while the dispatcher has it
  int pending_ = 0;
  MemberCompletion<UnaryCall> arrived_{this, &UnaryCall::OnArrived};
  MemberCompletion<UnaryCall> answered_{this, &UnaryCall::OnAnswered};
  MemberCompletion<UnaryCall> done_{this, &UnaryCall::OnDoneTag};
};

// ExecuteStream. A chunk's credit goes back to the worker when the transport has taken the chunk: what waits here is
// bounded by the credits.
class ArbiterService::StreamCall final : public CallListener {
 public:
  explicit StreamCall(ArbiterService& owner) : owner_(owner), writer_(&context_) {
    context_.AsyncNotifyWhenDone(&done_);
    owner_.service_.RequestExecuteStream(&context_, request_.get(), &writer_, owner_.loop_->queue(),
                                         owner_.loop_->queue(), &arrived_);
  }

 private:
  void OnArrived(bool ok) {
    if (!ok) {
      delete this;
      return;
    }
    new StreamCall(owner_);
    owner_.CallOpened();
    pending_ = 1;
    Submission submission = MakeSubmission(context_, std::move(request_), owner_.loop_->timers().clock(), this);
    submission.stream = true;
    submission.credits = kStreamCredits;
    Admission admission = owner_.dispatcher_.Submit(std::move(submission));
    if (admission.refused != nullptr) {
      Finish(ToStatus(*admission.refused));
    } else {
      call_ = admission.call;
    }
  }

  void OnChunk(std::unique_ptr<v1::Chunk> chunk) override {
    chunks_.push_back(std::move(chunk));
    WriteNext();
  }

  void OnDone(Outcome outcome) override {
    call_ = 0;
    // A result that is not a stream is one chunk.
    if (outcome.response != nullptr && !outcome.response->result().empty()) {
      auto chunk = std::make_unique<v1::Chunk>();
      chunk->set_value(std::move(*outcome.response->mutable_result()));
      chunk->mutable_attachments()->Swap(outcome.response->mutable_attachments());
      chunks_.push_back(std::move(chunk));
    }
    ended_ = true;
    status_ = outcome.error == nullptr ? grpc::Status::OK : ToStatus(*outcome.error);
    WriteNext();
  }

  void WriteNext() {
    if (writing_ || gone_) return;
    if (!chunks_.empty()) {
      writing_ = true;
      ++pending_;
      writer_.Write(*chunks_.front(), &wrote_);
      chunks_.pop_front();
    } else if (ended_) {
      Finish(status_);
    }
  }

  void OnWrote(bool ok) {
    writing_ = false;
    if (ok && call_ != 0) owner_.dispatcher_.Credit(call_, 1);
    if (ok) WriteNext();
    Returned();
  }

  void Finish(const grpc::Status& status) {
    ++pending_;
    writer_.Finish(status, &answered_);
  }

  void OnAnswered(bool) { Returned(); }

  void OnDoneTag(bool) {
    gone_ = true;
    chunks_.clear();
    if (call_ != 0) owner_.dispatcher_.Abandon(std::exchange(call_, 0));
    Returned();
  }

  void Returned() {
    if (--pending_ > 0) return;
    owner_.CallClosed();
    delete this;
  }

  ArbiterService& owner_;
  grpc::ServerContext context_;
  std::unique_ptr<v1::ExecuteRequest> request_ = std::make_unique<v1::ExecuteRequest>();
  grpc::ServerAsyncWriter<v1::Chunk> writer_;
  std::deque<std::unique_ptr<v1::Chunk>> chunks_;
  grpc::Status status_;
  CallNumber call_ = 0;
  bool writing_ = false;
  bool ended_ = false;
  bool gone_ = false;
  int pending_ = 0;
  MemberCompletion<StreamCall> arrived_{this, &StreamCall::OnArrived};
  MemberCompletion<StreamCall> wrote_{this, &StreamCall::OnWrote};
  MemberCompletion<StreamCall> answered_{this, &StreamCall::OnAnswered};
  MemberCompletion<StreamCall> done_{this, &StreamCall::OnDoneTag};
};

// Session, until it is built.
class ArbiterService::SessionCall final {
 public:
  explicit SessionCall(ArbiterService& owner) : owner_(owner), stream_(&context_) {
    owner_.service_.RequestSession(&context_, &stream_, owner_.loop_->queue(), owner_.loop_->queue(), &arrived_);
  }

 private:
  void OnArrived(bool ok) {
    if (!ok) {
      delete this;
      return;
    }
    new SessionCall(owner_);
    stream_.Finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED,
                                "dirty.v1.Arbiter.Session is not built in this version; use Execute"),
                   &answered_);
  }
  void OnAnswered(bool) { delete this; }

  ArbiterService& owner_;
  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<v1::SessionResponse, v1::SessionRequest> stream_;
  MemberCompletion<SessionCall> arrived_{this, &SessionCall::OnArrived};
  MemberCompletion<SessionCall> answered_{this, &SessionCall::OnAnswered};
};

void ArbiterService::Start(Loop& loop) {
  loop_ = &loop;
  for (int i = 0; i < kArmed; ++i) new UnaryCall(*this);
  new StreamCall(*this);
  new SessionCall(*this);
}

void ArbiterService::CallClosed() {
  if (--open_ == 0 && idle_) std::exchange(idle_, nullptr)();
}

void ArbiterService::WhenIdle(std::function<void()> idle) {
  idle_ = std::move(idle);
  if (open_ == 0) loop_->timers().Schedule(loop_->timers().Now(), std::exchange(idle_, nullptr));
}

}  // namespace dirty
