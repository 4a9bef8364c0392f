#include "tests/unit/client_fake_arbiter.h"

#include <grpc/grpc.h>
#include <grpcpp/server_builder.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

namespace dirty::client {
namespace {

constexpr char kWarmUp[] = "warm up";
constexpr char kShutDown[] = "shut down";

v1::Chunk ChunkOf(int number) {
  v1::Chunk chunk;
  chunk.set_value(std::to_string(number));
  chunk.add_attachments("bytes of " + std::to_string(number));
  return chunk;
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string pattern = "/tmp/dirty-client-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = pattern;
  std::filesystem::permissions(path_, static_cast<std::filesystem::perms>(0755));
}

TemporaryFolder::~TemporaryFolder() { std::filesystem::remove_all(path_); }

FakeArbiter::FakeArbiter(std::string socket, Handler handler, Options options)
    : socket_(std::move(socket)), handler_(std::move(handler)), options_(std::move(options)) {
  Start();
}

FakeArbiter::~FakeArbiter() { Stop(); }

void FakeArbiter::Start() {
  // For good: gRPC's last shutdown may wait ten seconds for a poller of its own.
  [[maybe_unused]] static const bool held = (grpc_init(), true);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
  builder.SetMaxReceiveMessageSize(-1);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) throw std::runtime_error("cannot serve on " + socket_);
}

void FakeArbiter::Stop() {
  // What handlers use goes after the last answer came. ThreadSanitizer cannot see that through gRPC, but so.
  static_cast<void>(answered_.load());
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_ = nullptr;
}

void FakeArbiter::WaitForCalls(int count) {
  std::unique_lock lock(mutex_);
  came_.wait(lock, [this, count] { return received_ >= count; });
}

void FakeArbiter::Count(std::atomic<int>* also) {
  {
    std::lock_guard lock(mutex_);
    if (also != nullptr) ++*also;
    ++received_;
  }
  came_.notify_all();
}

void FakeArbiter::EndSessions() {
  std::lock_guard lock(mutex_);
  for (grpc::ServerContext* context : open_) context->TryCancel();
}

void FakeArbiter::WaitForSessionsToEnd() {
  std::unique_lock lock(mutex_);
  came_.wait(lock, [this] { return open_.empty(); });
}

grpc::Status FakeArbiter::Answer(FakeCall& call, const v1::ExecuteRequest& request, v1::ExecuteResponse& response) {
  if (request.action() == kWarmUp) return grpc::Status::OK;
  return handler_(call, request, response);
}

grpc::Status FakeArbiter::Execute(grpc::ServerContext* context, const v1::ExecuteRequest* request,
                                  v1::ExecuteResponse* response) {
  if (request->action() != kWarmUp) Count();
  FakeCall call{.IsCancelled = [context] { return context->IsCancelled(); }, .deadline = context->deadline()};
  return Answer(call, *request, *response);
}

// A number of chunks that `args` says, then what the handler says.
grpc::Status FakeArbiter::ExecuteStream(grpc::ServerContext* context, const v1::ExecuteRequest* request,
                                        grpc::ServerWriter<v1::Chunk>* writer) {
  Count();
  const int chunks = nlohmann::json::parse(request->args())[0];
  for (int i = 0; i < chunks; ++i) {
    if (!writer->Write(ChunkOf(i))) return grpc::Status::CANCELLED;
  }
  FakeCall call{.IsCancelled = [context] { return context->IsCancelled(); }, .deadline = context->deadline()};
  v1::ExecuteResponse unused;
  return handler_(call, *request, unused);
}

// The calls of one session, each on a thread of its own.
class FakeArbiter::SessionCalls {
 public:
  SessionCalls(FakeArbiter& arbiter, Stream& stream) : arbiter_(arbiter), stream_(stream) {}
  ~SessionCalls() {
    std::unique_lock lock(mutex_);
    over_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return running_ == 0; });
  }

  void Start(const v1::SessionExecute& execute) {
    if (execute.request().action() != kWarmUp) arbiter_.Count(&arbiter_.on_sessions_);
    {
      std::lock_guard lock(mutex_);
      calls_[execute.id()].credits = execute.credits();
      ++running_;
    }
    // Too many to be joined at the end.
    std::thread([this, execute] { Run(execute); }).detach();
  }

  void Cancel(std::uint64_t id) {
    std::lock_guard lock(mutex_);
    if (auto found = calls_.find(id); found != calls_.end()) found->second.cancelled = true;
    changed_.notify_all();
  }

  void Credit(std::uint64_t id, std::uint32_t chunks) {
    std::lock_guard lock(mutex_);
    if (auto found = calls_.find(id); found != calls_.end()) found->second.credits += chunks;
    changed_.notify_all();
  }

 private:
  struct State {
    bool cancelled = false;
    std::uint64_t credits = 0;
  };

  bool over() {
    std::lock_guard lock(mutex_);
    return over_;
  }

  bool Gone(std::uint64_t id) { return over_ || calls_[id].cancelled; }

  // False: its caller has left.
  bool TakeCredit(std::uint64_t id) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return Gone(id) || calls_[id].credits > 0; });
    if (Gone(id)) return false;
    --calls_[id].credits;
    return true;
  }

  void Run(const v1::SessionExecute& execute) {
    const std::uint64_t id = execute.id();
    FakeCall call{.IsCancelled = [this, id] {
      std::lock_guard lock(mutex_);
      return Gone(id);
    }};
    v1::SessionResponse frame;
    if (execute.stream()) {
      const int chunks = nlohmann::json::parse(execute.request().args())[0];
      for (int i = 0; i < chunks && TakeCredit(id); ++i) {
        frame.mutable_chunk()->set_id(id);
        *frame.mutable_chunk()->mutable_chunk() = ChunkOf(i);
        Write(frame);
      }
    }
    v1::SessionDone& done = *frame.mutable_done();
    done.set_id(id);
    const grpc::Status status = arbiter_.Answer(call, execute.request(), *done.mutable_response());
    ++arbiter_.answered_;
    if (!status.ok()) {
      v1::RpcStatus details;
      if (!details.ParseFromString(status.error_details()) || details.details().empty() ||
          !details.details(0).UnpackTo(done.mutable_error())) {
        done.mutable_error()->set_message(status.error_message());
      }
    }
    if (!over()) Write(frame);
    std::lock_guard lock(mutex_);
    calls_.erase(id);
    if (--running_ == 0) changed_.notify_all();
  }

  void Write(const v1::SessionResponse& frame) {
    std::lock_guard lock(write_mutex_);
    stream_.Write(frame);
  }

  FakeArbiter& arbiter_;
  Stream& stream_;
  std::mutex write_mutex_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  bool over_ = false;
  int running_ = 0;
  std::map<std::uint64_t, State> calls_;  // by id
};

grpc::Status FakeArbiter::Session(grpc::ServerContext* context, Stream* stream) {
  if (!options_.sessions) return {grpc::UNIMPLEMENTED, "no sessions here"};
  v1::SessionRequest request;
  if (!stream->Read(&request) || request.hello().protocol_version() != 1) return {grpc::INVALID_ARGUMENT, "no hello"};
  {
    std::lock_guard lock(mutex_);
    ++sessions_;
    open_.insert(context);
  }
  grpc::Status status;
  {
    SessionCalls calls(*this, *stream);
    if (options_.before_hello) options_.before_hello();
    v1::SessionResponse response;
    response.mutable_hello()->set_protocol_version(1);
    response.mutable_hello()->set_max_message_size(options_.max_message_size);
    response.mutable_hello()->set_max_calls(options_.max_calls);
    stream->Write(response);
    while (stream->Read(&request)) {
      if (request.execute().request().action() == kShutDown) {
        status = options_.last_words;
        break;
      }
      if (request.has_execute()) calls.Start(request.execute());
      if (request.has_cancel()) calls.Cancel(request.cancel().id());
      if (request.has_credit()) calls.Credit(request.credit().id(), request.credit().chunks());
    }
  }
  std::lock_guard lock(mutex_);
  open_.erase(context);
  came_.notify_all();
  return status;
}

grpc::Status FakeArbiter::Echo(FakeCall&, const v1::ExecuteRequest& request, v1::ExecuteResponse& response) {
  response.set_result(nlohmann::json{{"app", request.app()},
                                     {"action", request.action()},
                                     {"args", request.args()},
                                     {"kwargs", request.kwargs()},
                                     {"timeout", request.timeout().seconds()},
                                     {"request_id", request.request_id()}}
                          .dump());
  *response.mutable_attachments() = request.attachments();
  response.set_call_id("c-1");
  response.set_worker_id(7);
  response.mutable_queued_time()->set_nanos(1'000'000);
  response.mutable_run_time()->set_seconds(2);
  return grpc::Status::OK;
}

grpc::Status FakeArbiter::Block(FakeCall& call, const v1::ExecuteRequest&, v1::ExecuteResponse&) {
  // A synchronous server has no event for this.
  while (!call.IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return grpc::Status::CANCELLED;
}

grpc::Status FakeArbiter::Refusal(grpc::StatusCode code, const v1::Error& error) {
  v1::RpcStatus details;
  details.set_code(code);
  details.set_message(error.message());
  details.add_details()->PackFrom(error);
  return {code, error.message(), details.SerializeAsString()};
}

}  // namespace dirty::client
