#ifndef DIRTY_CLIENT_TYPES_H_
#define DIRTY_CLIENT_TYPES_H_

// What calls take and give: values only, all thread-compatible. Part of <dirty/client.h>.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace dirty::client {

using Json = nlohmann::json;

// Why a call failed. Up to kPermissionDenied the numbers and meanings are those of dirty.v1.Reason.
enum class Reason {
  // Something that this version of the client has no name for; see the message.
  kUnknown = 0,
  kInvalidRequest = 1,     // Fix the request. Also decided here, before anything is sent.
  kAppNotFound = 2,        // No such app; the message names the nearest.
  kNoWorkers = 3,          // Configured, but nothing can serve it.
  kQueueFull = 4,          // Never started: try again after `retry_delay`.
  kQueueTimeout = 5,       // Waited too long and never started.
  kTimeout = 6,            // Ran too long. It may have had effects.
  kCancelled = 7,          // By the caller or an operator.
  kAppError = 8,           // The app raised: `exception_type`, `message`, `traceback`.
  kWorkerLost = 9,         // The worker died while it ran the call: the outcome is unknown.
  kTooLarge = 10,          // Above `max_message_size`. Also decided here, before anything is sent.
  kShuttingDown = 11,      // Never started.
  kPermissionDenied = 12,  // Not on this socket.
  // No connection within `connect_timeout`: never started. The message lists each path that was tried, and why not.
  kConnection = 100,
  // The connection broke while the call was on its way: it may have run, may be running, or never started.
  kOutcomeUnknown = 101,
};

// The reason's name as in the contract, such as `WORKER_LOST`.
std::string_view ReasonName(Reason reason);

// A failed call. What does not apply to its reason is empty.
struct Error {
  Reason reason = Reason::kUnknown;
  std::string message = {};  // what happened, where, and what to do, for people
  std::string app = {};
  std::string action = {};
  std::string call_id = {};                                  // the arbiter's; empty if it never got one
  std::uint32_t worker_id = 0;                               // 0: none ran it
  std::string exception_type = {};                           // kAppError
  std::string traceback = {};                                // kAppError
  std::optional<std::chrono::nanoseconds> retry_delay = {};  // kQueueFull
  std::optional<std::chrono::nanoseconds> timeout = {};      // kTimeout, kQueueTimeout: the limit that was overrun
  std::optional<int> exit_code = {};                         // kWorkerLost, if it exited by itself
  std::string signal = {};                                   // kWorkerLost: such as `SIGKILL`
  std::vector<std::string> stderr_tail = {};                 // kWorkerLost: its last lines, oldest first
};

// Thrown by Outcome::value() only.
class Exception : public std::runtime_error {
 public:
  explicit Exception(Error error);
  const Error& error() const { return error_; }

 private:
  Error error_;
};

// A value or an Error.
template <typename T>
class [[nodiscard]] Outcome {
 public:
  using value_type = T;

  Outcome(T value) : held_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Outcome(Error error) : held_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return held_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // The value; if there is none, all of these throw Exception.
  T& value() & { return Checked(), std::get<0>(held_); }
  const T& value() const& { return Checked(), std::get<0>(held_); }
  T&& value() && { return Checked(), std::get<0>(std::move(held_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  // Precondition: not ok().
  const Error& error() const& { return std::get<1>(held_); }
  Error&& error() && { return std::get<1>(std::move(held_)); }

 private:
  void Checked() const {
    if (!ok()) throw Exception(error());
  }

  std::variant<T, Error> held_;
};

// A call that succeeded. Text is what it came as, or parsed.
template <typename Value>
struct BasicResponse {
  Value result = {};
  std::vector<std::string> attachments = {};  // binary values that `result` references: see AttachmentNumber
  std::string call_id = {};
  std::uint32_t worker_id = 0;
  std::chrono::nanoseconds queued_time = {};
  std::chrono::nanoseconds run_time = {};
};
using Response = BasicResponse<Json>;
using RawResponse = BasicResponse<std::string>;  // `result` is JSON text
using Result = Outcome<Response>;
using RawResult = Outcome<RawResponse>;

// One value of a streamed result.
template <typename Value>
struct BasicChunk {
  Value value = {};
  std::vector<std::string> attachments = {};  // numbered from 0 in each chunk
};
using Chunk = BasicChunk<Json>;
using RawChunk = BasicChunk<std::string>;

// What one call may set. Everything is optional.
struct CallOptions {
  // How long the caller waits: to connect, queued and running together. It only shortens the arbiter's limits.
  std::optional<std::chrono::nanoseconds> timeout = std::nullopt;

  // The caller's own name for the call, for logs and traces; the first 128 bytes are kept.
  std::string request_id = {};

  // The W3C trace context that the call belongs to; what is none is dropped. Empty: in an app of a worker, on the
  // thread that runs App::Call, that of the call which runs there; elsewhere none.
  std::string traceparent = {};

  // Binary values, referenced from the arguments as Attachment(number). Moved, not copied.
  std::vector<std::string> attachments = {};

  // Cancels the call when a stop is requested, from any thread.
  std::stop_token stop = {};

  // Asked about every 50 ms by a thread that waits in Execute, ExecuteRaw, Next or NextRaw: true cancels the call.
  std::function<bool()> interrupted = {};
};

// The reference to CallOptions::attachments[number], for use anywhere in the arguments.
Json Attachment(std::size_t number);

// The number, if `value` is a reference.
std::optional<std::size_t> AttachmentNumber(const Json& value);

}  // namespace dirty::client

#endif  // DIRTY_CLIENT_TYPES_H_
