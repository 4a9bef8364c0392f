#include "client/cpp/operation.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <utility>

#include "client/cpp/async_runner.h"
#include "client/cpp/errors.h"

namespace dirty::client::internal {
namespace {

// How far a stream reads ahead of its reader, if its chunks are small.
constexpr std::size_t kChunksAhead = 64;

}  // namespace

std::size_t SizeOf(const RawChunk& chunk) {
  std::size_t size = chunk.value.size();
  for (const std::string& attachment : chunk.attachments) size += attachment.size();
  return size;
}

Operation::Operation(const std::shared_ptr<AsyncRunner>& runner, Outgoing call)
    : call_(std::move(call)), runner_(runner), connect_by_(ConnectBy(call_, runner->connect_timeout())) {}

void Operation::CancelOnStop() {
  if (!call_.stop.stop_possible()) return;
  on_stop_.emplace(call_.stop, [weak = weak_from_this()] {
    if (std::shared_ptr<Operation> call = weak.lock(); call != nullptr) call->Cancel();
  });
}

void Operation::Cancel() {
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(cancelled_, true)) return;
    if (context_) {
      context_->TryCancel();
      return OnCancelled();
    }
    if (sent_) return;  // it has ended
  }
  if (std::shared_ptr<AsyncRunner> runner = runner_.lock(); runner != nullptr) runner->Wake();
}

void Operation::Cut(const std::string& why) {
  {
    std::lock_guard lock(mutex_);
    cut_ = why;
  }
  Cancel();
}

bool Operation::cancelled() const {
  std::lock_guard lock(mutex_);
  return cancelled_;
}

void Operation::Send(std::shared_ptr<Connection> connection, grpc::CompletionQueue* queue) {
  std::lock_guard lock(mutex_);
  context_.emplace();
  SetLimits(call_, *context_);
  connection_ = std::move(connection);
  sent_ = true;
  if (cancelled_) context_->TryCancel();
  Begin(queue);
  call_.request.Clear();  // it is on its way, in a form of its own
}

void Operation::Refuse(Error error) {
  on_stop_.reset();
  Fail(std::move(error));
}

Error Operation::Failure(const grpc::Status& status) const {
  return CallError(status, *connection_, call_.timeout, cut_);
}

void Operation::Release() {
  LetGo();
  context_.reset();
  connection_.reset();
}

AsyncCall::AsyncCall(const std::shared_ptr<AsyncRunner>& runner, Outgoing call, std::function<void(RawResult)> done)
    : Operation(runner, std::move(call)), done_(std::move(done)) {}

void AsyncCall::Begin(grpc::CompletionQueue* queue) {
  reader_ = connection_->arbiter().AsyncExecute(&*context_, call_.request, queue);
  reader_->Finish(&response_, &status_, static_cast<Operation*>(this));
}

bool AsyncCall::Received(bool) {
  std::unique_lock lock(mutex_);
  RawResult result = status_.ok() ? RawResult(FromProto(std::move(response_))) : RawResult(Failure(status_));
  Release();
  lock.unlock();
  std::exchange(done_, nullptr)(std::move(result));
  return false;
}

void AsyncCall::Fail(Error error) { std::exchange(done_, nullptr)(std::move(error)); }

AsyncStream::AsyncStream(const std::shared_ptr<AsyncRunner>& runner, Outgoing call)
    : Operation(runner, std::move(call)) {}

void AsyncStream::Begin(grpc::CompletionQueue* queue) {
  state_ = State::kStarting;
  reader_ = connection_->arbiter().AsyncExecuteStream(&*context_, call_.request, queue, static_cast<Operation*>(this));
}

bool AsyncStream::Received(bool ok) {
  std::function<void()> wake;
  std::unique_lock lock(mutex_);
  switch (state_) {
    case State::kReading:
      if (ok && !cancelled_) {
        chunks_.push_back(FromProto(std::move(chunk_)));
        bytes_ += SizeOf(chunks_.back());
        wake = Wake();
      } else if (!ok) {
        state_ = State::kFinishing;
        reader_->Finish(&status_, static_cast<Operation*>(this));
        return true;
      }
      [[fallthrough]];
    case State::kStarting:
      if (Full()) {
        state_ = State::kPaused;
      } else {
        ReadOn();
      }
      break;
    case State::kFinishing:
      state_ = State::kEnded;
      if (!status_.ok()) end_ = Failure(status_);
      Release();
      wake = Wake();
      break;
    case State::kUnsent:
    case State::kPaused:
    case State::kEnded:
      break;
  }
  const bool goes_on = state_ != State::kEnded;
  lock.unlock();
  if (wake) wake();
  return goes_on;
}

void AsyncStream::Fail(Error error) {
  std::function<void()> wake;
  {
    std::lock_guard lock(mutex_);
    state_ = State::kEnded;
    end_ = std::move(error);
    wake = Wake();
  }
  if (wake) wake();
}

// The tag of a cancelled stream has to come back.
void AsyncStream::OnCancelled() {
  chunks_.clear();
  bytes_ = 0;
  if (state_ == State::kPaused) ReadOn();
}

void AsyncStream::ReadOn() {
  state_ = State::kReading;
  chunk_.Clear();
  reader_->Read(&chunk_, static_cast<Operation*>(this));
}

bool AsyncStream::Full() const { return chunks_.size() >= kChunksAhead || bytes_ >= kBytesAhead; }

std::function<void()> AsyncStream::Wake() {
  changed_.notify_all();
  return std::exchange(wake_, nullptr);
}

std::optional<RawChunk> AsyncStream::Read() {
  std::unique_lock lock(mutex_);
  while (chunks_.empty() && state_ != State::kEnded) {
    if (!call_.interrupted) {
      changed_.wait(lock);
    } else if (changed_.wait_for(lock, kInterruptedEvery) == std::cv_status::timeout) {
      lock.unlock();
      if (call_.interrupted()) Cancel();
      lock.lock();
    }
  }
  if (chunks_.empty()) {
    error_ = end_;
    return std::nullopt;
  }
  RawChunk chunk = std::move(chunks_.front());
  chunks_.pop_front();
  bytes_ -= SizeOf(chunk);
  if (state_ == State::kPaused && !Full()) ReadOn();
  return chunk;
}

bool AsyncStream::Ready(std::function<void()> wake) {
  std::lock_guard lock(mutex_);
  if (!chunks_.empty() || state_ == State::kEnded) return true;
  wake_ = std::move(wake);
  return false;
}

Clock::time_point ConnectBy(const Outgoing& call, std::chrono::nanoseconds connect_timeout) {
  return call.started + std::min(connect_timeout, call.timeout.value_or(connect_timeout));
}

Outcome<std::shared_ptr<Connection>> Connect(const Outgoing& call, Connector& connector,
                                             std::chrono::nanoseconds connect_timeout) {
  const Clock::time_point until = ConnectBy(call, connect_timeout);
  if (!call.interrupted) return connector.Get(until, call.stop);
  for (;;) {
    const Clock::time_point ask = std::min(until, Clock::now() + kInterruptedEvery);
    auto connection = connector.Get(ask, call.stop);
    if (connection.ok() || connection.error().reason != Reason::kConnection || ask == until) return connection;
    if (connector.closed()) return connection;
    if (call.interrupted()) return CancelledUnsent();
  }
}

std::optional<std::chrono::nanoseconds> SetTimeLeft(Outgoing& call) {
  using std::chrono::milliseconds;
  if (!call.timeout) return std::nullopt;
  // Whole milliseconds, so that a call that did not wait for its connection keeps its round number.
  const auto waited = std::chrono::duration_cast<milliseconds>(Clock::now() - call.started);
  const auto left = std::max<std::chrono::nanoseconds>(*call.timeout - waited, milliseconds(1));
  *call.request.mutable_timeout() = ToProto(left);
  return left;
}

void SetLimits(Outgoing& call, grpc::ClientContext& context) {
  if (const auto left = SetTimeLeft(call)) {
    context.set_deadline(std::chrono::system_clock::now() + *left + kAnswerTime);
  }
  if (!call.traceparent.empty()) context.AddMetadata("traceparent", call.traceparent);
}

Error CallError(const grpc::Status& status, const Connection& connection,
                std::optional<std::chrono::nanoseconds> timeout, const std::string& cut) {
  if (!cut.empty()) return {.reason = Reason::kOutcomeUnknown, .message = absl::StrCat("outcome unknown: ", cut)};
  Error error = FromStatus(status, connection.path());
  if (error.reason == Reason::kTimeout && !error.timeout) error.timeout = timeout;
  return error;
}

}  // namespace dirty::client::internal
