// Streams as the dispatcher and the readers' windows see them: credits, gaps, and callers that cancel or are refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/dispatch/proto_time.h"
#include "server/rpc/chunk_window.h"
#include "tests/unit/core_fakes.h"

namespace dirty {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kIdle = absl::Seconds(5);

class StreamTest : public ::testing::Test, protected Dispatcher::Events {
 protected:
  StreamTest() {
    AppSettings app = TestApp("a");
    app.limits.stream_idle_timeout = kIdle;
    dispatcher_.Configure({TestPool("p", 1, {app})}, 1 << 20);
  }

  CallNumber Submit(bool stream = true, uint32_t credits = 3) {
    Submission submission = MakeSubmission(caller_);
    submission.stream = stream;
    submission.credits = credits;
    return dispatcher_.Submit(std::move(submission)).call;
  }
  void AddWorker() { dispatcher_.AddWorker(1, 1, {"a"}, &worker_); }
  void Chunk(CallNumber call) {
    v1::CallChunk chunk;
    chunk.set_call(call);
    chunk.mutable_chunk()->set_value("1");
    dispatcher_.OnCallChunk(1, chunk);
  }
  v1::AppStatus Status() {
    v1::AppStatus status;
    status.set_name("a");
    dispatcher_.Describe(status);
    return status;
  }

  // Dispatcher::Events
  void OnWorkerIdle(WorkerId) override {}
  void OnSlotFree(WorkerId, uint64_t) override {}
  void OnCallStuck(WorkerId, CallNumber, const std::string&) override { ++stuck_; }
  void OnAllCallsEnded() override {}
  void OnCallRecord(const CallRecord& record) override {
    if (record.error != nullptr) last_reason_ = record.error->reason();
  }

  FakeTime time_;
  Dispatcher dispatcher_{time_.timers, *this, {.id_prefix = "x-"}};
  FakePort worker_;
  FakeCaller caller_;
  int stuck_ = 0;
  v1::Reason last_reason_ = v1::REASON_UNSPECIFIED;
};

TEST_F(StreamTest, AGapThatIsTooLongEndsItAsADeadlineDoes) {
  AddWorker();
  CallNumber call = Submit();
  time_.Advance(absl::Seconds(60));  // before its first chunk there is no gap
  Chunk(call);
  time_.Advance(kIdle - absl::Seconds(1));
  Chunk(call);
  time_.Advance(kIdle - absl::Milliseconds(1));
  EXPECT_FALSE(caller_.done());
  time_.Advance(absl::Milliseconds(1));
  ASSERT_EQ(caller_.reason(), v1::REASON_TIMEOUT);
  EXPECT_THAT(caller_.outcome.error->message(), HasSubstr("sent no further chunk for 5.0 s (stream_idle_timeout)"));
  EXPECT_EQ(FromProto(caller_.outcome.error->timeout()), kIdle);
  ASSERT_EQ(worker_.cancelled.size(), 1u);
  EXPECT_EQ(worker_.cancelled[0].second, v1::CANCEL_REASON_TIMEOUT);
  time_.Advance(absl::Seconds(5));
  EXPECT_EQ(stuck_, 1);
  EXPECT_EQ(Status().counters().timeout(), 1u);
}

TEST_F(StreamTest, AGapThatTheReaderMakesIsNotTheWorkers) {
  AddWorker();
  CallNumber call = Submit(true, 2);
  Chunk(call);
  Chunk(call);
  time_.Advance(kIdle * 10);
  EXPECT_FALSE(caller_.done());
  dispatcher_.Credit(call, 1);
  time_.Advance(kIdle - absl::Milliseconds(1));
  EXPECT_FALSE(caller_.done());
  time_.Advance(absl::Milliseconds(1));
  EXPECT_EQ(caller_.reason(), v1::REASON_TIMEOUT);
}

TEST_F(StreamTest, TheRunDeadlineHoldsBeforeTheFirstChunkAndBetweenThem) {
  AddWorker();
  CallNumber call = Submit(true, 1000);
  for (int i = 0; i < 299; ++i) {
    Chunk(call);
    time_.Advance(absl::Seconds(1));
  }
  EXPECT_FALSE(caller_.done());
  time_.Advance(absl::Seconds(1));
  ASSERT_EQ(caller_.reason(), v1::REASON_TIMEOUT);
  EXPECT_THAT(caller_.outcome.error->message(), HasSubstr("ran longer than"));
}

TEST_F(StreamTest, NoGapIsMeasuredOfOtherCallsNorOnceTheReaderLeft) {
  AddWorker();
  CallNumber call = Submit(/*stream=*/false);
  time_.Advance(kIdle * 10);
  EXPECT_FALSE(caller_.done());
  v1::CallDone done;
  done.set_call(call);
  done.mutable_response()->set_result("1");
  dispatcher_.OnCallDone(1, done);
  EXPECT_TRUE(caller_.ok());

  call = Submit();
  Chunk(call);
  dispatcher_.Abandon(call);
  time_.Advance(kIdle * 10);
  EXPECT_EQ(stuck_, 0) << "a caller that left costs no worker";
  ASSERT_EQ(worker_.cancelled.size(), 1u);
  EXPECT_EQ(worker_.cancelled[0].second, v1::CANCEL_REASON_CLIENT);
}

TEST_F(StreamTest, AChunkWithoutAValueIsStillOne) {
  AddWorker();
  CallNumber call = Submit();
  v1::CallChunk chunk;
  chunk.set_call(call);
  dispatcher_.OnCallChunk(1, chunk);
  EXPECT_EQ(caller_.chunks, std::vector<std::string>{""});
}

TEST_F(StreamTest, AWorkerThatSendsWithoutCreditBreaksTheProtocol) {
  AddWorker();
  CallNumber call = Submit(true, 2);
  for (int i = 0; i < 100; ++i) Chunk(call);
  EXPECT_EQ(caller_.chunks.size(), 2u);
  ASSERT_EQ(caller_.reason(), v1::REASON_APP_ERROR);
  EXPECT_THAT(caller_.outcome.error->message(),
              HasSubstr("worker 1 broke the worker protocol: it sent a chunk without credit"));
  EXPECT_EQ(caller_.outcomes, 1);
  EXPECT_EQ(worker_.cancelled.size(), 1u);
  time_.Advance(absl::Seconds(5));
  EXPECT_EQ(stuck_, 1) << "it is to go";
}

TEST_F(StreamTest, AChunkFarAboveTheLimitEndsItsCall) {
  AddWorker();
  CallNumber call = Submit();
  v1::CallChunk chunk;
  chunk.set_call(call);
  chunk.mutable_chunk()->add_attachments(std::string(3 << 20, 'x'));
  dispatcher_.OnCallChunk(1, chunk);
  EXPECT_TRUE(caller_.chunks.empty());
  ASSERT_EQ(caller_.reason(), v1::REASON_TOO_LARGE);
  EXPECT_THAT(caller_.outcome.error->message(), HasSubstr("the chunk has 3145"));
  EXPECT_EQ(worker_.cancelled.size(), 1u);
}

TEST_F(StreamTest, ACallerThatCancelsIsToldAtOnce) {
  CallNumber call = Submit();
  dispatcher_.CancelByCaller(call);
  EXPECT_EQ(caller_.reason(), v1::REASON_CANCELLED);
  EXPECT_EQ(Status().queued(), 0u);

  AddWorker();
  call = Submit();
  dispatcher_.CancelByCaller(call);
  dispatcher_.CancelByCaller(call);
  EXPECT_EQ(caller_.outcomes, 2);
  EXPECT_EQ(caller_.outcome.error->call_id(), absl::StrCat("x-", call));
  EXPECT_EQ(worker_.cancelled.size(), 1u);
  time_.Advance(absl::Seconds(100));
  EXPECT_EQ(stuck_, 0);
  EXPECT_EQ(Status().counters().cancelled(), 2u);
  EXPECT_EQ(Status().counters().received(), 2u);
}

TEST_F(StreamTest, WhatOthersRefuseIsCountedAndLoggedToo) {
  Submission submission;
  submission.request = std::make_unique<v1::ExecuteRequest>();
  submission.request->set_app("a");
  errors::ErrorPtr error = dispatcher_.Refuse(submission, errors::SessionFull(7));
  EXPECT_EQ(error->app(), "a");
  EXPECT_THAT(error->message(), HasSubstr("max_calls_per_session 7"));
  EXPECT_GT(FromProto(error->retry_delay()), absl::ZeroDuration());
  EXPECT_EQ(last_reason_, v1::REASON_QUEUE_FULL);
  EXPECT_EQ(Status().counters().received(), 1u);
  EXPECT_EQ(Status().counters().queue_full(), 1u);
}

// --- The window of a reader ---

// What a worker without a pause does: uses every credit it has.
TEST(ChunkWindow, GivesNoMoreThanTheReaderAllows) {
  ChunkWindow window(5);
  EXPECT_EQ(window.TakeCredits(), 5u);
  EXPECT_EQ(window.TakeCredits(), 0u);
  window.OnChunk(10);
  window.OnWritten();
  EXPECT_EQ(window.TakeCredits(), 0u) << "it was written, but nothing more is allowed";
  window.Allow(2);
  EXPECT_EQ(window.TakeCredits(), 2u);
}

TEST(ChunkWindow, HoldsNoMoreThanItsOwnWhateverTheReaderAllows) {
  ChunkWindow window(UINT64_MAX);
  window.Allow(UINT32_MAX);
  EXPECT_EQ(window.TakeCredits(), ChunkWindow::kFirst);
  window.OnChunk(100);
  uint32_t more = window.TakeCredits();
  EXPECT_EQ(more, ChunkWindow::kMost - ChunkWindow::kFirst) << "chunks are small";
  EXPECT_EQ(window.TakeCredits(), 0u) << "the transport has taken none";
  uint32_t given = 0;
  for (uint32_t i = 0; i < ChunkWindow::kMost; ++i) {
    window.OnWritten();
    given += window.TakeCredits();
  }
  EXPECT_EQ(given, ChunkWindow::kMost);
}

TEST(ChunkWindow, IsSmallForLargeChunks) {
  ChunkWindow window(UINT64_MAX);
  uint32_t under_way = window.TakeCredits();
  window.OnChunk(64 << 20);
  for (; under_way > 0; --under_way) {
    window.OnWritten();
    EXPECT_EQ(window.TakeCredits(), under_way > ChunkWindow::kLeast ? 0u : 1u) << under_way;
  }
}

}  // namespace
}  // namespace dirty
