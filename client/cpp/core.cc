#include "client/cpp/core.h"

#include <absl/strings/str_cat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "client/cpp/connection.h"
#include "client/cpp/errors.h"
#include "client/cpp/poller.h"
#include "client/cpp/socket.h"
#include "client/cpp/utf8.h"

// What runs us says it, if that is a worker (worker/runtime/trace_context.h).
extern "C" __attribute__((weak, visibility("default"))) const char* dirty_current_traceparent();

namespace dirty::client::internal {
namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds kLongest = std::chrono::hours(24 * 365 * 10);  // as good as for ever, and safe to add to a clock
constexpr std::chrono::seconds kCutTime{5};  // for calls that were cut to come back; they take milliseconds
constexpr std::size_t kWorthAsking = std::size_t{64} << 10;  // the arbiter refuses smaller requests itself
constexpr std::size_t kLongestTraceparent = 256;
constexpr char kForked[] = "the process forked during the call";

Error Invalid(std::string message) { return {.reason = Reason::kInvalidRequest, .message = std::move(message)}; }

// Strings that are not UTF-8 cannot be parsed at the other end, which costs the whole stream that they came on.
std::optional<Error> NotText(const v1::ExecuteRequest& request) {
  const std::pair<const char*, const std::string&> fields[] = {{"app", request.app()},
                                                               {"action", request.action()},
                                                               {"request_id", request.request_id()},
                                                               {"args", request.args()},
                                                               {"kwargs", request.kwargs()}};
  for (const auto& [name, text] : fields) {
    if (!IsUtf8(text)) return Invalid(absl::StrCat(name, " is not valid UTF-8"));
  }
  return std::nullopt;
}

// Whatever is in it, it must not spoil the frame or the metadata that it is sent in: the arbiter looks at the rest.
bool CanBeTraceparent(const std::string& text) {
  return text.size() <= kLongestTraceparent && text.find_first_not_of("0123456789abcdef-") == std::string::npos;
}

Options Bounded(Options options) {
  options.connect_timeout = std::clamp(options.connect_timeout, nanoseconds(0), kLongest);
  return options;
}

std::unique_ptr<Transport> MakeTransport(const Options& options) {
  auto connector = std::make_shared<Connector>(SocketPaths(options.socket, "DIRTY_SOCKET", "dirty.sock"));
  switch (options.transport) {
    case Options::Transport::kAuto:
      return MakeSessionTransport(std::move(connector), options.connect_timeout);
    case Options::Transport::kUnary:
      break;
  }
  return MakeUnaryTransport(std::move(connector), options.connect_timeout);
}

}  // namespace

Core::Core(Options options) : options_(Bounded(std::move(options))) {}

// Calls that nobody waits for end here, and say so to this.
Core::~Core() { transport_.reset(); }

Outcome<Outgoing> Core::Prepare(const std::string& app, const std::string& action, std::string args, std::string kwargs,
                                CallOptions options) const {
  Outgoing call;
  if (options.timeout && *options.timeout <= nanoseconds(0)) return Invalid("timeout must be positive");
  if (options.timeout && *options.timeout < kLongest) call.timeout = options.timeout;
  call.stop = std::move(options.stop);
  call.interrupted = std::move(options.interrupted);
  call.request.set_app(app);
  call.request.set_action(action);
  call.request.set_args(std::move(args));
  call.request.set_kwargs(std::move(kwargs));
  for (std::string& attachment : options.attachments) call.request.add_attachments(std::move(attachment));
  call.request.set_request_id(std::move(options.request_id));
  if (auto error = NotText(call.request)) return *std::move(error);
  call.traceparent = std::move(options.traceparent);
  if (call.traceparent.empty() && dirty_current_traceparent != nullptr) call.traceparent = dirty_current_traceparent();
  if (!CanBeTraceparent(call.traceparent)) call.traceparent.clear();
  call.size = call.request.ByteSizeLong();
  if (auto error = TooLarge(call.size, options_.max_message_size)) return *std::move(error);
  if (call.size > kWorthAsking) {
    std::lock_guard lock(mutex_);
    const std::uint64_t limit = transport_ != nullptr ? transport_->max_message_size() : 0;
    if (auto error = TooLarge(call.size, limit)) return *std::move(error);
  }
  return call;
}

RawResult Core::Execute(Outgoing call) {
  RawResult result = Enter(1).Execute(std::move(call));
  Leave(1);
  return result;
}

std::shared_ptr<Cancellable> Core::Start(Outgoing call, std::function<void(RawResult)> done) {
  // Out first: `done` may let go of this.
  auto leave = [this, done = std::move(done)](RawResult result) {
    Leave(1);
    done(std::move(result));
  };
  std::shared_ptr<Cancellable> started = Enter(2).Start(std::move(call), std::move(leave));
  Leave(1);
  return started;
}

std::unique_ptr<ChunkReader> Core::Open(Outgoing call) {
  std::unique_ptr<ChunkReader> reader = Enter(1).Open(std::move(call));
  Leave(1);
  return reader;
}

Transport& Core::Enter(int users) {
  std::lock_guard gate(gate_);
  std::lock_guard lock(mutex_);
  if (transport_ == nullptr) transport_ = MakeTransport(options_);
  users_ += users;
  return *transport_;
}

void Core::Leave(int users) {
  std::lock_guard lock(mutex_);
  users_ -= users;
  if (users_ == 0) left_.notify_all();
}

bool Core::Suspend(nanoseconds patience) {
  gate_.lock();
  std::unique_lock lock(mutex_);
  suspended_in_ = getpid();
  auto idle = [this] { return users_ == 0; };
  std::unique_ptr<Transport> transport;
  bool ended = true;
  if (transport_ != nullptr) {
    left_.wait_for(lock, std::clamp(patience, nanoseconds(0), kLongest), idle);
    transport = std::move(transport_);
    lock.unlock();
    transport->Cut(kForked);
    lock.lock();
    ended = left_.wait_for(lock, kCutTime, idle);
    lock.unlock();
    if (ended) {
      transport.reset();
    } else {
      static_cast<void>(transport.release());  // somebody is in it, for good
    }
    lock.lock();
  }
  lock.release();  // nobody else holds it while the process forks
  return ended;
}

void Core::Resume() {
  if (getpid() != suspended_in_) RenewPoller();
  mutex_.unlock();
  gate_.unlock();
}

}  // namespace dirty::client::internal
