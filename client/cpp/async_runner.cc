#include "client/cpp/async_runner.h"

#include <algorithm>
#include <utility>

#include "client/cpp/errors.h"

namespace dirty::client::internal {
AsyncCall::AsyncCall(std::shared_ptr<AsyncRunner> runner, Outgoing call, std::function<void(RawResult)> done)
    : runner_(runner),
      call_(std::move(call)),
      done_(std::move(done)),
      connect_by_(ConnectBy(call_, runner->connect_timeout_)) {}

void AsyncCall::CancelOnStop() {
  if (!call_.stop.stop_possible()) return;
  on_stop_.emplace(call_.stop, [weak = weak_from_this()] {
    if (std::shared_ptr<AsyncCall> call = weak.lock(); call != nullptr) call->Cancel();
  });
}

void AsyncCall::Cancel() {
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (connection_ != nullptr) return context_.TryCancel();
  }
  if (std::shared_ptr<AsyncRunner> runner = runner_.lock(); runner != nullptr) runner->Wake();
}

bool AsyncCall::cancelled() const {
  std::lock_guard lock(mutex_);
  return cancelled_;
}

void AsyncCall::Send(std::shared_ptr<Connection> connection, grpc::CompletionQueue* queue) {
  std::lock_guard lock(mutex_);
  SetLimits(call_, context_);
  connection_ = std::move(connection);
  if (cancelled_) context_.TryCancel();
  reader_ = connection_->arbiter().AsyncExecute(&context_, call_.request, queue);
  call_.request.Clear();  // it is on its way, in a form of its own
  reader_->Finish(&response_, &status_, this);
}

void AsyncCall::Finish(Error error) {
  on_stop_.reset();
  std::exchange(done_, nullptr)(std::move(error));
}

void AsyncCall::Received() {
  on_stop_.reset();
  std::unique_lock lock(mutex_);
  RawResult result = status_.ok() ? RawResult(FromProto(std::move(response_)))
                                  : RawResult(CallError(status_, *connection_, call_.timeout));
  lock.unlock();
  std::exchange(done_, nullptr)(std::move(result));
}

AsyncRunner::AsyncRunner(std::shared_ptr<Connector> connector, std::chrono::nanoseconds connect_timeout)
    : connector_(std::move(connector)), connect_timeout_(connect_timeout) {}

std::shared_ptr<Cancellable> AsyncRunner::Start(Outgoing outgoing, std::function<void(RawResult)> done) {
  auto call = std::make_shared<AsyncCall>(shared_from_this(), std::move(outgoing), std::move(done));
  call->CancelOnStop();
  if (call->cancelled()) {
    call->Finish(CancelledUnsent());
    return call;
  }
  std::shared_ptr<Connection> connection = connector_->Current();
  if (connection != nullptr) {
    Send(call, std::move(connection));
    return call;
  }
  {
    std::lock_guard lock(mutex_);
    unsent_.push_back(call);
    if (!connecter_.joinable()) connecter_ = std::thread([self = shared_from_this()] { self->Connect(); });
  }
  Wake();
  return call;
}

void AsyncRunner::Send(const std::shared_ptr<AsyncCall>& call, std::shared_ptr<Connection> connection) {
  std::unique_lock lock(mutex_);
  const bool closing = closing_;
  if (!closing) {
    sent_.emplace(call.get(), call);
    if (!receiver_.joinable()) receiver_ = std::thread([self = shared_from_this()] { self->Receive(); });
  }
  lock.unlock();
  if (closing) return call->Finish(CancelledUnsent());
  call->Send(std::move(connection), &queue_);
}

void AsyncRunner::Receive() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
    std::unique_lock lock(mutex_);
    std::shared_ptr<AsyncCall> call = std::move(sent_.extract(tag).mapped());
    lock.unlock();
    call->Received();
  }
}

void AsyncRunner::Wake() {
  {
    std::lock_guard lock(mutex_);
    look_again_ = true;
  }
  changed_.notify_all();
}

void AsyncRunner::Connect() {
  for (;;) {
    std::vector<std::shared_ptr<AsyncCall>> calls;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closing_ || !unsent_.empty(); });
      look_again_ = false;
      calls = std::exchange(unsent_, {});
      if (closing_) {
        lock.unlock();
        for (const auto& call : calls) call->Finish(CancelledUnsent());
        return;
      }
    }
    std::shared_ptr<Connection> connection = connector_->TryGet();
    Clock::time_point look_at = connector_->NextAttempt();
    std::vector<std::shared_ptr<AsyncCall>> kept;
    for (auto& call : calls) {
      if (call->cancelled()) {
        call->Finish(CancelledUnsent());
      } else if (connection != nullptr) {
        Send(call, connection);
      } else if (Clock::now() >= call->connect_by_) {
        call->Finish(connector_->Failure());
      } else {
        look_at = std::min(look_at, call->connect_by_);
        kept.push_back(std::move(call));
      }
    }
    if (kept.empty()) continue;
    std::unique_lock lock(mutex_);
    unsent_.insert(unsent_.end(), std::make_move_iterator(kept.begin()), std::make_move_iterator(kept.end()));
    changed_.wait_until(lock, look_at, [this] { return closing_ || look_again_; });
  }
}

void AsyncRunner::Close() {
  std::thread receiver, connecter;
  std::vector<std::shared_ptr<AsyncCall>> sent;
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
    receiver.swap(receiver_);
    connecter.swap(connecter_);
  }
  changed_.notify_all();
  auto end = [](std::thread& thread) {
    if (!thread.joinable()) return;
    thread.get_id() == std::this_thread::get_id() ? thread.detach() : thread.join();
  };
  end(connecter);
  {
    std::lock_guard lock(mutex_);
    for (const auto& [tag, call] : sent_) sent.push_back(call);
  }
  for (const auto& call : sent) call->Cancel();
  sent.clear();
  queue_.Shutdown();
  end(receiver);
}

Clock::time_point ConnectBy(const Outgoing& call, std::chrono::nanoseconds connect_timeout) {
  return call.started + std::min(connect_timeout, call.timeout.value_or(connect_timeout));
}

void SetLimits(Outgoing& call, grpc::ClientContext& context) {
  using std::chrono::milliseconds;
  if (!call.timeout) return;
  // Whole milliseconds, so that a call that did not wait for its connection keeps its round number.
  const auto waited = std::chrono::duration_cast<milliseconds>(Clock::now() - call.started);
  const auto left = std::max<std::chrono::nanoseconds>(*call.timeout - waited, milliseconds(1));
  *call.request.mutable_timeout() = ToProto(left);
  context.set_deadline(std::chrono::system_clock::now() + left + kAnswerTime);
}

Error CallError(const grpc::Status& status, const Connection& connection,
                std::optional<std::chrono::nanoseconds> timeout) {
  Error error = FromStatus(status, connection.path());
  if (error.reason == Reason::kTimeout && !error.timeout) error.timeout = timeout;
  return error;
}

}  // namespace dirty::client::internal
