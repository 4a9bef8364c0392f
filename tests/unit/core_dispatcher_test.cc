#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "server/dispatch/proto_time.h"
#include "tests/unit/core_fakes.h"

namespace dirty {
namespace {

using ::testing::HasSubstr;

class DispatcherTest : public ::testing::Test, protected Dispatcher::Events {
 protected:
  DispatcherTest() { Configure({TestApp("a"), TestApp("b")}); }

  void Configure(std::vector<AppSettings> apps) { dispatcher_.Configure({TestPool("p", 1, std::move(apps))}, 1 << 20); }

  Admission Submit(FakeCaller& caller, const std::string& app = "a",
                   absl::Duration timeout = absl::InfiniteDuration()) {
    Submission submission = MakeSubmission(caller, app);
    if (timeout != absl::InfiniteDuration()) ToProto(timeout, submission.request->mutable_timeout());
    return dispatcher_.Submit(std::move(submission));
  }

  FakePort* AddWorker(WorkerId id, std::vector<std::string> apps = {"a", "b"}, uint32_t slots = 1) {
    ports_.push_back(std::make_unique<FakePort>());
    dispatcher_.AddWorker(id, slots, apps, ports_.back().get());
    return ports_.back().get();
  }

  void Done(WorkerId worker, CallNumber call, std::string result = "1") {
    v1::CallDone done;
    done.set_call(call);
    done.mutable_response()->set_result(std::move(result));
    dispatcher_.OnCallDone(worker, done);
  }

  v1::AppStatus Status(std::string app = "a") {
    v1::AppStatus status;
    status.set_name(std::move(app));
    dispatcher_.Describe(status);
    return status;
  }

  // Dispatcher::Events
  void OnWorkerIdle(WorkerId worker) override { idle_.insert(worker); }
  void OnSlotFree(WorkerId, uint64_t) override {}
  void OnCallStuck(WorkerId worker, CallNumber, const std::string& what) override {
    stuck_.insert(worker);
    stuck_what_ = what;
  }
  void OnAllCallsEnded() override { ++all_ended_; }
  void OnCallRecord(const CallRecord&) override { ++records_; }

  FakeTime time_;
  Dispatcher dispatcher_{time_.timers, *this, {.id_prefix = "x-"}};
  std::vector<std::unique_ptr<FakePort>> ports_;
  std::set<WorkerId> idle_;
  std::set<WorkerId> stuck_;
  std::string stuck_what_;
  int all_ended_ = 0;
  int records_ = 0;
};

TEST_F(DispatcherTest, AFreeSlotTakesACallAtOnceAndItsAnswerComesBack) {
  FakePort* worker = AddWorker(7);
  FakeCaller caller;
  Admission admission = Submit(caller);
  ASSERT_EQ(worker->started.size(), 1u);
  EXPECT_EQ(worker->started[0]->call_id(), absl::StrCat("x-", admission.call));
  EXPECT_EQ(worker->started[0]->request().action(), "act");
  time_.Advance(absl::Seconds(3));
  Done(7, admission.call, "[42]");
  ASSERT_TRUE(caller.ok());
  EXPECT_EQ(caller.outcome.response->result(), "[42]");
  EXPECT_EQ(caller.outcome.response->worker_id(), 7u);
  EXPECT_EQ(FromProto(caller.outcome.response->run_time()), absl::Seconds(3));
  EXPECT_EQ(Status().counters().ok(), 1u);
}

TEST_F(DispatcherTest, TextsAreCutBetweenTwoCharacters) {
  const auto repeated = [](int count) {
    std::string text = "x";
    for (int i = 0; i < count; ++i) text += "\u00E9";
    return text;
  };
  FakePort* worker = AddWorker(1);
  FakeCaller caller;
  errors::ErrorPtr refused = Submit(caller, repeated(200)).refused;
  EXPECT_THAT(refused->message(), HasSubstr(absl::StrCat("no app \"", repeated(63), "\" is")));
  EXPECT_EQ(refused->app(), repeated(127));

  Submission submission = MakeSubmission(caller);
  submission.request->set_action(repeated(200));
  submission.request->set_request_id(repeated(64));
  EXPECT_EQ(dispatcher_.Refuse(submission, errors::SessionFull(1))->action(), repeated(127));
  CallNumber call = dispatcher_.Submit(std::move(submission)).call;
  v1::WorkerStatus status;
  status.set_id(1);
  dispatcher_.Describe(status);
  ASSERT_EQ(status.running_size(), 1);
  EXPECT_EQ(status.running(0).request_id(), repeated(63));
  EXPECT_EQ(status.running(0).action(), repeated(127));
  EXPECT_EQ(worker->started[0]->request().action(), repeated(200)) << "the app gets all of it";
  dispatcher_.CancelByCaller(call);
  EXPECT_EQ(caller.outcome.error->action(), repeated(127));
}

TEST_F(DispatcherTest, ATraceparentThatIsNoneIsDropped) {
  const auto passed = [&](const std::string& traceparent) {
    FakePort* worker = AddWorker(static_cast<WorkerId>(ports_.size() + 1), {"a"});
    FakeCaller caller;
    Submission submission = MakeSubmission(caller);
    submission.traceparent = traceparent;
    dispatcher_.Abandon(dispatcher_.Submit(std::move(submission)).call);
    return worker->started.at(0)->traceparent();
  };
  const std::string whole = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  EXPECT_EQ(passed(whole), whole);
  EXPECT_EQ(passed(std::string(55, '0')), "");
  EXPECT_EQ(passed("00-\xE9"), "") << "its worker could not parse it";
}

TEST_F(DispatcherTest, AResultFarAboveTheLimitIsTooLarge) {
  constexpr size_t kLimit = 1 << 20;
  AddWorker(1);
  FakeCaller large, huge, failed;
  Done(1, Submit(large).call, std::string(kLimit + (kLimit / 2), 'x'));
  EXPECT_TRUE(large.ok()) << "workers count otherwise";
  Done(1, Submit(huge).call, std::string(3 * kLimit, 'x'));
  ASSERT_EQ(huge.reason(), v1::REASON_TOO_LARGE);
  EXPECT_THAT(huge.outcome.error->message(), HasSubstr("the result has 3145"));
  v1::CallDone done;
  done.set_call(Submit(failed).call);
  done.mutable_error()->set_traceback(std::string(3 * kLimit, 'x'));
  dispatcher_.OnCallDone(1, done);
  ASSERT_EQ(failed.reason(), v1::REASON_TOO_LARGE);
  EXPECT_EQ(failed.outcome.error->traceback(), "");
  EXPECT_EQ(Status().counters().too_large(), 2u);
  EXPECT_EQ(Status().running(), 0u);
}

TEST_F(DispatcherTest, WaitsUntilAWorkerComes) {
  FakeCaller caller;
  Submit(caller);
  EXPECT_EQ(Status().queued(), 1u);
  FakePort* worker = AddWorker(1);
  EXPECT_EQ(worker->started.size(), 1u);
  EXPECT_EQ(Status().queued(), 0u);
  EXPECT_EQ(Status().running(), 1u);
}

TEST_F(DispatcherTest, NothingIsPushedToABusyWorker) {
  FakePort* one = AddWorker(1);
  FakePort* two = AddWorker(2);
  FakeCaller callers[3];
  Submit(callers[0]);
  Submit(callers[1]);
  EXPECT_EQ(one->started.size(), 1u);
  EXPECT_EQ(two->started.size(), 1u);
  Admission third = Submit(callers[2]);
  EXPECT_EQ(Status().queued(), 1u);
  Done(2, two->started[0]->call());
  EXPECT_EQ(two->started.back()->call(), third.call);
}

TEST_F(DispatcherTest, TheLongestWaitingHeadOfAllAppsGoesFirst) {
  FakePort* worker = AddWorker(1);
  FakeCaller callers[5];
  CallNumber first = Submit(callers[0], "a").call;
  CallNumber b1 = Submit(callers[1], "b").call;
  CallNumber a1 = Submit(callers[2], "a").call;
  CallNumber b2 = Submit(callers[3], "b").call;
  Done(1, first);
  EXPECT_EQ(worker->started.back()->call(), b1);
  Done(1, b1);
  EXPECT_EQ(worker->started.back()->call(), a1);
  Done(1, a1);
  EXPECT_EQ(worker->started.back()->call(), b2);
}

TEST_F(DispatcherTest, AWorkerGetsOnlyItsApps) {
  FakePort* worker = AddWorker(1, {"b"});
  FakeCaller caller;
  Submit(caller, "a");
  EXPECT_TRUE(worker->started.empty());
}

TEST_F(DispatcherTest, RefusesWhatCannotBeCalled) {
  FakeCaller caller;
  EXPECT_EQ(Submit(caller, "c").refused->reason(), v1::REASON_APP_NOT_FOUND);
  EXPECT_EQ(Submit(caller, "").refused->reason(), v1::REASON_INVALID_REQUEST);
  EXPECT_EQ(Submit(caller, "a", absl::ZeroDuration()).refused->reason(), v1::REASON_INVALID_REQUEST);
  dispatcher_.SetAvailable("a", false, "workers is 0");
  Admission refused = Submit(caller, "a");
  EXPECT_EQ(refused.refused->reason(), v1::REASON_NO_WORKERS);
  EXPECT_THAT(refused.refused->message(), HasSubstr("workers is 0"));
  EXPECT_EQ(caller.outcomes, 0);
  EXPECT_EQ(Status().counters().received(), 2u);
  EXPECT_EQ(Status().counters().invalid_request(), 1u);
  EXPECT_EQ(Status().counters().no_workers(), 1u);
}

TEST_F(DispatcherTest, RefusesARequestThatIsTooLarge) {
  AddWorker(1);
  FakeCaller caller;
  Submission submission = MakeSubmission(caller);
  submission.request->add_attachments(std::string(1 << 20, 'x'));
  EXPECT_EQ(dispatcher_.Submit(std::move(submission)).refused->reason(), v1::REASON_TOO_LARGE);
}

TEST_F(DispatcherTest, UnavailableAppsFailTheCallsThatWait) {
  FakeCaller caller;
  Submit(caller);
  dispatcher_.SetAvailable("a", false, "init raised");
  EXPECT_EQ(caller.reason(), v1::REASON_NO_WORKERS);
  EXPECT_EQ(Status().queued(), 0u);
}

TEST_F(DispatcherTest, QueueOfTenAndOneSlotTakeElevenOfFifty) {
  AppSettings app = TestApp("a");
  app.limits.queue_size = 10;
  Configure({app});
  AddWorker(1, {"a"});
  std::vector<FakeCaller> callers(50);
  int refused = 0;
  for (FakeCaller& caller : callers) {
    Admission admission = Submit(caller);
    if (admission.refused == nullptr) continue;
    ++refused;
    EXPECT_EQ(admission.refused->reason(), v1::REASON_QUEUE_FULL);
    EXPECT_GT(FromProto(admission.refused->retry_delay()), absl::ZeroDuration());
  }
  EXPECT_EQ(refused, 39);
}

TEST_F(DispatcherTest, QueueTimeoutSaysWhyNothingWasFree) {
  FakePort* worker = AddWorker(1);
  FakeCaller running, waiting;
  Submit(running, "b");
  Submit(waiting, "a");
  time_.Advance(absl::Seconds(60));
  EXPECT_EQ(waiting.reason(), v1::REASON_QUEUE_TIMEOUT);
  EXPECT_THAT(waiting.outcome.error->message(), HasSubstr("the only slot is busy"));
  EXPECT_THAT(waiting.outcome.error->message(), HasSubstr("b act"));
  Done(1, worker->started[0]->call());
  EXPECT_EQ(worker->started.size(), 1u);
}

TEST_F(DispatcherTest, TheCallersTimeoutCoversWaitingAndRunning) {
  FakeCaller waits, runs;
  Submit(waits, "a", absl::Seconds(2));
  Submit(runs, "a", absl::Seconds(5));
  time_.Advance(absl::Seconds(2));
  EXPECT_EQ(waits.reason(), v1::REASON_QUEUE_TIMEOUT);
  FakePort* worker = AddWorker(1);
  EXPECT_EQ(FromProto(worker->started[0]->time_left()), absl::Seconds(3));
  time_.Advance(absl::Seconds(3));
  EXPECT_EQ(runs.reason(), v1::REASON_TIMEOUT);
}

TEST_F(DispatcherTest, ATimeoutAnswersAtOnceAndHoldsTheSlotUntilTheWorkerIsKilled) {
  FakePort* worker = AddWorker(1);
  FakeCaller slow, next;
  CallNumber call = Submit(slow).call;
  time_.Advance(absl::Seconds(290));
  Submit(next);
  time_.Advance(absl::Seconds(10));
  EXPECT_EQ(slow.reason(), v1::REASON_TIMEOUT);
  ASSERT_EQ(worker->cancelled.size(), 1u);
  EXPECT_EQ(worker->cancelled[0], std::make_pair(call, v1::CANCEL_REASON_TIMEOUT));
  EXPECT_EQ(worker->started.size(), 1u);
  EXPECT_TRUE(stuck_.empty());
  time_.Advance(absl::Seconds(5));
  EXPECT_TRUE(stuck_.contains(1));
  EXPECT_THAT(stuck_what_, HasSubstr("a act"));
  dispatcher_.LoseWorker(1, "was killed", {});
  EXPECT_EQ(slow.outcomes, 1);
  EXPECT_FALSE(next.done());
  FakePort* replacement = AddWorker(2);
  EXPECT_EQ(replacement->started.size(), 1u);
}

TEST_F(DispatcherTest, AWorkerThatStopsInTimeIsNotKilled) {
  FakePort* worker = AddWorker(1);
  FakeCaller slow;
  CallNumber call = Submit(slow).call;
  time_.Advance(absl::Seconds(300));
  Done(1, call);
  time_.Advance(absl::Seconds(60));
  EXPECT_TRUE(stuck_.empty());
  FakeCaller next;
  Submit(next);
  EXPECT_EQ(worker->started.size(), 2u);
  EXPECT_EQ(slow.outcomes, 1);
}

TEST_F(DispatcherTest, AClientThatLeavesDropsItsQueuedCall) {
  FakeCaller caller;
  CallNumber call = Submit(caller).call;
  dispatcher_.Abandon(call);
  EXPECT_EQ(Status().queued(), 0u);
  EXPECT_EQ(Status().counters().cancelled(), 1u);
  EXPECT_EQ(caller.outcomes, 0);
  EXPECT_TRUE(AddWorker(1)->started.empty());
}

TEST_F(DispatcherTest, AClientThatLeavesARunningCallCostsNobodyAWorker) {
  FakePort* worker = AddWorker(1);
  FakeCaller caller, next;
  CallNumber call = Submit(caller).call;
  Submit(next);
  dispatcher_.Abandon(call);
  dispatcher_.Abandon(call);
  ASSERT_EQ(worker->cancelled.size(), 1u);
  EXPECT_EQ(worker->cancelled[0].second, v1::CANCEL_REASON_CLIENT);
  EXPECT_EQ(worker->started.size(), 1u);
  time_.Advance(absl::Seconds(30));
  EXPECT_TRUE(stuck_.empty());
  Done(1, call);
  EXPECT_EQ(worker->started.size(), 2u);
  EXPECT_EQ(Status().counters().cancelled(), 1u);
  EXPECT_EQ(Status().counters().ok(), 0u);
}

TEST_F(DispatcherTest, AnAbandonedCallThatRunsOnIsKilledAfterItsOwnLimit) {
  AddWorker(1);
  FakeCaller caller;
  dispatcher_.Abandon(Submit(caller).call);
  time_.Advance(absl::Seconds(304));
  EXPECT_TRUE(stuck_.empty());
  time_.Advance(absl::Seconds(1));
  EXPECT_TRUE(stuck_.contains(1));
  EXPECT_EQ(Status().counters().timeout(), 0u);
}

TEST_F(DispatcherTest, AnOperatorsCancelAnswersAndKillsWhatIgnoresIt) {
  FakePort* worker = AddWorker(1);
  FakeCaller running, queued;
  CallNumber call = Submit(running).call;
  CallNumber waits = Submit(queued).call;
  bool was_running = false;
  EXPECT_TRUE(dispatcher_.Cancel(absl::StrCat("x-", call), &was_running));
  EXPECT_TRUE(was_running);
  EXPECT_EQ(running.reason(), v1::REASON_CANCELLED);
  EXPECT_EQ(worker->cancelled[0].second, v1::CANCEL_REASON_OPERATOR);
  EXPECT_TRUE(dispatcher_.Cancel(absl::StrCat("x-", waits), &was_running));
  EXPECT_FALSE(was_running);
  EXPECT_EQ(queued.reason(), v1::REASON_CANCELLED);
  EXPECT_FALSE(dispatcher_.Cancel("x-999", nullptr));
  EXPECT_FALSE(dispatcher_.Cancel("nonsense", nullptr));
  time_.Advance(absl::Seconds(5));
  EXPECT_TRUE(stuck_.contains(1));
}

TEST_F(DispatcherTest, OnlyWhatRunsIsLostWithAWorker) {
  AddWorker(1);
  FakeCaller running, waiting[2];
  Submit(running);
  Submit(waiting[0]);
  Submit(waiting[1]);
  v1::Error details;
  details.set_signal("SIGKILL");
  details.add_stderr_tail("last words");
  dispatcher_.LoseWorker(1, "was killed by SIGKILL", details);
  EXPECT_EQ(running.reason(), v1::REASON_WORKER_LOST);
  EXPECT_EQ(running.outcome.error->signal(), "SIGKILL");
  EXPECT_EQ(running.outcome.error->stderr_tail(0), "last words");
  EXPECT_EQ(running.outcome.error->worker_id(), 1u);
  FakePort* worker = AddWorker(2);
  Done(2, worker->started[0]->call());
  Done(2, worker->started[1]->call());
  EXPECT_TRUE(waiting[0].ok());
  EXPECT_TRUE(waiting[1].ok());
}

TEST_F(DispatcherTest, ADrainingWorkerFinishesAndTakesNothingNew) {
  FakePort* worker = AddWorker(1);
  FakeCaller running, waiting;
  CallNumber call = Submit(running).call;
  dispatcher_.DrainWorker(1);
  Submit(waiting);
  time_.Settle();
  EXPECT_TRUE(idle_.empty());
  Done(1, call);
  EXPECT_TRUE(running.ok());
  time_.Settle();
  EXPECT_TRUE(idle_.contains(1));
  EXPECT_EQ(worker->started.size(), 1u);
  EXPECT_EQ(Status().queued(), 1u);
}

TEST_F(DispatcherTest, AHostileWorkerCannotAnswerTwiceOrForAnother) {
  FakePort* one = AddWorker(1);
  AddWorker(2);
  FakeCaller caller;
  CallNumber call = Submit(caller).call;
  ASSERT_EQ(one->started.size(), 1u);
  Done(2, call);
  Done(1, 999);
  EXPECT_FALSE(caller.done());
  Done(1, call);
  Done(1, call);
  EXPECT_EQ(caller.outcomes, 1);
  EXPECT_EQ(Status().counters().ok(), 1u);
}

TEST_F(DispatcherTest, AWorkersErrorIsTheAppsUnlessItIsOneOfTheRuntimes) {
  AddWorker(1);
  struct Row {
    v1::Reason sent;
    v1::Reason received;
  };
  for (Row row :
       {Row{v1::REASON_APP_ERROR, v1::REASON_APP_ERROR}, Row{v1::REASON_INVALID_REQUEST, v1::REASON_INVALID_REQUEST},
        Row{v1::REASON_TOO_LARGE, v1::REASON_TOO_LARGE}, Row{v1::REASON_CANCELLED, v1::REASON_APP_ERROR},
        Row{v1::REASON_QUEUE_FULL, v1::REASON_APP_ERROR}, Row{v1::REASON_UNSPECIFIED, v1::REASON_APP_ERROR}}) {
    FakeCaller caller;
    v1::CallDone done;
    done.set_call(Submit(caller).call);
    done.mutable_error()->set_reason(row.sent);
    dispatcher_.OnCallDone(1, done);
    EXPECT_EQ(caller.reason(), row.received) << row.sent;
  }
}

TEST_F(DispatcherTest, ChunksReachTheReaderAndCreditsTheWorker) {
  FakePort* worker = AddWorker(1);
  FakeCaller caller;
  Submission submission = MakeSubmission(caller);
  submission.stream = true;
  submission.credits = 3;
  CallNumber call = dispatcher_.Submit(std::move(submission)).call;
  EXPECT_TRUE(worker->started[0]->stream());
  EXPECT_EQ(worker->started[0]->credits(), 3u);
  v1::CallChunk chunk;
  chunk.set_call(call);
  chunk.mutable_chunk()->set_value("1");
  dispatcher_.OnCallChunk(1, chunk);
  dispatcher_.Credit(call, 1);
  EXPECT_EQ(caller.chunks, std::vector<std::string>{"1"});
  EXPECT_EQ(worker->credits[call], 1u);
  dispatcher_.Abandon(call);
  chunk.mutable_chunk()->set_value("2");
  dispatcher_.OnCallChunk(1, chunk);
  EXPECT_EQ(caller.chunks.size(), 1u);
}

TEST_F(DispatcherTest, ARemovedAppRunsWhatWaitsAndTakesNothingNew) {
  AddWorker(1);
  FakeCaller running, waiting, late;
  CallNumber call = Submit(running).call;
  Submit(waiting);
  Configure({TestApp("b")});
  EXPECT_EQ(Submit(late).refused->reason(), v1::REASON_APP_NOT_FOUND);
  Done(1, call);
  Done(1, ports_[0]->started[1]->call());
  EXPECT_TRUE(waiting.ok());
}

TEST_F(DispatcherTest, AnAliasDoesNotTakeTheImportPathAway) {
  AppSettings app = TestApp("libx.so:X");
  app.name = "x";
  Configure({app});
  FakePort* worker = AddWorker(1, {"x"});
  FakeCaller one, two;
  CallNumber call = Submit(one, "libx.so:X").call;
  EXPECT_EQ(worker->started[0]->request().app(), "x");
  Done(1, call);
  Submit(two, "x");
  EXPECT_EQ(worker->started.size(), 2u);
}

TEST_F(DispatcherTest, ShutdownRefusesTheNewAndTellsWhenTheOldHaveEnded) {
  AddWorker(1);
  FakeCaller running, waiting, late;
  CallNumber call = Submit(running).call;
  Submit(waiting);
  dispatcher_.CloseAdmission();
  EXPECT_EQ(Submit(late).refused->reason(), v1::REASON_SHUTTING_DOWN);
  Done(1, call);
  time_.Settle();
  EXPECT_EQ(all_ended_, 0);
  Done(1, ports_[0]->started[1]->call());
  time_.Settle();
  EXPECT_EQ(all_ended_, 1);
}

TEST_F(DispatcherTest, TheEndOfTheGraceTellsEveryCaller) {
  FakePort* worker = AddWorker(1);
  FakeCaller running, waiting;
  Submit(running);
  Submit(waiting);
  dispatcher_.CloseAdmission();
  dispatcher_.EndAllCalls();
  EXPECT_EQ(running.reason(), v1::REASON_WORKER_LOST);
  EXPECT_THAT(running.outcome.error->message(), HasSubstr("shut down"));
  EXPECT_EQ(waiting.reason(), v1::REASON_SHUTTING_DOWN);
  EXPECT_EQ(worker->cancelled[0].second, v1::CANCEL_REASON_SHUTDOWN);
  time_.Settle();
  EXPECT_EQ(all_ended_, 1);
}

// `a` is on its way out and has one worker left, which cannot be reached: nothing is lost on the way to it.
TEST_F(DispatcherTest, ARemovedAppThatComesBackIsNotLeftToTheWorkerThatDrains) {
  FakePort* old = AddWorker(1);
  FakeCaller callers[4];
  const CallNumber first = Submit(callers[0]).call;
  for (int i = 1; i < 3; ++i) Submit(callers[i]);
  Configure({TestApp("b")});
  dispatcher_.DrainWorker(1);
  Configure({TestApp("a"), TestApp("b")});
  EXPECT_EQ(Status().ready_workers(), 0u);
  Done(1, first);
  ASSERT_EQ(old->started.size(), 2u) << "as long as there is no other";
  FakePort* fresh = AddWorker(2);
  EXPECT_EQ(Status().ready_workers(), 1u);
  ASSERT_EQ(fresh->started.size(), 1u);
  Submit(callers[3]);
  Done(1, old->started[1]->call());
  time_.Settle();
  EXPECT_EQ(old->started.size(), 2u);
  EXPECT_TRUE(idle_.contains(1));
  Done(2, fresh->started[0]->call());
  Done(2, fresh->started[1]->call());
  for (FakeCaller& caller : callers) EXPECT_TRUE(caller.ok());
}

TEST_F(DispatcherTest, AWorkerThatIsCutOffTakesNotEvenTheLastCallsOfARemovedApp) {
  FakePort* worker = AddWorker(1, {"a"});
  FakeCaller running, waiting, late;
  Submit(running);
  Submit(waiting);
  dispatcher_.Configure({TestPool("p", 1, {TestApp("b")})}, 1 << 20, /*leaving=*/{"a"});
  dispatcher_.CutOffWorker(1);
  Done(1, worker->started[0]->call());
  Submit(late);
  EXPECT_EQ(worker->started.size(), 1u);
  dispatcher_.Configure({TestPool("p", 1, {TestApp("b")})}, 1 << 20);
  EXPECT_EQ(waiting.reason(), v1::REASON_APP_NOT_FOUND);
  EXPECT_EQ(late.reason(), v1::REASON_APP_NOT_FOUND);
}

// Random submits, answers, cancels, deaths and waits: each call has exactly one outcome, no slot is used twice, the
// counters always add up.
TEST_F(DispatcherTest, EveryCallHasExactlyOneOutcomeWhateverHappens) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    FakeTime time;
    Dispatcher dispatcher(time.timers, *this, {.id_prefix = "x-"});
    AppSettings a = TestApp("a"), b = TestApp("b");
    a.limits.queue_size = b.limits.queue_size = 20;
    dispatcher.Configure({TestPool("p", 1, {a, b})}, 1 << 20);
    std::mt19937 random(seed);
    struct Caller {
      FakeCaller listener;
      bool abandoned = false;
      CallNumber call = 0;
    };
    std::vector<std::unique_ptr<Caller>> callers;
    std::map<WorkerId, std::unique_ptr<FakePort>> workers;
    std::map<WorkerId, std::set<CallNumber>> on_worker;
    WorkerId next_worker = 1;
    auto track = [&] {
      for (auto& [id, port] : workers) {
        for (auto& start : port->started) {
          ASSERT_TRUE(on_worker[id].insert(start->call()).second);
        }
        port->started.clear();
        ASSERT_LE(on_worker[id].size(), 2u);
      }
    };
    for (int step = 0; step < 3000; ++step) {
      switch (random() % 8) {
        case 0:
        case 1:
        case 2: {
          callers.push_back(std::make_unique<Caller>());
          Submission submission = MakeSubmission(callers.back()->listener, random() % 2 == 0 ? "a" : "b");
          if (random() % 4 == 0) ToProto(absl::Seconds(1 + random() % 20), submission.request->mutable_timeout());
          callers.back()->call = dispatcher.Submit(std::move(submission)).call;
          if (callers.back()->call == 0) callers.pop_back();
          break;
        }
        case 3:
        case 4: {  // a worker answers
          if (workers.empty()) break;
          auto it = std::next(workers.begin(), static_cast<long>(random() % workers.size()));
          auto& calls = on_worker[it->first];
          if (calls.empty()) break;
          v1::CallDone done;
          done.set_call(*calls.begin());
          done.mutable_response()->set_result("1");
          calls.erase(calls.begin());
          dispatcher.OnCallDone(it->first, done);
          break;
        }
        case 5:
          if (!callers.empty()) {
            Caller& caller = *callers[random() % callers.size()];
            if (!caller.listener.done()) caller.abandoned = true;
            dispatcher.Abandon(caller.call);
          }
          break;
        case 6:
          if (workers.size() < 3 && random() % 2 == 0) {
            WorkerId id = next_worker++;
            workers[id] = std::make_unique<FakePort>();
            std::vector<std::string> apps = {"a"};
            if (random() % 2 == 0) apps.push_back("b");
            dispatcher.AddWorker(id, 2, apps, workers[id].get());
          } else if (!workers.empty() && random() % 4 == 0) {
            WorkerId id = workers.begin()->first;
            dispatcher.LoseWorker(id, "was killed", {});
            workers.erase(id);
            on_worker.erase(id);
          }
          break;
        case 7:
          time.Advance(absl::Milliseconds(random() % 3000));
          break;
      }
      track();
      if (HasFatalFailure()) return;
      for (const char* name : {"a", "b"}) {
        v1::AppStatus status;
        status.set_name(name);
        dispatcher.Describe(status);
        const v1::Counters& c = status.counters();
        ASSERT_EQ(c.received(), status.queued() + status.running() + c.ok() + c.queue_full() + c.queue_timeout() +
                                    c.timeout() + c.cancelled() + c.worker_lost());
        ASSERT_LE(status.queued(), 20u);
      }
    }
    dispatcher.CloseAdmission();
    dispatcher.EndAllCalls();
    for (auto& caller : callers) ASSERT_EQ(caller->listener.outcomes, caller->abandoned ? 0 : 1);
  }
}

}  // namespace
}  // namespace dirty
