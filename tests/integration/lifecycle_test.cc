// What becomes of calls and workers that misbehave: deadlines, cancellation, silence, apps that do not start.

#include <gmock/gmock.h>
#include <signal.h>

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/integration/harness.h"
#include "tests/integration/load.h"

namespace dirty::integration {
namespace {

using client::Json;
using client::Reason;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kSlow[] = "libfaults.so:Slow";

v1::ExecuteRequest Request(const std::string& app, const std::string& action, const Json& args) {
  v1::ExecuteRequest request;
  request.set_app(app);
  request.set_action(action);
  request.set_args(args.dump());
  return request;
}

// The id of the one call that runs.
std::string RunningCallId(Dirtyd& dirtyd) {
  std::string id;
  EXPECT_TRUE(WaitUntil([&] {
    const v1::StatusResponse status = dirtyd.Status();
    for (const v1::WorkerStatus& worker : status.workers()) {
      if (worker.running_size() == 1) id = worker.running(0).call_id();
    }
    return !id.empty();
  }));
  return id;
}

// --- Deadlines ---

TEST(Deadline, FreesTheWorkerFromACallThatIgnoresIt) {
  Dirtyd dirtyd({kSlow, kEcho, "--workers", "1", "--timeout", "2s", "--kill_after", "500ms"});
  auto stub = dirtyd.NewArbiterStub();
  v1::ExecuteResponse response;
  const absl::Time start = absl::Now();
  Context context;
  const grpc::Status late = stub->Execute(&context, Request(kSlow, "sleep_hard", {25}), &response);
  const absl::Duration took = absl::Now() - start;
  EXPECT_EQ(late.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED) << late.error_message();
  EXPECT_EQ(ErrorOf(late).reason(), v1::REASON_TIMEOUT);
  EXPECT_GE(took, absl::Milliseconds(1990));
  if (kMeasured) {
    EXPECT_LE(took, absl::Milliseconds(2300));
  }
  for (int i = 0; i < 4; ++i) {
    Context next;
    const grpc::Status status = stub->Execute(&next, Request(kEcho, "echo", {i}), &response);
    ASSERT_TRUE(status.ok()) << i << ": " << status.error_message();
    EXPECT_EQ(response.result(), absl::StrCat(i));
  }
  if (kMeasured) {
    EXPECT_LE(absl::Now() - start, absl::Seconds(8)) << "they waited for the call to end by itself";
  }
  EXPECT_THAT(dirtyd.process().err(), AllOf(HasSubstr("stacks of pid "), HasSubstr("libfaults.so(")));
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

// --- Cancellation ---

TEST(Cancel, ByAClientThatDisconnectsFreesAllItsQueuedCallsAtOnce) {
  Dirtyd dirtyd({kSlow});
  client::Client client = dirtyd.NewClient();
  const std::string release = dirtyd.folder() / "release", started = dirtyd.folder() / "started";
  client::Call held = client.ExecuteAsync(kSlow, "wait_for_file", Json::array({release, started}), Json::object());
  ASSERT_TRUE(WaitUntil([&] { return Exists(started); }));
  std::vector<std::unique_ptr<Process>> others;
  for (int i = 0; i < 5; ++i) others.push_back(std::make_unique<Process>(dirtyd.Ctl({"call", kSlow, "sleep", "1000"})));
  ASSERT_TRUE(dirtyd.WaitForQueued(kSlow, 5));
  for (const auto& other : others) other->Signal(SIGKILL);
  EXPECT_TRUE(dirtyd.WaitForQueued(kSlow, 0));
  EXPECT_EQ(dirtyd.App(kSlow).counters().cancelled(), 5u);
  EXPECT_FALSE(held.WaitFor(std::chrono::seconds(0)));
  Touch(release);
  EXPECT_TRUE(held.Get().ok());
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(Cancel, OfACooperativeCallFreesItsSlotWithin100Milliseconds) {
  Dirtyd dirtyd({kSlow});
  client::Client client = dirtyd.NewClient();
  absl::Duration longest;
  for (int i = 0; i < 10; ++i) {
    const std::string started = dirtyd.folder() / absl::StrCat("started", i);
    client::Call call = client.ExecuteAsync(kSlow, "wait_for_cancel", Json::array({0, started}), Json::object());
    ASSERT_TRUE(WaitUntil([&] { return Exists(started); }));
    const absl::Time start = absl::Now();
    call.Cancel();
    ASSERT_TRUE(client.Execute(kSlow, "sleep", Json::array({0})).ok());
    longest = std::max(longest, absl::Now() - start);
    EXPECT_EQ(call.Get().error().reason, Reason::kCancelled);
  }
  if (kMeasured) {
    EXPECT_LE(longest, absl::Milliseconds(100));
  }
  EXPECT_EQ(dirtyd.Status().exits_size(), 0);
  dirtyd.Stop(SIGTERM);
}

TEST(Cancel, ByAnOperatorEndsARunningCall) {
  Dirtyd dirtyd({kSlow, "--kill_after", "60s"});
  client::Client client = dirtyd.NewClient();
  client::Call call = client.ExecuteAsync(kSlow, "wait_for_cancel", Json::array({0}), Json::object());
  const std::string id = RunningCallId(dirtyd);
  const Ran ran = RunProgram(dirtyd.Ctl({"cancel", id}));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("running"));
  const client::Result result = call.Get();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().reason, Reason::kCancelled) << result.error().message;
  EXPECT_EQ(result.error().call_id, id);
  // Its token was set: the slot is free and the worker lives.
  ASSERT_TRUE(client.Execute(kSlow, "sleep", Json::array({0})).ok());
  EXPECT_EQ(dirtyd.Status().exits_size(), 0);
  const grpc::Status again = CancelCall(dirtyd, id);
  EXPECT_EQ(again.error_code(), grpc::StatusCode::NOT_FOUND) << again.error_message();
  EXPECT_EQ(CancelCall(dirtyd, "nonsense").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(CancelCall(dirtyd, "").error_code(), grpc::StatusCode::NOT_FOUND);
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(Cancel, ByAnOperatorOfACallThatIgnoresItCostsTheWorkerAfterKillAfter) {
  Dirtyd dirtyd({kSlow, kEcho, "--kill_after", "300ms"});
  client::Client client = dirtyd.NewClient();
  const std::string started = dirtyd.folder() / "started";
  client::Call call = client.ExecuteAsync(kSlow, "sleep_hard", Json::array({1000, started}), Json::object());
  ASSERT_TRUE(WaitUntil([&] { return Exists(started); }));
  bool was_running = false;
  const grpc::Status status = CancelCall(dirtyd, RunningCallId(dirtyd), &was_running);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(was_running);
  EXPECT_EQ(call.Get().error().reason, Reason::kCancelled);
  EXPECT_TRUE(client.Execute(kEcho, "pid").ok());
  const v1::StatusResponse after = dirtyd.Status();
  ASSERT_EQ(after.exits_size(), 1);
  EXPECT_THAT(dirtyd.process().err(), HasSubstr("stacks of pid "));
  dirtyd.Stop(SIGTERM);
}

// --- Silence ---

TEST(Heartbeat, FindsAStoppedWorkerAndReplacesIt) {
  Dirtyd dirtyd({kSlow, kEcho, "--heartbeat_interval", kSanitized ? "1s" : "200ms", "--heartbeat_timeout",
                 kSanitized ? "10s" : "1s"});
  client::Client client = dirtyd.NewClient();
  const std::string started = dirtyd.folder() / "started";
  client::Call running = client.ExecuteAsync(kSlow, "sleep", Json::array({1000, started}), Json::object());
  ASSERT_TRUE(WaitUntil([&] { return Exists(started); }));
  const v1::WorkerStatus worker = dirtyd.ReadyWorkers().at(0);
  kill(worker.pid(), SIGSTOP);
  std::vector<client::Call> waiting;
  for (int i = 0; i < 5; ++i) waiting.push_back(client.ExecuteAsync(kEcho, "pid", Json::array(), Json::object()));
  const client::Result lost = running.Get();
  ASSERT_FALSE(lost.ok());
  EXPECT_EQ(lost.error().reason, Reason::kWorkerLost) << lost.error().message;
  EXPECT_EQ(lost.error().worker_id, worker.id());
  for (client::Call& call : waiting) {
    const client::Result result = call.Get();
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_NE(result->result, worker.pid());
  }
  EXPECT_EQ(ProcessState(worker.pid()), '\0');
  const v1::StatusResponse status = dirtyd.Status();
  ASSERT_EQ(status.exits_size(), 1);
  EXPECT_EQ(status.exits(0).reason(), "heartbeat");
  EXPECT_EQ(status.exits(0).worker_id(), worker.id());
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

// --- Apps that do not start ---

// The median of many calls.
absl::Duration Latency(const client::Client& client, const std::string& app) {
  std::vector<absl::Duration> times;
  for (int i = 0; i < 300; ++i) {
    const absl::Time start = absl::Now();
    const client::Result result = client.Execute(app, "version");
    EXPECT_TRUE(result.ok()) << result.error().message;
    times.push_back(absl::Now() - start);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

int Health(const Dirtyd& dirtyd, const std::string& app) { return RunProgram(dirtyd.Ctl({"health", app})).code; }

// Both ways: with workers of its own, and on the workers of the good one.
class BadApp : public testing::TestWithParam<bool> {};

TEST_P(BadApp, IsGivenUpSoonHarmsNobodyAndIsHealedByAReload) {
  Deployment deployment;
  deployment.Deploy(kOther, "raise");
  const std::string other = GetParam() ? absl::StrCat("pools:\n  - {name: own, apps: ['", kOther, "']}\n")
                                       : absl::StrCat("  - ", kOther, "\n");
  const absl::Time start = absl::Now();
  Dirtyd dirtyd({}, deployment.Options(absl::StrCat("workers: 2\napps:\n  - ", kVersioned, "\n", other)));
  client::Client client = dirtyd.NewClient();
  {
    Load load(1, [&] {
      const client::Result result = client.Execute(kVersioned, "version");
      return result.ok() ? "" : result.error().message;
    });
    ASSERT_TRUE(WaitUntil([&] { return dirtyd.App(kOther).state() == v1::AppStatus::FAILED; }));
  }
  EXPECT_LE(deployment.Boots(kOther), 8u);
  EXPECT_GE(deployment.Boots(kOther), 5u);
  if (kMeasured) {
    EXPECT_LE(absl::Now() - start, absl::Seconds(10));
  }
  EXPECT_THAT(dirtyd.App(kOther).reason(), HasSubstr("version raise has no model"));
  EXPECT_EQ(dirtyd.App(kVersioned).state(), v1::AppStatus::READY);
  const absl::Time asked = absl::Now();
  const client::Result refused = client.Execute(kOther, "version");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().reason, Reason::kNoWorkers);
  EXPECT_THAT(refused.error().message, HasSubstr("version raise has no model"));
  if (kMeasured) {
    EXPECT_LE(absl::Now() - asked, absl::Milliseconds(100));
  }
  EXPECT_EQ(Health(dirtyd, kOther), 1);
  EXPECT_EQ(Health(dirtyd, kVersioned), 0);
  const absl::Duration beside_it = Latency(client, kVersioned);
  const size_t boots = deployment.Boots(kOther);
  EXPECT_LE(boots, 8u);

  deployment.Deploy(kOther, "2");
  const grpc::Status healed = Reload(dirtyd);
  EXPECT_TRUE(healed.ok()) << healed.error_message();
  EXPECT_EQ(dirtyd.App(kOther).state(), v1::AppStatus::READY);
  const client::Result result = client.Execute(kOther, "version");
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->result, "2");
  EXPECT_EQ(Health(dirtyd, kOther), 0);
  if (kMeasured) {
    EXPECT_LE(beside_it, 2 * Latency(client, kVersioned) + absl::Microseconds(200));
  }
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

INSTANTIATE_TEST_SUITE_P(, BadApp, testing::Bool(), [](const auto& test) { return test.param ? "Alone" : "Sharing"; });

}  // namespace
}  // namespace dirty::integration
