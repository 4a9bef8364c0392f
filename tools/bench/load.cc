#include "tools/bench/load.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace dirty::bench {
namespace {

using Clock = std::chrono::steady_clock;

// What a call sends: the same for all, copied for each.
class Request {
 public:
  explicit Request(const Options& options) : options_(options) {
    if (options.attachment) call_.attachments.emplace_back(*options.attachment, 'x');
    if (options.timeout) call_.timeout = absl::ToChronoNanoseconds(*options.timeout);
  }

  client::RawResult Execute(const client::Client& client) const {
    return client.ExecuteRaw(options_.app, options_.action, options_.args, options_.kwargs, call_);
  }
  void Start(const client::Client& client, std::function<void(client::RawResult)> done) const {
    client.ExecuteRawAsync(options_.app, options_.action, options_.args, options_.kwargs, call_, std::move(done));
  }
  client::Stream Open(const client::Client& client) const {
    return client.ExecuteStreamRaw(options_.app, options_.action, options_.args, options_.kwargs, call_);
  }

 private:
  const Options& options_;
  client::CallOptions call_ = {};
};

client::Client NewClient(const Options& options, const std::string& socket) {
  using Transport = client::Options::Transport;
  return client::Client({.socket = socket,
                         .max_message_size = 0,  // dirtyd knows its own limit
                         .transport = options.transport == "unary" ? Transport::kUnary : Transport::kAuto});
}

// Whether calls count, and how many more may start. Each slot of a caller asks once for each call that ended, so that
// exactly `calls` calls are counted. Thread-safe.
class Plan {
 public:
  Plan(uint64_t calls, uint64_t slots, bool warm_up)
      : counting_(!warm_up),
        tickets_(calls == 0 ? kEndless : static_cast<int64_t>(warm_up ? calls - slots : calls)),
        busy_(slots) {}

  // Whether a slot may start its first call.
  bool First() { return !counting_.load() || TakeTicket(); }

  // A call of a slot ended.
  struct Verdict {
    bool counts;
    bool next;  // the slot starts another one
  };
  Verdict Ended() {
    if (over_.load()) return {false, false};
    if (!counting_.load()) return {false, true};
    return {true, TakeTicket()};
  }

  // A slot starts no more calls.
  void Leave() {
    std::lock_guard lock(mutex_);
    if (--busy_ == 0) idle_.notify_all();
  }

  void Count() { counting_ = true; }
  void End() { over_ = true; }
  void AwaitEnd() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  static constexpr int64_t kEndless = INT64_MAX / 2;
  bool TakeTicket() { return tickets_.fetch_sub(1) > 0; }

  std::atomic<bool> counting_;
  std::atomic<bool> over_ = false;
  std::atomic<int64_t> tickets_;
  std::mutex mutex_;
  std::condition_variable idle_;
  uint64_t busy_;  // guarded by mutex_
};

// One caller: a thread that calls and waits, or that starts `in_flight` calls which start each other as they end.
class Caller {
 public:
  Caller(const Request& request, client::Client client, Plan& plan, const Options& options)
      : request_(request),
        client_(std::move(client)),
        plan_(plan),
        stream_(options.stream),
        slots_(options.in_flight) {}

  // On the caller's thread.
  void Call() {
    if (slots_.size() > 1) {
      for (Slot& slot : slots_) {
        if (plan_.First()) {
          StartFrom(slot);
        } else {
          plan_.Leave();
        }
      }
      return;
    }
    bool next = plan_.First();
    while (next) {
      const Clock::time_point start = Clock::now();
      uint64_t chunks = 0;
      std::optional<client::Error> error = stream_ ? ReadStream(chunks) : CallOnce();
      next = Ended(start, chunks, std::move(error));
    }
    plan_.Leave();
  }

  // When all have ended.
  void AddTo(Measurement& total) {
    std::lock_guard lock(mutex_);
    total.latency.Merge(found_.latency);
    for (const auto& [reason, count] : found_.errors) total.errors[reason] += count;
    if (!total.first_error) total.first_error = found_.first_error;
    total.chunks += found_.chunks;
  }

 private:
  struct Slot {
    enum State { kStarting, kStarted, kEnded };
    std::atomic<State> state = kEnded;
    Clock::time_point start = {};
    bool next = false;  // written before the state
  };

  std::optional<client::Error> CallOnce() {
    client::RawResult result = request_.Execute(client_);
    if (result.ok()) return std::nullopt;
    return std::move(result).error();
  }

  std::optional<client::Error> ReadStream(uint64_t& chunks) {
    client::Stream stream = request_.Open(client_);
    while (stream.NextRaw()) ++chunks;
    return stream.error();
  }

  // Calls from `slot` until one of them does not end at once; its callback goes on. So nothing grows with calls that
  // do.
  void StartFrom(Slot& slot) {
    do {
      slot.state = Slot::kStarting;
      slot.start = Clock::now();
      request_.Start(client_, [this, &slot](client::RawResult result) {
        slot.next = Ended(slot.start, 0, result.ok() ? std::nullopt : std::optional(std::move(result).error()));
        if (slot.state.exchange(Slot::kEnded) == Slot::kStarting) return;
        if (slot.next) {
          StartFrom(slot);
        } else {
          plan_.Leave();
        }
      });
      if (slot.state.exchange(Slot::kStarted) == Slot::kStarting) return;
    } while (slot.next);
    plan_.Leave();
  }

  // Counts a call; whether its slot starts another.
  bool Ended(Clock::time_point start, uint64_t chunks, std::optional<client::Error> error) {
    const Clock::time_point now = Clock::now();
    const Plan::Verdict verdict = plan_.Ended();
    if (verdict.counts) {
      std::lock_guard lock(mutex_);
      found_.chunks += chunks;
      if (!error) {
        found_.latency.Add(now - start);
      } else {
        ++found_.errors[std::string(client::ReasonName(error->reason))];
        if (!found_.first_error) found_.first_error = *std::move(error);
      }
    }
    return verdict.next;
  }

  const Request& request_;
  const client::Client client_;
  Plan& plan_;
  const bool stream_;
  std::vector<Slot> slots_;
  std::mutex mutex_;
  Measurement found_;  // guarded by mutex_
};

}  // namespace

uint64_t Measurement::calls() const {
  uint64_t calls = latency.count();
  for (const auto& [reason, count] : errors) calls += count;
  return calls;
}

Measurement Run(const Options& options, const std::string& socket, const std::function<void()>& begin,
                const std::function<void()>& end) {
  const Request request(options);
  const bool warm_up = options.warm_up > absl::ZeroDuration();
  Plan plan(options.calls, uint64_t{options.callers} * options.in_flight, warm_up);
  std::vector<client::Client> clients;  // go after the callers, before the plan: then every callback has run
  for (unsigned i = 0; i < options.connections; ++i) clients.push_back(NewClient(options, socket));
  std::vector<std::unique_ptr<Caller>> callers;
  for (unsigned i = 0; i < options.callers; ++i) {
    callers.push_back(std::make_unique<Caller>(request, clients[i % clients.size()], plan, options));
  }

  Clock::time_point began = Clock::now();
  if (!warm_up) begin();
  std::vector<std::thread> threads;
  for (const auto& caller : callers) threads.emplace_back(&Caller::Call, caller.get());
  if (warm_up) {
    std::this_thread::sleep_for(absl::ToChronoNanoseconds(options.warm_up));
    begin();
    began = Clock::now();
    plan.Count();
  }
  Measurement total;
  if (options.calls == 0) {
    std::this_thread::sleep_until(began + absl::ToChronoNanoseconds(options.duration));
    plan.End();
  } else {
    plan.AwaitEnd();
  }
  total.elapsed = Clock::now() - began;
  end();
  plan.AwaitEnd();
  for (std::thread& thread : threads) thread.join();
  for (const auto& caller : callers) caller->AddTo(total);
  return total;
}

std::optional<client::Error> TryCall(const Options& options, const std::string& socket) {
  const client::Client client = NewClient(options, socket);
  const Request request(options);
  if (options.stream) {
    client::Stream stream = request.Open(client);
    while (stream.NextRaw()) continue;
    return stream.error();
  }
  client::RawResult result = request.Execute(client);
  if (result.ok()) return std::nullopt;
  return std::move(result).error();
}

}  // namespace dirty::bench
