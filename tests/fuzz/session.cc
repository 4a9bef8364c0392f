// Fuzzes a session: the input is the frames that a client sends, well formed or not, and how it ends its stream. They
// go through gRPC, in this process, to the real ArbiterService and dispatcher; a worker made here runs the calls. What
// must be true: each `execute` of a session that was not broken gets exactly one `done`; a call's chunks come before it
// and are no more than there was credit for; the stream ends as session.h says; afterwards nothing is in flight.

#include <google/protobuf/stubs/logging.h>
#include <grpc/grpc.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/dispatch/dispatcher.h"
#include "server/loop/loop.h"
#include "server/rpc/execute.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/core_fakes.h"

namespace dirty {
namespace {

constexpr uint32_t kSlots = 4;
constexpr uint32_t kQueueSize = 3;
constexpr uint32_t kMostCalls = 6;
constexpr uint64_t kLargest = 2048;
constexpr size_t kMostFrames = 64;
// Longer than anything takes: only what hangs waits so long.
constexpr absl::Duration kLimit = absl::Seconds(20);
constexpr const char* kApps[] = {"a", "a", "a", "nobody", ""};
constexpr const char* kActions[] = {"echo", "hold", "stream", "raise", "silent", "large", ""};

// Runs calls as their actions say, on the loop, never from within a call to it.
class ScriptedWorker final : public WorkerPort {
 public:
  explicit ScriptedWorker(TimerQueue& timers) : timers_(timers) {}
  void SetDispatcher(Dispatcher* dispatcher) { dispatcher_ = dispatcher; }

  void Start(std::unique_ptr<v1::StartCall> start) override {
    const CallNumber call = start->call();
    running_[call] = {.action = start->request().action(), .args = start->request().args(), .credit = start->credits()};
    Later([this, call] { Go(call); });
  }
  void Cancel(CallNumber call, v1::CancelReason) override {
    Later([this, call] { End(call, v1::REASON_CANCELLED); });
  }
  void Credit(CallNumber call, uint32_t chunks) override {
    auto it = running_.find(call);
    if (it == running_.end()) return;
    it->second.credit += chunks;
    Later([this, call] { Go(call); });
  }

  // Calls that are held end, also those that come later.
  void Release(bool release) {
    released_ = release;
    if (!release) return;
    std::vector<CallNumber> held;
    for (const auto& [call, running] : running_) held.push_back(call);
    for (CallNumber call : held) Go(call);
  }
  bool idle() const { return running_.empty(); }

 private:
  struct Running {
    std::string action, args;
    uint64_t credit = 0;
    uint64_t emitted = 0;
  };

  void Later(std::function<void()> run) { timers_.Schedule(timers_.Now(), std::move(run)); }

  void Go(CallNumber call) {
    auto it = running_.find(call);
    if (it == running_.end()) return;
    Running& running = it->second;
    if (running.action == "hold" && !released_) return;
    if (running.action == "raise") return End(call, v1::REASON_APP_ERROR);
    if (running.action == "stream") {
      // As many chunks as its arguments are long; without a reader, as many as there is credit for.
      while (running.credit > 0 && running.emitted < running.args.size()) {
        v1::CallChunk chunk;
        chunk.set_call(call);
        chunk.mutable_chunk()->set_value(absl::StrCat(running.emitted));
        --running.credit;
        ++running.emitted;
        dispatcher_->OnCallChunk(1, chunk);
        if (!running_.contains(call)) return;
      }
      if (running.emitted < running.args.size() && !released_) return;
    }
    End(call, v1::REASON_UNSPECIFIED);
  }

  void End(CallNumber call, v1::Reason reason) {
    auto it = running_.find(call);
    if (it == running_.end()) return;
    const Running running = std::move(it->second);
    running_.erase(it);
    v1::CallDone done;
    done.set_call(call);
    if (reason != v1::REASON_UNSPECIFIED) {
      done.mutable_error()->set_reason(reason);
      done.mutable_error()->set_message("as it was asked to");
    } else if (running.action == "large") {
      done.mutable_response()->set_result(std::string(1 << 20, '1'));
    } else if (running.action != "silent") {
      done.mutable_response()->set_result(running.args);
    }
    dispatcher_->OnCallDone(1, done);
  }

  TimerQueue& timers_;
  Dispatcher* dispatcher_ = nullptr;
  std::map<CallNumber, Running> running_;
  bool released_ = false;
};

// One server for the whole process, on a thread of its own.
class Server final : Dispatcher::Events {
 public:
  Server() {
    grpc_init();
    settings_ = TestSettings({TestPool("p", 1, {TestApp("a")})});
    settings_.pools[0].apps[0].limits.queue_size = kQueueSize;
    settings_.max_calls_per_session = kMostCalls;
    settings_.max_message_size = kLargest;
    grpc::ServerBuilder builder;
    loop_ = std::make_unique<Loop>(builder.AddCompletionQueue(), clock_);
    worker_ = std::make_unique<ScriptedWorker>(loop_->timers());
    Dispatcher::Events& events = *this;
    dispatcher_ = std::make_unique<Dispatcher>(loop_->timers(), events, Dispatcher::Options{.id_prefix = "f-"});
    worker_->SetDispatcher(dispatcher_.get());
    dispatcher_->Configure(settings_.pools, settings_.max_message_size);
    dispatcher_->AddWorker(1, kSlots, {"a"}, worker_.get());
    service_ = std::make_unique<ArbiterService>(*dispatcher_, settings_);
    builder.RegisterService(&service_->service());
    server_ = builder.BuildAndStart();
    service_->Start(*loop_);
    thread_ = std::thread([this] { loop_->Run(); });
    channel_ = server_->InProcessChannel({});
  }
  // As dirtyd does it.
  ~Server() override {
    channel_.reset();
    server_->Shutdown();
    loop_->Post([this] { loop_->Quit(); });
    thread_.join();
    loop_->Drain();
  }

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  void Release(bool release) {
    OnLoop([this, release] { worker_->Release(release); });
  }
  // Waits until nothing is in flight, and checks that everything was counted.
  void ExpectIdle() {
    for (const absl::Time end = absl::Now() + kLimit;;) {
      bool idle = false;
      v1::AppStatus app;
      app.set_name("a");
      OnLoop([&] {
        dispatcher_->Describe(app);
        idle = service_->sessions() == 0 && worker_->idle() && dispatcher_->RunningCalls(1) == 0;
      });
      if (idle) {
        FUZZ_EXPECT(app.queued() == 0 && app.running() == 0, app.ShortDebugString());
        const v1::Counters& counters = app.counters();
        const uint64_t outcomes = counters.ok() + counters.invalid_request() + counters.queue_full() +
                                  counters.queue_timeout() + counters.timeout() + counters.cancelled() +
                                  counters.app_error() + counters.too_large();
        FUZZ_EXPECT(counters.received() == outcomes, app.ShortDebugString());
        return;
      }
      FUZZ_EXPECT(absl::Now() < end, "in flight after the session: ", app.ShortDebugString());
    }
  }

 private:
  void OnLoop(const std::function<void()>& work) {
    std::promise<void> done;
    loop_->Post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  // Dispatcher::Events
  void OnWorkerIdle(WorkerId) override {}
  void OnSlotFree(WorkerId, uint64_t) override {}
  void OnCallStuck(WorkerId, CallNumber call, const std::string& what) override {
    FUZZ_EXPECT(false, "call ", call, ": ", what);  // ours ends when it is asked to
  }
  void OnAllCallsEnded() override {}
  void OnCallRecord(const CallRecord&) override {}

  SteadyClock clock_;
  Settings settings_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<ScriptedWorker> worker_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::unique_ptr<ArbiterService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::thread thread_;
};

// What a client sends, and what must come of it.
struct Script {
  std::vector<std::string> frames;
  bool breaks = false;  // it cancels instead of closing its half
  bool greeted = false;
  bool refused = false;    // not greeted as it should be
  bool malformed = false;  // from here on nothing counts
  std::map<uint64_t, uint64_t> executes, credits;

  void Add(std::string bytes) {
    v1::SessionRequest request;
    const bool good = request.ParseFromString(bytes);
    frames.push_back(std::move(bytes));
    if (malformed || refused) return;
    if (!good) {
      malformed = true;
    } else if (!greeted) {
      greeted = request.hello().protocol_version() == 1;
      refused = !greeted;
    } else if (request.has_execute()) {
      const v1::SessionExecute& execute = request.execute();
      ++executes[execute.id()];
      // One more is the result of what is no stream.
      if (execute.stream()) credits[execute.id()] += uint64_t{1} + (execute.credits() == 0 ? 16 : execute.credits());
    } else if (request.has_credit()) {
      credits[request.credit().id()] += request.credit().chunks();
    }
  }
};

Script ReadScript(fuzz::Choices& choices) {
  Script script;
  if (choices.Byte() != 0) {
    v1::SessionRequest hello;
    hello.mutable_hello()->set_protocol_version(1);
    script.Add(hello.SerializeAsString());
  }
  while (!choices.empty() && script.frames.size() < kMostFrames) {
    v1::SessionRequest request;
    switch (choices.Below(8)) {
      case 0:
        request.mutable_hello()->set_protocol_version(choices.Below(3));
        break;
      case 1:
      case 2:
      case 3: {
        v1::SessionExecute& execute = *request.mutable_execute();
        execute.set_id(choices.Number());
        const uint8_t kind = choices.Byte();
        if ((kind & 0x80) == 0) {
          execute.mutable_request()->set_app(choices.OneOf(kApps));
          execute.mutable_request()->set_action(choices.OneOf(kActions));
          execute.mutable_request()->set_args(std::string(choices.Byte() % 64, '1'));
        }
        if ((kind & 1) != 0) {
          execute.set_stream(true);
          execute.set_credits(static_cast<uint32_t>(choices.Number()));
        }
        if ((kind & 6) == 6) execute.mutable_request()->mutable_timeout()->set_nanos(choices.Byte());
        if ((kind & 24) == 24) execute.mutable_request()->add_attachments(std::string(choices.Number() % 4096, 'b'));
        if ((kind & 32) != 0) execute.set_traceparent(choices.Bytes());
        break;
      }
      case 4:
        request.mutable_cancel()->set_id(choices.Number());
        break;
      case 5:
        request.mutable_credit()->set_id(choices.Number());
        request.mutable_credit()->set_chunks(static_cast<uint32_t>(choices.Number()));
        break;
      case 6:
        script.Add(choices.Bytes());
        continue;
      default:
        script.breaks = true;
        return script;
    }
    script.Add(request.SerializeAsString());
  }
  return script;
}

grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return {&slice, 1};
}

// The client: writes everything, reads everything, in one thread.
class Client {
 public:
  Client(Server& server, const Script& script) : server_(server), script_(script) {}

  // Until the stream has ended.
  grpc::Status Run() {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + kLimit));
    grpc::GenericStub stub(server_.channel());
    stream_ = stub.PrepareCall(&context_, "/dirty.v1.Arbiter/Session", &queue_);
    stream_->StartCall(Tag(kStart));
    for (bool finished = false; !finished;) {
      void* tag = nullptr;
      bool ok = false;
      FUZZ_EXPECT(queue_.Next(&tag, &ok), "the queue has ended");
      switch (static_cast<Operation>(reinterpret_cast<uintptr_t>(tag))) {
        case kStart:
          stream_->Read(&incoming_, Tag(kRead));
          WriteNext();
          break;
        case kWrite:
          if (ok) WriteNext();
          break;
        case kClose:
          server_.Release(true);
          break;
        case kRead:
          if (ok) {
            Take();
            stream_->Read(&incoming_, Tag(kRead));
          } else {
            stream_->Finish(&status_, Tag(kFinish));
          }
          break;
        case kFinish:
          finished = true;
          break;
      }
    }
    queue_.Shutdown();
    void* tag = nullptr;
    for (bool ok = false; queue_.Next(&tag, &ok);) {
    }
    return status_;
  }

  std::map<uint64_t, uint64_t> dones, chunks;
  bool greeted = false;

 private:
  enum Operation : uintptr_t { kStart = 1, kWrite, kClose, kRead, kFinish };
  static void* Tag(Operation operation) { return reinterpret_cast<void*>(operation); }

  void WriteNext() {
    if (next_ < script_.frames.size()) {
      stream_->Write(ToBuffer(script_.frames[next_++]), Tag(kWrite));
    } else if (script_.breaks) {
      context_.TryCancel();
    } else {
      stream_->WritesDone(Tag(kClose));
    }
  }

  void Take() {
    grpc::Slice slice;
    v1::SessionResponse response;
    FUZZ_EXPECT(incoming_.DumpToSingleSlice(&slice).ok() &&
                    response.ParseFromArray(slice.begin(), static_cast<int>(slice.size())),
                "a frame that is none");
    switch (response.frame_case()) {
      case v1::SessionResponse::kHello:
        FUZZ_EXPECT(!std::exchange(greeted, true), "two hellos");
        FUZZ_EXPECT(response.hello().max_calls() == kMostCalls, response.ShortDebugString());
        break;
      case v1::SessionResponse::kDone: {
        FUZZ_EXPECT(response.done().outcome_case() != v1::SessionDone::OUTCOME_NOT_SET, "a done without an outcome");
        ++dones[response.done().id()];
        break;
      }
      case v1::SessionResponse::kChunk:
        FUZZ_EXPECT(response.chunk().has_chunk(), "an empty chunk");
        ++chunks[response.chunk().id()];
        break;
      case v1::SessionResponse::FRAME_NOT_SET:
        FUZZ_EXPECT(false, "an empty frame");
    }
    const uint64_t id = response.chunk().id();
    if (response.has_chunk()) FUZZ_EXPECT(Of(dones, id) < Of(script_.executes, id), "a chunk after its call's end");
  }

  static uint64_t Of(const std::map<uint64_t, uint64_t>& counts, uint64_t id) {
    auto it = counts.find(id);
    return it == counts.end() ? 0 : it->second;
  }

  Server& server_;
  const Script& script_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  grpc::ByteBuffer incoming_;
  grpc::Status status_;
  size_t next_ = 0;
};

void Run(Server& server, const Script& script) {
  Client client(server, script);
  const grpc::Status status = client.Run();
  const std::string said = absl::StrCat(static_cast<int>(status.error_code()), ": ", status.error_message());
  FUZZ_EXPECT(status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED, "the session does not end");
  for (const auto& [id, count] : client.dones) {
    FUZZ_EXPECT(script.executes.contains(id) && count <= script.executes.at(id), count, " dones of ", id, "; ", said);
  }
  for (const auto& [id, count] : client.chunks) {
    FUZZ_EXPECT(script.credits.contains(id) && count <= script.credits.at(id), count, " chunks of ", id);
  }
  if (!script.breaks) {
    const bool good = script.greeted && !script.malformed;
    FUZZ_EXPECT(status.error_code() == (good ? grpc::StatusCode::OK : grpc::StatusCode::INVALID_ARGUMENT), said);
    FUZZ_EXPECT(!good || client.dones == script.executes, "not every call has an end; ", said);
    FUZZ_EXPECT(!good || client.greeted, said);
  }
  server.ExpectIdle();
  server.Release(false);
}

}  // namespace
}  // namespace dirty

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static dirty::Server* server = nullptr;
  if (server == nullptr) {
    google::protobuf::SetLogHandler(nullptr);  // texts that are no UTF-8 are nothing to tell here
    server = new dirty::Server;
    atexit([] { delete server; });
  }
  dirty::fuzz::Choices choices(data, size);
  dirty::Run(*server, dirty::ReadScript(choices));
  return 0;
}
