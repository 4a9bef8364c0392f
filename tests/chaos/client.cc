// A client process of chaos in C++: asynchronous calls and streams of dirty::client, until SIGTERM.
//
//   chaos_client SOCKET LEDGER NAME SEED CALLS_PER_SECOND AT_ONCE TIMEOUT BOUND APP...
//
// The ledger's lines are those of ledger.py, the payloads those of payload.py.

#include "dirty/client.h"

#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/chaos/payload.h"

namespace dirty::chaos {
namespace {

using client::CallOptions;
using client::Json;

std::string Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  char text[32];
  snprintf(text, sizeof text, "%ld.%06ld", now.tv_sec, now.tv_nsec / 1000);
  return text;
}

// Thread-safe: each record is one write.
class Ledger {
 public:
  explicit Ledger(const char* path) : file_(open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644)) {
    if (file_ < 0) perror(path), exit(1);
    Write("C cpp " + std::to_string(getpid()) + " " + Now());
  }
  uint64_t Sent(const std::string& app, const std::string& action, const std::string& bound) {
    const uint64_t number = ++last_;
    Write("S " + std::to_string(number) + " " + Now() + " " + app + " " + action + " " + bound);
    return number;
  }
  void Ended(uint64_t number, const std::string& outcome, const char* verdict, const std::string& call_id) {
    Write("E " + std::to_string(number) + " " + Now() + " " + outcome + " " + verdict + " " +
          (call_id.empty() ? "-" : call_id));
  }
  void Closed() { Write("F " + Now()); }

 private:
  void Write(std::string line) const {
    line += '\n';
    if (write(file_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) perror("ledger"), exit(1);
  }

  const int file_;
  std::atomic<uint64_t> last_{0};
};

struct Payload {
  std::string text, blob;
};

using Random = std::mt19937_64;

size_t Pick(Random& random, size_t below) { return std::uniform_int_distribution<size_t>(0, below - 1)(random); }

// Up to 1 MiB; small ones are as likely as large ones.
Payload MakePayload(Random& random) {
  static const char* const kLetters[] = {"a",  "Z",      " ",      "\"",         "\\",  "\n",
                                         "\t", "\u00e9", "\u6f22", "\U0001f600", "\x01"};
  Payload payload;
  for (size_t i = Pick(random, 200); i > 0; --i) payload.text += kLetters[Pick(random, std::size(kLetters))];
  payload.blob.resize(static_cast<size_t>(std::exp2(std::uniform_real_distribution<double>(0, 20)(random))) - 1);
  for (char& byte : payload.blob) byte = static_cast<char>(random());
  return payload;
}

// What each call needs to know.
struct Flags {
  const char* socket;
  std::string name, bound;
  double per_second;
  size_t at_once;
  std::chrono::duration<double> timeout;
  std::vector<std::string> apps;
};

// As counters have it: `app_error`. What the client decided by itself, without an answer of the arbiter, has a name of
// its own: the arbiter may have counted something else.
std::string OutcomeOf(const client::Error& error) {
  if (error.reason == client::Reason::kUnknown) return "unreadable";  // an answer came, and was none
  std::string name(client::ReasonName(error.reason));
  for (char& letter : name) letter = static_cast<char>(tolower(letter));
  const bool own = error.reason == client::Reason::kTimeout || error.reason == client::Reason::kCancelled;
  return own && error.call_id.empty() ? "local_" + name : name;
}

const char* VerdictOf(const client::Error& error) {
  return error.reason == client::Reason::kUnknown || error.exception_type == "WrongPayload" ? "wrong" : "-";
}

class Caller {
 public:
  Caller(Flags flags, Ledger& ledger, uint64_t seed)
      : flags_(std::move(flags)), ledger_(ledger), client_({.socket = flags_.socket}), random_(seed) {}

  // Starts calls at random times, at most so many at once, until told to stop; then waits for the last.
  void Run(const std::atomic<bool>& stop) {
    while (!stop) {
      std::exponential_distribution<double> pause(flags_.per_second);
      std::this_thread::sleep_for(std::chrono::duration<double>(std::min(pause(random_), 0.2)));
      std::unique_lock lock(mutex_);
      if (running_ >= flags_.at_once) continue;
      ++running_;
      lock.unlock();
      Start();
    }
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [&] { return running_ == 0; });
  }

 private:
  void Start() {
    const std::string app = flags_.apps[Pick(random_, flags_.apps.size())];
    Payload payload = MakePayload(random_);
    const size_t parts = Pick(random_, 4) == 0 ? 1 + Pick(random_, 40) : 0;
    const double seconds = static_cast<double>(Pick(random_, 20)) / 1000;
    const uint64_t number = ledger_.Sent(app, parts > 0 ? "parts" : "work", flags_.bound);
    const std::string who = flags_.name + "-" + std::to_string(number);
    Json args = {who, payload.text, client::Attachment(0), Checksum(payload.text, payload.blob)};
    CallOptions options{.timeout = std::chrono::duration_cast<std::chrono::nanoseconds>(flags_.timeout),
                        .request_id = who,
                        .attachments = {payload.blob}};
    if (parts > 0) {
      args.push_back(parts);
      // Streams are read by a thread of their own, which may wait.
      std::thread([this, number, who, parts, payload = std::move(payload),
                   stream = client_.ExecuteStream(app, "parts", args, Json::object(), std::move(options))]() mutable {
        Read(std::move(stream), number, who, payload, parts);
        End();
      }).detach();
      return;
    }
    client_.ExecuteAsync(app, "work", args, {{"seconds", seconds}}, std::move(options),
                         [this, number, who, payload = std::move(payload)](client::Result result) {
                           Note(number, who, payload, result);
                           End();
                         });
  }

  void Note(uint64_t number, const std::string& who, const Payload& payload, const client::Result& result) {
    if (!result.ok()) {
      return ledger_.Ended(number, OutcomeOf(result.error()), VerdictOf(result.error()), result.error().call_id);
    }
    const Json& answer = result->result;
    const std::string text = Transformed(payload.text), blob = Reversed(payload.blob);
    const bool right = answer.is_object() && answer.value("who", "") == who && answer.value("text", "") == text &&
                       answer.contains("blob") && client::AttachmentNumber(answer["blob"]) == 0u &&
                       result->attachments == std::vector{blob} &&
                       answer.value("checksum", uint64_t{0}) == Checksum(text, blob);
    ledger_.Ended(number, "ok", right ? "right" : "wrong", result->call_id);
  }

  void Read(client::Stream stream, uint64_t number, const std::string& who, const Payload& payload, size_t parts) {
    size_t index = 0;
    bool right = true;
    while (auto chunk = stream.Next()) {
      const std::string part(Part(payload.blob, std::min(index, parts - 1), parts));
      const Json& value = chunk->value;
      right = right && value.is_object() && value.value("who", "") == who && value.value("index", parts) == index &&
              chunk->attachments == std::vector{part} &&
              value.value("checksum", uint64_t{0}) == Checksum(payload.text, part);
      ++index;
    }
    const auto& error = stream.error();
    if (!error) return ledger_.Ended(number, "ok", right && index == parts ? "right" : "wrong", "");
    ledger_.Ended(number, OutcomeOf(*error), right ? VerdictOf(*error) : "wrong", error->call_id);
  }

  void End() {
    std::lock_guard lock(mutex_);
    if (--running_ == 0) idle_.notify_all();
  }

  const Flags flags_;
  Ledger& ledger_;
  client::Client client_;
  Random random_;
  std::mutex mutex_;
  std::condition_variable idle_;
  size_t running_ = 0;
};

std::atomic<bool> stop{false};

int Main(int count, char** words) {
  if (count < 10) return fprintf(stderr, "see the beginning of client.cc\n"), 2;
  signal(SIGTERM, [](int) { stop = true; });
  Flags flags{.socket = words[1],
              .name = words[3],
              .bound = words[8],
              .per_second = atof(words[5]),
              .at_once = strtoul(words[6], nullptr, 10),
              .timeout = std::chrono::duration<double>(atof(words[7])),
              .apps = std::vector<std::string>(words + 9, words + count)};
  Ledger ledger(words[2]);
  Caller(flags, ledger, strtoull(words[4], nullptr, 10)).Run(stop);
  ledger.Closed();
  return 0;
}

}  // namespace
}  // namespace dirty::chaos

int main(int count, char** words) { return dirty::chaos::Main(count, words); }
