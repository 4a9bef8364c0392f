#include "server/rpc/session.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/rpc/status.h"

namespace dirty {
namespace {

constexpr uint32_t kProtocolVersion = 1;
constexpr uint32_t kDefaultCredits = 16;
// Bytes that may wait for a client before it is not read from any more.
constexpr size_t kMostWaiting = 4 << 20;
// What a frame that waits costs beside its payload, roughly.
constexpr size_t kFrameBytes = 256;
// Once a burst is over, what its calls needed is not kept.
constexpr size_t kMostCallsKept = 256;

}  // namespace

// A call in flight.
class ArbiterService::Session::Call final : public CallListener {
 public:
  Call(Session& session, uint64_t id, uint64_t allowed) : session_(session), id_(id), window_(allowed) {}

  void OnChunk(std::unique_ptr<v1::Chunk> chunk) override { session_.OnCallChunk(*this, std::move(chunk)); }
  void OnDone(Outcome outcome) override { session_.OnCallDone(*this, std::move(outcome)); }

  uint64_t id() const { return id_; }
  ChunkWindow& window() { return window_; }
  CallNumber number() const { return number_; }
  void set_number(CallNumber number) { number_ = number; }
  bool stream() const { return stream_; }
  void set_stream() { stream_ = true; }

 private:
  Session& session_;
  const uint64_t id_;
  CallNumber number_ = 0;
  bool stream_ = false;
  ChunkWindow window_;
};

ArbiterService::Session::Session(ArbiterService& owner) : Rpc(owner), stream_(&context_) {
  owner_.service_.RequestSession(&context_, &stream_, queue(), &arrived_);
}

void ArbiterService::Service::RequestSession(grpc::ServerContext* context,
                                             grpc::internal::ServerAsyncStreamingInterface* stream,
                                             grpc::ServerCompletionQueue* queue, void* tag) {
  static const int index =
      v1::SessionRequest::descriptor()->file()->FindServiceByName("Arbiter")->FindMethodByName("Session")->index();
  RequestAsyncBidiStreaming(index, context, stream, queue, queue, tag);
}

void ArbiterService::Session::Begin() {
  new Session(owner_);
  owner_.sessions_.insert(this);
  deadline_ = Deadline();
  if (owner_.stopping_) Shutdown();
  ReadNext();
}

void ArbiterService::Session::End() {
  owner_.sessions_.erase(this);
  Drop();
}

void ArbiterService::Session::Drop() {
  outbox_.clear();
  waiting_ = 0;
  owner_.loop_->timers().Cancel(cut_off_);
  for (const auto& [id, call] : calls_) dispatcher().Abandon(call->number());
  calls_.clear();
}

void ArbiterService::Session::CutOff() {
  cut_off_ = 0;
  if (waiting_ <= MostHeld(owner_.settings_)) return;
  std::vector<CallNumber> numbers;
  for (const auto& [id, call] : calls_) numbers.push_back(call->number());
  std::sort(numbers.begin(), numbers.end());
  cutting_off_ = true;
  for (CallNumber number : numbers) dispatcher().CancelByCaller(number);
  cutting_off_ = false;
}

void ArbiterService::Session::Shutdown() { EndWith(ToStatus(*errors::ShuttingDown())); }

// --- What the client sends ---

void ArbiterService::Session::ReadNext() {
  if (reading_ || all_read_ || finishing_ || over() || waiting_ > kMostWaiting) return;
  reading_ = true;
  stream_.Read(&incoming_, UnderWay(read_));
}

void ArbiterService::Session::OnRead(bool ok) {
  reading_ = false;
  if (ok) {
    if (!finishing_ && !over()) incoming_.malformed ? OnMalformed() : Handle();
    ReadNext();
  } else {
    all_read_ = true;  // or the stream broke: `done` says so
    if (!greeted_) Greet();
    EndWith(grpc::Status::OK);
  }
  Returned();
}

void ArbiterService::Session::Handle() {
  if (!greeted_) return Greet();
  switch (incoming_.request.frame_case()) {
    case v1::SessionRequest::kExecute:
      return Execute(*incoming_.request.mutable_execute());
    case v1::SessionRequest::kCancel:
      return Cancel(incoming_.request.cancel().id());
    case v1::SessionRequest::kCredit:
      return Credit(incoming_.request.credit().id(), incoming_.request.credit().chunks());
    case v1::SessionRequest::kHello:         // once was enough
    case v1::SessionRequest::FRAME_NOT_SET:  // newer than we are
      return;
  }
}

void ArbiterService::Session::OnMalformed() {
  all_read_ = true;
  Drop();
  // Also while dirtyd shuts down: `what has no done has never started` is not true of the calls that were dropped.
  end_ = ToStatus(*errors::InvalidRequest(
      "a frame of the session cannot be parsed (often a text, such as `request_id` or `args`, that is not UTF-8); the "
      "session ends, and the outcome of its calls in flight is unknown"));
  WriteNext();
}

void ArbiterService::Session::Greet() {
  if (all_read_ || !incoming_.request.has_hello()) {
    return EndWith(
        ToStatus(*errors::InvalidRequest("the first frame of a session must be `hello`, with protocol_version 1")));
  }
  if (uint32_t version = incoming_.request.hello().protocol_version(); version != kProtocolVersion) {
    return EndWith(ToStatus(*errors::InvalidRequest(
        absl::StrCat("`hello` has protocol_version ", version, ", and this dirtyd speaks ", kProtocolVersion,
                     "; set it, or use a client and a dirtyd of the same major version"))));
  }
  greeted_ = true;
  v1::SessionHello* hello = outgoing_.mutable_hello();
  hello->set_protocol_version(kProtocolVersion);
  hello->set_max_message_size(owner_.settings_.max_message_size);
  const uint32_t max_calls = owner_.settings_.max_calls_per_session;
  hello->set_max_calls(max_calls == UINT32_MAX ? 0 : max_calls);
  writing_ = true;
  stream_.Write(outgoing_, UnderWay(written_));
}

void ArbiterService::Session::Execute(v1::SessionExecute& execute) {
  const uint64_t id = execute.id();
  Submission submission;
  submission.request.reset(execute.release_request());
  const bool no_request = submission.request == nullptr;
  if (no_request) submission.request = std::make_unique<v1::ExecuteRequest>();
  auto refuse = [&](errors::ErrorPtr error) { SendError(id, dispatcher().Refuse(submission, std::move(error))); };
  if (id == 0) {
    return refuse(errors::InvalidRequest("`id` of the call is 0, which is reserved; number calls from 1"));
  }
  if (calls_.contains(id)) {
    return refuse(errors::InvalidRequest(absl::StrCat("a call with `id` ", id,
                                                      " is in flight on this session and goes "
                                                      "on; this later one needs an id of its own")));
  }
  if (no_request) return refuse(errors::InvalidRequest("`execute` has no `request`; set it"));
  const uint32_t max_calls = owner_.settings_.max_calls_per_session;
  if (calls_.size() >= max_calls) return refuse(errors::SessionFull(max_calls));

  auto call = std::make_unique<Call>(*this, id, execute.credits() == 0 ? kDefaultCredits : execute.credits());
  submission.listener = call.get();
  submission.client_deadline = deadline_;
  if (execute.stream()) {
    call->set_stream();
    submission.stream = true;
    submission.credits = call->window().TakeCredits();
  }
  submission.traceparent = std::move(*execute.mutable_traceparent());
  Admission admission = dispatcher().Submit(std::move(submission));
  if (admission.refused != nullptr) return SendError(id, std::move(admission.refused));
  call->set_number(admission.call);
  calls_.emplace(id, std::move(call));
}

void ArbiterService::Session::Cancel(uint64_t id) {
  auto it = calls_.find(id);
  if (it != calls_.end()) dispatcher().CancelByCaller(it->second->number());
}

void ArbiterService::Session::Credit(uint64_t id, uint32_t chunks) {
  auto it = calls_.find(id);
  if (it == calls_.end() || !it->second->stream()) return;
  it->second->window().Allow(chunks);
  GiveCredits(*it->second);
}

// --- What the client gets ---

void ArbiterService::Session::GiveCredits(Call& call) {
  if (uint32_t credits = call.window().TakeCredits(); credits > 0) dispatcher().Credit(call.number(), credits);
}

void ArbiterService::Session::OnCallChunk(Call& call, std::unique_ptr<v1::Chunk> chunk) {
  const size_t bytes = PayloadBytes(chunk->value(), *chunk);
  call.window().OnChunk(bytes);
  Send({.id = call.id(), .chunk = std::move(chunk), .chunk_of = call.number(), .bytes = bytes});
}

void ArbiterService::Session::OnCallDone(Call& call, Outcome outcome) {
  const uint64_t id = call.id();
  const bool stream = call.stream();
  calls_.erase(id);
  if (calls_.empty() && calls_.capacity() > kMostCallsKept) calls_ = {};
  if (outcome.error != nullptr) {
    if (cutting_off_) SayUnread(waiting_, *outcome.error);
    return SendError(id, std::move(outcome.error));
  }
  v1::ExecuteResponse& response = *outcome.response;
  size_t bytes = PayloadBytes(response.result(), response);
  if (stream) {
    if (auto chunk = TakeLastChunk(response)) {
      Send({.id = id, .chunk = std::move(chunk), .bytes = std::exchange(bytes, 0)});
    }
  }
  Send({.id = id, .response = std::move(outcome.response), .bytes = bytes});
}

void ArbiterService::Session::SendError(uint64_t id, errors::ErrorPtr error) {
  const size_t bytes = error->ByteSizeLong();
  Send({.id = id, .error = std::move(error), .bytes = bytes});
}

void ArbiterService::Session::Send(Outgoing frame) {
  if (over()) return;
  frame.bytes += kFrameBytes;
  waiting_ += frame.bytes;
  outbox_.push_back(std::move(frame));
  WriteNext();
  if (waiting_ > MostHeld(owner_.settings_) && cut_off_ == 0 && !calls_.empty()) {
    TimerQueue& timers = owner_.loop_->timers();
    cut_off_ = timers.Schedule(timers.Now(), [this] { CutOff(); });
  }
}

void ArbiterService::Session::WriteNext() {
  if (writing_ || finishing_ || over()) return;
  if (outbox_.empty()) {
    if (end_.has_value() && calls_.empty()) {
      finishing_ = true;
      stream_.Finish(*end_, UnderWay(finished_));
    }
    return;
  }
  Outgoing frame = std::move(outbox_.front());
  outbox_.pop_front();
  waiting_ -= frame.bytes;
  written_id_ = frame.id;
  written_of_ = frame.chunk_of;
  if (frame.chunk != nullptr) {
    v1::SessionChunk* chunk = outgoing_.mutable_chunk();
    chunk->set_id(frame.id);
    chunk->set_allocated_chunk(frame.chunk.release());
  } else {
    v1::SessionDone* done = outgoing_.mutable_done();
    done->set_id(frame.id);
    if (frame.response != nullptr) {
      done->set_allocated_response(frame.response.release());
    } else {
      done->set_allocated_error(frame.error.release());
    }
  }
  grpc::WriteOptions options;
  if (!outbox_.empty()) options.set_buffer_hint();
  writing_ = true;
  stream_.Write(outgoing_, options, UnderWay(written_));
  // Serialised by now. The frame itself is used again.
  if (outgoing_.has_chunk()) {
    outgoing_.mutable_chunk()->clear_chunk();
  } else {
    outgoing_.mutable_done()->clear_outcome();
  }
}

void ArbiterService::Session::OnWritten(bool ok) {
  writing_ = false;
  if (ok && !over()) {
    if (written_of_ != 0) {
      auto it = calls_.find(written_id_);
      if (it != calls_.end() && it->second->number() == written_of_) {
        it->second->window().OnWritten();
        GiveCredits(*it->second);
      }
    }
    WriteNext();
    ReadNext();
  }  // else the client has left: `done` says so
  Returned();
}

void ArbiterService::Session::EndWith(grpc::Status status) {
  if (!end_.has_value()) end_ = std::move(status);
  WriteNext();
}

}  // namespace dirty
