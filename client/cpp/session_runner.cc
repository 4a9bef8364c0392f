#include "client/cpp/session_runner.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <utility>

#include "client/cpp/errors.h"
#include "client/cpp/operation.h"

namespace dirty::client::internal {
namespace {

// A session that nobody looked at for longer may have ended.
constexpr std::chrono::milliseconds kStale{1};

Error Cancelled() { return {.reason = Reason::kCancelled, .message = "cancelled"}; }

// A call that its caller waits for.
class SyncCall final : public SessionCall {
 public:
  SyncCall(Outgoing call, SharedQueue& queue) : SessionCall(std::move(call)), queue_(queue) {}

  void OnEnd(RawResult outcome) override {
    result = std::move(outcome);
    queue_.Wake(waiter);
  }
  void OnUnsent() override { queue_.Wake(waiter); }

  Waiter waiter;
  std::optional<RawResult> result;

 private:
  SharedQueue& queue_;
};

}  // namespace

Clock::time_point Overdue(const Outgoing& call) {
  return call.timeout ? call.started + *call.timeout + kAnswerTime : Clock::time_point::max();
}

std::optional<RawResult> SessionRunner::Execute(Outgoing& outgoing, const std::shared_ptr<Connection>& connection) {
  if (outgoing.stop.stop_requested()) return CancelledUnsent();
  SyncCall call(std::move(outgoing), queue_);
  const Clock::time_point overdue = Overdue(call.outgoing);
  bool interrupted = false;
  Lock lock(queue_.mutex());
  if (Attach(lock, call, connection, /*waits=*/true)) {
    lock.unlock();
    std::stop_callback on_stop(call.outgoing.stop, [this, &call] {
      Lock stopping(queue_.mutex());
      Cancel(stopping, call);
    });
    lock.lock();
    for (bool ended = false; !ended;) {
      const Clock::time_point ask =
          call.outgoing.interrupted ? Clock::now() + kInterruptedEvery : Clock::time_point::max();
      ended = queue_.Wait(lock, call.waiter, std::min(overdue, ask));
      if (ended) break;
      if (overdue <= ask) {
        Expire(lock, call);
      } else {
        lock.unlock();
        interrupted = call.outgoing.interrupted();
        lock.lock();
        if (interrupted) Cancel(lock, call);
      }
    }
    lock.unlock();  // a stop that is under way ends first
  } else {
    queue_.Pass();
    lock.unlock();
  }
  if (!call.result && interrupted) return CancelledUnsent();  // its session broke just then
  if (!call.result) outgoing = std::move(call.outgoing);
  return std::move(call.result);
}

bool SessionRunner::Start(Lock& lock, SessionCall& call, const std::shared_ptr<Connection>& connection) {
  const Clock::time_point overdue = Overdue(call.outgoing);
  if (!Attach(lock, call, connection, /*waits=*/false)) {
    Settle(lock);
    return false;
  }
  if (overdue < next_overdue_) {
    next_overdue_ = overdue;
    queue_.WakeLeader();
  }
  Settle(lock);
  return true;
}

bool SessionRunner::Attach(Lock& lock, SessionCall& call, const std::shared_ptr<Connection>& connection, bool waits) {
  if (over_) return false;
  if (call.outgoing.started - last_taken_ > kStale) queue_.Drain(lock);
  if (over_ || refused_.lock() == connection) return false;
  if (current_ == nullptr || current_->connection() != connection || !(current_->greeting() || current_->open())) {
    current_ = std::make_shared<Session>(connection, queue_.queue());
    sessions_.push_back(current_);
  }
  const std::shared_ptr<Session> session = current_;
  return (waits || session->open()) && session->Add(lock, call);
}

void SessionRunner::Cancel(Lock& lock, SessionCall& call) {
  if (Session::End(lock, call, Cancelled())) Settle(lock);
}

void SessionRunner::Expire(Lock& lock, SessionCall& call) {
  if (Session::Expire(lock, call)) Settle(lock);
}

void SessionRunner::Prepare(Lock& lock) {
  for (std::size_t i = 0; i < sessions_.size(); ++i) sessions_[i]->Read(lock);
}

void SessionRunner::Take(Lock& lock, void* tag, bool ok) {
  const auto& [session, take] = *static_cast<Session::Tag*>(tag);
  last_taken_ = Clock::now();
  (session->*take)(lock, ok);
  if (session->open()) {
    if (session != current_.get()) return;
    greeted_ = session->connection();
    max_message_size_ = session->max_message_size();
    return;
  }
  if (session->refused() && session->connection()->Alive()) refused_ = session->connection();
  if (!session->gone()) return;
  if (session == current_.get()) current_ = nullptr;
  std::erase_if(sessions_, [session = session](const auto& held) { return held.get() == session; });
}

std::uint64_t SessionRunner::MaxMessageSize(const std::shared_ptr<Connection>& connection) {
  Lock lock(queue_.mutex());
  return connection != nullptr && greeted_.lock() == connection ? max_message_size_ : 0;
}

void SessionRunner::RunTimers(Lock& lock) {
  const Clock::time_point now = Clock::now();
  SessionCall* late = nullptr;
  do {  // one by one: Expire lets go of the lock
    late = nullptr;
    next_overdue_ = Clock::time_point::max();
    for (const auto& session : sessions_) {
      session->ForEachCall([&](SessionCall& call) {
        if (const Clock::time_point overdue = Overdue(call.outgoing); overdue > now) {
          next_overdue_ = std::min(next_overdue_, overdue);
        } else {
          late = &call;
        }
      });
    }
  } while (late != nullptr && Session::Expire(lock, *late));
}

bool SessionRunner::Busy() const {
  return std::any_of(sessions_.begin(), sessions_.end(),
                     [](const auto& session) { return session->greeting() || session->writing(); });
}

void SessionRunner::Settle(Lock& lock) {
  queue_.Drain(lock);
  queue_.Pass();
}

bool SessionRunner::TakesLead(bool followers) {
  if (!NeedsThread(followers) || closing_) return false;
  NeedThread();
  return !telling_;
}

void SessionRunner::NeedThread() {
  if (thread_.joinable() || closing_) return changed_.notify_all();
  thread_ = std::thread([self = shared_from_this()] { self->Run(); });
}

void SessionRunner::Tell(std::function<void()> tell) {
  told_.push_back(std::move(tell));
  NeedThread();
  if (told_.size() == 1) queue_.WakeLeader();
}

void SessionRunner::Run() {
  Lock lock(queue_.mutex());
  for (;;) {
    changed_.wait(
        lock, [this] { return closing_ || !told_.empty() || (!queue_.leading() && NeedsThread(queue_.followed())); });
    if (!told_.empty()) {
      std::vector<std::function<void()>> told = std::exchange(told_, {});
      telling_ = true;
      queue_.Pass();
      lock.unlock();
      for (auto& tell : told) std::exchange(tell, nullptr)();
      lock.lock();
      telling_ = false;
    } else if (closing_) {
      return;
    } else {
      queue_.Lead(lock, [this] { return told_.empty() && !closing_ && NeedsThread(queue_.followed()); });
      queue_.Pass();
    }
  }
}

void SessionRunner::EndAll(const Error& sent, const Error& unsent) {
  if (!over_) over_ = unsent;
  for (const auto& session : sessions_) session->EndCalls(sent, unsent);
}

void SessionRunner::Cut(const std::string& why, const Error& unsent) {
  Lock lock(queue_.mutex());
  EndAll({.reason = Reason::kOutcomeUnknown, .message = absl::StrCat("outcome unknown: ", why)}, unsent);
}

void SessionRunner::Close() {
  Lock lock(queue_.mutex());
  closing_ = true;
  EndAll(Cancelled(), CancelledUnsent());
  for (const auto& session : sessions_) session->Cancel();
  queue_.Drain(lock);
  for (const auto& session : sessions_) {
    if (session->writing()) session->connection()->Cut();  // nobody reads there, and a cancelled write waits for that
  }
  queue_.Close(lock, [this] { return !sessions_.empty(); });
  changed_.notify_all();
  std::thread thread = std::exchange(thread_, {});
  lock.unlock();
  if (thread.get_id() == std::this_thread::get_id()) return thread.detach();  // it tells what is left
  if (thread.joinable()) thread.join();
  for (auto& tell : std::exchange(told_, {})) tell();
}

}  // namespace dirty::client::internal
