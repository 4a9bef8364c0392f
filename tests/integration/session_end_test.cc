// How sessions end, and what they cost dirtyd: broken and half-closed ones, clients that do not read, reloads,
// shutdowns.

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/loop/unique_fd.h"
#include "tests/integration/load.h"
#include "tests/integration/raw_session.h"
#include "tests/unit/rpc_http2.h"

namespace dirty::integration {
namespace {

using ::testing::HasSubstr;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kSlow[] = "libfaults.so:Slow";
constexpr char kEmitter[] = "libfaults.so:Emitter";

TEST(SessionEnd, BrokenItCancelsItsCallsAndNobodyElses) {
  Dirtyd dirtyd({kSlow, kEcho, "--workers", "2"});
  const std::string started = dirtyd.folder() / "started", release = dirtyd.folder() / "release";
  RawSession other(dirtyd);
  other.ExecuteHeld(1, release);
  ASSERT_TRUE(RawSession::WaitUntilItRuns(release));
  {
    RawSession session(dirtyd);
    session.Execute(1, kSlow, "wait_for_cancel", absl::StrCat("[0,\"", started, "\"]"));
    ASSERT_TRUE(WaitUntil([&] { return Exists(started); }));
    for (uint64_t id = 2; id < 20; ++id) session.Execute(id, kSlow, "wait_for_cancel", "[0]");
    ASSERT_TRUE(dirtyd.WaitForQueued(kSlow, 18));
    session.Break();
  }
  EXPECT_TRUE(dirtyd.WaitForQueued(kSlow, 0));
  EXPECT_TRUE(dirtyd.WaitForRunning(kSlow, 1)) << "the other session's";
  EXPECT_EQ(dirtyd.App(kSlow).counters().cancelled(), 19u);
  // Its worker is free again: the app saw it.
  other.Execute(2, kEcho, "echo", "[2]");
  EXPECT_EQ(other.ReadDone().id(), 2u);
  Touch(release);
  EXPECT_TRUE(other.ReadDone().has_response());
  dirtyd.ExpectCountersAddUp();
}

TEST(SessionEnd, HalfClosedItAnswersWhatIsInFlight) {
  Dirtyd dirtyd({kSlow, kEmitter, "--workers", "2"});
  const std::string release = dirtyd.folder() / "release";
  RawSession session(dirtyd);
  session.Execute(1, kSlow, "wait_for_file", absl::StrCat("[\"", release, "\"]"));
  session.ExecuteStream(2, kEmitter, "count", "[10]");
  session.HalfClose();
  for (int i = 0; i < 10; ++i) session.ReadChunk(2);
  EXPECT_EQ(session.ReadDone().id(), 2u);
  Touch(release);
  EXPECT_EQ(session.ReadDone().id(), 1u);
  EXPECT_TRUE(session.Finish().ok());

  RawSession idle(dirtyd);
  idle.HalfClose();
  EXPECT_TRUE(idle.Finish().ok());
}

// Such as a request id from an HTTP header that a client passed on as it came.
TEST(SessionEnd, AFrameThatCannotBeParsedEndsItAtOnceAndSaysSo) {
  Dirtyd dirtyd({kSlow, kEcho, "--workers", "2"});
  const std::string started = dirtyd.folder() / "started";
  v1::SessionRequest malformed = RawSession::Call(2, kEcho, "echo", "[2]");
  malformed.mutable_execute()->mutable_request()->set_request_id("caf\xE9");
  RawSession session(dirtyd), other(dirtyd), first(dirtyd, /*greet=*/false);
  session.Execute(1, kSlow, "wait_for_cancel", absl::StrCat("[0,\"", started, "\"]"));
  ASSERT_TRUE(WaitUntil([&] { return Exists(started); }));
  for (RawSession* each : {&session, &first}) {
    each->Write(malformed);
    grpc::Status status = each->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("cannot be parsed"));
    EXPECT_EQ(ErrorOf(status).reason(), v1::REASON_INVALID_REQUEST);
  }
  EXPECT_TRUE(dirtyd.WaitForRunning(kSlow, 0)) << "abandoned";
  EXPECT_EQ(dirtyd.App(kSlow).counters().cancelled(), 1u);
  other.Execute(1, kEcho, "echo", "[1]");
  EXPECT_TRUE(other.ReadDone().has_response());
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(SessionEnd, AReloadUnderLoadLosesNothing) {
  constexpr int kReloads = 3;
  constexpr uint64_t kInFlight = 64;
  Dirtyd dirtyd({kEcho, "--workers", "2"});
  RawSession session(dirtyd);
  uint64_t next = 1, answered = 0;
  const auto send = [&] {
    const uint64_t id = next++;
    EXPECT_TRUE(session.Execute(id, kEcho, "echo", absl::StrCat("[", id, "]")));
  };
  for (uint64_t i = 0; i < kInFlight; ++i) send();
  std::atomic<bool> done{false};
  std::thread reloads([&] {
    for (int i = 0; i < kReloads; ++i) EXPECT_TRUE(Reload(dirtyd).ok());
    done = true;
  });
  while (answered + 1 < next) {
    v1::SessionDone answer = session.ReadDone();
    EXPECT_EQ(answer.response().result(), absl::StrCat(answer.id())) << answer.ShortDebugString();
    ++answered;
    if (testing::Test::HasFailure()) break;
    if (!done) send();
  }
  reloads.join();
  EXPECT_EQ(dirtyd.App(kEcho).counters().ok(), answered);
  EXPECT_EQ(dirtyd.Status().generation(), 1u + kReloads);
  dirtyd.ExpectCountersAddUp();
}

TEST(SessionEnd, AReloadChangesTheLimitOfOpenOnes) {
  const auto config = [](int most) {
    return absl::StrCat("max_calls_per_session: ", most, "\napps:\n  - ", kSlow, "\n");
  };
  Dirtyd dirtyd({}, {.config = config(1)});
  const std::string release = dirtyd.folder() / "release";
  RawSession session(dirtyd);
  session.ExecuteHeld(1, release);
  ASSERT_TRUE(RawSession::WaitUntilItRuns(release));
  session.Execute(2, kSlow, "sleep", "[0]");
  EXPECT_EQ(session.ReadDone().error().reason(), v1::REASON_QUEUE_FULL);
  Configure(dirtyd, config(2));
  ASSERT_TRUE(Reload(dirtyd).ok());
  session.Execute(3, kSlow, "sleep", "[0]");
  EXPECT_TRUE(session.ReadDone().has_response()) << "on the new worker";
  Touch(release);
  EXPECT_EQ(session.ReadDone().id(), 1u);
}

TEST(SessionEnd, AtAShutdownAnswersWhatIsInFlightAndNothingNew) {
  Dirtyd dirtyd({kSlow, "--workers", "1"});
  const std::string release = dirtyd.folder() / "release";
  RawSession session(dirtyd), idle(dirtyd);
  session.ExecuteHeld(1, release);
  ASSERT_TRUE(RawSession::WaitUntilItRuns(release));
  session.Execute(2, kSlow, "wait_for_file", absl::StrCat("[\"", release, "\"]"));  // waits
  ASSERT_TRUE(dirtyd.WaitForQueued(kSlow, 1));
  dirtyd.process().Signal(SIGTERM);
  dirtyd.process().WaitForLine("shutting down");
  session.Execute(3, kSlow, "sleep", "[0]");
  v1::SessionDone done = session.ReadDone();
  EXPECT_EQ(done.id(), 3u);
  EXPECT_EQ(done.error().reason(), v1::REASON_SHUTTING_DOWN);
  Touch(release);
  EXPECT_EQ(session.ReadDone().id(), 1u);
  EXPECT_EQ(session.ReadDone().id(), 2u);
  for (RawSession* each : {&session, &idle}) {
    grpc::Status status = each->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(ErrorOf(status).reason(), v1::REASON_SHUTTING_DOWN);
  }
  EXPECT_EQ(dirtyd.process().WaitExit().code, 0);
  dirtyd.ExpectNothingLeft();
}

// --- Clients that do not read ---

// A session by hand: with a large window, and nothing is ever read.
class Writer {
 public:
  explicit Writer(const Dirtyd& dirtyd) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    memcpy(address.sun_path, dirtyd.socket().data(), dirtyd.socket().size());
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    v1::SessionRequest hello;
    hello.mutable_hello()->set_protocol_version(1);
    Send(http2::Preface(kWindow) + http2::OpenWindow(0, kWindow) + http2::Call("/dirty.v1.Arbiter/Session"));
    Send(http2::Message(hello.SerializeAsString()));
  }
  void Send(const std::string& bytes) { http2::Send(fd_.get(), bytes); }

 private:
  static constexpr uint32_t kWindow = 1 << 30;
  UniqueFd fd_;
};

void ExpectServed(const Dirtyd& dirtyd) {
  RawSession session(dirtyd);
  session.Execute(1, kEcho, "echo", "[1]");
  EXPECT_TRUE(session.ReadDone().has_response());
}

TEST(SessionThatDoesNotRead, IsNotReadFromEither) {
  constexpr uint64_t kMany = 300000;
  Dirtyd dirtyd({kEcho, "--graceful_timeout", "1s"});
  ExpectServed(dirtyd);
  const size_t before = ResidentBytes(dirtyd.pid());
  RawSession session(dirtyd);
  std::atomic<uint64_t> sent{0};
  std::atomic<bool> ended{false};
  // Refused at once: nothing but its unread answers can stop it.
  std::thread writer([&] {
    const v1::SessionRequest call = RawSession::Call(0, kEcho, std::string(200, 'a'));
    while (sent < kMany && session.Write(call)) ++sent;
    ended = true;
  });
  uint64_t last = 0;
  while (!ended) {
    const uint64_t from = std::exchange(last, sent);
    if (from > 0 && from == last) break;  // it is stuck
    absl::SleepFor(absl::Milliseconds(500));
  }
  EXPECT_FALSE(ended) << "it was read from for " << sent << " calls";
  const size_t grown = ResidentBytes(dirtyd.pid()) - before;
  printf("[ MEASURED ] %zu bytes after %zu calls\n", grown, size_t{sent});
  if (kMeasured) {
    EXPECT_LT(grown, size_t{32} << 20);
  }
  ExpectServed(dirtyd);
  // Once it reads, it is read from again.
  for (uint64_t i = 0, until = sent + 1000; i < until && !testing::Test::HasFailure(); ++i) {
    EXPECT_EQ(session.ReadDone().error().reason(), v1::REASON_INVALID_REQUEST);
  }
  session.Break();
  writer.join();
  ExpectServed(dirtyd);
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(SessionThatDoesNotRead, DelaysNoShutdown) {
  Dirtyd dirtyd({kEcho, kEmitter, "--workers", "2", "--graceful_timeout", "1s"});
  Writer writer(dirtyd);
  for (uint64_t id = 1; id <= 4; ++id) {
    writer.Send(http2::Message(RawSession::Call(id, kEcho, "bytes", "[33554432]").SerializeAsString()));
  }
  v1::SessionRequest stream = RawSession::Call(5, kEmitter, "blocks", "[1000000,1048576]");
  stream.mutable_execute()->set_stream(true);
  stream.mutable_execute()->set_credits(UINT32_MAX);
  writer.Send(http2::Message(stream.SerializeAsString()));
  ASSERT_TRUE(WaitUntil([&] { return dirtyd.App(kEcho).counters().ok() == 4; }));
  ExpectServed(dirtyd);
  if (kMeasured) {
    EXPECT_LT(ResidentBytes(dirtyd.pid()), size_t{400} << 20) << "chunks pile up";
  }
  const absl::Time start = absl::Now();
  dirtyd.Stop(SIGTERM);
  if (kMeasured) {
    EXPECT_LT(absl::Now() - start, absl::Seconds(4));
  }
}

TEST(SessionThatDoesNotRead, HasItsCallsCancelledBeforeItsAnswersFillTheMemory) {
  constexpr uint64_t kCalls = 40;
  constexpr size_t kBytes = 32 << 20;
  Dirtyd dirtyd({kEcho, "--workers", "2", "--max_memory_in_flight=256MiB"});
  ExpectServed(dirtyd);
  const size_t before = ResidentBytes(dirtyd.pid());
  RawSession session(dirtyd);
  for (uint64_t id = 1; id <= kCalls; ++id) session.Execute(id, kEcho, "bytes", absl::StrCat("[", kBytes, "]"));
  ASSERT_TRUE(WaitUntil([&] {
    const v1::AppStatus app = dirtyd.App(kEcho);
    return app.counters().received() == kCalls + 1 && app.queued() + app.running() == 0;
  }));
  const size_t grown = ResidentBytes(dirtyd.pid()) - before;
  printf("[ MEASURED ] %zu MiB after %llu answers of %zu MiB\n", grown >> 20,
         static_cast<unsigned long long>(dirtyd.App(kEcho).counters().ok() - 1), kBytes >> 20);
  if (kMeasured) {
    EXPECT_LT(grown, size_t{480} << 20) << "256 MiB, one answer above, one that is being written and one a worker";
  }
  ExpectServed(dirtyd);
  // Each is answered once: with its result if it had one by then.
  std::set<uint64_t> answered;
  uint64_t results = 0;
  for (uint64_t i = 0; i < kCalls; ++i) {
    const v1::SessionDone done = session.ReadDone();
    EXPECT_TRUE(answered.insert(done.id()).second) << done.id() << " twice";
    if (done.has_response()) {
      ++results;
      EXPECT_EQ(done.response().attachments(0).size(), kBytes);
    } else {
      EXPECT_EQ(done.error().reason(), v1::REASON_CANCELLED);
      EXPECT_THAT(done.error().message(), HasSubstr("its client does not read"));
    }
  }
  EXPECT_GE(results, (256u << 20) / kBytes);
  EXPECT_LT(results, kCalls);
  EXPECT_EQ(dirtyd.App(kEcho).counters().cancelled(), kCalls - results);
  // It goes on.
  session.Execute(kCalls + 1, kEcho, "echo", "[1]");
  EXPECT_TRUE(session.ReadDone().has_response());
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(StreamThatIsNotRead, IsCancelledIfItsChunksGrowAndFillTheMemory) {
  constexpr int kSmall = 1000;
  constexpr size_t kBytes = 8 << 20;
  Dirtyd dirtyd({kEmitter, kEcho, "--workers", "2", "--max_memory_in_flight=256MiB"});
  ExpectServed(dirtyd);
  const size_t before = ResidentBytes(dirtyd.pid());
  std::unique_ptr<v1::Arbiter::Stub> stub = dirtyd.NewArbiterStub();
  Context context;
  const std::string go = dirtyd.folder() / "go";
  auto reader = stub->ExecuteStream(
      &context,
      RawSession::Call(1, kEmitter, "count_then_blocks", absl::StrCat("[", kSmall, ",\"", go, "\",100,", kBytes, "]"))
          .execute()
          .request());
  // The small ones are read: now the window is for many.
  v1::Chunk chunk;
  for (int i = 0; i < kSmall; ++i) ASSERT_TRUE(reader->Read(&chunk));
  Touch(go);
  ASSERT_TRUE(dirtyd.WaitForRunning(kEmitter, 0));
  const size_t grown = ResidentBytes(dirtyd.pid()) - before;
  printf("[ MEASURED ] %zu MiB\n", grown >> 20);
  if (kMeasured) {
    EXPECT_LT(grown, size_t{360} << 20);
  }
  ExpectServed(dirtyd);
  int blocks = 0;
  for (; reader->Read(&chunk); ++blocks) EXPECT_EQ(chunk.attachments(0).size(), kBytes);
  EXPECT_GE(blocks, static_cast<int>((256u << 20) / kBytes));
  EXPECT_LT(blocks, 100);
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_THAT(status.error_message(), HasSubstr("its client does not read"));
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

// --- Cost ---

TEST(SessionCost, OfAnIdleOneIsBelow100KiB) {
  const size_t sessions = static_cast<size_t>(Repetitions(1000, 100));
  Dirtyd dirtyd({kEcho});
  ExpectServed(dirtyd);
  const size_t before = ResidentBytes(dirtyd.pid());
  std::vector<std::unique_ptr<RawSession>> open;
  for (size_t i = 0; i < sessions; ++i) {
    RawSession& session = *open.emplace_back(std::make_unique<RawSession>(dirtyd));
    session.Execute(1, kEcho, "echo", "[1]");
    ASSERT_TRUE(session.ReadDone().has_response());
  }
  const size_t each = (ResidentBytes(dirtyd.pid()) - before) / sessions;
  printf("[ MEASURED ] %zu bytes a session\n", each);
  if (kMeasured) {
    EXPECT_LT(each, 100u << 10);
  }
  open.clear();
  ExpectServed(dirtyd);
  dirtyd.Stop(SIGTERM);
}

}  // namespace
}  // namespace dirty::integration
