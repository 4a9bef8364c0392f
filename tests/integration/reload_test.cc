// Workers that are replaced while callers go on: reloads, scaling, restarts, recycling. Nobody may notice.

#include <gmock/gmock.h>
#include <signal.h>

#include <algorithm>
#include <set>

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

// A call that is wrong if it fails, or runs an older version than `oldest` was when it was made.
std::function<std::string()> VersionCall(const client::Client& client, const std::atomic<int>& oldest) {
  return [&client, &oldest]() -> std::string {
    const int expected = oldest;
    const client::Result result = client.Execute(kVersioned, "version");
    if (!result.ok()) return result.error().message;
    const int version = std::stoi(result->result.get<std::string>());
    return version >= expected ? "" : absl::StrCat("version ", version, " after ", expected, " was reloaded");
  };
}

std::set<uint32_t> Ids(const std::vector<v1::WorkerStatus>& workers) {
  std::set<uint32_t> ids;
  for (const v1::WorkerStatus& worker : workers) ids.insert(worker.id());
  return ids;
}

// --- Under load ---

TEST(UnderLoad, ReloadingScalingAndRecyclingLoseNoCall) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 2")));
  client::Client client = dirtyd.NewClient();
  std::atomic<int> oldest{1};
  Load load(8, VersionCall(client, oldest));
  load.WaitForMore(50);
  for (int version = 2; version <= 11; ++version) {
    deployment.Deploy(kVersioned, absl::StrCat(version));
    v1::ReloadResponse response;
    const grpc::Status status = Reload(dirtyd, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.generation(), static_cast<uint64_t>(version));
    oldest = version;
    load.WaitForMore(50);
  }
  v1::StatusResponse status = dirtyd.Status();
  EXPECT_EQ(status.generation(), 11u);
  EXPECT_TRUE(status.last_reload().ok()) << status.last_reload().message();

  for (const uint32_t workers : {6u, 2u}) {
    const grpc::Status scaled = Scale(dirtyd, workers);
    EXPECT_TRUE(scaled.ok()) << scaled.error_message();
    EXPECT_EQ(dirtyd.WaitForWorkers(workers).size(), workers);
    load.WaitForMore(50);
  }

  // From the file, with the next reload: every 50 calls.
  Configure(dirtyd, OneApp("workers: 2\nmax_requests: 50"));
  ASSERT_TRUE(Reload(dirtyd).ok());
  EXPECT_TRUE(WaitUntil([&] {
    const v1::StatusResponse now = dirtyd.Status();
    return std::count_if(now.exits().begin(), now.exits().end(),
                         [](const v1::WorkerExit& exit) { return exit.reason() == "recycled"; }) >= 10;
  }));
  load.Stop();
  const v1::AppStatus app = dirtyd.App(kVersioned);
  EXPECT_EQ(app.counters().received(), load.ended());
  EXPECT_EQ(app.counters().ok(), load.ended());
  dirtyd.Stop(SIGTERM);
}

TEST(UnderLoad, WorkersThatSomebodyElseTellsToEndLoseNoCall) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 2\nthreads: 2")));
  client::Client client = dirtyd.NewClient();
  const std::atomic<int> oldest{1};
  Load load(8, VersionCall(client, oldest));
  for (size_t round = 1; round <= 6; ++round) {
    load.WaitForMore(50);
    const v1::WorkerStatus worker = dirtyd.WaitForWorkers(2).front();
    ASSERT_EQ(kill(static_cast<pid_t>(worker.pid()), SIGTERM), 0);
    ASSERT_TRUE(WaitUntil([&] { return dirtyd.Status().exits_size() == static_cast<int>(round); }));
    const v1::WorkerExit exit = dirtyd.Status().exits(0);
    EXPECT_EQ(exit.worker_id(), worker.id());
    EXPECT_EQ(exit.reason(), "recycled");
    EXPECT_EQ(exit.exit_code(), 0);
  }
  load.Stop();
  EXPECT_EQ(dirtyd.App(kVersioned).counters().ok(), load.ended());
  dirtyd.Stop(SIGTERM);
}

TEST(UnderLoad, AReloadToAnAppThatRaisesChangesNothing) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 2")));
  client::Client client = dirtyd.NewClient();
  std::atomic<int> oldest{1};
  Load load(8, VersionCall(client, oldest));
  const std::set<uint32_t> before = Ids(dirtyd.ReadyWorkers());
  for (const char* broken : {"raise", "die"}) {
    SCOPED_TRACE(broken);
    deployment.Deploy(kVersioned, broken);
    const absl::Time start = absl::Now();
    v1::ReloadResponse response;
    const grpc::Status failed = Reload(dirtyd, &response);
    EXPECT_EQ(failed.error_code(), grpc::StatusCode::FAILED_PRECONDITION) << failed.error_message();
    EXPECT_THAT(ErrorOf(failed).message(), HasSubstr(kVersioned));
    if (broken == absl::string_view("raise")) {
      EXPECT_THAT(ErrorOf(failed).message(), HasSubstr("version raise has no model"));
    }
    if (kMeasured) {
      EXPECT_LE(absl::Now() - start, absl::Seconds(5)) << "more than its boot";
    }
    load.WaitForMore(100);
    dirtyd.WaitForWorkers(2);
    EXPECT_EQ(Ids(dirtyd.ReadyWorkers()), before);
    const v1::StatusResponse status = dirtyd.Status();
    EXPECT_FALSE(status.last_reload().ok());
    EXPECT_THAT(status.last_reload().message(), HasSubstr(kVersioned));
    EXPECT_EQ(dirtyd.App(kVersioned).state(), v1::AppStatus::READY);
  }
  deployment.Deploy(kVersioned, "2");
  EXPECT_TRUE(Reload(dirtyd).ok());
  oldest = 2;
  load.WaitForMore(50);
  load.Stop();
  dirtyd.Stop(SIGTERM);
}

TEST(UnderLoad, AReloadOfAFileWithATypoChangesNothing) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 2")));
  client::Client client = dirtyd.NewClient();
  std::atomic<int> oldest{1};
  Load load(8, VersionCall(client, oldest));
  const std::set<uint32_t> before = Ids(dirtyd.ReadyWorkers());
  Configure(dirtyd, OneApp("wokers: 3\nthreads: 0\nworkers: 2"));
  const grpc::Status failed = Reload(dirtyd);
  EXPECT_EQ(failed.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << failed.error_message();
  EXPECT_THAT(ErrorOf(failed).message(),
              AllOf(HasSubstr("dirty.yaml:1"), HasSubstr("wokers"), HasSubstr("dirty.yaml:2"), HasSubstr("threads")));
  const Ran ran = RunProgram(dirtyd.Ctl({"reload"}));
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("INVALID_ARGUMENT: "), HasSubstr("wokers"), HasSubstr("threads")));
  // The same by signal: the log and the status tell.
  const size_t from = dirtyd.process().err().size();
  dirtyd.process().Signal(SIGHUP);
  dirtyd.process().WaitForLine("wokers", from);
  EXPECT_FALSE(dirtyd.Status().last_reload().ok());
  EXPECT_THAT(RunProgram(dirtyd.Ctl({"status"})).out, AllOf(HasSubstr("last reload"), HasSubstr("wokers")));
  load.WaitForMore(100);
  EXPECT_EQ(Ids(dirtyd.ReadyWorkers()), before);
  EXPECT_EQ(dirtyd.Status().generation(), 1u);
  load.Stop();
  dirtyd.Stop(SIGTERM);
}

// --- Reload ---

TEST(Reload, ToAUserThatIsNoneIsRefused) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 1")));
  Configure(dirtyd, OneApp("workers: 1\nuser: nobody-here"));
  const grpc::Status failed = Reload(dirtyd);
  EXPECT_EQ(failed.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(failed).message(), HasSubstr("user: there is no user \"nobody-here\""));
  EXPECT_EQ(dirtyd.Status().generation(), 1u);
  dirtyd.Stop(SIGTERM);
}

TEST(Reload, BySignalRunsTheNewCode) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 2")));
  client::Client client = dirtyd.NewClient();
  deployment.Deploy(kVersioned, "2");
  dirtyd.process().Signal(SIGHUP);
  ASSERT_TRUE(WaitUntil([&] { return dirtyd.Status().has_last_reload(); }));
  EXPECT_TRUE(dirtyd.Status().last_reload().ok());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(client.Execute(kVersioned, "version")->result, "2");
  dirtyd.Stop(SIGTERM);
}

TEST(Reload, AnswersWhenNoOldWorkerTakesCallsAndLetsARunningCallEnd) {
  Deployment deployment;
  // Grace bounds a shutdown, no drain.
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 1\ngraceful_timeout: 100ms")));
  client::Client client = dirtyd.NewClient();
  HeldCall held(client, dirtyd.folder(), "held");
  ASSERT_TRUE(held.WaitUntilItRuns());
  deployment.Deploy(kVersioned, "2");
  const grpc::Status status = Reload(dirtyd);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_FALSE(held.ended());
  const v1::StatusResponse after = dirtyd.Status();
  ASSERT_EQ(after.workers_size(), 2);
  EXPECT_EQ(after.workers(0).state(), v1::WorkerStatus::DRAINING);
  EXPECT_EQ(after.workers(1).state(), v1::WorkerStatus::READY);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(client.Execute(kVersioned, "version")->result, "2");
  held.Release();
  EXPECT_EQ(held.Get()->result, "1");
  EXPECT_TRUE(dirtyd.WaitForWorker(2));
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

TEST(Reload, WithoutSurgeNeverHasOneWorkerMore) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 2\nsurge: 0")));
  client::Client client = dirtyd.NewClient();
  HeldCall held(client, dirtyd.folder(), "held");
  ASSERT_TRUE(held.WaitUntilItRuns());
  std::atomic<int> oldest{1};
  Load load(4, VersionCall(client, oldest));
  deployment.Deploy(kVersioned, "2");
  dirtyd.process().Signal(SIGHUP);
  ASSERT_TRUE(WaitUntil([&] { return dirtyd.Status().state() == v1::StatusResponse::RELOADING; }));
  load.WaitForMore(50);  // on the one that does not hold
  held.Release();
  EXPECT_EQ(held.Get()->result, "1");
  ASSERT_TRUE(WaitUntil([&] {
    const v1::StatusResponse status = dirtyd.Status();
    EXPECT_LE(status.workers_size(), 2);
    return status.has_last_reload();
  }));
  EXPECT_TRUE(dirtyd.Status().last_reload().ok()) << dirtyd.Status().last_reload().message();
  oldest = 2;
  load.WaitForMore(50);
  load.Stop();
  dirtyd.Stop(SIGTERM);
}

TEST(Reload, AppliesWhatChangedInTheFile) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(absl::StrCat("workers: 1\napps:\n  - ", kVersioned, "\n  - ", kEcho, "\n")));
  client::Client client = dirtyd.NewClient();
  HeldCall held(client, dirtyd.folder(), "held");
  ASSERT_TRUE(held.WaitUntilItRuns());
  // A call that waits for an app which goes away still runs.
  client::Call waiting = client.ExecuteAsync(kEcho, "echo", Json::array({"waited"}), Json::object());
  ASSERT_TRUE(dirtyd.WaitForQueued(kEcho, 1));
  Configure(dirtyd, absl::StrCat("workers: 2\nsocket_mode: '0600'\napps:\n  - ", kVersioned,
                                 "\npools:\n  - {name: second, workers: 1, apps: ['", kOther, "']}\n"));
  v1::ReloadResponse response;
  const grpc::Status status = Reload(dirtyd, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  held.Release();
  EXPECT_TRUE(held.Get().ok());
  const client::Result waited = waiting.Get();
  ASSERT_TRUE(waited.ok()) << waited.error().message;
  EXPECT_EQ(waited->result, "waited");
  EXPECT_EQ(client.Execute(kOther, "version")->result, "1");
  const client::Result gone = client.Execute(kEcho, "pid");
  ASSERT_FALSE(gone.ok());
  EXPECT_EQ(gone.error().reason, Reason::kAppNotFound);
  const std::vector<v1::WorkerStatus> workers = dirtyd.WaitForWorkers(3);
  EXPECT_EQ(std::count_if(workers.begin(), workers.end(), [](const auto& w) { return w.pool() == "second"; }), 1);
  std::string changes, restart;
  for (const std::string& line : response.changes()) absl::StrAppend(&changes, line, "\n");
  for (const std::string& line : response.needs_restart()) absl::StrAppend(&restart, line, "\n");
  EXPECT_THAT(changes, AllOf(HasSubstr(kOther), HasSubstr(kEcho), HasSubstr("second"), HasSubstr("workers")));
  EXPECT_THAT(restart, HasSubstr("socket_mode"));
  dirtyd.Stop(SIGTERM);
}

TEST(Reload, OfAPoolOrAppLeavesTheOthersAlone) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(absl::StrCat("apps:\n  - ", kVersioned, "\npools:\n  - {name: second, apps: ['",
                                                    kOther, "']}\n")));
  auto id_of = [&](const std::string& pool) {
    uint32_t id = 0;
    for (const v1::WorkerStatus& worker : dirtyd.WaitForWorkers(2)) {
      if (worker.pool() == pool) id = worker.id();
    }
    return id;
  };
  const uint32_t first = id_of("default"), second = id_of("second");
  v1::ReloadRequest request;
  request.add_pools("second");
  v1::ReloadResponse response;
  ASSERT_TRUE(Reload(dirtyd, &response, request).ok());
  EXPECT_EQ(id_of("default"), first);
  EXPECT_GT(id_of("second"), second);
  request.Clear();
  request.add_apps(kVersioned);
  ASSERT_TRUE(Reload(dirtyd, &response, request).ok());
  EXPECT_GT(id_of("default"), first);
  for (const bool pool : {true, false}) {
    request.Clear();
    (pool ? request.add_pools() : request.add_apps())->assign("nobody");
    const grpc::Status status = Reload(dirtyd, &response, request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("nobody"));
  }
  dirtyd.Stop(SIGTERM);
}

TEST(Reload, WhileAnotherOneRunsIsRefusedOrFollowsIt) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 1")));
  client::Client client = dirtyd.NewClient();
  deployment.Deploy(kVersioned, "wait");
  const size_t boots = deployment.Boots(kVersioned);
  dirtyd.process().Signal(SIGHUP);
  ASSERT_TRUE(WaitUntil([&] { return deployment.Boots(kVersioned) == boots + 1; }));
  EXPECT_EQ(dirtyd.Status().state(), v1::StatusResponse::RELOADING);
  const grpc::Status second = Reload(dirtyd);
  EXPECT_EQ(second.error_code(), grpc::StatusCode::ABORTED) << second.error_message();
  EXPECT_TRUE(client.Execute(kVersioned, "version").ok()) << "the old one serves meanwhile";
  // By signal, however often: one more, with the file as it is by then.
  for (int i = 0; i < 3; ++i) {
    const size_t from = dirtyd.process().err().size();
    dirtyd.process().Signal(SIGHUP);
    ASSERT_NE(dirtyd.process().WaitForLine("another reload follows", from), "");
  }
  deployment.Deploy(kVersioned, "2");
  ASSERT_TRUE(WaitUntil([&] { return dirtyd.Status().generation() == 3; }));
  ASSERT_TRUE(WaitUntil([&] { return dirtyd.Status().state() == v1::StatusResponse::RUNNING; }));
  dirtyd.WaitForWorkers(1);
  EXPECT_EQ(dirtyd.Status().generation(), 3u);
  EXPECT_EQ(deployment.Boots(kVersioned), boots + 2);
  dirtyd.Stop(SIGTERM);
}

TEST(Reload, IsEndedByAShutdown) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 1")));
  deployment.Deploy(kVersioned, "wait");
  const size_t boots = deployment.Boots(kVersioned);
  Process reload(dirtyd.Ctl({"reload"}));
  ASSERT_TRUE(WaitUntil([&] { return deployment.Boots(kVersioned) == boots + 1; }));
  dirtyd.Stop(SIGTERM);
  EXPECT_THAT(reload.WaitExit().code, ::testing::AnyOf(1, 3)) << reload.out();
}

// --- Scale and restart ---

TEST(Scale, StaysAboveWhatAppsWant) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(absl::StrCat("workers: 3\napps:\n  - ", kEcho, "\n  - {app: '", kVersioned,
                                                    "', workers: 2}\n")));
  const grpc::Status low = Scale(dirtyd, 1);
  EXPECT_EQ(low.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << low.error_message();
  EXPECT_THAT(ErrorOf(low).message(), HasSubstr(kVersioned));
  EXPECT_EQ(Scale(dirtyd, 2, "nowhere").error_code(), grpc::StatusCode::NOT_FOUND);
  const Ran ran = RunProgram(dirtyd.Ctl({"scale", "2"}));
  EXPECT_EQ(ran.out, "workers: 3 -> 2\n") << ran.err;
  dirtyd.WaitForWorkers(2);
  dirtyd.process().Signal(SIGTTIN);
  dirtyd.WaitForWorkers(3);
  dirtyd.process().Signal(SIGTTOU);
  dirtyd.WaitForWorkers(2);
  // One less would be too few: the log says so.
  const size_t from = dirtyd.process().err().size();
  dirtyd.process().Signal(SIGTTOU);
  ASSERT_NE(dirtyd.process().WaitForLine("the fewest workers for its apps", from), "");
  EXPECT_EQ(dirtyd.Status().pools(0).desired_workers(), 2u);
  // The file's number is back with a reload.
  ASSERT_TRUE(Reload(dirtyd).ok());
  dirtyd.WaitForWorkers(3);
  dirtyd.Stop(SIGTERM);
}

TEST(Restart, ReplacesOneWorkerOrAllWithNoCallLost) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 3")));
  client::Client client = dirtyd.NewClient();
  std::atomic<int> oldest{1};
  Load load(8, VersionCall(client, oldest));
  const std::set<uint32_t> first = Ids(dirtyd.WaitForWorkers(3));
  uint32_t replaced = 0;
  const grpc::Status one = Restart(dirtyd, 2, &replaced);
  ASSERT_TRUE(one.ok()) << one.error_message();
  EXPECT_EQ(replaced, 1u);
  EXPECT_EQ(Ids(dirtyd.WaitForWorkers(3)), (std::set<uint32_t>{1, 3, 4}));
  deployment.Deploy(kVersioned, "2");
  const Ran ran = RunProgram(dirtyd.Ctl({"restart"}));
  EXPECT_EQ(ran.out, "workers replaced: 3\n") << ran.err;
  oldest = 2;
  load.WaitForMore(50);
  EXPECT_EQ(*Ids(dirtyd.WaitForWorkers(3)).begin(), 5u);
  EXPECT_EQ(Restart(dirtyd, 2).error_code(), grpc::StatusCode::NOT_FOUND);
  // A version that does not start replaces nobody.
  const std::set<uint32_t> before = Ids(dirtyd.WaitForWorkers(3));
  deployment.Deploy(kVersioned, "raise");
  const grpc::Status failed = Restart(dirtyd, 0);
  EXPECT_EQ(failed.error_code(), grpc::StatusCode::FAILED_PRECONDITION) << failed.error_message();
  load.WaitForMore(50);
  EXPECT_EQ(Ids(dirtyd.WaitForWorkers(3)), before);
  load.Stop();
  dirtyd.Stop(SIGTERM);
}

TEST(Replacement, LoadsWhatItsPredecessorLoaded) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(absl::StrCat("workers: 3\napps:\n  - ", kEcho, "\n  - ", kVersioned, ":1\n")));
  auto holders = [&] {
    std::vector<uint32_t> indexes;
    for (const v1::WorkerStatus& worker : dirtyd.WaitForWorkers(3)) {
      if (std::count(worker.apps().begin(), worker.apps().end(), kVersioned) != 0) indexes.push_back(worker.index());
    }
    return indexes;
  };
  const std::vector<uint32_t> before = holders();
  ASSERT_EQ(before.size(), 1u);
  for (const v1::WorkerStatus& worker : dirtyd.ReadyWorkers()) {
    kill(worker.pid(), SIGKILL);
    ASSERT_TRUE(WaitUntil([&] {
      const v1::StatusResponse status = dirtyd.Status();
      return std::none_of(status.workers().begin(), status.workers().end(),
                          [&](const auto& other) { return other.id() == worker.id(); });
    }));
    EXPECT_EQ(holders(), before);
  }
  ASSERT_TRUE(Reload(dirtyd).ok());
  EXPECT_EQ(holders(), before);
  EXPECT_TRUE(dirtyd.NewClient().Execute(kVersioned, "version").ok());
  dirtyd.Stop(SIGTERM);
}

// --- Recycling ---

TEST(Recycling, ByMemoryComparesWithTheLevelAfterInitAndStartsTheReplacementFirst) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 1\nmax_memory: 64MiB")));
  client::Client client = dirtyd.NewClient();
  // What is below the limit costs nobody.
  ASSERT_TRUE(client.Execute(kVersioned, "keep", Json::array({8 << 20})).ok());
  ASSERT_TRUE(client.Execute(kVersioned, "version").ok());
  EXPECT_EQ(dirtyd.ReadyWorkers().at(0).id(), 1u);
  std::atomic<int> oldest{1};
  Load load(2, VersionCall(client, oldest));
  ASSERT_TRUE(client.Execute(kVersioned, "keep", Json::array({128 << 20})).ok());
  EXPECT_TRUE(dirtyd.WaitForWorker(2));
  load.Stop();
  const v1::StatusResponse status = dirtyd.Status();
  ASSERT_EQ(status.exits_size(), 1);
  EXPECT_EQ(status.exits(0).reason(), "recycled");
  dirtyd.Stop(SIGTERM);
}

}  // namespace
}  // namespace dirty::integration
