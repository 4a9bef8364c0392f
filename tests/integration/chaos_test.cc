// Everything at once: whatever operators do and workers suffer, each call has one outcome, and nothing is left over.

#include <gmock/gmock.h>
#include <signal.h>

#include <deque>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "server/loop/mutex.h"
#include "tests/integration/harness.h"
#include "tests/integration/load.h"

namespace dirty::integration {
namespace {

using client::Json;
using client::Reason;

constexpr int kCallers = 16, kOperators = 2, kWorkers = 3;

// Stopped workers are found soon. A busy machine may let it find others, too: that costs a call, which is allowed here.
// Killed while they start, workers count against their apps: never enough of them to give one up.
std::string Config(int workers, const std::string& more = "") {
  return absl::StrCat("workers: ", workers, "\nthreads: 2\nheartbeat_interval: ", kSanitized ? "1s" : "100ms",
                      "\nheartbeat_timeout: ", kSanitized ? "10s" : "500ms",
                      "\nkill_after: 500ms\nrestart: {give_up_after: 0, max_backoff: 100ms}\n", more, "\napps:\n  - ",
                      kVersioned, "\n");
}

// One of those who make the changes.
class Operator {
 public:
  Operator(Dirtyd& dirtyd, const Deployment& deployment, const Load& load, unsigned seed)
      : dirtyd_(dirtyd),
        deployment_(deployment),
        load_(load),
        random_(seed),
        // Not the harness's, which one thread uses.
        admin_(v1::Admin::NewStub(AdminChannel(dirtyd.admin_socket()))) {}

  void Act(int times) {
    for (int i = 0; i < times; ++i) {
      Act();
      load_.WaitForMore(kCallers);
    }
  }

  const std::map<std::string, int>& done() const { return done_; }

 private:
  int Pick(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }

  v1::StatusResponse Status() {
    v1::StatusResponse response;
    Context context;
    const grpc::Status status = admin_->Status(&context, {}, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  // Refusals that make sense while another operator and chance are at work. Never: no answer, or a wrong code.
  void Expect(const std::string& what, const grpc::Status& status) {
    switch (status.error_code()) {
      case grpc::StatusCode::OK:
      case grpc::StatusCode::ABORTED:              // another reload
      case grpc::StatusCode::FAILED_PRECONDITION:  // a new worker was killed or raised
      case grpc::StatusCode::NOT_FOUND:            // it has gone
        break;
      case grpc::StatusCode::INVALID_ARGUMENT:  // the other one broke the file
        EXPECT_EQ(what, "reload");
        break;
      default:
        ADD_FAILURE() << what << ": code " << status.error_code() << ", " << status.error_message();
    }
    ++done_[absl::StrCat(what, status.ok() ? "" : " refused")];
  }

  void Act() {
    Context context;
    switch (Pick(8)) {
      case 0:
        return Reload();
      case 1: {
        v1::ScaleRequest request;
        v1::ScaleResponse response;
        request.set_workers(static_cast<uint32_t>(1 + Pick(5)));
        return Expect("scale", admin_->Scale(&context, request, &response));
      }
      case 2: {
        v1::RestartRequest request;
        v1::RestartResponse response;
        if (Pick(2) == 0) request.set_worker_id(AnyWorker(false).id());
        return Expect("restart", admin_->Restart(&context, request, &response));
      }
      case 3:
        return Hit(SIGKILL);
      case 4:
        return Hit(SIGSTOP);
      case 5: {
        const v1::WorkerStatus worker = AnyWorker(false);
        if (worker.running_size() == 0) return;
        v1::CancelRequest request;
        v1::CancelResponse response;
        request.set_call_id(worker.running(0).call_id());
        return Expect("cancel", admin_->Cancel(&context, request, &response));
      }
      case 6:
        deployment_.Deploy(kVersioned, Pick(5) == 0 ? "raise" : absl::StrCat(Pick(100)));
        return Reload();
      default:
        if (Pick(5) == 0) {
          Configure(dirtyd_, Config(kWorkers, "nonsense: true"));
          Reload();
        }
        Configure(dirtyd_, Config(1 + Pick(4), Pick(2) == 0 ? "max_requests: 20" : "surge: 0"));
        return Reload();
    }
  }

  void Reload() {
    Context context;
    v1::ReloadRequest request;
    v1::ReloadResponse response;
    Expect("reload", admin_->Reload(&context, request, &response));
    deployment_.Deploy(kVersioned, "1");  // what is replaced meanwhile can start again
  }

  v1::WorkerStatus AnyWorker(bool linked) {
    const v1::StatusResponse status = Status();
    if (status.workers_size() == 0) return {};
    const v1::WorkerStatus& worker = status.workers(Pick(status.workers_size()));
    return linked && worker.state() == v1::WorkerStatus::STARTING ? v1::WorkerStatus() : worker;
  }

  void Hit(int signal) {
    // One that is stopped before it listens is not missed by a heartbeat, but half a minute later.
    const v1::WorkerStatus worker = AnyWorker(signal == SIGSTOP);
    if (worker.pid() <= 1) return;
    kill(worker.pid(), signal);
    ++done_[signal == SIGKILL ? "kill" : "stop"];
  }

  Dirtyd& dirtyd_;
  const Deployment& deployment_;
  const Load& load_;
  std::mt19937 random_;
  const std::unique_ptr<v1::Admin::Stub> admin_;
  std::map<std::string, int> done_;
};

// What callers were told.
class Outcomes {
 public:
  std::string Take(const client::Result& result) {
    MutexLock lock(&mutex_);
    if (result.ok()) return ++ok_, "";
    ++failed_[result.error().reason];
    // All that an operator or a death may do to a call.
    if (result.error().reason == Reason::kCancelled || result.error().reason == Reason::kWorkerLost) return "";
    return result.error().message;
  }
  uint64_t ok() const {
    MutexLock lock(&mutex_);
    return ok_;
  }
  uint64_t failed(Reason reason) const {
    MutexLock lock(&mutex_);
    auto found = failed_.find(reason);
    return found == failed_.end() ? 0 : found->second;
  }

 private:
  mutable Mutex mutex_;
  uint64_t ok_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<Reason, uint64_t> failed_ ABSL_GUARDED_BY(mutex_);
};

TEST(Chaos, EveryCallHasOneOutcomeAndNothingIsLeftOver) {
  const unsigned seed = static_cast<unsigned>(GTEST_FLAG_GET(random_seed)) + 3;
  printf("[ SEED     ] %u\n", seed);
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(Config(kWorkers)));
  client::Client client = dirtyd.NewClient();
  Outcomes outcomes;
  auto call = [&]() -> std::string { return outcomes.Take(client.Execute(kVersioned, "work", Json::array({3}))); };
  uint64_t calls = 0;
  {
    // Once everything has grown to what it needs.
    Load load(kCallers, call);
    load.WaitForMore(static_cast<uint64_t>(Repetitions(2000, 300)));
    ASSERT_TRUE(Reload(dirtyd).ok());
    load.Stop();
    calls += load.ended();
  }
  dirtyd.WaitForWorkers(kWorkers);
  const size_t descriptors = DescriptorsAtRest(dirtyd.pid()), memory = ResidentBytes(dirtyd.pid());

  Load load(kCallers, call);
  const int operations = Repetitions(200, 40);
  std::deque<Operator> operators;  // they stay where they are
  for (unsigned i = 0; i < kOperators; ++i) operators.emplace_back(dirtyd, deployment, load, seed + 1000 * i);
  std::vector<std::thread> threads;
  for (Operator& each : operators) threads.emplace_back([&] { each.Act(operations / kOperators); });
  for (std::thread& thread : threads) thread.join();
  for (const Operator& each : operators) {
    for (const auto& [what, times] : each.done()) printf("[ DONE     ] %s: %d\n", what.c_str(), times);
  }
  operators.clear();

  // As it was in the beginning.
  deployment.Deploy(kVersioned, "1");
  Configure(dirtyd, Config(kWorkers));
  grpc::Status restored;
  ASSERT_TRUE(WaitUntil([&] { return (restored = Reload(dirtyd)).ok(); })) << restored.error_message();
  load.WaitForMore(100);
  load.Stop();
  calls += load.ended();
  printf("[ CALLS    ] %lu, %lu of them ok\n", static_cast<unsigned long>(calls),
         static_cast<unsigned long>(outcomes.ok()));
  EXPECT_EQ(dirtyd.WaitForWorkers(kWorkers).size(), static_cast<size_t>(kWorkers));
  const v1::AppStatus app = dirtyd.App(kVersioned);
  EXPECT_EQ(app.queued() + app.running(), 0u);
  EXPECT_EQ(app.counters().received(), calls);
  EXPECT_EQ(app.counters().ok(), outcomes.ok());
  EXPECT_EQ(app.counters().cancelled(), outcomes.failed(Reason::kCancelled));
  EXPECT_EQ(app.counters().worker_lost(), outcomes.failed(Reason::kWorkerLost));
  dirtyd.ExpectCountersAddUp();
  EXPECT_TRUE(WaitUntil([&] { return Children(dirtyd.pid()).size() == kWorkers; })) << Children(dirtyd.pid()).size();
  EXPECT_TRUE(WaitUntil([&] { return Descriptors(dirtyd.pid()) == descriptors; }))
      << Descriptors(dirtyd.pid()) << " descriptors instead of " << descriptors;
  printf("[ MEMORY   ] %zu KiB, then %zu KiB\n", memory >> 10, ResidentBytes(dirtyd.pid()) >> 10);
  if (kMeasured) {
    EXPECT_LE(ResidentBytes(dirtyd.pid()), memory + memory / 20 + (4 << 20));
  }
  dirtyd.Stop(SIGTERM);
}

}  // namespace
}  // namespace dirty::integration
