// What calls take, give and say when they fail, against an arbiter in this process.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <stop_token>
#include <thread>
#include <tuple>
#include <vector>

#include "dirty/client.h"
#include "tests/unit/client_fixture.h"

namespace dirty::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

class ClientCall : public ClientTest, public ::testing::WithParamInterface<Way> {
 protected:
  ClientCall() : ClientTest(GetParam()) {}
};
DIRTY_EVERY_WAY(ClientCall);

// What only an RPC of its own can meet.
class ClientStatus : public ClientTest, public ::testing::WithParamInterface<Way> {
 protected:
  ClientStatus() : ClientTest(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Unary, ClientStatus, ::testing::Values(Way::kUnary, Way::kRefused), WayName());

TEST_P(ClientCall, CarriesEverythingBothWays) {
  Client client = Connect(FakeArbiter::Echo);
  ASSERT_TRUE(client.Execute("a", "connects").ok());
  const std::string photo(1 << 20, '\xff');
  Result result = client.Execute("a.so:A", "act", Json::array({Attachment(1), 5}), {{"size", 128}},
                                 {.timeout = 5900ms, .request_id = "r-9", .attachments = {"first", photo}});
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->result, Json({{"app", "a.so:A"},
                                  {"action", "act"},
                                  {"args", R"([{"$attachment":1},5])"},
                                  {"kwargs", R"({"size":128})"},
                                  {"timeout", 5},
                                  {"request_id", "r-9"}}));
  EXPECT_THAT(result->attachments, ElementsAre("first", photo));
  EXPECT_EQ(result->call_id, "c-1");
  EXPECT_EQ(result->worker_id, 7);
  EXPECT_EQ(result->queued_time, 1ms);
  EXPECT_EQ(result->run_time, 2s);
}

TEST_P(ClientCall, RawTextGoesThroughAsItIs) {
  Client client = Connect([](FakeCall&, const v1::ExecuteRequest& request, v1::ExecuteResponse& response) {
    response.set_result(request.args() + request.kwargs());
    return grpc::Status::OK;
  });
  RawResult result = client.ExecuteRaw("a.so:A", "act", "[ 1.50, not json", "{ }");
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->result, "[ 1.50, not json{ }");
}

// One row a reason: what the arbiter sends, and what its caller reads.
struct Row {
  v1::Reason wire;
  grpc::StatusCode code;
  Reason reason;
};

class ClientError : public ClientTest, public ::testing::WithParamInterface<std::tuple<Row, Way>> {
 protected:
  ClientError() : ClientTest(std::get<Way>(GetParam())) {}
};

TEST_P(ClientError, Decodes) {
  const Row& row = std::get<Row>(GetParam());
  v1::Error sent;
  sent.set_reason(row.wire);
  sent.set_message("what happened");
  sent.set_app("a.so:A");
  sent.set_action("act");
  sent.set_call_id("c-3");
  sent.set_worker_id(4);
  sent.set_exception_type("ValueError");
  sent.set_traceback("at the top\nat the bottom");
  sent.mutable_retry_delay()->set_nanos(250'000'000);
  sent.mutable_timeout()->set_seconds(9);
  sent.set_exit_code(3);
  sent.set_signal("SIGKILL");
  sent.add_stderr_tail("last words");
  Client client = Connect([&sent, &row](auto&&...) { return FakeArbiter::Refusal(row.code, sent); });
  for (const RawResult& result :
       {client.ExecuteRaw("a", "b", "", ""), client.ExecuteRawAsync("a", "b", "", "").Get()}) {
    ASSERT_FALSE(result.ok());
    const Error& error = result.error();
    EXPECT_EQ(error.reason, row.reason);
    EXPECT_EQ("REASON_" + std::string(ReasonName(error.reason)), v1::Reason_Name(row.wire));
    EXPECT_EQ(error.message, "what happened");
    EXPECT_EQ(error.app, "a.so:A");
    EXPECT_EQ(error.action, "act");
    EXPECT_EQ(error.call_id, "c-3");
    EXPECT_EQ(error.worker_id, 4);
    EXPECT_EQ(error.exception_type, "ValueError");
    EXPECT_EQ(error.traceback, "at the top\nat the bottom");
    EXPECT_EQ(error.retry_delay, 250ms);
    EXPECT_EQ(error.timeout, 9s);
    EXPECT_EQ(error.exit_code, 3);
    EXPECT_EQ(error.signal, "SIGKILL");
    EXPECT_THAT(error.stderr_tail, ElementsAre("last words"));
  }
  EXPECT_EQ(arbiter_->received(), 2) << "a failed call was sent again";
}

INSTANTIATE_TEST_SUITE_P(
    Reasons, ClientError,
    ::testing::Combine(
        ::testing::Values(Row{v1::REASON_INVALID_REQUEST, grpc::INVALID_ARGUMENT, Reason::kInvalidRequest},
                          Row{v1::REASON_APP_NOT_FOUND, grpc::NOT_FOUND, Reason::kAppNotFound},
                          Row{v1::REASON_NO_WORKERS, grpc::UNAVAILABLE, Reason::kNoWorkers},
                          Row{v1::REASON_QUEUE_FULL, grpc::RESOURCE_EXHAUSTED, Reason::kQueueFull},
                          Row{v1::REASON_QUEUE_TIMEOUT, grpc::DEADLINE_EXCEEDED, Reason::kQueueTimeout},
                          Row{v1::REASON_TIMEOUT, grpc::DEADLINE_EXCEEDED, Reason::kTimeout},
                          Row{v1::REASON_CANCELLED, grpc::CANCELLED, Reason::kCancelled},
                          Row{v1::REASON_APP_ERROR, grpc::UNKNOWN, Reason::kAppError},
                          Row{v1::REASON_WORKER_LOST, grpc::ABORTED, Reason::kWorkerLost},
                          Row{v1::REASON_TOO_LARGE, grpc::RESOURCE_EXHAUSTED, Reason::kTooLarge},
                          Row{v1::REASON_SHUTTING_DOWN, grpc::UNAVAILABLE, Reason::kShuttingDown},
                          Row{v1::REASON_PERMISSION_DENIED, grpc::PERMISSION_DENIED, Reason::kPermissionDenied}),
        kEveryWay),
    [](const auto& test) {
      return v1::Reason_Name(std::get<Row>(test.param).wire) + WayName().Of(std::get<Way>(test.param));
    });

TEST_P(ClientStatus, TransportRefusalsAreTranslated) {
  grpc::Status status;
  Client client = Connect([&status](auto&&...) { return status; });
  const std::vector<std::pair<grpc::StatusCode, Reason>> table = {
      {grpc::RESOURCE_EXHAUSTED, Reason::kTooLarge},       {grpc::UNAVAILABLE, Reason::kOutcomeUnknown},
      {grpc::DEADLINE_EXCEEDED, Reason::kTimeout},         {grpc::CANCELLED, Reason::kCancelled},
      {grpc::INTERNAL, Reason::kOutcomeUnknown},           {grpc::UNIMPLEMENTED, Reason::kUnknown},
      {grpc::PERMISSION_DENIED, Reason::kPermissionDenied}};
  for (const auto& [code, reason] : table) {
    status = grpc::Status(code, "said so");
    Result result = client.Execute("a", "b");
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().reason, reason) << code;
    EXPECT_EQ(result.error().app, "a");
    EXPECT_EQ(result.error().action, "b");
  }
  EXPECT_EQ(arbiter_->received(), static_cast<int>(table.size())) << "a refused call was sent again";
}

TEST_P(ClientStatus, TakesRetryInfoFromForeignDetails) {
  v1::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(3);
  v1::Error error;
  error.set_reason(v1::REASON_QUEUE_FULL);
  v1::RpcStatus details;
  details.add_details()->PackFrom(error);
  auto* any = details.add_details();
  any->set_type_url("type.googleapis.com/google.rpc.RetryInfo");
  any->set_value(retry.SerializeAsString());
  Client client =
      Connect([&](auto&&...) { return grpc::Status(grpc::RESOURCE_EXHAUSTED, "full", details.SerializeAsString()); });
  EXPECT_EQ(client.Execute("a", "b").error().retry_delay, 3s);
}

TEST_P(ClientCall, LargeDetailsArrive) {
  v1::Error sent;
  sent.set_reason(v1::REASON_APP_ERROR);
  sent.set_traceback(std::string(20'000, 't'));
  Client client = Connect([&sent](auto&&...) { return FakeArbiter::Refusal(grpc::UNKNOWN, sent); });
  EXPECT_EQ(client.Execute("a", "b").error().traceback, sent.traceback());
}

TEST_P(ClientCall, RefusesBeforeSending) {
  Client client = Connect(FakeArbiter::Echo);
  struct Case {
    Json args, kwargs;
    const char* message;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Case> cases = {
      {Json::array({Attachment(1)}), {}, "there are 1 attachments"},
      {Json::array({{{"deep", {Json::array({Attachment(7)})}}}}), {}, "there are 1 attachments"},
      {Json::array({{{"$attachment", "photo"}}}), {}, "holds \"photo\""},
      {Json::array({{{"$attachment", -1}}}), {}, "holds -1"},
      {{}, {{"x", {{"$attachment", 0.5}}}}, "kwargs: "},
      {{}, {{"$attachment", true}}, "holds true"},
      {Json::array({nan}), {}, "NaN"},
      {Json::array({Json::binary({1, 2})}), {}, "attachments"},
      {Json::array({"\xff"}), {}, "UTF-8"},
      {{{"a", 1}}, {}, "args is object, not an array"},
      {Json::array(), Json::array(), "kwargs is array, not an object"},
  };
  for (const Case& bad : cases) {
    Result result = client.Execute("a", "b", bad.args, bad.kwargs, {.attachments = {"one"}});
    ASSERT_FALSE(result.ok()) << bad.message;
    EXPECT_EQ(result.error().reason, Reason::kInvalidRequest);
    EXPECT_THAT(result.error().message, HasSubstr(bad.message));
  }
  EXPECT_EQ(client.Execute("a", "b", {}, {}, {.timeout = 0s}).error().reason, Reason::kInvalidRequest);
  EXPECT_EQ(arbiter_->received(), 0);
  // One more key makes it data.
  EXPECT_TRUE(client.Execute("a", "b", Json::array({{{"$attachment", "x"}, {"y", 1}}})).ok());
}

TEST_P(ClientCall, TooLargeIsRefusedBeforeSending) {
  Client client = Connect(FakeArbiter::Echo, {.max_message_size = 1000});
  Result result = client.Execute("a", "b", {}, {}, {.attachments = {std::string(1000, 'x')}});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().reason, Reason::kTooLarge);
  EXPECT_THAT(result.error().message, HasSubstr("max_message_size is 1000"));
  EXPECT_EQ(arbiter_->received(), 0);
  EXPECT_TRUE(client.Execute("a", "b", {}, {}, {.attachments = {std::string(900, 'x')}}).ok());
}

TEST_P(ClientCall, AnswersAboveGrpcsDefaultLimitArrive) {
  Client client = Connect(FakeArbiter::Echo);
  const std::string large(8 << 20, 'x');
  Result result = client.Execute("a", "b", {}, {}, {.attachments = {large}});
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->attachments[0], large);
}

TEST_P(ClientCall, ResultThatIsNotJsonIsAnError) {
  Client client = Connect([](FakeCall&, const v1::ExecuteRequest&, v1::ExecuteResponse& response) {
    response.set_result("{oops");
    return grpc::Status::OK;
  });
  Result result = client.Execute("a", "b");
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().message, HasSubstr("not JSON"));
  EXPECT_TRUE(client.ExecuteRaw("a", "b", "", "").ok());
}

TEST_P(ClientCall, ArbitersAnswerToAnOverrunWinsAgainstTheDeadline) {
  std::atomic<std::chrono::nanoseconds> sent;  // what was left of it
  Client client = Connect([&sent](FakeCall& context, const v1::ExecuteRequest& request, v1::ExecuteResponse&) {
    if (request.action() == "connects") return grpc::Status::OK;
    sent = std::chrono::nanoseconds(request.timeout().nanos());
    EXPECT_GT(context.deadline, std::chrono::system_clock::now() + 900ms);
    v1::Error error;
    error.set_reason(v1::REASON_QUEUE_TIMEOUT);
    *error.mutable_timeout() = request.timeout();
    return FakeArbiter::Refusal(grpc::DEADLINE_EXCEEDED, error);
  });
  ASSERT_TRUE(client.ExecuteRaw("a", "connects", "", "").ok());
  Result result = client.Execute("a", "b", {}, {}, {.timeout = 200ms});
  EXPECT_EQ(result.error().reason, Reason::kQueueTimeout);
  EXPECT_EQ(result.error().timeout, sent.load());
  EXPECT_GT(sent.load(), 50ms);
  EXPECT_LE(sent.load(), 200ms);
}

TEST_P(ClientCall, SilentArbiterRunsIntoTheDeadline) {
  Client client = Connect(FakeArbiter::Block);
  const auto start = std::chrono::steady_clock::now();
  Result result = client.Execute("a", "b", {}, {}, {.timeout = 50ms});
  EXPECT_EQ(result.error().reason, Reason::kTimeout);
  EXPECT_EQ(result.error().timeout, 50ms);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 1050ms);
}

TEST_P(ClientCall, StopCancelsACallThatRuns) {
  Client client = Connect(FakeArbiter::Block);
  std::stop_source stop;
  std::jthread canceller([&] {
    arbiter_->WaitForCalls(1);
    stop.request_stop();
  });
  Result result = client.Execute("a", "b", {}, {}, {.stop = stop.get_token()});
  EXPECT_EQ(result.error().reason, Reason::kCancelled);
}

TEST_P(ClientCall, StopBeforehandCancelsEveryKindOfCall) {
  Client client = Connect(FakeArbiter::Block);
  std::stop_source stop;
  stop.request_stop();
  const CallOptions options{.stop = stop.get_token()};
  EXPECT_EQ(client.Execute("a", "b", {}, {}, options).error().reason, Reason::kCancelled);
  EXPECT_EQ(client.ExecuteAsync("a", "b", {}, {}, options).Get().error().reason, Reason::kCancelled);
  Stream stream = client.ExecuteStream("a", "b", Json::array({0}), {}, options);
  EXPECT_FALSE(stream.Next());
  EXPECT_EQ(stream.error()->reason, Reason::kCancelled);
}

TEST_P(ClientCall, CancelEndsAnAsynchronousCall) {
  Client client = Connect(FakeArbiter::Block);
  Call call = client.ExecuteAsync("a", "b", {}, {});
  arbiter_->WaitForCalls(1);
  EXPECT_FALSE(call.WaitFor(0s));
  call.Cancel();
  EXPECT_EQ(call.Get().error().reason, Reason::kCancelled);
  call.Cancel();
}

TEST_P(ClientCall, StopEndsAnAsynchronousCall) {
  Client client = Connect(FakeArbiter::Block);
  std::stop_source stop;
  Call call = client.ExecuteAsync("a", "b", {}, {}, {.stop = stop.get_token()});
  arbiter_->WaitForCalls(1);
  stop.request_stop();
  EXPECT_EQ(call.Get().error().reason, Reason::kCancelled);
}

TEST_P(ClientCall, AsynchronousCallsRefuseBeforeSending) {
  Client client = Connect(FakeArbiter::Echo);
  EXPECT_EQ(client.ExecuteAsync("a", "b", Json::array({Attachment(0)}), {}).Get().error().reason,
            Reason::kInvalidRequest);
  EXPECT_EQ(client.ExecuteRawAsync("a", "b", "", "", {.timeout = -1s}).Get().error().reason, Reason::kInvalidRequest);
  EXPECT_EQ(arbiter_->received(), 0);
}

TEST_P(ClientCall, TheLastClientTakesItsCallsWithIt) {
  std::atomic<int> cancelled = 0;
  {
    Client shorter = Connect(FakeArbiter::Block);
    for (int i = 0; i < 10; ++i) {
      shorter.ExecuteAsync("a", "b", {}, {}, {}, [&cancelled](const Result& result) {
        cancelled += result.error().reason == Reason::kCancelled;
      });
    }
    arbiter_->WaitForCalls(1);
  }
  EXPECT_EQ(cancelled, 10);
}

TEST_P(ClientCall, ACallbackMayLetGoOfTheLastClient) {
  std::promise<void> done;
  auto client = std::make_unique<Client>(Connect(FakeArbiter::Echo));
  ASSERT_TRUE(client->Execute("a", "b").ok());
  std::promise<void> started;
  client->ExecuteAsync("a", "b", {}, {}, {}, [&](const Result& result) {
    EXPECT_TRUE(result.ok());
    started.get_future().wait();
    client = nullptr;
    done.set_value();
  });
  started.set_value();
  done.get_future().wait();
}

TEST_P(ClientCall, ACallbackMayStartTheNextCall) {
  Client client = Connect(FakeArbiter::Echo);
  std::promise<Result> second;
  client.ExecuteAsync("a", "first", {}, {}, {}, [&](const Result&) {
    client.ExecuteAsync("a", "second", {}, {}, {}, [&](Result result) { second.set_value(std::move(result)); });
  });
  EXPECT_EQ(second.get_future().get()->result["action"], "second");
}

TEST_P(ClientCall, StreamGivesItsValuesInOrder) {
  Client client = Connect([](auto&&...) { return grpc::Status::OK; });
  Stream stream = client.ExecuteStream("a", "b", Json::array({3}));
  for (int i = 0; i < 3; ++i) {
    std::optional<Chunk> chunk = stream.Next();
    ASSERT_TRUE(chunk);
    EXPECT_EQ(chunk->value, i);
    EXPECT_THAT(chunk->attachments, ElementsAre("bytes of " + std::to_string(i)));
  }
  EXPECT_FALSE(stream.Next());
  EXPECT_FALSE(stream.error());
  EXPECT_FALSE(stream.Next());
}

TEST_P(ClientCall, StreamsErrorComesAfterItsValues) {
  v1::Error sent;
  sent.set_reason(v1::REASON_APP_ERROR);
  Client client = Connect([&sent](auto&&...) { return FakeArbiter::Refusal(grpc::UNKNOWN, sent); });
  Stream stream = client.ExecuteStream("a", "b", Json::array({1}));
  EXPECT_TRUE(stream.NextRaw());
  EXPECT_FALSE(stream.error());
  EXPECT_FALSE(stream.NextRaw());
  ASSERT_TRUE(stream.error());
  EXPECT_EQ(stream.error()->reason, Reason::kAppError);
  EXPECT_EQ(stream.error()->action, "b");
}

TEST_P(ClientCall, LettingGoOfAStreamCancelsIt) {
  std::atomic<bool> cancelled = false;
  Client client = Connect([&](FakeCall& context, const auto& request, auto& response) {
    grpc::Status status = FakeArbiter::Block(context, request, response);
    cancelled = true;
    return status;
  });
  {
    Stream stream = client.ExecuteStream("a", "b", Json::array({1}));
    EXPECT_TRUE(stream.Next());
  }
  arbiter_->Stop();  // waits for the handler
  EXPECT_TRUE(cancelled);
}

TEST_P(ClientCall, SixteenThreadsGetTheirOwnAnswers) {
  Client client = Connect([](FakeCall&, const v1::ExecuteRequest& request, v1::ExecuteResponse& response) {
    response.set_result(request.args());
    return grpc::Status::OK;
  });
  constexpr int kThreads = 16, kCalls = 100;
  std::atomic<int> correct = 0;
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([client, thread, &correct] {
        for (int i = 0; i < kCalls; ++i) {
          const Json args = Json::array({thread, i});
          const Result result =
              i % 2 == 0 ? client.Execute("a", "b", args) : client.ExecuteAsync("a", "b", args, {}).Get();
          correct += result.ok() && result->result == args;
        }
      });
    }
  }
  EXPECT_EQ(correct, kThreads * kCalls);
  EXPECT_EQ(arbiter_->received(), kThreads * kCalls);
}

TEST_P(ClientCall, SuspendEndsWhatOutlastsItsPatienceAndResumeGoesOn) {
  Client client = Connect([](auto& context, const auto& request, auto& response) {
    return request.action() == "block" ? FakeArbiter::Block(context, request, response)
                                       : FakeArbiter::Echo(context, request, response);
  });
  RawCall asynchronous = client.ExecuteRawAsync("a", "block", "", "");
  std::future<RawResult> waiting =
      std::async(std::launch::async, [&] { return client.ExecuteRaw("a", "block", "", ""); });
  std::future<RawResult> asking = std::async(std::launch::async, [&] {
    return client.ExecuteRaw("a", "block", "", "", {.interrupted = [] { return false; }});
  });
  arbiter_->WaitForCalls(3);
  EXPECT_TRUE(client.Suspend(std::chrono::milliseconds(10)));
  EXPECT_EQ(asynchronous.Get().error().reason, Reason::kOutcomeUnknown);
  EXPECT_EQ(waiting.get().error().reason, Reason::kOutcomeUnknown);
  EXPECT_EQ(asking.get().error().reason, Reason::kOutcomeUnknown);
  std::future<RawResult> next = std::async(std::launch::async, [&] { return client.ExecuteRaw("a", "b", "", ""); });
  EXPECT_EQ(next.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  client.Resume();
  EXPECT_TRUE(next.get().ok());
}

TEST_P(ClientCall, AWaitThatIsInterruptedCancelsItsCall) {
  Client client = Connect(FakeArbiter::Block);
  auto once_there = [&] { return arbiter_->received() > 0; };
  EXPECT_EQ(client.ExecuteRaw("a", "b", "", "", {.interrupted = once_there}).error().reason, Reason::kCancelled);
}

TEST(Outcome, ThrowsOnlyWhenAskedForWhatIsNotThere) {
  Outcome<int> failed(Error{.reason = Reason::kTimeout, .message = "too slow"});
  EXPECT_FALSE(failed.ok());
  try {
    failed.value();
    FAIL();
  } catch (const Exception& exception) {
    EXPECT_STREQ(exception.what(), "TIMEOUT: too slow");
    EXPECT_EQ(exception.error().reason, Reason::kTimeout);
  }
  EXPECT_EQ(Outcome<int>(3).value(), 3);
}

TEST(AttachmentNumber, IsOfReferencesOnly) {
  EXPECT_EQ(AttachmentNumber(Attachment(3)), 3u);
  EXPECT_EQ(AttachmentNumber({{"$attachment", 3}, {"x", 1}}), std::nullopt);
  EXPECT_EQ(AttachmentNumber({{"$attachment", "3"}}), std::nullopt);
  EXPECT_EQ(AttachmentNumber(3), std::nullopt);
}

}  // namespace
}  // namespace dirty::client
