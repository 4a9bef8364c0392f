#include "client/cpp/async_runner.h"

#include <algorithm>
#include <utility>

namespace dirty::client::internal {

AsyncRunner::AsyncRunner(std::shared_ptr<Connector> connector, std::chrono::nanoseconds connect_timeout)
    : connector_(std::move(connector)), connect_timeout_(connect_timeout) {}

// Not earlier: an operation whose tag comes back may need the queue once more.
AsyncRunner::~AsyncRunner() {
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
  }
}

void AsyncRunner::Start(const std::shared_ptr<Operation>& call) {
  call->CancelOnStop();
  if (call->cancelled()) return call->Refuse(CancelledUnsent());
  if (std::shared_ptr<Connection> connection = connector_->Current(); connection != nullptr) {
    return Send(call, std::move(connection));
  }
  {
    std::lock_guard lock(mutex_);
    unsent_.push_back(call);
    if (!connecter_.joinable()) connecter_ = std::thread([self = shared_from_this()] { self->Connect(); });
  }
  Wake();
}

void AsyncRunner::Send(const std::shared_ptr<Operation>& call, std::shared_ptr<Connection> connection) {
  std::unique_lock lock(mutex_);
  const bool closing = closing_;
  if (!closing) {
    const bool first = sent_.empty();
    sent_.emplace(call.get(), call);
    if (!receiver_.joinable()) receiver_ = std::thread([self = shared_from_this()] { self->Receive(); });
    if (first) changed_.notify_all();
  }
  lock.unlock();
  if (closing) return call->Refuse(CancelledUnsent());
  call->Send(std::move(connection), &queue_);
}

// Whoever polls takes the events of other pollers too, and has to hand them over: so not while nothing is in flight.
void AsyncRunner::Receive() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closing_ || !sent_.empty(); });
      if (sent_.empty()) return;
    }
    void* tag = nullptr;
    bool ok = false;
    if (!queue_.Next(&tag, &ok)) return;
    auto* operation = static_cast<Operation*>(tag);
    std::unique_lock lock(mutex_);
    std::shared_ptr<Operation> held = sent_.at(operation);
    lock.unlock();
    if (held->Received(ok)) continue;
    held->on_stop_.reset();
    lock.lock();
    sent_.erase(operation);
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
    std::vector<std::shared_ptr<Operation>> calls;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closing_ || !unsent_.empty(); });
      look_again_ = false;
      calls = std::exchange(unsent_, {});
      if (closing_) {
        lock.unlock();
        for (const auto& call : calls) call->Refuse(CancelledUnsent());
        return;
      }
    }
    std::shared_ptr<Connection> connection = connector_->TryGet();
    Clock::time_point look_at = connector_->NextAttempt();
    std::vector<std::shared_ptr<Operation>> kept;
    for (auto& call : calls) {
      if (call->cancelled()) {
        call->Refuse(CancelledUnsent());
      } else if (connection != nullptr) {
        Send(call, connection);
      } else if (Clock::now() >= call->connect_by_ || connector_->closed()) {
        call->Refuse(connector_->Failure());
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

void AsyncRunner::Cut(const std::string& why) {
  std::vector<std::shared_ptr<Operation>> calls;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [tag, call] : sent_) calls.push_back(call);
  }
  for (const auto& call : calls) call->Cut(why);
  Wake();
}

void AsyncRunner::Close() {
  std::thread receiver, connecter;
  std::vector<std::shared_ptr<Operation>> sent;
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
  if (!sent.empty()) {  // a cancelled write waits until the other side reads, which may be never
    if (const std::shared_ptr<Connection> connection = connector_->Current(); connection != nullptr) connection->Cut();
  }
  sent.clear();
  end(receiver);  // once every tag is back
}

}  // namespace dirty::client::internal
