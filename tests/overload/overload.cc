// Overloads real dirtyds: see kUsage.
//
// Calls take 10 to 30 ms of a slot and no processor, so that the caller, which shares the machine, does not slow the
// workers down. Each scenario has a dirtyd of its own: first what the slots can do (callers that wait for their
// answers), then half of that, then the overload, then half of it again; the last three send at their rate whatever
// comes back.
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/synchronization/mutex.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <vector>

#include "dirty/client.h"
#include "tools/bench/own_dirtyd.h"
#include "tools/bench/processes.h"

namespace dirty::overload {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr unsigned kWorkers = 2, kThreads = 4, kConnections = 4;
constexpr double kShortest = 0.010, kLongest = 0.030;  // seconds that a call takes
constexpr size_t kPayload = 1024;                      // bytes that it carries besides
constexpr milliseconds kTick{1}, kSample{50}, kSlice{100};
constexpr seconds kPeak{3}, kCalm{3}, kAfter{5};

// What is promised.
constexpr double kGoodput = 0.9;                  // of the peak
constexpr milliseconds kSlack{100};               // above its limit: what a call itself takes, and the way back
constexpr uint64_t kMemory = uint64_t{64} << 20;  // above what dirtyd had before
constexpr milliseconds kRecovery{1000};

struct Scenario {
  const char* name;
  std::vector<std::string> flags;  // of dirtyd
  nanoseconds timeout;             // of each call; 0: none
  nanoseconds limit;               // what a call that succeeds may take
};

// With the default queue the wait would be 2.5 s: longer than callers with a deadline have. Callers without one wait
// for as long as `queue_timeout` says. What waits when the overload ends, and what comes meanwhile, is served first: at
// half the load that takes twice the limit.
std::vector<Scenario> Scenarios() {
  return {{"no deadlines", {"--queue_timeout=300ms"}, nanoseconds(0), milliseconds(300)},
          {"deadlines", {}, milliseconds(300), milliseconds(300)}};
}

// One call, when it was sent and answered. The reason is empty if it succeeded.
struct Record {
  Clock::time_point sent, ended;
  std::string reason;
};

double Seconds(nanoseconds time) { return std::chrono::duration<double>(time).count(); }
double Millis(nanoseconds time) { return 1000 * Seconds(time); }

nanoseconds Percentile(std::vector<nanoseconds> times, double share) {
  if (times.empty()) return {};
  auto at = times.begin() + static_cast<ptrdiff_t>(share * static_cast<double>(times.size() - 1));
  std::nth_element(times.begin(), at, times.end());
  return *at;
}

// The callers: clients of one dirtyd, and what became of their calls.
class Callers {
 public:
  Callers(const std::string& socket, nanoseconds timeout) {
    if (timeout.count() > 0) options_.timeout = timeout;
    for (unsigned i = 0; i < kConnections; ++i) clients_.emplace_back(client::Options{.socket = socket});
  }

  // So many callers, each with one call at a time. The calls that succeeded, in a second.
  double Closed(unsigned callers, seconds time) {
    std::atomic<uint64_t> done = 0;
    const Clock::time_point begin = Clock::now(), end = begin + time;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < callers; ++i) {
      threads.emplace_back([&, i] {
        std::mt19937 random(i);
        const client::Client& client = clients_[i % clients_.size()];
        while (Clock::now() < end) {
          if (client.ExecuteRaw(app_, "sleep", Arguments(random), "", options_).ok() && Clock::now() < end) ++done;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return static_cast<double>(done) / Seconds(time);
  }

  // Calls at a rate, in a second, whatever becomes of those before. Returns when the last one was sent.
  void Open(double rate, seconds time) {
    const Clock::time_point begin = Clock::now();
    uint64_t sent = 0;
    for (Clock::time_point now = begin; now < begin + time; now = Clock::now()) {
      const auto due = static_cast<uint64_t>(rate * Seconds(now - begin));
      for (; sent < due; ++sent) Send();
      std::this_thread::sleep_for(kTick);
    }
  }

  // Waits until every call has its answer.
  std::vector<Record> Take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_ == 0; });
    return std::exchange(records_, {});
  }

 private:
  static std::string Arguments(std::mt19937& random) {
    const double time = std::uniform_real_distribution<double>(kShortest, kLongest)(random);
    return absl::StrCat("[", time, "]");
  }

  void Send() {
    {
      std::lock_guard lock(mutex_);
      ++open_;
    }
    const Clock::time_point sent = Clock::now();
    client::CallOptions options = options_;
    options.attachments.emplace_back(kPayload, 'x');
    clients_[next_++ % clients_.size()].ExecuteRawAsync(
        app_, "sleep", Arguments(random_), "", std::move(options), [this, sent](client::RawResult result) {
          std::lock_guard lock(mutex_);
          records_.push_back(
              {sent, Clock::now(), result.ok() ? "" : std::string(client::ReasonName(result.error().reason))});
          if (--open_ == 0) changed_.notify_all();
        });
  }

  const std::string app_ = bench::EchoApp("native");
  client::CallOptions options_;
  std::mt19937 random_{1};
  size_t next_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t open_ = 0;            // guarded by mutex_
  std::vector<Record> records_;  // likewise
  std::vector<client::Client> clients_;
};

// The most memory that a process has had from now on, looked at every kSample.
class MemoryWatch {
 public:
  explicit MemoryWatch(pid_t pid) : pid_(pid), before_(bench::MemoryOf(pid).resident), most_(before_) {
    thread_ = std::thread([this] {
      while (!stop_) {
        most_ = std::max(most_, bench::MemoryOf(pid_).resident);
        std::this_thread::sleep_for(kSample);
      }
    });
  }
  // Bytes above what it had.
  uint64_t Stop() {
    stop_ = true;
    thread_.join();
    return most_ - before_;
  }

 private:
  const pid_t pid_;
  const uint64_t before_;
  uint64_t most_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

struct Found {
  double peak = 0, offered = 0, goodput = 0;  // calls a second
  uint64_t sent = 0, answered = 0;
  std::map<std::string, uint64_t> outcomes = {};
  nanoseconds calm_p99{}, p50{}, p99{};
  uint64_t memory = 0;
  nanoseconds recovery{};
};

// When the last slice ended, after the overload, in which a call failed or most took longer than before.
nanoseconds Recovery(const std::vector<Record>& after, Clock::time_point end, nanoseconds usual) {
  std::map<int64_t, std::vector<nanoseconds>> slices;
  std::map<int64_t, bool> failed;
  for (const Record& record : after) {
    const int64_t slice = (record.sent - end) / kSlice;
    slices[slice].push_back(record.ended - record.sent);
    failed[slice] |= !record.reason.empty();
  }
  nanoseconds last{};
  for (const auto& [slice, times] : slices) {
    if (failed[slice] || Percentile(times, 0.5) > usual) last = (slice + 1) * kSlice;
  }
  return last;
}

absl::StatusOr<Found> Run(const Scenario& scenario, seconds time, double times) {
  bench::Options options;
  options.self = "native";
  options.workers = kWorkers;
  options.threads = kThreads;
  options.with = scenario.flags;
  auto dirtyd = bench::OwnDirtyd::Start(options);
  if (!dirtyd.ok()) return dirtyd.status();
  const auto admin = bench::Operator::Connect((*dirtyd)->admin_socket(), seconds(1));
  if (!admin.ok()) return absl::UnavailableError(admin.error().message);
  const absl::StatusOr<v1::StatusResponse> status = admin->Status();
  if (!status.ok()) return status.status();

  Callers callers((*dirtyd)->socket(), scenario.timeout);
  Found found;
  found.peak = callers.Closed(2 * kWorkers * kThreads, kPeak);
  callers.Open(found.peak / 2, kCalm);
  std::vector<nanoseconds> calm;
  for (const Record& record : callers.Take()) calm.push_back(record.ended - record.sent);
  found.calm_p99 = Percentile(std::move(calm), 0.99);

  MemoryWatch memory(static_cast<pid_t>(status->pid()));
  const Clock::time_point begin = Clock::now();
  callers.Open(times * found.peak, time);
  const Clock::time_point end = Clock::now();
  callers.Open(found.peak / 2, kAfter);
  std::vector<Record> after;
  std::vector<nanoseconds> succeeded;
  for (Record& record : callers.Take()) {
    if (record.sent >= end) {
      after.push_back(std::move(record));
      continue;
    }
    ++found.sent;
    ++found.outcomes[record.reason.empty() ? "ok" : record.reason];
    if (!record.reason.empty()) continue;
    succeeded.push_back(record.ended - record.sent);
    if (record.ended < end) ++found.goodput;
  }
  found.memory = memory.Stop();
  found.offered = static_cast<double>(found.sent) / Seconds(end - begin);
  found.goodput /= Seconds(end - begin);
  found.p50 = Percentile(succeeded, 0.5);
  found.p99 = Percentile(succeeded, 0.99);
  found.recovery = Recovery(after, end, found.calm_p99 + kSlack / 5);
  return found;
}

// Every promise that is broken.
std::vector<std::string> Broken(const Scenario& scenario, const Found& found, double times, unsigned slack) {
  std::vector<std::string> broken;
  // Else nothing was shown.
  if (found.offered < 0.8 * times * found.peak) broken.push_back("the load is less than it was to be");
  if (found.goodput < (1 - slack * (1 - kGoodput)) * found.peak) broken.push_back("too few calls succeed");
  if (found.p99 > scenario.limit + slack * kSlack) broken.push_back("calls that succeed take too long");
  if (found.memory > kMemory) broken.push_back("it takes too much memory");
  if (found.recovery > slack * kRecovery) broken.push_back("it does not recover in time");
  return broken;
}

nlohmann::json ToJson(const Scenario& scenario, const Found& found, const std::vector<std::string>& broken) {
  return {{"scenario", scenario.name},
          {"peak_per_second", found.peak},
          {"offered_per_second", found.offered},
          {"goodput_per_second", found.goodput},
          {"calls", found.sent},
          {"outcomes", found.outcomes},
          {"calm_p99_ms", Millis(found.calm_p99)},
          {"p50_ms", Millis(found.p50)},
          {"p99_ms", Millis(found.p99)},
          {"limit_ms", Millis(scenario.limit)},
          {"memory_bytes", found.memory},
          {"recovery_ms", Millis(found.recovery)},
          {"broken", broken}};
}

// Runs a scenario and prints what was found. 0: every promise was kept.
int Try(const Scenario& scenario, seconds time, unsigned times, unsigned slack, bool json) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const absl::StatusOr<Found> run = Run(scenario, time, times);
  if (!run.ok()) {
    fprintf(stderr, "overload: %s\n", std::string(run.status().message()).c_str());
    return 1;
  }
  const Found& found = *run;
  const std::vector<std::string> broken = Broken(scenario, found, times, slack);
  if (json) {
    puts(ToJson(scenario, found, broken).dump().c_str());
  } else {
    absl::PrintF(
        "%s: %.0f/s succeed of %.0f/s for %d s; %.0f/s without overload (%.2f)\n"
        "  calls %d: %s\n"
        "  those that succeed: p50 %.1f ms, p99 %.1f ms (they may wait %.0f ms); at half the load p99 %.1f ms\n"
        "  memory +%.1f MiB, as before after %.0f ms\n",
        scenario.name, found.goodput, found.offered, time.count(), found.peak, found.goodput / found.peak, found.sent,
        absl::StrJoin(found.outcomes, ", ", absl::PairFormatter(" ")), Millis(found.p50), Millis(found.p99),
        Millis(scenario.limit), Millis(found.calm_p99), static_cast<double>(found.memory) / (1 << 20),
        Millis(found.recovery));
    for (const std::string& what : broken) absl::PrintF("  BROKEN: %s\n", what);
    if (broken.empty()) puts("  every promise is kept");
  }
  fflush(stdout);
  return broken.empty() ? 0 : 1;
}

constexpr char kUsage[] = R"(overload [--seconds N] [--times N] [--slack N] [--json]

Sends a dirtyd of its own many times as many calls as its workers can run, without deadlines and with them. Checks
what is promised: the calls that succeed are at least 0.9 of what the workers can do, they do not take longer than
their limit, memory stays bounded, and within a second after the overload it is as before.

--seconds N   how long each overload lasts [60]
--times N     the load, in multiples of what the workers can do [10]
--slack N     allows N times as much to be missing, late and slow: for a machine that does other things meanwhile [1]
--json        print JSON, a line for each scenario

Exit code: 0, 1 if a promise is broken, 2 for a usage error.
)";

int Main(int argc, char** argv) {
  unsigned time = 60, times = 10, slack = 1;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    unsigned* value = strcmp(argv[i], "--seconds") == 0 ? &time
                      : strcmp(argv[i], "--times") == 0 ? &times
                      : strcmp(argv[i], "--slack") == 0 ? &slack
                                                        : nullptr;
    if (strcmp(argv[i], "--help") == 0) {
      fputs(kUsage, stdout);
      return 0;
    }
    if (strcmp(argv[i], "--json") == 0) {
      json = true;
    } else if (value == nullptr || i + 1 == argc || !absl::SimpleAtoi(argv[++i], value) || *value == 0) {
      fputs(kUsage, stderr);
      return 2;
    }
  }
  bool good = true;
  for (const Scenario& scenario : Scenarios()) {
    // In a process of its own: to start a dirtyd is a fork, which gRPC does not survive.
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) _exit(Try(scenario, seconds(time), times, slack, json));
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    good = good && child > 0 && status == 0;
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace dirty::overload

int main(int argc, char** argv) { return dirty::overload::Main(argc, argv); }
