#include "dirty/client.h"

#include <absl/strings/str_cat.h>

#include <cmath>
#include <utility>

#include "client/cpp/core.h"

namespace dirty::client {
namespace {

using internal::Outgoing;

constexpr char kAttachmentKey[] = "$attachment";

// Fills in what an error that was made on the way does not know.
Error Named(Error error, const std::string& app, const std::string& action) {
  if (error.app.empty()) error.app = app;
  if (error.action.empty()) error.action = action;
  return error;
}

Error Invalid(std::string message) { return {.reason = Reason::kInvalidRequest, .message = std::move(message)}; }

// Why `value` cannot be sent beside so many attachments; empty if it can. Goes as deep as `value` is; the arbiter's
// limit is far below what a stack holds.
std::string Obstacle(const Json& value, std::size_t attachments) {
  switch (value.type()) {
    case Json::value_t::object: {
      if (value.size() == 1 && value.begin().key() == kAttachmentKey) {
        const std::optional<std::size_t> number = AttachmentNumber(value);
        if (number && *number < attachments) return {};
        return absl::StrCat(
            "an object whose only key is $attachment refers to an attachment by number, but this one "
            "holds ",
            value.begin()->dump(-1, ' ', false, Json::error_handler_t::replace), " and there are ", attachments,
            " attachments");
      }
      [[fallthrough]];
    }
    case Json::value_t::array:
      for (const Json& element : value) {
        if (std::string obstacle = Obstacle(element, attachments); !obstacle.empty()) return obstacle;
      }
      return {};
    case Json::value_t::number_float:
      return std::isfinite(value.get<double>()) ? "" : "NaN and infinities are not JSON";
    case Json::value_t::binary:
      return "binary values are passed as attachments: see CallOptions";
    case Json::value_t::discarded:
      return "a value that could not be parsed";
    default:
      return {};
  }
}

// The text of arguments, which must be of this kind; null counts as empty.
Outcome<std::string> Encode(const Json& value, const char* name, bool array, std::size_t attachments) {
  if (value.is_null()) return std::string();
  if (array ? !value.is_array() : !value.is_object()) {
    return Invalid(absl::StrCat(name, " is ", value.type_name(), ", not ", array ? "an array" : "an object"));
  }
  if (std::string obstacle = Obstacle(value, attachments); !obstacle.empty()) {
    return Invalid(absl::StrCat(name, ": ", obstacle));
  }
  try {
    return value.dump();
  } catch (const Json::exception& error) {  // not UTF-8
    return Invalid(absl::StrCat(name, ": ", error.what()));
  }
}

struct Encoded {
  std::string args;
  std::string kwargs;
};

Outcome<Encoded> Encode(const Json& args, const Json& kwargs, const CallOptions& options) {
  Outcome<std::string> encoded_args = Encode(args, "args", true, options.attachments.size());
  if (!encoded_args.ok()) return std::move(encoded_args).error();
  Outcome<std::string> encoded_kwargs = Encode(kwargs, "kwargs", false, options.attachments.size());
  if (!encoded_kwargs.ok()) return std::move(encoded_kwargs).error();
  return Encoded{*std::move(encoded_args), *std::move(encoded_kwargs)};
}

// What the worker sends was checked by it; a foreign one may still be wrong.
Outcome<Json> Decode(const std::string& text) {
  Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return Error{.message = "the worker's result is not JSON"};
  return value;
}

Result Parse(RawResult raw, const std::string& app, const std::string& action) {
  if (!raw.ok()) return std::move(raw).error();
  Outcome<Json> value = Decode(raw->result);
  if (!value.ok()) return Named(std::move(value).error(), app, action);
  return Response{*std::move(value),       std::move(raw->attachments),
                  std::move(raw->call_id), raw->worker_id,
                  raw->queued_time,        raw->run_time};
}

// A stream that failed before it was opened.
class FailedReader : public internal::ChunkReader {
 public:
  explicit FailedReader(Error error) : error_(std::move(error)) {}
  std::optional<RawChunk> Read() override { return std::nullopt; }
  bool Ready(std::function<void()>) override { return true; }
  std::optional<Error>& error() override { return error_; }
  void Cancel() override {}

 private:
  std::optional<Error> error_;
};

// Adds to a stream's error what the transport does not know, and keeps the transport.
class NamedReader : public internal::ChunkReader {
 public:
  NamedReader(std::shared_ptr<internal::Core> core, std::unique_ptr<ChunkReader> reader, std::string app,
              std::string action)
      : core_(std::move(core)), reader_(std::move(reader)), app_(std::move(app)), action_(std::move(action)) {}
  std::optional<RawChunk> Read() override {
    std::optional<RawChunk> chunk = reader_->Read();
    if (!chunk && error()) error() = Named(*std::move(error()), app_, action_);
    return chunk;
  }
  bool Ready(std::function<void()> wake) override { return reader_->Ready(std::move(wake)); }
  std::optional<Error>& error() override { return reader_->error(); }
  void Cancel() override { reader_->Cancel(); }

 private:
  const std::shared_ptr<internal::Core> core_;
  const std::unique_ptr<ChunkReader> reader_;
  const std::string app_, action_;
};

class NoCall : public internal::Cancellable {
 public:
  void Cancel() override {}
};

}  // namespace

std::string_view ReasonName(Reason reason) {
  switch (reason) {
    case Reason::kUnknown:
      return "UNKNOWN";
    case Reason::kInvalidRequest:
      return "INVALID_REQUEST";
    case Reason::kAppNotFound:
      return "APP_NOT_FOUND";
    case Reason::kNoWorkers:
      return "NO_WORKERS";
    case Reason::kQueueFull:
      return "QUEUE_FULL";
    case Reason::kQueueTimeout:
      return "QUEUE_TIMEOUT";
    case Reason::kTimeout:
      return "TIMEOUT";
    case Reason::kCancelled:
      return "CANCELLED";
    case Reason::kAppError:
      return "APP_ERROR";
    case Reason::kWorkerLost:
      return "WORKER_LOST";
    case Reason::kTooLarge:
      return "TOO_LARGE";
    case Reason::kShuttingDown:
      return "SHUTTING_DOWN";
    case Reason::kPermissionDenied:
      return "PERMISSION_DENIED";
    case Reason::kConnection:
      return "CONNECTION";
    case Reason::kOutcomeUnknown:
      return "OUTCOME_UNKNOWN";
  }
  return "UNKNOWN";
}

Exception::Exception(Error error)
    : std::runtime_error(absl::StrCat(std::string(ReasonName(error.reason)), ": ", error.message)),
      error_(std::move(error)) {}

Json Attachment(std::size_t number) { return {{kAttachmentKey, number}}; }

std::optional<std::size_t> AttachmentNumber(const Json& value) {
  if (!value.is_object() || value.size() != 1 || value.begin().key() != kAttachmentKey) return std::nullopt;
  const Json& number = *value.begin();
  if (number.is_number_unsigned()) return number.get<std::size_t>();
  if (number.is_number_integer() && number.get<std::int64_t>() >= 0) return number.get<std::size_t>();
  return std::nullopt;
}

template <typename R>
void BasicCall<R>::Cancel() const {
  call_->Cancel();
}
template class BasicCall<Result>;
template class BasicCall<RawResult>;

Stream::Stream(std::unique_ptr<internal::ChunkReader> reader) : reader_(std::move(reader)) {}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

std::optional<RawChunk> Stream::NextRaw() { return reader_->Read(); }

std::optional<Chunk> Stream::Next() {
  std::optional<RawChunk> raw = reader_->Read();
  if (!raw) return std::nullopt;
  Outcome<Json> value = Decode(raw->value);
  if (value.ok()) return Chunk{*std::move(value), std::move(raw->attachments)};
  reader_ = std::make_unique<FailedReader>(std::move(value).error());
  return std::nullopt;
}

bool Stream::Ready(std::function<void()> wake) { return reader_->Ready(std::move(wake)); }

const std::optional<Error>& Stream::error() const { return reader_->error(); }
void Stream::Cancel() const { reader_->Cancel(); }

Client::Client(Options options) : core_(std::make_shared<internal::Core>(std::move(options))) {}

bool Client::Suspend(std::chrono::nanoseconds patience) const { return core_->Suspend(patience); }
void Client::Resume() const { core_->Resume(); }

RawResult Client::ExecuteRaw(std::string app, std::string action, std::string args, std::string kwargs,
                             CallOptions options) const {
  Outcome<Outgoing> call = core_->Prepare(app, action, std::move(args), std::move(kwargs), std::move(options));
  if (!call.ok()) return Named(std::move(call).error(), app, action);
  RawResult result = core_->Execute(*std::move(call));
  if (!result.ok()) return Named(std::move(result).error(), app, action);
  return result;
}

Result Client::Execute(std::string app, std::string action, const Json& args, const Json& kwargs,
                       CallOptions options) const {
  Outcome<Encoded> encoded = Encode(args, kwargs, options);
  if (!encoded.ok()) return Named(std::move(encoded).error(), app, action);
  return Parse(ExecuteRaw(app, action, std::move(encoded->args), std::move(encoded->kwargs), std::move(options)), app,
               action);
}

RawCall Client::ExecuteRawAsync(std::string app, std::string action, std::string args, std::string kwargs,
                                CallOptions options, std::function<void(RawResult)> done) const {
  std::future<RawResult> future;
  if (done == nullptr) {
    auto promise = std::make_shared<std::promise<RawResult>>();
    future = promise->get_future();
    done = [promise](RawResult result) { promise->set_value(std::move(result)); };
  }
  Outcome<Outgoing> call = core_->Prepare(app, action, std::move(args), std::move(kwargs), std::move(options));
  if (!call.ok()) {
    done(Named(std::move(call).error(), app, action));
    return RawCall(std::make_shared<NoCall>(), std::move(future));
  }
  auto named = [app, action, done = std::move(done)](RawResult result) {
    if (!result.ok()) return done(Named(std::move(result).error(), app, action));
    done(std::move(result));
  };
  return RawCall(core_->Start(*std::move(call), std::move(named)), std::move(future));
}

Call Client::ExecuteAsync(std::string app, std::string action, const Json& args, const Json& kwargs,
                          CallOptions options, std::function<void(Result)> done) const {
  std::future<Result> future;
  if (done == nullptr) {
    auto promise = std::make_shared<std::promise<Result>>();
    future = promise->get_future();
    done = [promise](Result result) { promise->set_value(std::move(result)); };
  }
  Outcome<Encoded> encoded = Encode(args, kwargs, options);
  if (!encoded.ok()) {
    done(Named(std::move(encoded).error(), app, action));
    return Call(std::make_shared<NoCall>(), std::move(future));
  }
  RawCall call = ExecuteRawAsync(
      app, action, std::move(encoded->args), std::move(encoded->kwargs), std::move(options),
      [app, action, done = std::move(done)](RawResult result) { done(Parse(std::move(result), app, action)); });
  return Call(std::move(call.call_), std::move(future));
}

Stream Client::ExecuteStreamRaw(std::string app, std::string action, std::string args, std::string kwargs,
                                CallOptions options) const {
  Outcome<Outgoing> call = core_->Prepare(app, action, std::move(args), std::move(kwargs), std::move(options));
  if (!call.ok()) return Stream(std::make_unique<FailedReader>(Named(std::move(call).error(), app, action)));
  return Stream(std::make_unique<NamedReader>(core_, core_->Open(*std::move(call)), app, action));
}

Stream Client::ExecuteStream(std::string app, std::string action, const Json& args, const Json& kwargs,
                             CallOptions options) const {
  Outcome<Encoded> encoded = Encode(args, kwargs, options);
  if (!encoded.ok()) return Stream(std::make_unique<FailedReader>(Named(std::move(encoded).error(), app, action)));
  return ExecuteStreamRaw(std::move(app), std::move(action), std::move(encoded->args), std::move(encoded->kwargs),
                          std::move(options));
}

}  // namespace dirty::client
