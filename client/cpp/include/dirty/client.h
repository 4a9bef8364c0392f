#ifndef DIRTY_CLIENT_H_
#define DIRTY_CLIENT_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "dirty/client_types.h"

namespace dirty::client {

// How a client reaches its arbiter. The defaults suit an arbiter with its own defaults.
struct Options {
  // The client socket. Empty: $DIRTY_SOCKET, then /run/dirty/dirty.sock and $XDG_RUNTIME_DIR/dirty/dirty.sock; the
  // first that answers, which this client then stays with.
  std::string socket = {};

  // How long a call waits for the socket, whatever the obstacle, before it fails with kConnection. 0: one attempt.
  std::chrono::nanoseconds connect_timeout = std::chrono::seconds(5);

  // Requests above this many bytes fail with kTooLarge before anything is sent. As the arbiter's; 0: no limit.
  std::size_t max_message_size = std::size_t{64} << 20;

  // How calls travel. They mean the same either way; the difference is speed.
  enum class Transport {
    // Many calls on one stream (`Session`), where the arbiter has it; large requests beside it.
    kAuto,
    // Each call as an RPC of its own (`Execute`, `ExecuteStream`).
    kUnary,
  };
  Transport transport = Transport::kAuto;
};

namespace internal {
class Core;
class Cancellable;
class ChunkReader;
}  // namespace internal

// A call that was started with ExecuteAsync. Letting go of it does not cancel the call. Thread-compatible, but
// Cancel may be called from any thread at any time.
template <typename R>
class BasicCall {
 public:
  BasicCall(std::shared_ptr<internal::Cancellable> call, std::future<R> result)
      : call_(std::move(call)), result_(std::move(result)) {}

  // Asks the call to end with kCancelled; ignored if it has ended.
  void Cancel() const;

  // Waits for the outcome and gives it away. Precondition: started without a callback; not called before.
  R Get() { return result_.get(); }

  // Whether Get would return without waiting, after at most `time`. Precondition: as for Get.
  bool WaitFor(std::chrono::nanoseconds time) const { return result_.wait_for(time) == std::future_status::ready; }

 private:
  friend class Client;
  std::shared_ptr<internal::Cancellable> call_;
  std::future<R> result_;
};
using Call = BasicCall<Result>;
using RawCall = BasicCall<RawResult>;

// The values of a streaming call, as they come. Letting go of it cancels the call. One thread reads; Cancel may be
// called from any thread.
class Stream {
 public:
  explicit Stream(std::unique_ptr<internal::ChunkReader> reader);
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  // Waits for the next value, parsed or as JSON text. Empty: the stream ended, and error() says how.
  std::optional<Chunk> Next();
  std::optional<RawChunk> NextRaw();

  // Whether Next would not wait. If it would, `wake` runs once, as soon as that changes, on a thread of the client's;
  // it must not block or throw.
  bool Ready(std::function<void()> wake);

  // Why the stream ended. Empty: it has not ended, or was complete.
  const std::optional<Error>& error() const;

  // Asks the call to end with kCancelled; ignored if it has ended.
  void Cancel() const;

 private:
  std::unique_ptr<internal::ChunkReader> reader_;
};

// Calls apps through one arbiter.
//
//   dirty::client::Client client;
//   auto result = client.Execute("libthumbnail.so:Thumbnail", "thumbnail", Json::array({Attachment(0)}),
//                                {{"size", 128}}, {.timeout = 10s, .attachments = {photo}});
//   if (!result.ok()) return Fail(result.error().message);
//   Save(result->attachments.at(0));
//
// Copies share one connection, made by the first call, checked before each, and made again when it is gone; a call
// that may have started is never sent again. Thread-safe: keep one and use it from every thread. Nothing is thrown.
// When the last copy goes, calls in flight are cancelled and their callbacks have run.
//
// gRPC does not survive a fork: make a client after the fork, not before, or suspend every client while it forks.
class Client {
 public:
  explicit Client(Options options = {});

  // Runs `action` of `app` with positional and named arguments and waits for the outcome. Arguments that hold an
  // object whose only key is `$attachment` and that is not the number of one of `options.attachments`, binary
  // values, NaN, or text that is not UTF-8 are refused with kInvalidRequest.
  Result Execute(std::string app, std::string action, const Json& args = Json::array(),
                 const Json& kwargs = Json::object(), CallOptions options = {}) const;

  // The same with arguments and result as JSON text that goes through as it is (empty: none). The worker checks it.
  RawResult ExecuteRaw(std::string app, std::string action, std::string args, std::string kwargs,
                       CallOptions options = {}) const;

  // The same without waiting. `done`, if given, gets the outcome exactly once, on a thread of the client's or before
  // this returns; it must not block or throw. Else the outcome is in the Call.
  Call ExecuteAsync(std::string app, std::string action, const Json& args, const Json& kwargs, CallOptions options = {},
                    std::function<void(Result)> done = nullptr) const;
  RawCall ExecuteRawAsync(std::string app, std::string action, std::string args, std::string kwargs,
                          CallOptions options = {}, std::function<void(RawResult)> done = nullptr) const;

  // The same for an action that streams its result; one that does not gives one chunk.
  Stream ExecuteStream(std::string app, std::string action, const Json& args = Json::array(),
                       const Json& kwargs = Json::object(), CallOptions options = {}) const;
  Stream ExecuteStreamRaw(std::string app, std::string action, std::string args, std::string kwargs,
                          CallOptions options = {}) const;

  // For a process that forks: in the thread that forks, Suspend before it and Resume after it, in parent and child.
  //
  // Lets go of the connection, the threads and gRPC; the next call makes them again. Calls that start meanwhile wait
  // for Resume, so no callback may start one. Calls in flight get `patience` to end; then they, and streams at once,
  // end with kOutcomeUnknown, or with kConnection if they have no connection yet. False: gRPC is still in use, by a
  // call that did not end within 5 s more, for whatever reason; then the child must not use any client.
  bool Suspend(std::chrono::nanoseconds patience) const;
  void Resume() const;

 private:
  std::shared_ptr<internal::Core> core_;
};

}  // namespace dirty::client

#endif  // DIRTY_CLIENT_H_
