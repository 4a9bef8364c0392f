#include "client/cpp/session_calls.h"

#include <algorithm>
#include <utility>

#include "client/cpp/errors.h"
#include "client/cpp/operation.h"

namespace dirty::client::internal {
namespace {

// How many chunks a stream reads ahead of its reader; fewer if kBytesAhead hold fewer. What was granted cannot be taken
// back when chunks turn out to be larger than those before, so it is not more than pays: with 16 small chunks stream
// half as fast.
constexpr std::size_t kFirstCredits = 8;  // while their size is not known
constexpr std::size_t kChunksAhead = 128;

}  // namespace

AsyncSessionCall::AsyncSessionCall(std::shared_ptr<SessionRunner> runner, Transport& other, Outgoing call,
                                   std::function<void(RawResult)> done)
    : SessionCall(std::move(call)), runner_(std::move(runner)), other_(other), done_(std::move(done)) {}

void AsyncSessionCall::Start(const std::shared_ptr<Connection>& connection) {
  if (outgoing.stop.stop_possible()) {
    on_stop_.emplace(outgoing.stop, [weak = weak_from_this()] {
      if (std::shared_ptr<AsyncSessionCall> call = weak.lock(); call != nullptr) call->Cancel();
    });
  }
  Lock lock(runner_->queue().mutex());
  self_ = shared_from_this();
  runner_->Expect(1);
  if (!cancelled_ && runner_->Start(lock, *this, connection)) return;
  runner_->Expect(-1);
  runner_->queue().Pass();  // Start may have left the lead to the thread, which has no more to wait for
  self_ = nullptr;
  lock.unlock();
  GoElsewhere();
}

void AsyncSessionCall::Cancel() {
  Lock lock(runner_->queue().mutex());
  cancelled_ = true;
  if (std::shared_ptr<Cancellable> elsewhere = elsewhere_; elsewhere != nullptr) {
    lock.unlock();
    elsewhere->Cancel();
  } else {
    runner_->Cancel(lock, *this);
  }
}

void AsyncSessionCall::OnEnd(RawResult result) {
  result_ = std::move(result);
  Leave();
}

void AsyncSessionCall::Leave() {
  runner_->Expect(-1);
  runner_->Tell([self = std::move(self_)] { self->Told(); });
}

void AsyncSessionCall::Told() {
  if (!result_) return GoElsewhere();
  on_stop_.reset();
  std::exchange(done_, nullptr)(*std::move(result_));
}

void AsyncSessionCall::GoElsewhere() {
  on_stop_.reset();  // the other transport has its own
  Lock lock(runner_->queue().mutex());
  std::optional<Error> refusal = runner_->over();
  if (!refusal && cancelled_) refusal = CancelledUnsent();
  lock.unlock();
  if (refusal) return std::exchange(done_, nullptr)(*std::move(refusal));
  std::shared_ptr<Cancellable> elsewhere = other_.Start(std::move(outgoing), std::exchange(done_, nullptr));
  lock.lock();
  elsewhere_ = elsewhere;
  const bool cancelled = cancelled_;
  lock.unlock();
  if (cancelled) elsewhere->Cancel();
}

SessionStream::SessionStream(std::shared_ptr<SessionRunner> runner, Transport& other, Outgoing call)
    : SessionCall(std::move(call)), runner_(std::move(runner)), other_(other), coming_(kFirstCredits) {
  credits = kFirstCredits;
}

bool SessionStream::Start(const std::shared_ptr<Connection>& connection) {
  if (outgoing.stop.stop_possible()) {
    on_stop_.emplace(outgoing.stop, [weak = weak_from_this()] {
      if (std::shared_ptr<SessionStream> stream = weak.lock(); stream != nullptr) stream->Cancel();
    });
  }
  Lock lock(runner_->queue().mutex());
  return !cancelled_ && runner_->Start(lock, *this, connection);
}

std::optional<RawChunk> SessionStream::Read() {
  Lock lock(runner_->queue().mutex());
  const Clock::time_point overdue = Overdue(outgoing);
  while (elsewhere_ == nullptr) {
    if (!chunks_.empty()) return TakeChunk(lock);
    if (ended_) {
      error_ = end_;
      return std::nullopt;
    }
    waiter_.Reset();
    const Clock::time_point ask = outgoing.interrupted ? Clock::now() + kInterruptedEvery : Clock::time_point::max();
    if (runner_->queue().Wait(lock, waiter_, std::min(overdue, ask)) || elsewhere_ != nullptr) continue;
    if (overdue <= ask) {
      runner_->Expire(lock, *this);
    } else {
      const std::function<bool()> interrupted = outgoing.interrupted;
      lock.unlock();
      if (interrupted && interrupted()) Cancel();
      lock.lock();
    }
  }
  lock.unlock();
  std::optional<RawChunk> chunk = elsewhere_->Read();
  if (!chunk) error_ = elsewhere_->error();
  return chunk;
}

RawChunk SessionStream::TakeChunk(Lock& lock) {
  RawChunk chunk = std::move(chunks_.front());
  chunks_.pop_front();
  const std::size_t window = std::clamp<std::size_t>(kBytesAhead / largest_, 2, kChunksAhead);
  const std::size_t ahead = coming_ + chunks_.size();
  if (!ended_ && ahead <= window / 2) {
    coming_ += window - ahead;
    Session::Grant(lock, *this, static_cast<std::uint32_t>(window - ahead));
    runner_->Settle(lock);
  }
  return chunk;
}

bool SessionStream::Ready(std::function<void()> wake) {
  Lock lock(runner_->queue().mutex());
  if (elsewhere_ != nullptr) {
    lock.unlock();
    return elsewhere_->Ready(std::move(wake));
  }
  if (!chunks_.empty() || ended_) return true;
  if (!wake_) runner_->Expect(1);
  wake_ = std::move(wake);
  runner_->Settle(lock);
  return false;
}

// Without the mutex if it has ended: after a fork the mutex may be held by a thread that is not there.
void SessionStream::Cancel() {
  if (ended_) return;
  Lock lock(runner_->queue().mutex());
  cancelled_ = true;
  if (elsewhere_ != nullptr) {
    lock.unlock();
    elsewhere_->Cancel();
  } else {
    chunks_.clear();
    runner_->Cancel(lock, *this);
  }
}

void SessionStream::OnChunk(v1::Chunk&& chunk) {
  chunks_.push_back(FromProto(std::move(chunk)));
  largest_ = std::max(largest_, SizeOf(chunks_.back()));
  if (coming_ > 0) --coming_;
  Wake();
}

void SessionStream::OnEnd(RawResult result) {
  if (!result.ok()) end_ = std::move(result).error();
  Wake();
  ended_ = true;  // last: whoever sees it without the mutex may let go of this
}

void SessionStream::Wake() {
  if (wake_) {
    runner_->Expect(-1);
    runner_->Tell(std::exchange(wake_, nullptr));
  }
  runner_->queue().Wake(waiter_);
}

void SessionStream::OnUnsent() {
  runner_->Tell([self = shared_from_this()] { self->GoElsewhere(); });
}

void SessionStream::GoElsewhere() {
  Lock lock(runner_->queue().mutex());
  std::optional<Error> refusal = runner_->over();
  if (!refusal && cancelled_) refusal = CancelledUnsent();
  if (refusal) return OnEnd(*std::move(refusal));
  Outgoing call = std::move(outgoing);
  lock.unlock();
  std::unique_ptr<ChunkReader> elsewhere = other_.Open(std::move(call));
  lock.lock();
  elsewhere_ = std::move(elsewhere);
  const bool cancelled = cancelled_;
  std::function<void()> wake = std::exchange(wake_, nullptr);
  if (wake) runner_->Expect(-1);
  runner_->queue().Wake(waiter_);
  runner_->queue().Pass();
  lock.unlock();
  if (cancelled) elsewhere_->Cancel();
  if (wake && elsewhere_->Ready(wake)) wake();
}

}  // namespace dirty::client::internal
