// Sessions on the wire: many calls on one stream, whatever happens to them, and what a session that misbehaves is told.

#include <gmock/gmock.h>

#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/integration/raw_session.h"

namespace dirty::integration {
namespace {

using ::testing::HasSubstr;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kSlow[] = "libfaults.so:Slow";
constexpr char kFaulty[] = "libfaults.so:Faulty";
constexpr char kEmitter[] = "libfaults.so:Emitter";

// --- Hello ---

TEST(SessionHello, TellsTheLimits) {
  Dirtyd dirtyd({kEcho, "--max_message_size", "2MiB", "--max_calls_per_session", "7"});
  RawSession session(dirtyd);
  EXPECT_EQ(session.hello().max_message_size(), 2u << 20);
  EXPECT_EQ(session.hello().max_calls(), 7u);
  // A second one changes nothing, and what is unknown is ignored.
  v1::SessionRequest request;
  request.mutable_hello()->set_protocol_version(1);
  EXPECT_TRUE(session.Write(request));
  EXPECT_TRUE(session.Write(v1::SessionRequest()));
  EXPECT_TRUE(session.Execute(1, kEcho, "echo", "[1]"));
  EXPECT_EQ(session.ReadDone().response().result(), "1");
}

TEST(SessionHello, MustBeTheFirstFrame) {
  Dirtyd dirtyd({kEcho});
  RawSession session(dirtyd, /*greet=*/false);
  session.Execute(1, kEcho, "echo", "[1]");
  grpc::Status status = session.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("first frame of a session must be `hello`"));

  RawSession silent(dirtyd, /*greet=*/false);
  silent.HalfClose();
  EXPECT_EQ(silent.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  dirtyd.ExpectCountersAddUp();
}

TEST(SessionHello, OfAnotherVersionIsRefused) {
  Dirtyd dirtyd({kEcho});
  RawSession session(dirtyd, /*greet=*/false);
  v1::SessionRequest request;
  request.mutable_hello()->set_protocol_version(2);
  session.Write(request);
  grpc::Status status = session.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("protocol_version 2, and this dirtyd speaks 1"));
  EXPECT_EQ(ErrorOf(status).reason(), v1::REASON_INVALID_REQUEST);
}

// --- Calls ---

TEST(SessionCalls, AreAnsweredCorrectlyAndOnce) {
  constexpr uint64_t kCalls = 1000;
  Dirtyd dirtyd({kEcho, "--workers", "2"});
  RawSession session(dirtyd);
  for (uint64_t id = 1; id <= kCalls; ++id) {
    v1::SessionRequest request = RawSession::Call(id, kEcho, "echo", absl::StrCat("[[", id, R"(,{"$attachment":0}]])"));
    request.mutable_execute()->mutable_request()->add_attachments(absl::StrCat("bytes ", id));
    ASSERT_TRUE(session.Write(request));
  }
  std::set<uint64_t> answered;
  for (uint64_t i = 0; i < kCalls; ++i) {
    v1::SessionDone done = session.ReadDone();
    ASSERT_TRUE(answered.insert(done.id()).second) << done.id() << " twice";
    ASSERT_EQ(done.response().result(), absl::StrCat("[", done.id(), R"(,{"$attachment":0}])"));
    ASSERT_EQ(done.response().attachments(0), absl::StrCat("bytes ", done.id()));
    ASSERT_NE(done.response().call_id(), "");
  }
  EXPECT_EQ(*answered.rbegin(), kCalls);
  EXPECT_EQ(dirtyd.App(kEcho).counters().ok(), kCalls);
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(SessionCalls, AreAnsweredInTheOrderOfTheirEnds) {
  Dirtyd dirtyd({kEcho, kSlow, "--workers", "3"});
  const std::string first = dirtyd.folder() / "first", second = dirtyd.folder() / "second";
  RawSession session(dirtyd);
  session.ExecuteHeld(1, first);
  session.ExecuteHeld(2, second);
  ASSERT_TRUE(RawSession::WaitUntilItRuns(first) && RawSession::WaitUntilItRuns(second));
  for (uint64_t id = 3; id < 10; ++id) {
    session.Execute(id, kEcho, "echo", "[true]");
    EXPECT_EQ(session.ReadDone().id(), id);
  }
  Touch(second);
  EXPECT_EQ(session.ReadDone().id(), 2u);
  Touch(first);
  EXPECT_EQ(session.ReadDone().id(), 1u);
}

TEST(SessionCalls, ThatFailSayWhyInTheirFrames) {
  Dirtyd dirtyd({kEcho, kFaulty, kSlow});
  RawSession session(dirtyd);
  struct {
    v1::SessionRequest request;
    v1::Reason reason;
    const char* message;
  } rows[] = {
      {RawSession::Call(1, "libfaults.so:Ecko", "echo", "[1]"), v1::REASON_APP_NOT_FOUND, "did you mean"},
      {RawSession::Call(2, kEcho, "", "[1]"), v1::REASON_INVALID_REQUEST, "names no action"},
      {RawSession::Call(3, kEcho, "echo", "[1"), v1::REASON_INVALID_REQUEST, "args"},
      {RawSession::Call(4, kFaulty, "throw_runtime", R"(["it is broken"])"), v1::REASON_APP_ERROR, "it is broken"},
      {RawSession::Call(5, kFaulty, "abort"), v1::REASON_WORKER_LOST, "SIGABRT"},
      {RawSession::Call(6, kSlow, "wait_for_cancel", "[0]"), v1::REASON_TIMEOUT, "ran longer than"},
      {RawSession::Call(0, kEcho, "echo", "[1]"), v1::REASON_INVALID_REQUEST, "number calls from 1"},
  };
  rows[5].request.mutable_execute()->mutable_request()->mutable_timeout()->set_seconds(1);
  for (const auto& row : rows) {
    dirtyd.WaitForWorkers(1);  // one of them takes it down
    ASSERT_TRUE(session.Write(row.request));
    v1::SessionDone done = session.ReadDone();
    EXPECT_EQ(done.id(), row.request.execute().id());
    EXPECT_EQ(done.error().reason(), row.reason) << done.ShortDebugString();
    EXPECT_THAT(done.error().message(), HasSubstr(row.message));
  }
  v1::SessionRequest empty;
  empty.mutable_execute()->set_id(8);
  session.Write(empty);
  EXPECT_EQ(session.ReadDone().error().reason(), v1::REASON_INVALID_REQUEST);
  session.Execute(9, kEcho, "echo", "[9]");
  EXPECT_EQ(session.ReadDone().response().result(), "9");
  dirtyd.ExpectCountersAddUp();
}

TEST(SessionCalls, HaveNamesAndIdsThatAreCutBetweenTwoCharacters) {
  Dirtyd dirtyd({kSlow});
  std::string text;
  for (int i = 0; i < 64; ++i) text += "\u00E9";
  const std::string release = dirtyd.folder() / "release";
  RawSession session(dirtyd);
  v1::SessionRequest held =
      RawSession::Call(1, kSlow, "wait_for_file", absl::StrCat("[\"", release, "\",\"", release, ".started\"]"));
  held.mutable_execute()->mutable_request()->set_request_id("x" + text);
  session.Write(held);
  ASSERT_TRUE(RawSession::WaitUntilItRuns(release));
  v1::StatusResponse status = dirtyd.Status();
  ASSERT_EQ(status.workers_size(), 1);
  ASSERT_EQ(status.workers(0).running_size(), 1);
  EXPECT_EQ(status.workers(0).running(0).request_id(), "x" + text.substr(0, 126));
  session.Execute(2, "x" + text, "echo");
  v1::SessionDone done = session.ReadDone();
  EXPECT_EQ(done.id(), 2u);
  EXPECT_EQ(done.error().reason(), v1::REASON_APP_NOT_FOUND);
  Touch(release);
  EXPECT_EQ(session.ReadDone().id(), 1u);
}

TEST(SessionCalls, AreCancelledOneByOne) {
  Dirtyd dirtyd({kSlow, kEcho});
  const std::string started = dirtyd.folder() / "started";
  RawSession session(dirtyd);
  session.Execute(1, kSlow, "wait_for_cancel", absl::StrCat("[0,\"", started, "\"]"));
  ASSERT_TRUE(WaitUntil([&] { return Exists(started); }));
  session.Execute(2, kSlow, "wait_for_cancel", "[0]");
  session.Execute(3, kEcho, "echo", "[3]");
  ASSERT_TRUE(dirtyd.WaitForQueued(kSlow, 1) && dirtyd.WaitForQueued(kEcho, 1));
  session.Cancel(77);  // unknown: ignored
  session.Cancel(2);
  v1::SessionDone done = session.ReadDone();
  EXPECT_EQ(done.id(), 2u);
  EXPECT_EQ(done.error().reason(), v1::REASON_CANCELLED);
  session.Cancel(1);
  done = session.ReadDone();
  EXPECT_EQ(done.id(), 1u);
  EXPECT_EQ(done.error().reason(), v1::REASON_CANCELLED);
  EXPECT_NE(done.error().call_id(), "");
  session.Cancel(1);  // has ended: ignored
  // The app has let go of the slot.
  EXPECT_EQ(session.ReadDone().id(), 3u);
  EXPECT_EQ(dirtyd.App(kSlow).counters().cancelled(), 2u);
  dirtyd.ExpectCountersAddUp();
}

TEST(SessionCalls, WithAnIdThatIsInFlightAreRefusedAndTheFirstGoesOn) {
  Dirtyd dirtyd({kSlow, kEcho});
  const std::string release = dirtyd.folder() / "release";
  RawSession session(dirtyd);
  session.ExecuteHeld(5, release);
  ASSERT_TRUE(RawSession::WaitUntilItRuns(release));
  session.Execute(5, kEcho, "echo", "[1]");
  v1::SessionDone done = session.ReadDone();
  EXPECT_EQ(done.id(), 5u);
  EXPECT_EQ(done.error().reason(), v1::REASON_INVALID_REQUEST);
  EXPECT_EQ(done.error().call_id(), "") << "so it is the later one's";
  EXPECT_THAT(done.error().message(), HasSubstr("`id` 5 is in flight on this session and goes on"));
  Touch(release);
  done = session.ReadDone();
  EXPECT_EQ(done.id(), 5u);
  EXPECT_TRUE(done.has_response());
  // Now it is free.
  session.Execute(5, kEcho, "echo", "[5]");
  EXPECT_EQ(session.ReadDone().response().result(), "5");
  dirtyd.ExpectCountersAddUp();
}

TEST(SessionCalls, BeyondTheLimitAreRefusedAndHarmNobody) {
  constexpr uint64_t kMost = 10, kMore = 500;
  Dirtyd dirtyd({kSlow, kEcho, "--workers", "2", "--max_calls_per_session", absl::StrCat(kMost)});
  const std::string release = dirtyd.folder() / "release";
  RawSession session(dirtyd), other(dirtyd);
  session.ExecuteHeld(1, release);
  ASSERT_TRUE(RawSession::WaitUntilItRuns(release));
  for (uint64_t id = 2; id <= kMost + kMore; ++id) {
    session.Execute(id, kSlow, "wait_for_file", absl::StrCat("[\"", release, "\"]"));
  }
  for (uint64_t i = 0; i < kMore; ++i) {
    v1::SessionDone done = session.ReadDone();
    ASSERT_GT(done.id(), kMost);
    ASSERT_EQ(done.error().reason(), v1::REASON_QUEUE_FULL);
    ASSERT_THAT(done.error().message(), HasSubstr("max_calls_per_session 10"));
    ASSERT_TRUE(done.error().has_retry_delay());
  }
  EXPECT_EQ(dirtyd.App(kSlow).counters().queue_full(), kMore);
  dirtyd.ExpectCountersAddUp();
  Touch(release);
  for (uint64_t i = 0; i < kMost; ++i) EXPECT_TRUE(session.ReadDone().has_response());
  other.Execute(1, kEcho, "echo", "[1]");
  EXPECT_TRUE(other.ReadDone().has_response());
}

TEST(SessionCalls, ThatAreTooLargeFailAlone) {
  constexpr size_t kLimit = 1 << 20;
  Dirtyd dirtyd({kEcho, kSlow, "--workers", "2", "--max_message_size", "1MiB"});
  const std::string release = dirtyd.folder() / "release";
  RawSession session(dirtyd), other(dirtyd);
  session.ExecuteHeld(1, release);
  ASSERT_TRUE(RawSession::WaitUntilItRuns(release));
  v1::SessionRequest large = RawSession::Call(2, kEcho, "size", R"([{"$attachment":0}])");
  large.mutable_execute()->mutable_request()->add_attachments(std::string(kLimit + 100, 'x'));
  ASSERT_TRUE(session.Write(large));
  v1::SessionDone done = session.ReadDone();
  EXPECT_EQ(done.id(), 2u);
  EXPECT_EQ(done.error().reason(), v1::REASON_TOO_LARGE);
  session.Execute(3, kEcho, "bytes", absl::StrCat("[", kLimit + 1, "]"));  // as a result
  done = session.ReadDone();
  EXPECT_EQ(done.id(), 3u);
  EXPECT_EQ(done.error().reason(), v1::REASON_TOO_LARGE);
  Touch(release);
  EXPECT_TRUE(session.ReadDone().has_response());
  dirtyd.ExpectCountersAddUp();

  // Above the transport's limit it costs the session, and no other.
  large.mutable_execute()->mutable_request()->set_attachments(0, std::string(kLimit * 3, 'x'));
  session.Write(large);
  EXPECT_EQ(session.Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  other.Execute(1, kEcho, "echo", "[1]");
  EXPECT_TRUE(other.ReadDone().has_response());
}

TEST(SessionCalls, GoOnWhereAnothersWorkerIsKilled) {
  Dirtyd dirtyd({kSlow, kEcho, "--workers", "2"});
  const std::string one = dirtyd.folder() / "one", two = dirtyd.folder() / "two";
  RawSession session(dirtyd);
  session.ExecuteHeld(1, one);
  session.ExecuteHeld(2, two);
  session.Execute(3, kEcho, "echo", "[3]");
  ASSERT_TRUE(RawSession::WaitUntilItRuns(one) && RawSession::WaitUntilItRuns(two));
  uint64_t killed = 0;
  for (const v1::WorkerStatus& worker : dirtyd.ReadyWorkers()) {
    if (worker.id() == 1) kill(worker.pid(), SIGKILL);
  }
  v1::SessionDone done = session.ReadDone();
  killed = done.id();
  EXPECT_EQ(done.error().reason(), v1::REASON_WORKER_LOST);
  EXPECT_EQ(done.error().signal(), "SIGKILL");
  EXPECT_EQ(session.ReadDone().response().result(), "3") << "on the new worker";
  Touch(killed == 1 ? two : one);
  EXPECT_EQ(session.ReadDone().id(), killed == 1 ? 2u : 1u);
}

// --- Streams ---

TEST(SessionStreams, ComeAsChunksAndThenDone) {
  Dirtyd dirtyd({kEmitter, kEcho});
  RawSession session(dirtyd);
  session.ExecuteStream(1, kEmitter, "count_and_return", "[3]");
  for (const char* value : {"0", "1", "2", "\"end\""}) EXPECT_EQ(session.ReadChunk(1).value(), value);
  v1::SessionDone done = session.ReadDone();
  EXPECT_EQ(done.response().result(), "");
  EXPECT_NE(done.response().call_id(), "");
  session.ExecuteStream(2, kEmitter, "count_and_throw", "[1]");
  EXPECT_EQ(session.ReadChunk(2).value(), "0");
  done = session.ReadDone();
  EXPECT_EQ(done.error().reason(), v1::REASON_APP_ERROR);
  EXPECT_THAT(done.error().message(), HasSubstr("after the chunks"));
  session.ExecuteStream(3, kEcho, "echo", "[3]");
  EXPECT_EQ(session.ReadChunk(3).value(), "3");
  EXPECT_TRUE(session.ReadDone().has_response());
  dirtyd.ExpectCountersAddUp();
}

TEST(SessionStreams, SendWhatTheReaderAllowsAndHoldUpNobodyElse) {
  Dirtyd dirtyd({kEmitter, kEcho, "--workers", "2"});
  RawSession session(dirtyd);
  session.ExecuteStream(1, kEmitter, "count", "[1000]", 2);
  EXPECT_EQ(session.ReadChunk(1).value(), "0");
  EXPECT_EQ(session.ReadChunk(1).value(), "1");
  for (uint64_t id = 10; id < 110; ++id) {
    session.Execute(id, kEcho, "echo", "[1]");
    EXPECT_EQ(session.ReadDone().id(), id) << "a chunk came without credit";
  }
  session.Credit(99, 5);  // unknown: ignored
  session.Credit(1, 1);
  EXPECT_EQ(session.ReadChunk(1).value(), "2");
  session.Execute(2, kEcho, "echo", "[1]");
  EXPECT_EQ(session.ReadDone().id(), 2u);
  session.Credit(1, UINT32_MAX);
  session.Credit(1, UINT32_MAX);
  for (int i = 3; i < 1000; ++i) ASSERT_EQ(session.ReadChunk(1).value(), absl::StrCat(i));
  EXPECT_TRUE(session.ReadDone().has_response());
}

TEST(SessionStreams, StopTheirProducerWhenTheReaderLeaves) {
  Dirtyd dirtyd({kEmitter});
  const auto leave = [&](const std::string& name, auto how) {
    const std::string stopped = dirtyd.folder() / name;
    {
      RawSession session(dirtyd);
      session.ExecuteStream(1, kEmitter, "forever", absl::StrCat("[\"", stopped, "\"]"));
      EXPECT_EQ(session.ReadChunk(1).value(), "0");
      how(session);
    }
    EXPECT_TRUE(WaitUntil([&] { return Exists(stopped); })) << name;
    EXPECT_TRUE(dirtyd.WaitForRunning(kEmitter, 0)) << name;
  };
  leave("cancelled", [](RawSession& session) {
    session.Cancel(1);
    v1::SessionResponse response;
    while ((response = session.Read()).has_chunk()) {
    }
    EXPECT_EQ(response.done().error().reason(), v1::REASON_CANCELLED);
  });
  leave("broken", [](RawSession& session) { session.Break(); });

  // The same without a session.
  const std::string stopped = dirtyd.folder() / "stream";
  std::unique_ptr<v1::Arbiter::Stub> stub = dirtyd.NewArbiterStub();
  Context context;
  auto reader = stub->ExecuteStream(
      &context, RawSession::Call(1, kEmitter, "forever", absl::StrCat("[\"", stopped, "\"]")).execute().request());
  v1::Chunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  context.TryCancel();
  (void)reader->Finish();
  EXPECT_TRUE(WaitUntil([&] { return Exists(stopped); }));
  EXPECT_TRUE(dirtyd.WaitForRunning(kEmitter, 0));
  EXPECT_EQ(dirtyd.App(kEmitter).counters().cancelled(), 3u);
  dirtyd.ExpectCountersAddUp();
}

TEST(SessionStreams, EndWhenTheGapBetweenTwoChunksIsTooLong) {
  // The chunks come without a gap, but for what a sanitizer or a neighbour makes of it.
  Dirtyd dirtyd({kEmitter, "--stream_idle_timeout", kSanitized ? "3s" : "500ms"});
  const std::string args = absl::StrCat("[2,\"", dirtyd.folder() / "never", "\"]");
  RawSession session(dirtyd);
  session.ExecuteStream(1, kEmitter, "count_and_wait", args);
  EXPECT_EQ(session.ReadChunk(1).value(), "0");
  EXPECT_EQ(session.ReadChunk(1).value(), "1");
  v1::SessionDone done = session.ReadDone();
  EXPECT_EQ(done.error().reason(), v1::REASON_TIMEOUT);
  EXPECT_THAT(done.error().message(), HasSubstr("stream_idle_timeout"));

  std::unique_ptr<v1::Arbiter::Stub> stub = dirtyd.NewArbiterStub();
  Context context;
  auto reader =
      stub->ExecuteStream(&context, RawSession::Call(1, kEmitter, "count_and_wait", args).execute().request());
  v1::Chunk chunk;
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(reader->Read(&chunk));
  EXPECT_FALSE(reader->Read(&chunk));
  grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(status.error_message(), HasSubstr("stream_idle_timeout"));
  EXPECT_EQ(dirtyd.App(kEmitter).counters().timeout(), 2u);
  dirtyd.ExpectCountersAddUp();
}

}  // namespace
}  // namespace dirty::integration
