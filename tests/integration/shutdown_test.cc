// Ending: dirtyd by signals, by force and by surprise; its workers one by one and a thousand times. Nothing may stay.

#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/integration/harness.h"

namespace dirty::integration {
namespace {

using client::Json;
using client::Reason;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kSlow[] = "libfaults.so:Slow";
constexpr char kFaulty[] = "libfaults.so:Faulty";

// A worker with something to run until it is let go, and something that waits behind it.
class Shutdown : public ::testing::Test {
 protected:
  // `args` beside the apps. Afterwards one call runs and one waits.
  void Begin(const Words& args = {}) {
    Words words = {kSlow, "libfaults.so:Closer", "--env", absl::StrCat("DIRTY_TEST_CLOSE_LOG=", close_log_)};
    words.insert(words.end(), args.begin(), args.end());
    dirtyd_.emplace(words);
    client_.emplace(dirtyd_->NewClient());
    worker_ = dirtyd_->ReadyWorkers().at(0).pid();
    running_.emplace(
        client_->ExecuteAsync(kSlow, "wait_for_file", Json::array({release_, folder_ / "started"}), Json::object()));
    ASSERT_TRUE(WaitUntil([&] { return Exists(folder_ / "started"); }));
    queued_.emplace(client_->ExecuteAsync("libfaults.so:Closer", "x", Json::array({7}), Json::object()));
    ASSERT_TRUE(dirtyd_->WaitForQueued("libfaults.so:Closer", 1));
  }

  void ExpectEnded(client::Call& call, Reason reason, const char* says) {
    client::Result result = call.Get();
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().reason, reason) << result.error().message;
    EXPECT_THAT(result.error().message, HasSubstr(says));
  }

  // After its end: no process, no socket, no directory.
  void ExpectCleanEnd() {
    Exit exit = dirtyd_->process().WaitExit();
    ASSERT_TRUE(exit.ended);
    EXPECT_EQ(exit.code, 0);
    EXPECT_EQ(ProcessState(worker_), '\0');
    dirtyd_->ExpectNothingLeft();
  }

  Folder folder_;
  const std::string close_log_ = folder_ / "closed";
  const std::string release_ = folder_ / "release";
  std::optional<Dirtyd> dirtyd_;
  std::optional<client::Client> client_;
  std::optional<client::Call> running_, queued_;
  pid_t worker_ = 0;
};

TEST_F(Shutdown, OnTermLetsCallsEndAndTakesNoNewOnes) {
  for (int signal : {SIGTERM, SIGINT}) {
    SCOPED_TRACE(signal);
    Begin();
    dirtyd_->process().Signal(signal);
    dirtyd_->process().WaitForLine("shutting down");
    EXPECT_TRUE(WaitUntil([&] { return Title(dirtyd_->pid()) == "dirtyd [1/1 workers, shutting down]"; }));
    auto late = client_->Execute(kSlow, "sleep", Json::array({0}));
    ASSERT_FALSE(late.ok());
    EXPECT_EQ(late.error().reason, Reason::kShuttingDown) << late.error().message;
    EXPECT_EQ(RunProgram(dirtyd_->Ctl({"health"})).code, 1);
    EXPECT_EQ(RunProgram(dirtyd_->Ctl({"health", "--live"})).code, 0);
    EXPECT_EQ(dirtyd_->Status().state(), v1::StatusResponse::SHUTTING_DOWN);
    EXPECT_FALSE(running_->WaitFor(seconds(0)));
    Touch(release_);
    for (auto* call : {&*running_, &*queued_}) {
      client::Result result = call->Get();
      EXPECT_TRUE(result.ok()) << result.error().message;
    }
    ExpectCleanEnd();
    EXPECT_EQ(ReadText(close_log_), absl::StrCat("Closer1 ", worker_, "\n"));
    for (const char* name : {"release", "started", "closed"}) unlink((folder_ / name).c_str());
  }
}

TEST_F(Shutdown, EndsWhatOutlastsTheGrace) {
  Begin({"--graceful_timeout", "500ms"});
  absl::Time start = absl::Now();
  dirtyd_->process().Signal(SIGTERM);
  ExpectEnded(*running_, Reason::kWorkerLost, "was shut down");
  ExpectEnded(*queued_, Reason::kShuttingDown, "never started");
  ExpectCleanEnd();
  if (kMeasured) {
    EXPECT_LE(absl::Now() - start, absl::Milliseconds(2500));
  }
}

TEST_F(Shutdown, ClosesAppsThatLetThemselvesBeEnded) {
  Begin({"--graceful_timeout", "500ms"});
  Touch(release_);
  ASSERT_TRUE(running_->Get().ok());
  ASSERT_TRUE(queued_->Get().ok());
  client::Call cooperative = client_->ExecuteAsync(kSlow, "wait_for_cancel", Json::array({0, folder_ / "again"}), {});
  ASSERT_TRUE(WaitUntil([&] { return Exists(folder_ / "again"); }));
  dirtyd_->process().Signal(SIGTERM);
  ExpectEnded(cooperative, Reason::kWorkerLost, "was shut down");
  ExpectCleanEnd();
  EXPECT_EQ(ReadText(close_log_), absl::StrCat("Closer1 ", worker_, "\n"));
}

TEST_F(Shutdown, OnQuitIsImmediate) {
  Begin();
  dirtyd_->process().Signal(SIGQUIT);
  ExpectEnded(*running_, Reason::kWorkerLost, "was shut down");
  ExpectEnded(*queued_, Reason::kShuttingDown, "never started");
  ExpectCleanEnd();
}

TEST_F(Shutdown, OnASecondTermIsImmediate) {
  Begin();
  dirtyd_->process().Signal(SIGTERM);
  dirtyd_->process().WaitForLine("shutting down");
  EXPECT_FALSE(running_->WaitFor(seconds(0)));
  dirtyd_->process().Signal(SIGTERM);
  ExpectEnded(*running_, Reason::kWorkerLost, "was shut down");
  ExpectEnded(*queued_, Reason::kShuttingDown, "never started");
  ExpectCleanEnd();
}

TEST_F(Shutdown, ByDirtyctl) {
  Begin();
  Ran ran = RunProgram(dirtyd_->Ctl({"shutdown", "--now"}));
  EXPECT_EQ(ran.code, 0) << ran.err;
  ExpectEnded(*running_, Reason::kWorkerLost, "was shut down");
  ExpectEnded(*queued_, Reason::kShuttingDown, "never started");
  ExpectCleanEnd();
}

TEST_F(Shutdown, ClosesEveryAppOfEveryWorkerOnce) {
  Dirtyd dirtyd({"libfaults.so:Closer", "libfaults.so:Closer2", "libfaults.so:CloseThrows", "--workers", "3", "--env",
                 absl::StrCat("DIRTY_TEST_CLOSE_LOG=", close_log_)});
  std::multiset<std::string> expected, closed;
  for (const v1::WorkerStatus& worker : dirtyd.WaitForWorkers(3)) {
    for (const char* name : {"Closer1 ", "Closer2 "}) expected.insert(absl::StrCat(name, worker.pid()));
  }
  dirtyd.Stop(SIGTERM);
  std::istringstream lines(ReadText(close_log_));
  for (std::string line; std::getline(lines, line);) closed.insert(line);
  EXPECT_EQ(closed, expected);
}

TEST_F(Shutdown, WhileItStarts) {
  for (int signal : {SIGTERM, SIGQUIT}) {
    Dirtyd dirtyd({"libfaults.so:SlowInit", "--env", absl::StrCat("DIRTY_TEST_INIT_FILE=", folder_ / "never")},
                  {.ready = false});
    dirtyd.process().WaitForLine("initialising");
    dirtyd.Stop(signal);
  }
}

// --- Surprises ---

TEST(Killed, DirtydTakesItsWorkersWithItAndComesBack) {
  Dirtyd dirtyd({kEcho, kSlow, "--workers", "3"});
  client::Client client = dirtyd.NewClient();
  ASSERT_TRUE(client.Execute(kEcho, "pid").ok());
  // One of them is busy with what cannot be interrupted.
  const std::string started = dirtyd.folder() / "started";
  client::Call busy = client.ExecuteAsync(kSlow, "sleep_hard", Json::array({10000, started}), Json::object());
  ASSERT_TRUE(WaitUntil([&] { return Exists(started); }));
  std::vector<pid_t> workers = Children(dirtyd.pid());
  ASSERT_EQ(workers.size(), 3u);
  absl::Time start = absl::Now();
  dirtyd.process().Signal(SIGKILL);
  ASSERT_EQ(dirtyd.process().WaitExit().signal, SIGKILL);
  // Whoever inherits them reaps them: a zombie is gone enough.
  EXPECT_TRUE(WaitUntil([&] {
    return std::all_of(workers.begin(), workers.end(),
                       [](pid_t pid) { return ProcessState(pid) == '\0' || ProcessState(pid) == 'Z'; });
  }));
  if (kMeasured) {
    EXPECT_LE(absl::Now() - start, absl::Seconds(2));
  }
  client::Result lost = busy.Get();
  ASSERT_FALSE(lost.ok());
  EXPECT_EQ(lost.error().reason, Reason::kOutcomeUnknown) << lost.error().message;

  dirtyd.Start();
  start = absl::Now();
  auto again = client.Execute(kEcho, "pid");
  EXPECT_TRUE(again.ok()) << again.error().message;
  if (kMeasured) {
    EXPECT_LE(absl::Now() - start, absl::Seconds(2));
  }
  dirtyd.Stop(SIGTERM);
}

TEST(Restarted, AClientThatWaitsIsServedByTheNextDirtyd) {
  Dirtyd dirtyd({kEcho});
  client::Client client = dirtyd.NewClient({.connect_timeout = seconds(30)});
  ASSERT_TRUE(client.Execute(kEcho, "pid").ok());
  dirtyd.Stop(SIGTERM);
  client::Call waiting = client.ExecuteAsync(kEcho, "add", Json::array({1, 2}), Json::object());
  dirtyd.Start();
  absl::Time start = absl::Now();
  client::Result result = waiting.Get();
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->result, 3);
  if (kMeasured) {
    EXPECT_LE(absl::Now() - start, absl::Seconds(2));
  }
  dirtyd.Stop(SIGTERM);
}

TEST(Worker, ThatKeepsCrashingIsRestartedMoreAndMoreSlowly) {
  Dirtyd dirtyd({kFaulty, "--restart_initial_backoff", "200ms", "--restart_max_backoff", "1h"});
  client::Client client = dirtyd.NewClient({});
  // The first replacement comes at once; the waits after that double: 0.2, 0.4, 0.8 s, less a quarter at most.
  std::vector<absl::Duration> waits;
  for (int i = 0; i < 4; ++i) {
    auto lost = client.Execute(kFaulty, "exit", Json::array({3}));
    ASSERT_FALSE(lost.ok());
    ASSERT_EQ(lost.error().reason, Reason::kWorkerLost);
    EXPECT_EQ(lost.error().exit_code, 3);
    absl::Time start = absl::Now();
    dirtyd.WaitForWorkers(1);
    waits.push_back(absl::Now() - start);
  }
  for (int i = 1; i < 4; ++i) EXPECT_GE(waits[i], 0.7 * absl::Milliseconds(200) * (1 << (i - 1))) << i;
  dirtyd.Stop(SIGTERM);
}

TEST(Worker, ThatLeavesAGrandchildWithItsDescriptorsIsReplacedAtOnce) {
  Dirtyd dirtyd({kFaulty});
  client::Client client = dirtyd.NewClient();
  auto held = client.Execute(kFaulty, "hold_descriptors");
  ASSERT_TRUE(held.ok()) << held.error().message;
  const pid_t grandchild = held->result;
  kill(dirtyd.ReadyWorkers().at(0).pid(), SIGKILL);
  EXPECT_TRUE(WaitUntil([&] { return ProcessState(grandchild) == '\0' || ProcessState(grandchild) == 'Z'; }))
      << "the grandchild lives";
  EXPECT_TRUE(dirtyd.WaitForWorker(2));
  EXPECT_TRUE(client.Execute(kFaulty, "stderr", Json::array()).ok());
  dirtyd.Stop(SIGTERM);
}

TEST(Worker, RestartedAThousandTimesLeaksNothing) {
  const int rounds = Repetitions(1000, 100);
  Dirtyd dirtyd({kEcho, "--restart_initial_backoff", "1ms", "--restart_max_backoff", "1ms", "--log_level", "error"},
                {.ready = false});
  client::Client client = dirtyd.NewClient();
  size_t descriptors = 0, memory = 0;
  for (int i = 1; i <= rounds; ++i) {
    auto pid = client.Execute(kEcho, "pid");
    ASSERT_TRUE(pid.ok()) << i << ": " << pid.error().message;
    ASSERT_EQ(kill(pid->result.get<pid_t>(), SIGKILL), 0);
    // The next call waits for the replacement: this one has to be gone first.
    ASSERT_TRUE(WaitUntil([&] { return ProcessState(pid->result.get<pid_t>()) == '\0'; })) << i;
    if (i == 10) {
      ASSERT_TRUE(client.Execute(kEcho, "pid").ok());
      dirtyd.WaitForWorkers(1);
      descriptors = DescriptorsAtRest(dirtyd.pid());
      memory = ResidentBytes(dirtyd.pid());
    }
  }
  ASSERT_TRUE(client.Execute(kEcho, "pid").ok());
  dirtyd.WaitForWorkers(1);
  EXPECT_TRUE(WaitUntil([&] { return Descriptors(dirtyd.pid()) == descriptors; }))
      << Descriptors(dirtyd.pid()) << " descriptors, " << descriptors << " before";
  const size_t now = ResidentBytes(dirtyd.pid());
  printf("[ MEMORY   ] %zu KiB after 10 restarts, %zu KiB after %d\n", memory >> 10, now >> 10, rounds);
  if (kMeasured) {
    EXPECT_LE(now, memory + memory / 20 + (4 << 20));
  }
  EXPECT_EQ(dirtyd.Status().exits_size(), 20);
  dirtyd.ExpectCountersAddUp();
  dirtyd.Stop(SIGTERM);
}

// --- PID 1 ---

TEST(PidOne, ReapsStrangersAndEndsCleanly) {
  if (!IsRoot() || RunProgram({"unshare", "--pid", "--fork", "--mount-proc", "true"}).code != 0) {
    GTEST_SKIP() << "needs root, and leave to make namespaces";
  }
  Dirtyd dirtyd({kEcho}, {.process = {.pid_namespace = true}});
  EXPECT_THAT(dirtyd.process().err(), HasSubstr(", pid 1,"));
  EXPECT_TRUE(dirtyd.NewClient().Execute(kEcho, "pid").ok());
  // An orphan: its parent is gone at once, and it lives until it is told to end.
  const std::string end = dirtyd.folder() / "end";
  ASSERT_EQ(RunProgram({"nsenter", "--target", absl::StrCat(dirtyd.pid()), "--pid", "--mount", "sh", "-c",
                        absl::StrCat("(while ! test -e ", end, "; do sleep 0.02; done) </dev/null >/dev/null 2>&1 &")})
                .code,
            0);
  pid_t orphan = 0;
  ASSERT_TRUE(WaitUntil([&] {
    for (pid_t child : Children(dirtyd.pid())) {
      if (Title(child).starts_with("sh ")) orphan = child;
    }
    return orphan != 0;
  })) << "no orphan was adopted";
  Touch(end);
  EXPECT_TRUE(WaitUntil([&] { return ProcessState(orphan) == '\0'; })) << ProcessState(orphan);
  // Its own workers are still its own.
  const pid_t worker = Children(dirtyd.pid()).at(0);
  kill(worker, SIGKILL);
  EXPECT_TRUE(dirtyd.WaitForWorker(2));
  const v1::StatusResponse status = dirtyd.Status();
  ASSERT_GE(status.exits_size(), 1);
  EXPECT_EQ(status.exits(0).signal(), "SIGKILL");
  dirtyd.Stop(SIGTERM);
}

}  // namespace
}  // namespace dirty::integration
