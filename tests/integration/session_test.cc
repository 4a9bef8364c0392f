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

}  // namespace
}  // namespace dirty::integration
