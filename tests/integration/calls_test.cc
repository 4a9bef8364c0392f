// Calls through real processes: that every one is answered, correct and once, whatever happens to the worker or to the
// call itself, and what a bad one is told.

#include <gmock/gmock.h>
#include <signal.h>

#include <atomic>
#include <fstream>
#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/loop/mutex.h"
#include "tests/integration/harness.h"

namespace dirty::integration {
namespace {

using client::Attachment;
using client::Json;
using client::Reason;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kSlow[] = "libfaults.so:Slow";
constexpr char kFaulty[] = "libfaults.so:Faulty";
constexpr char kEmitter[] = "libfaults.so:Emitter";

// A call of Slow that runs until it is let go.
class HeldCall {
 public:
  HeldCall(const client::Client& client, const Folder& folder, const std::string& name,
           client::CallOptions options = {})
      : release_(folder / absl::StrCat(name, ".release")),
        started_(folder / absl::StrCat(name, ".started")),
        call_(client.ExecuteAsync(kSlow, "wait_for_file", Json::array({release_, started_}), Json::object(),
                                  std::move(options))) {}

  bool WaitUntilItRuns() const {
    return WaitUntil([&] { return Exists(started_); });
  }
  void Release() const { Touch(release_); }
  bool ended() const { return call_.WaitFor(seconds(0)); }
  client::Result Get() { return call_.Get(); }
  void Cancel() const { call_.Cancel(); }

 private:
  std::string release_, started_;
  client::Call call_;
};

// --- Work ---

TEST(Calls, ComeBackWithWhatTheyTook) {
  Dirtyd dirtyd({kEcho});
  client::Client client = dirtyd.NewClient();
  const std::string bytes("\0\xff\n bytes", 9);
  auto result = client.Execute(kEcho, "echo", Json::array({{{"text", "\u00e4"}, {"b", Attachment(0)}}}), Json::object(),
                               {.request_id = "mine", .attachments = {bytes}});
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->result["text"], "\u00e4");
  EXPECT_EQ(client::AttachmentNumber(result->result["b"]), 0u);
  EXPECT_EQ(result->attachments.at(0), bytes);
  EXPECT_EQ(result->worker_id, 1u);
  EXPECT_NE(result->call_id, "");
  dirtyd.Stop(SIGTERM);
}

#ifdef DIRTY_PICTURES
// Width and height of a JPEG, from its frame header.
std::pair<int, int> JpegSize(const std::string& jpeg) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(jpeg.at(i)); };
  if (jpeg.size() < 4 || byte(0) != 0xff || byte(1) != 0xd8) return {0, 0};
  for (size_t i = 2; i + 9 < jpeg.size(); i += 2u + byte(i + 2) * 256u + byte(i + 3)) {
    if (byte(i) != 0xff) break;
    int marker = byte(i + 1);
    if (marker >= 0xc0 && marker <= 0xc3) return {byte(i + 7) * 256 + byte(i + 8), byte(i + 5) * 256 + byte(i + 6)};
  }
  return {0, 0};
}

TEST(Calls, DirtyctlMakesAThumbnail) {
  // GCC 12's leak checker dies of a signal of its own in a process with libvips' many libraries loaded.
  const char* asan = getenv("ASAN_OPTIONS");
  Dirtyd dirtyd({"libthumbnail.so:Thumbnail", "--env",
                 absl::StrCat("ASAN_OPTIONS=", asan == nullptr ? "" : asan, ":detect_leaks=0")});
  const std::string thumb = dirtyd.folder() / "thumb.jpg";
  Ran ran = RunProgram(
      dirtyd.Ctl({"call", "libthumbnail.so:Thumbnail", "thumbnail", R"({"$attachment":0})", "--kwargs",
                  R"({"size":128})", "--attach", absl::StrCat(DIRTY_PICTURES, "/tower.jpg"), "--output", thumb}));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(Json::accept(ran.out)) << ran.out;
  auto [width, height] = JpegSize(ReadText(thumb));
  EXPECT_EQ(std::max(width, height), 128);
  EXPECT_GT(std::min(width, height), 0);
  std::ofstream(dirtyd.folder() / "broken.jpg") << "not a picture";
  ran = RunProgram(dirtyd.Ctl({"call", "libthumbnail.so:Thumbnail", "info", R"({"$attachment":0})", "--attach",
                               dirtyd.folder() / "broken.jpg"}));
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, HasSubstr("APP_ERROR"));
  dirtyd.Stop(SIGTERM);
}
#endif

TEST(Calls, EveryOneOfThousandsIsAnsweredCorrectlyAndOnce) {
  constexpr int kThreads = 16, kWorkers = 4;
  const int calls = Repetitions(10000, 2000), counted = Repetitions(2000, 400);
  Dirtyd dirtyd({kEcho, "--workers", absl::StrCat(kWorkers)});
  client::Client client = dirtyd.NewClient();
  std::atomic<int> next{0}, wrong{0};
  Mutex mutex;
  std::set<std::string> ids;
  std::set<std::pair<uint32_t, int>> counts;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&] {
      for (int i; (i = next++) < calls + counted;) {
        // The second kind tells each worker's own count: a call that ran twice leaves a gap.
        auto result = i < calls ? client.Execute(kEcho, "echo", Json::array({i})) : client.Execute(kEcho, "counter");
        if (!result.ok() || (i < calls && result->result != i)) {
          if (wrong++ == 0) ADD_FAILURE() << (result.ok() ? result->result.dump() : result.error().message);
          continue;
        }
        MutexLock lock(&mutex);
        ids.insert(result->call_id);
        if (i >= calls) counts.emplace(result->worker_id, result->result);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  const auto all = static_cast<uint64_t>(calls + counted);
  EXPECT_EQ(ids.size(), all);
  EXPECT_EQ(counts.size(), static_cast<size_t>(counted));
  std::map<uint32_t, int> highest;
  for (auto [worker, count] : counts) highest[worker] = std::max(highest[worker], count);
  int sum = 0;
  for (auto [worker, count] : highest) sum += count;
  EXPECT_EQ(sum, counted);

  v1::AppStatus app = dirtyd.App(kEcho);
  EXPECT_EQ(app.counters().received(), all);
  EXPECT_EQ(app.counters().ok(), all);
  EXPECT_EQ(app.queued() + app.running(), 0u);
  dirtyd.ExpectCountersAddUp();
  uint64_t ended = 0;
  for (const v1::WorkerStatus& worker : dirtyd.ReadyWorkers()) ended += worker.calls();
  EXPECT_EQ(ended, all);
  dirtyd.Stop(SIGTERM);
}

TEST(Calls, AShortOneIsAnsweredBeforeALongOneOnAnotherWorker) {
  Dirtyd dirtyd({kSlow, kEcho, "--workers", "2"});
  client::Client client = dirtyd.NewClient();
  const int rounds = Repetitions(200, 50);
  for (int i = 0; i < rounds; ++i) {
    HeldCall held(client, dirtyd.folder(), absl::StrCat(i));
    ASSERT_TRUE(held.WaitUntilItRuns()) << i;
    for (int n = 0; n < 3; ++n) {
      auto echo = client.Execute(kEcho, "echo", Json::array({i}), Json::object(), {.timeout = seconds(60)});
      ASSERT_TRUE(echo.ok()) << i << ": " << echo.error().message;
    }
    ASSERT_FALSE(held.ended()) << i;
    held.Release();
    ASSERT_TRUE(held.Get().ok()) << i;
  }
  dirtyd.Stop(SIGTERM);
}

TEST(Calls, StreamInOrder) {
  Dirtyd dirtyd({kEmitter});
  Ran ran = RunProgram(dirtyd.Ctl({"call", kEmitter, "count_and_return", "100", "--stream"}));
  EXPECT_EQ(ran.code, 0) << ran.err;
  std::string expected;
  for (int i = 0; i < 100; ++i) absl::StrAppend(&expected, i, "\n");
  EXPECT_EQ(ran.out, expected + "\"end\"\n");
  client::Stream stream = dirtyd.NewClient().ExecuteStream(kEmitter, "count_and_throw", Json::array({3}));
  int chunks = 0;
  while (stream.Next()) ++chunks;
  EXPECT_EQ(chunks, 3);
  ASSERT_TRUE(stream.error().has_value());
  EXPECT_EQ(stream.error()->reason, Reason::kAppError);
  dirtyd.Stop(SIGTERM);
}

// --- A worker that is lost ---

TEST(LostWorker, CostsTheRunningCallOnly) {
  Dirtyd dirtyd({kSlow, kEcho, kFaulty});
  client::Client client = dirtyd.NewClient();
  ASSERT_TRUE(client.Execute(kFaulty, "stderr", Json::array({"one line", "my last words"})).ok());
  HeldCall running(client, dirtyd.folder(), "held");
  ASSERT_TRUE(running.WaitUntilItRuns());
  client::Call first = client.ExecuteAsync(kEcho, "echo", Json::array({"first"}), Json::object());
  client::Call second = client.ExecuteAsync(kEcho, "echo", Json::array({"second"}), Json::object());
  ASSERT_TRUE(dirtyd.WaitForQueued(kEcho, 2));
  const v1::WorkerStatus worker = dirtyd.ReadyWorkers().at(0);
  kill(worker.pid(), SIGKILL);

  client::Result lost = running.Get();
  ASSERT_FALSE(lost.ok());
  EXPECT_EQ(lost.error().reason, Reason::kWorkerLost) << lost.error().message;
  EXPECT_THAT(lost.error().message, AllOf(HasSubstr("SIGKILL"), HasSubstr("unknown")));
  EXPECT_EQ(lost.error().signal, "SIGKILL");
  EXPECT_EQ(lost.error().worker_id, worker.id());
  EXPECT_THAT(lost.error().stderr_tail, Contains("my last words"));
  for (auto [call, word] : {std::pair{&first, "first"}, std::pair{&second, "second"}}) {
    client::Result result = call->Get();
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_EQ(result->result, word);
    EXPECT_GT(result->worker_id, worker.id());
  }
  v1::StatusResponse status = dirtyd.Status();
  ASSERT_EQ(status.exits_size(), 1);
  EXPECT_EQ(status.exits(0).signal(), "SIGKILL");
  EXPECT_EQ(status.exits(0).worker_id(), worker.id());
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(LostWorker, SaysHowItEndedOnTheWireToo) {
  Dirtyd dirtyd({kFaulty, "--restart_initial_backoff", "1ms", "--restart_max_backoff", "1ms"});
  auto stub = dirtyd.NewArbiterStub();
  const struct {
    const char *action, *args, *signal;
    int exit_code;
  } table[] = {{"segv", "[]", "SIGSEGV", -1},
               {"abort", "[]", "SIGABRT", -1},
               {"kill", "[]", "SIGKILL", -1},
               {"exit", "[7]", "", 7},
               {"exit", "[0]", "", 0}};
  for (const auto& row : table) {
    if (kSanitized && row.action == absl::string_view("segv")) continue;  // the sanitizer has that signal
    SCOPED_TRACE(row.action);
    v1::ExecuteRequest request;
    v1::ExecuteResponse response;
    request.set_app(kFaulty);
    request.set_action(row.action);
    request.set_args(row.args);
    Context context;
    grpc::Status status = stub->Execute(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED) << status.error_message();
    v1::Error error = ErrorOf(status);
    EXPECT_EQ(error.reason(), v1::REASON_WORKER_LOST);
    EXPECT_EQ(error.signal(), row.signal);
    EXPECT_EQ(error.has_exit_code() ? error.exit_code() : -1, row.exit_code);
    EXPECT_EQ(error.app(), kFaulty);
    EXPECT_EQ(error.action(), row.action);
    EXPECT_NE(error.call_id(), "");
  }
  dirtyd.Stop(SIGTERM);
}

// --- Bad input ---

std::string Nested(int levels) { return std::string(levels, '[') + std::string(levels, ']'); }

TEST(BadInput, HasItsReasonAndHarmsNobody) {
  Dirtyd dirtyd({kEcho, kFaulty});
  auto stub = dirtyd.NewArbiterStub();
  const struct {
    const char *app, *action;
    std::string args, kwargs;
    grpc::StatusCode code;
    v1::Reason reason;
    const char* says;
  } table[] = {
      {kEcho, "echo", "{", "", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST, "args"},
      {kEcho, "echo", "[1] x", "", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST, "args"},
      {kEcho, "echo", "{}", "", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST, "array"},
      {kEcho, "echo", "[1]", "[]", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST, "object"},
      {kEcho, "echo", "[1]", "nonsense", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST, "kwargs"},
      {kEcho, "echo", Nested(300), "", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST, "128"},
      {kEcho, "echo", Nested(1000000), "", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST, "128"},
      {kEcho, "echo", R"([{"$attachment": 5}])", "", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST,
       "attachment"},
      {kEcho, "echo", R"([{"$attachment": -1}])", "", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST,
       "attachment"},
      {kEcho, "echo", R"([{"$attachment": "x"}])", "", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST,
       "attachment"},
      {"libfault.so:Echo", "echo", "[1]", "", grpc::StatusCode::NOT_FOUND, v1::REASON_APP_NOT_FOUND, kEcho},
      {"Echo", "echo", "[1]", "", grpc::StatusCode::NOT_FOUND, v1::REASON_APP_NOT_FOUND, kEcho},
      {"", "echo", "[1]", "", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST, "app"},
      {kEcho, "", "[1]", "", grpc::StatusCode::INVALID_ARGUMENT, v1::REASON_INVALID_REQUEST, "action"},
      {kEcho, "nope", "[1]", "", grpc::StatusCode::UNKNOWN, v1::REASON_APP_ERROR, "nope"},
      {kFaulty, "throw_int", "[]", "", grpc::StatusCode::UNKNOWN, v1::REASON_APP_ERROR, ""},
      {kFaulty, "throw_not_utf8", "[]", "", grpc::StatusCode::UNKNOWN, v1::REASON_APP_ERROR, "bad"},
      {kFaulty, "throw_cancelled", "[]", "", grpc::StatusCode::UNKNOWN, v1::REASON_APP_ERROR, ""},
      {kEcho, "echo", "[]", "", grpc::StatusCode::UNKNOWN, v1::REASON_APP_ERROR, ""},
      {kEcho, "not_utf8", "[]", "", grpc::StatusCode::UNKNOWN, v1::REASON_APP_ERROR, ""},
      {kEcho, "dangling", "[]", "", grpc::StatusCode::UNKNOWN, v1::REASON_APP_ERROR, "attachment"},
  };
  for (const auto& row : table) {
    SCOPED_TRACE(absl::StrCat(row.app, " ", row.action, " ", row.args.substr(0, 40), " ", row.kwargs));
    v1::ExecuteRequest request;
    v1::ExecuteResponse response;
    request.set_app(row.app);
    request.set_action(row.action);
    request.set_args(row.args);
    request.set_kwargs(row.kwargs);
    Context context;
    grpc::Status status = stub->Execute(&context, request, &response);
    EXPECT_EQ(status.error_code(), row.code) << status.error_message();
    v1::RpcStatus details = DetailsOf(status);
    EXPECT_EQ(details.code(), row.code);
    EXPECT_EQ(details.message(), status.error_message());
    v1::Error error = ErrorOf(status);
    EXPECT_EQ(error.reason(), row.reason) << error.DebugString();
    EXPECT_THAT(error.message(), HasSubstr(row.says));
    EXPECT_LE(status.error_message().size(), 256u);
    EXPECT_LE(status.error_details().size(), 4096u);

    Context good;
    request.set_app(kEcho);
    request.set_action("add");
    request.set_args("[1, 2]");
    request.clear_kwargs();
    status = stub->Execute(&good, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(Json::parse(response.result()), 3);
  }
  EXPECT_EQ(dirtyd.Status().exits_size(), 0) << "a bad call cost a worker";
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(BadInput, LongErrorsAreCutToWhatATrailerHolds) {
  Dirtyd dirtyd({kFaulty});
  auto stub = dirtyd.NewArbiterStub();
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "\u6f22";  // three bytes each, nine when percent-encoded
  v1::ExecuteRequest request;
  v1::ExecuteResponse response;
  request.set_app(kFaulty);
  request.set_action("throw_runtime");
  request.set_args(Json::array({text}).dump());
  Context context;
  grpc::Status status = stub->Execute(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNKNOWN) << status.error_message();
  EXPECT_EQ(ErrorOf(status).reason(), v1::REASON_APP_ERROR);
  EXPECT_LE(status.error_message().size(), 256u);
  EXPECT_LE(status.error_details().size(), 4096u);
  dirtyd.Stop(SIGTERM);
}

TEST(BadInput, ATimeoutMustBeAboveZero) {
  Dirtyd dirtyd({kEcho});
  auto stub = dirtyd.NewArbiterStub();
  v1::ExecuteRequest request;
  v1::ExecuteResponse response;
  request.set_app(kEcho);
  request.set_action("pid");
  request.mutable_timeout()->set_seconds(-1);
  Context context;
  grpc::Status status = stub->Execute(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ErrorOf(status).reason(), v1::REASON_INVALID_REQUEST);
  dirtyd.Stop(SIGTERM);
}

TEST(BadInput, AMessageThatIsTooLargeIsRefused) {
  Dirtyd dirtyd({kEcho});
  client::Client client = dirtyd.NewClient();
  const std::string huge(size_t{65} << 20, 'x');
  auto local = client.Execute(kEcho, "size", Json::array({Attachment(0)}), Json::object(), {.attachments = {huge}});
  ASSERT_FALSE(local.ok());
  EXPECT_EQ(local.error().reason, Reason::kTooLarge) << local.error().message;
  EXPECT_EQ(dirtyd.App(kEcho).counters().received(), 0u) << "it was sent";

  // What the transport refuses has no details.
  auto stub = dirtyd.NewArbiterStub();
  v1::ExecuteRequest request;
  v1::ExecuteResponse response;
  request.set_app(kEcho);
  request.set_action("size");
  request.set_args(R"([{"$attachment": 0}])");
  *request.add_attachments() = huge;
  Context context;
  grpc::Status status = stub->Execute(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_EQ(status.error_details(), "");
  // The largest that goes: both ways at once.
  request.mutable_attachments(0)->resize((size_t{64} << 20) - 256);
  request.set_action("echo");
  Context largest;
  status = stub->Execute(&largest, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.attachments(0).size(), request.attachments(0).size());
  dirtyd.Stop(SIGTERM);
}

TEST(BadInput, JustAboveTheLimitIsTooLargeForThatCallOnly) {
  Dirtyd dirtyd({kEcho, "--max_message_size", "1MiB"});
  auto stub = dirtyd.NewArbiterStub();
  v1::ExecuteRequest request;
  v1::ExecuteResponse response;
  request.set_app(kEcho);
  request.set_action("size");
  request.set_args(R"([{"$attachment": 0}])");
  request.add_attachments()->assign((1 << 20) + 1, 'x');
  Context context;
  grpc::Status status = stub->Execute(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::Error error = ErrorOf(status);
  EXPECT_EQ(error.reason(), v1::REASON_TOO_LARGE) << status.error_message();
  EXPECT_THAT(error.message(), AllOf(HasSubstr("max_message_size"), HasSubstr("1048576")));

  request.clear_attachments();
  for (const char* action : {"bytes", "text"}) {
    SCOPED_TRACE(action);
    request.set_action(action);
    request.set_args("[1048577]");
    Context result;
    status = stub->Execute(&result, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
    EXPECT_EQ(ErrorOf(status).reason(), v1::REASON_TOO_LARGE);
    request.set_args("[1000000]");
    Context good;
    status = stub->Execute(&good, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  v1::AppStatus app = dirtyd.App(kEcho);
  EXPECT_EQ(app.counters().too_large(), 3u);
  EXPECT_EQ(dirtyd.Status().exits_size(), 0);
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

// --- Deadlines and cancellation ---

TEST(Deadline, EndsAtOnceForTheCallerAndTheWorkerIsReplaced) {
  Dirtyd dirtyd({kSlow, kEcho, "--timeout", "1s", "--kill_after", "200ms"});
  client::Client client = dirtyd.NewClient();
  const pid_t before = dirtyd.ReadyWorkers().at(0).pid();
  absl::Time start = absl::Now();
  auto late = client.Execute(kSlow, "sleep_hard", Json::array({1000}));
  absl::Duration took = absl::Now() - start;
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().reason, Reason::kTimeout) << late.error().message;
  EXPECT_EQ(late.error().timeout, std::chrono::nanoseconds(seconds(1)));
  EXPECT_GE(took, absl::Milliseconds(990));
  if (kMeasured) {
    EXPECT_LE(took, absl::Milliseconds(1500));
  }
  for (int i = 0; i < 5; ++i) {
    auto next = client.Execute(kEcho, "pid");
    ASSERT_TRUE(next.ok()) << next.error().message;
    EXPECT_NE(next->result, before);
  }
  EXPECT_EQ(ProcessState(before), '\0');
  const std::string log = dirtyd.process().err();
  EXPECT_THAT(log, AllOf(HasSubstr(absl::StrCat("stacks of pid ", before)), HasSubstr("libfaults.so(")));
  EXPECT_THAT(log, HasSubstr("reason=timeout"));
  v1::StatusResponse status = dirtyd.Status();
  ASSERT_EQ(status.exits_size(), 1);
  EXPECT_EQ(status.exits(0).reason(), "timeout");
  dirtyd.Stop(SIGTERM);
}

TEST(Deadline, OfTheCallerShortensTheConfiguredOne) {
  Dirtyd dirtyd({kSlow});
  client::Client client = dirtyd.NewClient();
  auto late = client.Execute(kSlow, "sleep", Json::array({1000}), Json::object(), {.timeout = milliseconds(200)});
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().reason, Reason::kTimeout) << late.error().message;
  // It stopped when it was asked to: its worker lives.
  ASSERT_TRUE(client.Execute(kSlow, "sleep", Json::array({0})).ok());
  EXPECT_EQ(dirtyd.Status().exits_size(), 0);
  // A bare gRPC deadline does the same.
  auto stub = dirtyd.NewArbiterStub();
  v1::ExecuteRequest request;
  v1::ExecuteResponse response;
  request.set_app(kSlow);
  request.set_action("wait_for_cancel");
  request.set_args("[0]");
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + milliseconds(200));
  EXPECT_EQ(stub->Execute(&context, request, &response).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  ASSERT_TRUE(client.Execute(kSlow, "sleep", Json::array({0})).ok());
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(Deadline, InTheQueueSaysWhyNothingWasFree) {
  Dirtyd dirtyd({kSlow, kEcho, "--queue_timeout", "300ms"});
  client::Client client = dirtyd.NewClient();
  HeldCall held(client, dirtyd.folder(), "held");
  ASSERT_TRUE(held.WaitUntilItRuns());
  auto late = client.Execute(kEcho, "pid");
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().reason, Reason::kQueueTimeout);
  EXPECT_THAT(late.error().message,
              AllOf(HasSubstr("the only slot is busy"), HasSubstr("wait_for_file"), HasSubstr(kSlow)));
  EXPECT_TRUE(late.error().timeout.has_value());
  held.Release();
  EXPECT_TRUE(held.Get().ok());
  EXPECT_TRUE(client.Execute(kEcho, "pid").ok());
  dirtyd.Stop(SIGTERM);
}

TEST(Cancel, OfARunningCallFreesItsSlot) {
  Dirtyd dirtyd({kSlow});
  client::Client client = dirtyd.NewClient();
  const std::string started = dirtyd.folder() / "started";
  client::Call call = client.ExecuteAsync(kSlow, "wait_for_cancel", Json::array({0, started}), Json::object());
  ASSERT_TRUE(WaitUntil([&] { return Exists(started); }));
  call.Cancel();
  client::Result result = call.Get();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().reason, Reason::kCancelled);
  EXPECT_TRUE(client.Execute(kSlow, "sleep", Json::array({0})).ok());
  EXPECT_EQ(dirtyd.Status().exits_size(), 0);
  EXPECT_EQ(dirtyd.App(kSlow).counters().cancelled(), 1u);
  dirtyd.Stop(SIGTERM);
}

TEST(Cancel, OfAQueuedCallDropsIt) {
  Dirtyd dirtyd({kSlow, kEcho});
  client::Client client = dirtyd.NewClient();
  HeldCall held(client, dirtyd.folder(), "held");
  ASSERT_TRUE(held.WaitUntilItRuns());
  client::Call queued = client.ExecuteAsync(kEcho, "counter", Json::array(), Json::object());
  ASSERT_TRUE(dirtyd.WaitForQueued(kEcho, 1));
  queued.Cancel();
  client::Result dropped = queued.Get();
  ASSERT_FALSE(dropped.ok());
  EXPECT_EQ(dropped.error().reason, Reason::kCancelled);
  EXPECT_TRUE(dirtyd.WaitForQueued(kEcho, 0));
  EXPECT_FALSE(held.ended());
  held.Release();
  EXPECT_TRUE(held.Get().ok());
  auto count = client.Execute(kEcho, "counter");
  ASSERT_TRUE(count.ok());
  EXPECT_EQ(count->result, 1) << "the dropped call ran";
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(Cancel, ByAClientThatIsKilledDropsItsCalls) {
  Dirtyd dirtyd({kSlow, kEcho});
  client::Client client = dirtyd.NewClient();
  HeldCall held(client, dirtyd.folder(), "held");
  ASSERT_TRUE(held.WaitUntilItRuns());
  Process other(dirtyd.Ctl({"call", kEcho, "counter"}));
  ASSERT_TRUE(dirtyd.WaitForQueued(kEcho, 1)) << other.running() << other.out() << other.err();
  other.Signal(SIGKILL);
  EXPECT_TRUE(dirtyd.WaitForQueued(kEcho, 0));
  held.Release();
  EXPECT_TRUE(held.Get().ok());
  auto count = client.Execute(kEcho, "counter");
  ASSERT_TRUE(count.ok());
  EXPECT_EQ(count->result, 1) << "the dropped call ran";
  EXPECT_EQ(dirtyd.App(kEcho).counters().cancelled(), 1u);
  dirtyd.Stop(SIGTERM);
}

TEST(Queue, TakesAsManyAsItHoldsAndTellsTheOthersWhenToReturn) {
  Dirtyd dirtyd({kSlow, "--queue_size", "10"});
  client::Client client = dirtyd.NewClient();
  const std::string release = dirtyd.folder() / "release";
  std::vector<client::Call> calls;
  for (int i = 0; i < 50; ++i) {
    calls.push_back(client.ExecuteAsync(kSlow, "wait_for_file", Json::array({release}), Json::object()));
  }
  ASSERT_TRUE(WaitUntil([&] { return dirtyd.App(kSlow).counters().queue_full() == 39; }));
  EXPECT_EQ(dirtyd.App(kSlow).queued(), 10u);
  EXPECT_EQ(dirtyd.App(kSlow).running(), 1u);
  // On the wire, for other languages' retry policies.
  auto stub = dirtyd.NewArbiterStub();
  v1::ExecuteRequest request;
  v1::ExecuteResponse response;
  request.set_app(kSlow);
  request.set_action("sleep");
  Context context;
  grpc::Status status = stub->Execute(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::RpcStatus details = DetailsOf(status);
  ASSERT_EQ(details.details_size(), 2);
  EXPECT_EQ(details.details(1).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
  v1::RetryInfo retry;
  ASSERT_TRUE(retry.ParseFromString(details.details(1).value()));
  EXPECT_GT(retry.retry_delay().seconds() * 1000000000 + retry.retry_delay().nanos(), 0);

  Touch(release);
  int ok = 0, full = 0;
  for (client::Call& call : calls) {
    client::Result result = call.Get();
    if (result.ok()) {
      ++ok;
      continue;
    }
    EXPECT_EQ(result.error().reason, Reason::kQueueFull) << result.error().message;
    EXPECT_TRUE(result.error().retry_delay.has_value());
    ++full;
  }
  EXPECT_EQ(ok, 11);
  EXPECT_EQ(full, 39);
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

}  // namespace
}  // namespace dirty::integration
