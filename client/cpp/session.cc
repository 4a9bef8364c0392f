#include "client/cpp/session.h"

#include <utility>

#include "client/cpp/errors.h"
#include "client/cpp/operation.h"

namespace dirty::client::internal {
namespace {

constexpr std::uint32_t kProtocolVersion = 1;

}  // namespace

Session::Session(std::shared_ptr<Connection> connection, grpc::CompletionQueue* queue)
    : connection_(std::move(connection)) {
  context_.set_initial_metadata_corked(true);  // they go with the first frame
  stream_ = connection_->arbiter().PrepareAsyncSession(&context_, queue);
  stream_->StartCall(nullptr);
  outgoing_.mutable_hello()->set_protocol_version(kProtocolVersion);
  writing_ = true;
  stream_->Write(outgoing_, &written_);
}

bool Session::Add(Lock& lock, SessionCall& call) {
  if (stage_ > Stage::kOpen || (hello_.max_calls() != 0 && calls_.size() >= hello_.max_calls())) return false;
  call.session_ = this;
  call.id_ = ++last_id_;
  call.written_ = false;
  calls_.emplace(call.id_, &call);
  frames_.push_back({v1::SessionRequest::kExecute, call.id_});
  Write(lock);
  return true;
}

SessionCall* Session::TakeOff(std::uint64_t id) {
  auto found = calls_.extract(id);
  if (found.empty()) return nullptr;
  found.mapped()->session_ = nullptr;
  return found.mapped();
}

// Calls that came before the hello may be more than it allows; none was written yet.
void Session::TakeOffSurplus() {
  while (hello_.max_calls() != 0 && calls_.size() > hello_.max_calls()) {
    SessionCall* const call = TakeOff(frames_.back().id);
    frames_.pop_back();
    if (call != nullptr) call->OnUnsent();
  }
}

bool Session::End(Lock& lock, SessionCall& call, Error error) {
  Session* const session = call.session_;
  if (session == nullptr) return false;
  session->TakeOff(call.id_);
  if (call.written_) session->frames_.push_back({v1::SessionRequest::kCancel, call.id_});
  call.OnEnd(std::move(error));
  session->Write(lock);
  return true;
}

bool Session::Expire(Lock& lock, SessionCall& call) {
  if (call.session_ == nullptr) return false;
  return End(lock, call,
             CallError(grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, ""), *call.session_->connection_,
                       call.outgoing.timeout, ""));
}

void Session::Grant(Lock& lock, const SessionCall& call, std::uint32_t chunks) {
  Session* const session = call.session_;
  if (session == nullptr) return;
  session->frames_.push_back({v1::SessionRequest::kCredit, call.id_, chunks});
  session->Write(lock);
}

void Session::Write(Lock& lock) {
  if (in_write_) return;  // that thread goes on
  const std::shared_ptr<Session> self = shared_from_this();
  while (!writing_ && !broken_ && !frames_.empty() && stage_ == Stage::kOpen) {
    Fill(frames_.front());
    frames_.pop_front();
    grpc::WriteOptions options;
    if (!frames_.empty()) options.set_buffer_hint();
    writing_ = in_write_ = true;
    lock.unlock();
    stream_->Write(outgoing_, options, &written_);
    lock.lock();
    in_write_ = false;
  }
}

void Session::Fill(const Frame& frame) {
  switch (frame.kind) {
    case v1::SessionRequest::kExecute: {
      auto found = calls_.find(frame.id);
      if (found == calls_.end()) break;
      SessionCall& call = *found->second;
      call.written_ = true;
      SetTimeLeft(call.outgoing);
      v1::SessionExecute& execute = *outgoing_.mutable_execute();
      execute.set_id(frame.id);
      execute.mutable_request()->Swap(&call.outgoing.request);
      execute.set_stream(call.credits != 0);
      execute.set_credits(call.credits);
      execute.set_traceparent(call.outgoing.traceparent);
      return;
    }
    case v1::SessionRequest::kCancel:
      outgoing_.mutable_cancel()->set_id(frame.id);
      return;
    case v1::SessionRequest::kCredit:
      outgoing_.mutable_credit()->set_id(frame.id);
      outgoing_.mutable_credit()->set_chunks(frame.chunks);
      return;
    case v1::SessionRequest::kHello:
    case v1::SessionRequest::FRAME_NOT_SET:
      break;
  }
  outgoing_.Clear();
}

void Session::OnWritten(Lock& lock, bool ok) {
  writing_ = false;
  broken_ = !ok;
  Write(lock);
}

// Not as soon as the last frame was read, but when somebody waits for the next: while the arbiter is at work, not
// while a caller is waited for.
void Session::Read(Lock& lock) {
  if (reading_ || stage_ > Stage::kOpen) return;
  reading_ = true;
  lock.unlock();
  stream_->Read(&incoming_, &read_);
  lock.lock();
}

void Session::OnRead(Lock& lock, bool ok) {
  reading_ = false;
  if (!ok) {
    stage_ = Stage::kFinishing;
    stream_->Finish(&status_, &finished_);
    return;
  }
  switch (incoming_.frame_case()) {
    case v1::SessionResponse::kHello:
      hello_.Swap(incoming_.mutable_hello());
      greeted_ = true;
      stage_ = Stage::kOpen;
      TakeOffSurplus();
      Write(lock);
      break;
    case v1::SessionResponse::kDone:
      OnDone(*incoming_.mutable_done());
      break;
    case v1::SessionResponse::kChunk:
      if (auto found = calls_.find(incoming_.chunk().id()); found != calls_.end()) {
        found->second->OnChunk(std::move(*incoming_.mutable_chunk()->mutable_chunk()));
      }
      break;
    case v1::SessionResponse::FRAME_NOT_SET:
      break;
  }
}

void Session::OnDone(v1::SessionDone& done) {
  SessionCall* const call = TakeOff(done.id());
  if (call == nullptr) return;  // it was cancelled
  if (!done.has_error()) return call->OnEnd(FromProto(std::move(*done.mutable_response())));
  Error error = FromProto(std::move(*done.mutable_error()));
  if (error.reason == Reason::kTimeout && !error.timeout) error.timeout = call->outgoing.timeout;
  call->OnEnd(std::move(error));
}

void Session::OnFinished(Lock&, bool) {
  stage_ = Stage::kEnded;
  Error lost = FromStatus(status_, connection_->path());
  if (lost.reason != Reason::kShuttingDown) {  // that says that what has no answer never started
    lost = FromStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, status_.error_message()), connection_->path());
  }
  for (auto& [id, call] : std::exchange(calls_, {})) {
    call->session_ = nullptr;
    call->written_ ? call->OnEnd(lost) : call->OnUnsent();
  }
}

void Session::EndCalls(const Error& sent, const Error& unsent) {
  for (auto& [id, call] : std::exchange(calls_, {})) {
    call->session_ = nullptr;
    call->OnEnd(call->written_ ? sent : unsent);
  }
}

}  // namespace dirty::client::internal
