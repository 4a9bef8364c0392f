#include "server/observe/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/dispatch/action_times.h"
#include "server/dispatch/proto_time.h"
#include "server/dispatch/trace_context.h"
#include "server/observe/loop_lag.h"
#include "server/observe/metrics_text.h"
#include "tests/unit/core_fakes.h"

namespace dirty {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kTrace[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

std::vector<std::string> Lines(const std::string& text) { return absl::StrSplit(text, '\n', absl::SkipEmpty()); }

std::vector<std::string> NamesOf(const std::vector<ActionMetrics>& actions) {
  std::vector<std::string> names;
  for (const ActionMetrics& action : actions) names.push_back(action.action);
  return names;
}

uint64_t CountOf(const TimeHistogram& histogram) {
  uint64_t count = 0;
  for (const uint64_t each : histogram.counts()) count += each;
  return count;
}

TEST(TimeHistogramTest, CountsAtItsBoundsAndBeyond) {
  TimeHistogram histogram;
  histogram.Add(absl::Microseconds(100));
  histogram.Add(absl::Nanoseconds(100'001));
  histogram.Add(-absl::Seconds(1));  // no clock does that, and it must not matter
  histogram.Add(absl::Seconds(300));
  histogram.Add(absl::InfiniteDuration());
  EXPECT_EQ(histogram.counts().front(), 2u);
  EXPECT_EQ(histogram.counts()[1], 1u);
  EXPECT_EQ(histogram.counts()[17], 1u);
  EXPECT_EQ(histogram.counts().back(), 1u);
}

TEST(MetricsTextTest, WritesFamiliesAndEscapesLabels) {
  MetricsText text;
  text.Family("a_total", MetricsText::Type::kCounter, "What.");
  text.Sample({{"app", "x\"y\\z\nw\x01"}}, uint64_t{18446744073709551615U});
  text.Single("b", MetricsText::Type::kGauge, "Else.", 0.1);
  EXPECT_EQ(text.Take(),
            "# HELP a_total What.\n# TYPE a_total counter\n"
            "a_total{app=\"x\\\"y\\\\z\\\\nw\\\\x01\"} 18446744073709551615\n"
            "# HELP b Else.\n# TYPE b gauge\nb 0.1\n");
}

TEST(MetricsTextTest, BucketsOfAHistogramAddUp) {
  TimeHistogram histogram;
  histogram.Add(absl::Milliseconds(1));
  histogram.Add(absl::Milliseconds(2));
  histogram.Add(absl::Hours(1));
  MetricsText text;
  text.Family("h_seconds", MetricsText::Type::kHistogram, "How long.");
  text.Sample({{"app", "a"}}, histogram);
  const std::vector<std::string> lines = Lines(text.Take());
  EXPECT_THAT(lines, Contains("h_seconds_bucket{app=\"a\",le=\"0.0005\"} 0"));
  EXPECT_THAT(lines, Contains("h_seconds_bucket{app=\"a\",le=\"0.001\"} 1"));
  EXPECT_THAT(lines, Contains("h_seconds_bucket{app=\"a\",le=\"0.005\"} 2"));
  EXPECT_THAT(lines, Contains("h_seconds_bucket{app=\"a\",le=\"300\"} 2"));
  EXPECT_THAT(lines, Contains("h_seconds_bucket{app=\"a\",le=\"+Inf\"} 3"));
  EXPECT_THAT(lines, Contains("h_seconds_sum{app=\"a\"} 3600.003"));
  EXPECT_THAT(lines, Contains("h_seconds_count{app=\"a\"} 3"));
}

TEST(ActionTimesTest, ANameGetsItsOwnSeriesOnceItSucceeded) {
  ActionTimes times;
  times.Add("typo", absl::ZeroDuration(), absl::Seconds(1), /*ok=*/false);
  times.Add("resize", absl::ZeroDuration(), absl::Seconds(1), /*ok=*/true);
  times.Add("resize", absl::ZeroDuration(), absl::Seconds(1), /*ok=*/false);
  EXPECT_THAT(NamesOf(times.Describe()), ElementsAre("resize", "other"));
  EXPECT_EQ(CountOf(times.Describe()[0].ran), 2u);
  EXPECT_EQ(CountOf(times.Describe()[1].ran), 1u);
}

TEST(ActionTimesTest, HostileNamesAreBoundedAndNothingIsLost) {
  ActionTimes times;
  times.Add("other", {}, {}, true);  // a real action of that name
  times.Add("new\nline", {}, {}, true);
  times.Add(std::string(101, 'x'), {}, {}, true);
  EXPECT_THAT(NamesOf(times.Describe()), ElementsAre("other"));
  for (int i = 0; i < 1000; ++i) times.Add(absl::StrCat("a", i), {}, {}, true);
  const std::vector<ActionMetrics> actions = times.Describe();
  EXPECT_THAT(actions, SizeIs(ActionTimes::kMostActions + 1));
  uint64_t all = 0;
  for (const ActionMetrics& action : actions) all += CountOf(action.waited);
  EXPECT_EQ(all, 1003u);
}

TEST(LoopLagTest, TellsHowLateATimerWas) {
  FakeTime time;
  LoopLag lag(time.timers);
  time.Advance(absl::Milliseconds(500));
  EXPECT_EQ(lag.histogram().counts().front(), 1u);
  time.clock.Set(time.clock.Now() + absl::Milliseconds(500) + absl::Seconds(2));  // the loop was held up
  time.timers.RunDue();
  EXPECT_DOUBLE_EQ(lag.histogram().seconds(), 2.0);
}

TEST(ProcessMetricsTest, AreThoseOfThisProcess) {
  const ProcessMetrics process = ReadProcessMetrics();
  EXPECT_GT(process.resident_bytes, 1u << 20);
  EXPECT_GE(process.virtual_bytes, process.resident_bytes);
  EXPECT_GE(process.open_descriptors, 3u);
  EXPECT_LT(process.open_descriptors, process.max_descriptors);
  EXPECT_GE(process.threads, 1u);
  EXPECT_NEAR(process.start_time_seconds, absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()), 3600);
  const int copy = dup(0);
  EXPECT_EQ(ReadProcessMetrics().open_descriptors, process.open_descriptors + 1);
  close(copy);
}

TEST(TraceparentTest, OnlyW3cTraceContextIsOne) {
  EXPECT_EQ(Traceparent(kTrace), kTrace);
  EXPECT_EQ(TraceId(kTrace), "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(TraceId(""), "");
  const std::string ids = std::string(kTrace).substr(2, 50);
  EXPECT_EQ(Traceparent("01" + ids + "-01-more"), "00" + ids + "-01") << "what version 00 knows of a later one";
  for (const std::string& bad :
       {std::string(), std::string("00"), "ff" + ids + "-01", "0g" + ids + "-01", "00" + ids + "-0x", "00" + ids + "-0",
        std::string(kTrace) + "-", std::string(kTrace) + "0", "01" + ids + "-012",
        std::string("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
        std::string("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        std::string("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
        std::string("00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), std::string(10000, '0'),
        std::string(55, '\xE9')}) {
    EXPECT_EQ(Traceparent(bad), "") << bad;
  }
}

class DispatcherMetricsTest : public ::testing::Test, private Dispatcher::Events {
 protected:
  DispatcherMetricsTest() {
    AppSettings app = TestApp("a");
    app.limits.queue_size = 2;
    dispatcher_.Configure({TestPool("p", 1, {app})}, 1 << 20);
    dispatcher_.AddWorker(1, 1, {"a"}, &port_);
  }

  CallNumber Submit(FakeCaller& caller, const std::string& action = "act", const std::string& trace = "") {
    Submission submission = MakeSubmission(caller);
    submission.request->set_action(action);
    submission.traceparent = trace;
    return dispatcher_.Submit(std::move(submission)).call;
  }
  void Done(CallNumber call, bool ok = true) {
    v1::CallDone done;
    done.set_call(call);
    ok ? (void)done.mutable_response() : (void)done.mutable_error();
    dispatcher_.OnCallDone(1, done);
  }
  AppMetrics App() const {
    MetricsSnapshot metrics;
    dispatcher_.Describe(metrics);
    return metrics.apps.at(0);
  }

  FakeTime time_;
  FakePort port_;
  std::vector<std::string> traces_;
  Dispatcher dispatcher_{time_.timers, *this, {.id_prefix = "c-"}};

 private:
  void OnWorkerIdle(WorkerId) override {}
  void OnSlotFree(WorkerId, uint64_t) override {}
  void OnCallStuck(WorkerId, CallNumber, const std::string&) override {}
  void OnAllCallsEnded() override {}
  void OnCallRecord(const CallRecord& record) override { traces_.emplace_back(record.trace_id); }
};

TEST_F(DispatcherMetricsTest, RecordsHowLongCallsWaitedAndRan) {
  FakeCaller first, second;
  const CallNumber one = Submit(first), two = Submit(second);
  time_.Advance(absl::Seconds(2));
  Done(one);
  time_.Advance(absl::Seconds(20));
  Done(two);
  const AppMetrics app = App();
  ASSERT_THAT(NamesOf(app.actions), ElementsAre("act"));
  EXPECT_EQ(app.queue_capacity, 2u);
  EXPECT_DOUBLE_EQ(app.actions[0].waited.seconds(), 2.0);
  EXPECT_DOUBLE_EQ(app.actions[0].ran.seconds(), 22.0);
  EXPECT_EQ(CountOf(app.actions[0].ran), 2u);
}

TEST_F(DispatcherMetricsTest, ACallThatNeverRanIsInNoHistogram) {
  FakeCaller runs, waits, invented;
  Submit(runs);
  dispatcher_.CancelByCaller(Submit(waits));
  EXPECT_THAT(App().actions, IsEmpty());
  Submit(invented, "made up");
  time_.Advance(absl::Seconds(61));  // queue_timeout
  ASSERT_TRUE(invented.done());
  EXPECT_THAT(App().actions, IsEmpty());
}

TEST_F(DispatcherMetricsTest, ATimeoutOfAnUnknownActionIsOther) {
  FakeCaller caller;
  Submit(caller);
  time_.Advance(absl::Seconds(301));
  ASSERT_EQ(caller.reason(), v1::REASON_TIMEOUT);
  EXPECT_THAT(NamesOf(App().actions), ElementsAre("other"));
}

TEST_F(DispatcherMetricsTest, CountsChunksAndCallsThatNameNoApp) {
  FakeCaller caller;
  Submission submission = MakeSubmission(caller);
  submission.stream = true;
  const CallNumber call = dispatcher_.Submit(std::move(submission)).call;
  v1::CallChunk chunk;
  chunk.set_call(call);
  dispatcher_.OnCallChunk(1, chunk);
  dispatcher_.OnCallChunk(1, chunk);
  EXPECT_EQ(App().chunks, 2u);
  FakeCaller stray;
  EXPECT_NE(dispatcher_.Submit(MakeSubmission(stray, "nowhere")).refused, nullptr);
  MetricsSnapshot metrics;
  dispatcher_.Describe(metrics);
  EXPECT_EQ(metrics.calls_without_app, 1u);
}

TEST_F(DispatcherMetricsTest, TheTraceGoesWithTheCallAndIntoItsRecord) {
  FakeCaller one, two, refused, full;
  const CallNumber call = Submit(one, "act", kTrace);
  EXPECT_EQ(port_.started.at(0)->traceparent(), kTrace);
  Done(call);
  Submit(two, "act", "00-not-a-trace");
  EXPECT_EQ(port_.started.at(1)->traceparent(), "");
  FakeCaller waiting[2];
  for (FakeCaller& caller : waiting) Submit(caller);
  Submit(full, "act", kTrace);  // QUEUE_FULL
  EXPECT_THAT(traces_, ElementsAre("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736"));
}

MetricsSnapshot SampleSnapshot() {
  MetricsSnapshot snapshot;
  snapshot.status.set_version("1.2.3");
  snapshot.status.set_state(v1::StatusResponse::RUNNING);
  v1::PoolStatus& pool = *snapshot.status.add_pools();
  pool.set_name("p");
  pool.set_desired_workers(2);
  for (uint32_t id : {1u, 2u}) {  // the second replaces the first
    v1::WorkerStatus& worker = *snapshot.status.add_workers();
    worker.set_id(id);
    worker.set_pool("p");
    worker.set_threads(4);
    worker.set_state(id == 1 ? v1::WorkerStatus::DRAINING : v1::WorkerStatus::READY);
    worker.set_rss_bytes(100 * id);
    ToProto(absl::Seconds(10 / id), worker.mutable_cpu_time());
    worker.add_running();
  }
  v1::AppStatus& app = *snapshot.status.add_apps();
  app.set_name("a");
  app.set_state(v1::AppStatus::BACKOFF);
  app.mutable_counters()->set_queue_full(7);
  snapshot.apps.push_back({.name = "a", .chunks = 3, .queue_capacity = UINT32_MAX, .actions = {}});
  snapshot.worker_starts["p"] = 2;
  snapshot.worker_exits[{"p", "boot timeout"}] = 1;
  return snapshot;
}

TEST(RenderMetricsTest, EveryPlaceIsOneSeriesWhileAWorkerIsReplaced) {
  const std::vector<std::string> lines = Lines(RenderMetrics(SampleSnapshot(), {}));
  EXPECT_THAT(lines, Contains("dirty_worker_resident_memory_bytes{pool=\"p\",index=\"0\"} 300"));
  EXPECT_THAT(lines, Contains("dirty_worker_cpu_seconds_total{pool=\"p\",index=\"0\"} 5"));
  EXPECT_THAT(lines, Contains("dirty_slots{pool=\"p\"} 4"));
  EXPECT_THAT(lines, Contains("dirty_slots_busy{pool=\"p\"} 2"));
  EXPECT_THAT(lines, Contains("dirty_workers{pool=\"p\",state=\"draining\"} 1"));
  EXPECT_THAT(lines, Contains("dirty_workers{pool=\"p\",state=\"starting\"} 0"));
  EXPECT_THAT(lines, Contains("dirty_pool_workers_desired{pool=\"p\"} 2"));
}

TEST(RenderMetricsTest, WhatHasNotHappenedIsZero) {
  const std::vector<std::string> lines = Lines(RenderMetrics(SampleSnapshot(), {}));
  EXPECT_THAT(lines, Contains("dirty_calls_total{app=\"a\",outcome=\"queue_full\"} 7"));
  EXPECT_THAT(lines, Contains("dirty_calls_total{app=\"a\",outcome=\"ok\"} 0"));
  EXPECT_THAT(lines, Not(Contains(HasSubstr("outcome=\"received\""))));
  EXPECT_THAT(lines, Contains("dirty_worker_exits_total{pool=\"p\",reason=\"boot_timeout\"} 1"));
  EXPECT_THAT(lines, Contains("dirty_worker_exits_total{pool=\"p\",reason=\"out_of_memory\"} 0"));
  EXPECT_THAT(lines, Contains("dirty_queue_capacity{app=\"a\"} +Inf"));
  EXPECT_THAT(lines, Contains("dirty_app_state{app=\"a\",state=\"backoff\"} 1"));
  EXPECT_THAT(lines, Contains("dirty_app_state{app=\"a\",state=\"ready\"} 0"));
  EXPECT_THAT(lines, Contains("dirty_state{state=\"running\"} 1"));
  EXPECT_THAT(lines, Contains("dirty_build_info{version=\"1.2.3\"} 1"));
}

}  // namespace
}  // namespace dirty
