#include "server/rpc/execute.h"

#include <deque>
#include <memory>
#include <utility>

#include "server/rpc/session.h"
#include "server/rpc/status.h"

namespace dirty {
namespace {

// Calls that wait for a client in the queue: a burst of this many is taken without a new round through gRPC.
constexpr int kArmed = 16;

Submission MakeSubmission(const grpc::ServerContext& context, std::unique_ptr<v1::ExecuteRequest> request,
                          absl::Time deadline, CallListener* listener) {
  Submission submission;
  submission.request = std::move(request);
  submission.listener = listener;
  submission.client_deadline = deadline;
  auto parent = context.client_metadata().find("traceparent");
  if (parent != context.client_metadata().end()) {
    submission.traceparent.assign(parent->second.data(), parent->second.size());
  }
  return submission;
}

}  // namespace

// Execute.
class ArbiterService::UnaryCall final : public Rpc, private CallListener {
 public:
  explicit UnaryCall(ArbiterService& owner) : Rpc(owner), responder_(&context_) {
    owner_.service_.RequestExecute(&context_, request_.get(), &responder_, queue(), queue(), &arrived_);
  }

 private:
  void Begin() override {
    new UnaryCall(owner_);
    Admission admission = dispatcher().Submit(MakeSubmission(context_, std::move(request_), Deadline(), this));
    if (admission.refused != nullptr) {
      responder_.FinishWithError(ToStatus(*admission.refused), UnderWay(answered_));
    } else {
      call_ = admission.call;
    }
  }

  void End() override {
    if (call_ != 0) dispatcher().Abandon(std::exchange(call_, 0));
  }

  void OnChunk(std::unique_ptr<v1::Chunk>) override {}

  void OnDone(Outcome outcome) override {
    call_ = 0;
    if (outcome.response != nullptr) {
      responder_.Finish(*outcome.response, grpc::Status::OK, UnderWay(answered_));
    } else {
      responder_.FinishWithError(ToStatus(*outcome.error), UnderWay(answered_));
    }
  }

  void OnAnswered(bool) { Returned(); }

  std::unique_ptr<v1::ExecuteRequest> request_ = std::make_unique<v1::ExecuteRequest>();
  grpc::ServerAsyncResponseWriter<v1::ExecuteResponse> responder_;
  CallNumber call_ = 0;  // while the dispatcher has it
  MemberCompletion<UnaryCall> answered_{this, &UnaryCall::OnAnswered};
};

// ExecuteStream. What waits here is bounded by the window, in chunks; should they grow after their credits were given,
// by MostHeld.
class ArbiterService::StreamCall final : public Rpc, private CallListener {
 public:
  explicit StreamCall(ArbiterService& owner) : Rpc(owner), writer_(&context_) {
    owner_.service_.RequestExecuteStream(&context_, request_.get(), &writer_, queue(), queue(), &arrived_);
  }

 private:
  void Begin() override {
    new StreamCall(owner_);
    Submission submission = MakeSubmission(context_, std::move(request_), Deadline(), this);
    submission.stream = true;
    submission.credits = window_.TakeCredits();
    Admission admission = dispatcher().Submit(std::move(submission));
    if (admission.refused != nullptr) {
      Finish(ToStatus(*admission.refused));
    } else {
      call_ = admission.call;
    }
  }

  void End() override {
    chunks_.clear();
    if (call_ != 0) dispatcher().Abandon(std::exchange(call_, 0));
  }

  void OnChunk(std::unique_ptr<v1::Chunk> chunk) override {
    const size_t bytes = PayloadBytes(chunk->value(), *chunk);
    window_.OnChunk(bytes);
    waiting_ += bytes;
    chunks_.push_back(std::move(chunk));
    WriteNext();
    // OnDone comes from within: nothing else may follow.
    if (waiting_ > MostHeld(owner_.settings_)) dispatcher().CancelByCaller(call_);
  }

  void OnDone(Outcome outcome) override {
    call_ = 0;
    if (outcome.response != nullptr) {
      if (auto chunk = TakeLastChunk(*outcome.response)) {
        waiting_ += PayloadBytes(chunk->value(), *chunk);
        chunks_.push_back(std::move(chunk));
      }
    }
    if (outcome.error != nullptr && waiting_ > MostHeld(owner_.settings_)) SayUnread(waiting_, *outcome.error);
    ended_ = true;
    status_ = outcome.error == nullptr ? grpc::Status::OK : ToStatus(*outcome.error);
    WriteNext();
  }

  void WriteNext() {
    if (writing_ || over()) return;
    if (!chunks_.empty()) {
      grpc::WriteOptions options;
      if (chunks_.size() > 1) options.set_buffer_hint();
      writing_ = true;
      waiting_ -= PayloadBytes(chunks_.front()->value(), *chunks_.front());
      writer_.Write(*chunks_.front(), options, UnderWay(wrote_));
      chunks_.pop_front();
    } else if (ended_) {
      Finish(status_);
    }
  }

  void OnWrote(bool ok) {
    writing_ = false;
    if (ok) {
      window_.OnWritten();
      if (call_ != 0) {
        if (uint32_t credits = window_.TakeCredits(); credits > 0) dispatcher().Credit(call_, credits);
      }
      WriteNext();
    }
    Returned();
  }

  void Finish(const grpc::Status& status) { writer_.Finish(status, UnderWay(answered_)); }

  void OnAnswered(bool) { Returned(); }

  std::unique_ptr<v1::ExecuteRequest> request_ = std::make_unique<v1::ExecuteRequest>();
  grpc::ServerAsyncWriter<v1::Chunk> writer_;
  std::deque<std::unique_ptr<v1::Chunk>> chunks_;
  size_t waiting_ = 0;              // bytes in chunks_
  ChunkWindow window_{UINT64_MAX};  // gRPC's flow control says how much the reader takes
  grpc::Status status_;
  CallNumber call_ = 0;
  bool writing_ = false;
  bool ended_ = false;
  MemberCompletion<StreamCall> wrote_{this, &StreamCall::OnWrote};
  MemberCompletion<StreamCall> answered_{this, &StreamCall::OnAnswered};
};

void ArbiterService::Start(Loop& loop) {
  loop_ = &loop;
  for (int i = 0; i < kArmed; ++i) new UnaryCall(*this);
  new StreamCall(*this);
  new Session(*this);
}

void ArbiterService::CallClosed() {
  if (--open_ == 0 && idle_) std::exchange(idle_, nullptr)();
}

void ArbiterService::WhenIdle(std::function<void()> idle) {
  idle_ = std::move(idle);
  stopping_ = true;
  for (Session* session : sessions_) session->Shutdown();
  if (open_ == 0) loop_->timers().Schedule(loop_->timers().Now(), std::exchange(idle_, nullptr));
}

}  // namespace dirty
