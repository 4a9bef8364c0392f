#ifndef DIRTY_CLIENT_CPP_TRANSPORT_H_
#define DIRTY_CLIENT_CPP_TRANSPORT_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "dirty/client.h"
#include "dirty/v1/call.pb.h"

namespace dirty::client::internal {

// A call on its way out, checked and ready to be sent. A value.
struct Outgoing {
  v1::ExecuteRequest request;  // `timeout` is set by the transport: connecting takes from it
  std::optional<std::chrono::nanoseconds> timeout;
  std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
  std::stop_token stop;
  std::function<bool()> interrupted;
  std::size_t size = 0;     // of the request, in bytes
  std::string traceparent;  // empty: none
};

// How often a thread that waits for a call asks `interrupted`.
inline constexpr std::chrono::milliseconds kInterruptedEvery{50};

// A call in flight. Cancel may be called from any thread, at any time, and does nothing once the call has ended.
class Cancellable {
 public:
  virtual ~Cancellable() = default;
  virtual void Cancel() = 0;
};

// A streaming call in flight. One thread reads; its end cancels the call, and waits for nothing.
class ChunkReader : public Cancellable {
 public:
  // Waits for the next value; empty at the end.
  virtual std::optional<RawChunk> Read() = 0;

  // Whether Read would not wait. If it would, `wake` runs once as soon as that changes, on a thread of the
  // transport's; it must not block.
  virtual bool Ready(std::function<void()> wake) = 0;

  // Why Read came to an end; empty if the stream was complete, or goes on. Mutable: the client adds what it knows.
  virtual std::optional<Error>& error() = 0;
};

// How calls reach the arbiter. Owned by the client's core; thread-safe. Its end cancels what is in flight and waits
// for it. Errors lack the app and action if the arbiter did not give them: the core fills them in.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual RawResult Execute(Outgoing call) = 0;

  // `done` runs exactly once, on a thread of the transport or before this returns.
  virtual std::shared_ptr<Cancellable> Start(Outgoing call, std::function<void(RawResult)> done) = 0;

  // Waits for nothing.
  virtual std::unique_ptr<ChunkReader> Open(Outgoing call) = 0;

  // The arbiter's limit of requests in bytes. 0: it has none, or it is not known yet.
  virtual std::uint64_t max_message_size() const { return 0; }

  // Ends what is in flight with kOutcomeUnknown, what waits for a connection with kConnection, and says `why`. The last
  // thing before the end.
  virtual void Cut(const std::string& why) = 0;
};

// The caller's end of a stream that others hold, too. `S` has these methods.
template <typename S>
class SharedReader final : public ChunkReader {
 public:
  explicit SharedReader(std::shared_ptr<S> stream) : stream_(std::move(stream)) {}
  ~SharedReader() override { stream_->Cancel(); }

  std::optional<RawChunk> Read() override { return stream_->Read(); }
  bool Ready(std::function<void()> wake) override { return stream_->Ready(std::move(wake)); }
  std::optional<Error>& error() override { return stream_->error(); }
  void Cancel() override { stream_->Cancel(); }

 private:
  const std::shared_ptr<S> stream_;
};

class Connector;

// One RPC a call. Holds gRPC initialised.
std::unique_ptr<Transport> MakeUnaryTransport(std::shared_ptr<Connector> connector,
                                              std::chrono::nanoseconds connect_timeout);

// All calls on one stream, but for those that are better off beside it.
std::unique_ptr<Transport> MakeSessionTransport(std::shared_ptr<Connector> connector,
                                                std::chrono::nanoseconds connect_timeout);

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_TRANSPORT_H_
