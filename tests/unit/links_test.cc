// The arbiter's links over real sockets, to workers that the test plays: one that keeps the protocol, and those that do
// not.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dirty/v1/worker.grpc.pb.h"
#include "server/loop/loop.h"
#include "server/loop/mutex.h"
#include "server/supervise/grpc_links.h"
#include "tests/unit/core_fakes.h"
#include "tests/unit/launch_support.h"

namespace dirty {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr WorkerId kWorker = 1;

v1::WorkerFrame Hello(uint32_t version = 1) {
  v1::WorkerFrame frame;
  frame.mutable_hello()->set_protocol_version(version);
  return frame;
}

// A worker's side: what it does with its link, on a thread of gRPC's.
class FakeWorker final : public v1::Worker::Service {
 public:
  using Stream = grpc::ServerReaderWriter<v1::WorkerFrame, v1::ArbiterFrame>;
  FakeWorker(const std::string& socket, std::function<void(Stream&)> does) : does_(std::move(does)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + socket, grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeWorker() override { server_->Shutdown(std::chrono::system_clock::now()); }

  grpc::Status Attach(grpc::ServerContext*, Stream* stream) override {
    does_(*stream);
    return grpc::Status::OK;
  }

 private:
  const std::function<void(Stream&)> does_;
  std::unique_ptr<grpc::Server> server_;
};

// The test's thread is the loop. Each event is a line of told_.
class LinksTest : public ::testing::Test,
                  protected WorkerLinks::Events,
                  protected WorkerLauncher::Events,
                  protected Dispatcher::Events {
 protected:
  LinksTest() {
    links_.SetEvents(this, &dispatcher_);
    launcher_events_ = links_.BeforeExits(this);
    dispatcher_.Configure({TestPool("p", 1, {TestApp("a")})}, 1 << 20);
  }
  ~LinksTest() override {
    links_.Close(kWorker);
    worker_.reset();
    server_->Shutdown(std::chrono::system_clock::now());
    loop_->Drain();
  }

  void Play(std::function<void(FakeWorker::Stream&)> does) {
    worker_ = std::make_unique<FakeWorker>(socket_, std::move(does));
  }

  void Open() {
    WorkerSpec spec;
    spec.id = kWorker;
    spec.index = 4;
    spec.generation = 3;
    auto pool = std::make_shared<PoolSettings>(TestPool("p", 1, {TestApp("a")}));
    pool->runtime = WorkerRuntime::kNative;
    pool->library_path = {"/lib/apps"};
    spec.pool = pool;
    spec.apps = pool->apps;
    links_.Open(spec);
  }

  bool RunUntil(const std::function<bool()>& done) {
    bool late = false;
    TimerQueue::TimerId limit = loop_->timers().ScheduleIn(kTestLimit, [&] {
      late = true;
      loop_->Quit();
    });
    while (!done() && !late) loop_->Run();
    loop_->timers().Cancel(limit);
    return !late;
  }
  // Waits for an event.
  bool Hears(const std::string& line) {
    return RunUntil([&] { return std::count(told_.begin(), told_.end(), line) > 0; });
  }

  // What the played worker read, told by its thread.
  void Read(std::string frame) {
    MutexLock lock(&mutex_);
    read_.push_back(std::move(frame));
    loop_->Post([this] { loop_->Quit(); });
  }
  std::vector<std::string> ReadFrames() {
    MutexLock lock(&mutex_);
    return read_;
  }

  void Tell(std::string line) {
    told_.push_back(std::move(line));
    loop_->Quit();
  }
  void OnAppStarting(WorkerId, absl::string_view app) override { Tell(absl::StrCat("starting ", app)); }
  void OnAppReady(WorkerId, absl::string_view app, absl::Duration init, uint32_t workers) override {
    Tell(absl::StrCat("ready ", app, " ", absl::FormatDuration(init), " ", workers));
  }
  void OnAppFailed(WorkerId, absl::string_view app, const v1::Error& error) override {
    Tell(absl::StrCat("failed ", app, " ", error.message()));
  }
  void OnAppSkipped(WorkerId, absl::string_view app, uint32_t workers) override {
    Tell(absl::StrCat("skipped ", app, " ", workers));
  }
  void OnWorkerReady(WorkerId) override { Tell("ready"); }
  void OnWorkerEnding(WorkerId) override { Tell("ending"); }
  void OnPong(WorkerId, uint64_t sequence) override { Tell(absl::StrCat("pong ", sequence)); }
  void OnLinkBroken(WorkerId, const std::string& why) override { Tell("broken: " + why); }
  void OnListening(WorkerId) override { Tell("listening"); }
  void OnExit(WorkerId worker, const ExitStatus& status) override {
    Tell(absl::StrCat("exit ", worker, " ", status.Describe()));
  }
  void OnWorkerIdle(WorkerId) override {}
  void OnSlotFree(WorkerId, uint64_t) override { loop_->Quit(); }
  void OnCallStuck(WorkerId, CallNumber, const std::string&) override {}
  void OnAllCallsEnded() override {}
  void OnCallRecord(const CallRecord&) override {}

  void Exit() {
    ExitStatus status;
    status.signal = SIGKILL;
    launcher_events_->OnExit(kWorker, status);
  }

  TestFolder folder_;
  std::string socket_ = folder_ / "worker.sock";
  SteadyClock clock_;
  v1::Worker::AsyncService none_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<grpc::Server> server_ = [this] {
    grpc::ServerBuilder builder;
    builder.RegisterService(&none_);
    loop_ = std::make_unique<Loop>(builder.AddCompletionQueue(), clock_);
    return builder.BuildAndStart();
  }();
  Dispatcher dispatcher_{loop_->timers(), *this, {.id_prefix = "x-"}};
  GrpcLinks links_{*loop_,
                   {.socket_path = [this](WorkerId) { return socket_; },
                    .locate = [](const AppSettings& app, const PoolSettings&) { return app.path; },
                    .max_message_size = 1 << 20,
                    .max_json_depth = 128,
                    .arbiter_start_time = 5}};
  WorkerLauncher::Events* launcher_events_ = nullptr;
  std::unique_ptr<FakeWorker> worker_;
  std::vector<std::string> told_;
  Mutex mutex_;
  std::vector<std::string> read_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(LinksTest, TellWhatAWorkerTellsAndAskWhatItIsAsked) {
  Play([this](FakeWorker::Stream& stream) {
    v1::ArbiterFrame in;
    stream.Read(&in);
    const v1::WorkerConfig& hello = in.hello();
    Read(absl::StrCat("hello ", hello.worker_id(), " ", hello.index(), " ", hello.generation(), " ", hello.pool(), " ",
                      hello.apps(0).path(), " ", hello.apps(0).searched(0)));
    stream.Write(Hello());
    v1::WorkerFrame out;
    out.mutable_app_starting()->set_app("a");
    stream.Write(out);
    out.mutable_app_ready()->set_app("a");
    out.mutable_app_ready()->set_workers(2);
    out.mutable_app_ready()->mutable_init_time()->set_seconds(1);
    stream.Write(out);
    out.mutable_app_failed()->set_app("b");
    out.mutable_app_failed()->mutable_error()->set_message("no");
    stream.Write(out);
    out.mutable_app_skipped()->set_app("c");
    out.mutable_app_skipped()->set_workers(3);
    stream.Write(out);
    stream.Write(v1::WorkerFrame());  // one that this dirtyd does not know yet
    out.mutable_ready();
    stream.Write(out);
    while (stream.Read(&in)) {
      if (in.has_ping()) {
        out.mutable_pong()->set_sequence(in.ping().sequence());
        stream.Write(out);
      } else if (in.has_dump_stacks()) {
        Read(absl::StrCat("dump ", in.dump_stacks().call()));
      } else if (in.has_reopen_logs()) {
        Read("reopen");
      } else if (in.has_drain()) {
        return Read("drain");
      }
    }
  });
  Open();
  EXPECT_TRUE(Hears("ready"));
  links_.Ping(kWorker, 5);
  EXPECT_TRUE(Hears("pong 5"));
  links_.DumpStacks(kWorker, 9);
  links_.ReopenLogs(kWorker);
  links_.Drain(kWorker);
  EXPECT_TRUE(Hears("broken: the worker ended it"));
  EXPECT_THAT(told_, ElementsAre("starting a", "ready a 1s 2", "failed b no", "skipped c 3", "ready", "pong 5",
                                 "broken: the worker ended it"));
  EXPECT_THAT(ReadFrames(), ElementsAre("hello 1 4 3 p a /lib/apps", "dump 9", "reopen", "drain"));
}

TEST_F(LinksTest, CarryCalls) {
  Play([this](FakeWorker::Stream& stream) {
    v1::ArbiterFrame in;
    stream.Write(Hello());
    v1::WorkerFrame out;
    out.mutable_ready();
    stream.Write(out);
    while (stream.Read(&in)) {
      if (in.has_start()) {
        out.mutable_chunk()->set_call(in.start().call());
        out.mutable_chunk()->mutable_chunk()->set_value("1");
        stream.Write(out);
      } else if (in.has_credit()) {
        Read(absl::StrCat("credit ", in.credit().chunks()));
      } else if (in.has_cancel()) {
        out.mutable_done()->set_call(in.cancel().call());
        out.mutable_done()->mutable_response()->set_result("2");
        stream.Write(out);
      }
    }
  });
  Open();
  ASSERT_TRUE(Hears("ready"));
  dispatcher_.AddWorker(kWorker, 1, {"a"}, links_.Port(kWorker));
  struct Caller final : CallListener {
    explicit Caller(Loop& its) : loop(its) {}
    void OnChunk(std::unique_ptr<v1::Chunk> chunk) override {
      chunks.push_back(chunk->value());
      loop.Quit();
    }
    void OnDone(Outcome) override { ++outcomes; }
    Loop& loop;
    std::vector<std::string> chunks;
    int outcomes = 0;
  } caller(*loop_);
  Submission submission = MakeSubmission(caller);
  submission.stream = true;
  submission.credits = 1;
  CallNumber call = dispatcher_.Submit(std::move(submission)).call;
  EXPECT_TRUE(RunUntil([&] { return !caller.chunks.empty(); }));
  EXPECT_THAT(caller.chunks, ElementsAre("1"));
  dispatcher_.Credit(call, 8);
  dispatcher_.CancelByCaller(call);
  EXPECT_TRUE(RunUntil([&] { return dispatcher_.CallsEnded(kWorker) == 1; }));
  EXPECT_EQ(caller.outcomes, 1);
  EXPECT_THAT(ReadFrames(), ElementsAre("credit 8"));
}

TEST_F(LinksTest, AWorkerThatDoesNotGreetIsBroken) {
  Play([](FakeWorker::Stream& stream) {
    v1::WorkerFrame out;
    out.mutable_ready();
    stream.Write(out);
    v1::ArbiterFrame in;
    while (stream.Read(&in)) {
    }
  });
  Open();
  EXPECT_TRUE(Hears("broken: the worker's first frame was no hello"));
  EXPECT_EQ(told_.front(), "broken: the worker's first frame was no hello") << "it is not believed that it is ready";
}

TEST_F(LinksTest, AWorkerOfAnotherProtocolVersionIsBroken) {
  Play([](FakeWorker::Stream& stream) {
    stream.Write(Hello(2));
    v1::ArbiterFrame in;
    while (stream.Read(&in)) {
    }
  });
  Open();
  EXPECT_TRUE(Hears("broken: the worker speaks protocol version 2, this dirtyd 1"));
}

TEST_F(LinksTest, SayWhyNobodyCanBeReached) {
  Open();
  EXPECT_TRUE(told_.empty()) << "never from within";
  EXPECT_TRUE(RunUntil([&] { return !told_.empty(); }));
  EXPECT_THAT(told_.back(), StartsWith(absl::StrCat("broken: cannot connect to ", socket_, ": No such file")));
  links_.Ping(kWorker, 1);  // goes nowhere
  // One that was closed meanwhile is told nothing of.
  links_.Close(kWorker);
  Open();
  links_.Close(kWorker);
  bool later = false;
  loop_->timers().Schedule(loop_->timers().Now(), [&] {
    later = true;
    loop_->Quit();
  });
  EXPECT_TRUE(RunUntil([&] { return later; }));
  EXPECT_EQ(told_.size(), 1u);
}

TEST_F(LinksTest, AnExitIsToldAfterWhatTheWorkerHadSaid) {
  Play([this](FakeWorker::Stream& stream) {
    stream.Write(Hello());
    v1::WorkerFrame out;
    out.mutable_app_starting()->set_app("a");
    stream.Write(out);
    Read("gone");
  });
  Open();
  EXPECT_TRUE(RunUntil([&] { return !ReadFrames().empty(); }));
  Exit();
  EXPECT_TRUE(Hears("exit 1 killed by SIGKILL"));
  EXPECT_THAT(told_, ElementsAre("starting a", "broken: the worker ended it", "exit 1 killed by SIGKILL"));
  Exit();  // its link has ended: at once
  EXPECT_EQ(told_.size(), 4u);
}

TEST_F(LinksTest, AnExitDoesNotWaitForAProcessThatStillHoldsTheSocket) {
  Play([](FakeWorker::Stream& stream) {
    stream.Write(Hello());
    v1::WorkerFrame out;
    out.mutable_ready();
    stream.Write(out);
    v1::ArbiterFrame in;
    while (stream.Read(&in)) {
    }
  });
  Open();
  EXPECT_TRUE(Hears("ready"));
  Exit();
  EXPECT_EQ(told_.size(), 1u);
  EXPECT_TRUE(Hears("exit 1 killed by SIGKILL"));
  EXPECT_THAT(told_, ElementsAre("ready", "exit 1 killed by SIGKILL"));
}

TEST_F(LinksTest, AWorkerWithoutALinkIsAskedNothingAndItsExitIsTold) {
  launcher_events_->OnListening(kWorker);
  links_.Ping(kWorker, 1);
  links_.Drain(kWorker);
  links_.DumpStacks(kWorker, 1);
  links_.ReopenLogs(kWorker);
  links_.Close(kWorker);
  EXPECT_EQ(links_.Port(kWorker), nullptr);
  Exit();
  EXPECT_THAT(told_, ElementsAre("listening", "exit 1 killed by SIGKILL"));
}

}  // namespace
}  // namespace dirty
