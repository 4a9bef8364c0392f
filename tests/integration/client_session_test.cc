// The C++ client's session with a real dirtyd: that it dies and comes back, what a slow reader costs others, many
// threads.

#include <gmock/gmock.h>
#include <signal.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/integration/harness.h"

namespace dirty::integration {
namespace {

using client::Json;
using client::Reason;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kSlow[] = "libfaults.so:Slow";
constexpr char kEmitter[] = "libfaults.so:Emitter";

// Promised, where a program runs as users run it.
const seconds kPromptly = kMeasured ? seconds(2) : seconds(60);

client::CallOptions Within(seconds time) { return {.timeout = time}; }

TEST(ClientSession, AKilledDirtydLeavesOutcomesUnknownAtOnceAndTheNextOneIsFound) {
  Dirtyd dirtyd({kSlow, kEcho, kEmitter, "--workers", "2", "--threads", "8"});
  client::Client client = dirtyd.NewClient();
  for (int round = 0; round < Repetitions(3, 1); ++round) {
    ASSERT_TRUE(client.Execute(kEcho, "pid").ok());
    std::vector<std::future<client::Result>> waiting;
    for (int i = 0; i < 4; ++i) {
      waiting.push_back(std::async(std::launch::async, [&] {
        return client.Execute(kSlow, "wait_for_cancel", Json::array({0}), Json::object(), Within(seconds(300)));
      }));
    }
    client::Call call = client.ExecuteAsync(kSlow, "wait_for_cancel", Json::array({0}), Json::object());
    client::Stream stream = client.ExecuteStream(kEmitter, "count_and_wait", Json::array({1, "/nowhere"}));
    ASSERT_TRUE(stream.Next());
    ASSERT_TRUE(dirtyd.WaitForRunning(kSlow, 5));

    dirtyd.process().Signal(SIGKILL);
    const auto killed = steady_clock::now();
    for (auto& result : waiting) {
      const client::Result lost = result.get();
      EXPECT_EQ(lost.error().reason, Reason::kOutcomeUnknown);
      EXPECT_THAT(lost.error().message, HasSubstr("outcome unknown"));
      EXPECT_EQ(lost.error().app, kSlow);
    }
    EXPECT_EQ(call.Get().error().reason, Reason::kOutcomeUnknown);
    EXPECT_FALSE(stream.Next());
    EXPECT_EQ(stream.error()->reason, Reason::kOutcomeUnknown);
    EXPECT_LT(steady_clock::now() - killed, kPromptly);

    ASSERT_EQ(dirtyd.process().WaitExit().signal, SIGKILL);
    std::future<client::Result> first =
        std::async(std::launch::async, [&] { return client.Execute(kEcho, "pid", Json::array(), Json::object()); });
    dirtyd.Start();
    const auto back = steady_clock::now();
    EXPECT_TRUE(first.get().ok());
    EXPECT_LT(steady_clock::now() - back, kPromptly);
  }
}

TEST(ClientSession, AnIdleOneFindsTheNextDirtyd) {
  Dirtyd dirtyd({kEcho});
  client::Client client = dirtyd.NewClient();
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(client.Execute(kEcho, "pid").ok());
    dirtyd.Stop(SIGTERM);
    dirtyd.Start();
    const auto back = steady_clock::now();
    const client::Result result = client.Execute(kEcho, "pid");
    EXPECT_TRUE(result.ok()) << result.error().message;
    EXPECT_LT(steady_clock::now() - back, kPromptly);
  }
}

TEST(ClientSession, ThousandsOfCallsOfSixteenThreadsAreRight) {
  const int threads = 16, calls = Repetitions(1000, 100);
  Dirtyd dirtyd({kEcho, "--workers", "2"});
  client::Client client = dirtyd.NewClient();
  std::atomic<int> right = 0;
  {
    std::vector<std::jthread> all;
    for (int thread = 0; thread < threads; ++thread) {
      all.emplace_back([&, thread] {
        for (int i = 0; i < calls; ++i) {
          const Json value = Json::array({thread, i, std::string(i % 300, 'x')});
          const client::Result result = client.Execute(kEcho, "echo", Json::array({value}));
          right += result.ok() && result->result == value;
        }
      });
    }
  }
  EXPECT_EQ(right, threads * calls);
  EXPECT_EQ(dirtyd.App(kEcho).counters().ok(), static_cast<uint64_t>(threads * calls));
  dirtyd.ExpectCountersAddUp();
}

TEST(ClientSession, ASlowReaderIsNoBurdenForOthers) {
  constexpr int kBlocks = 300;
  constexpr size_t kBlock = 1 << 20;
  Dirtyd dirtyd({kEcho, kEmitter, "--workers", "2"});
  client::Client client = dirtyd.NewClient();
  ASSERT_TRUE(client.Execute(kEcho, "pid").ok());
  client::Stream slow = client.ExecuteStream(kEmitter, "blocks", Json::array({kBlocks, kBlock}));
  ASSERT_TRUE(slow.Next());
  const size_t ours = ResidentBytes(getpid()), its = ResidentBytes(dirtyd.pid());
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(client.Execute(kEcho, "echo", Json::array({i}), Json::object(), Within(seconds(10))).ok());
  }
  if (kMeasured) {
    EXPECT_LT(ResidentBytes(getpid()), ours + 64 * kBlock) << "the client reads far ahead";
    EXPECT_LT(ResidentBytes(dirtyd.pid()), its + 64 * kBlock) << "dirtyd reads far ahead";
  }
  int blocks = 1;
  while (std::optional<client::Chunk> chunk = slow.Next()) {
    EXPECT_EQ(chunk->value["i"], blocks);
    EXPECT_EQ(chunk->attachments.at(0), std::string(kBlock, static_cast<char>('a' + blocks % 26)));
    ++blocks;
  }
  EXPECT_FALSE(slow.error());
  EXPECT_EQ(blocks, kBlocks);
}

TEST(ClientSession, CancelledAndLateCallsFreeTheirSlots) {
  constexpr milliseconds kLate(kSanitized ? 200 : 20);
  Dirtyd dirtyd({kSlow, kEcho, "--workers", "1", "--threads", "4"});
  client::Client client = dirtyd.NewClient();
  for (int i = 0; i < 20; ++i) {
    client::Call call = client.ExecuteAsync(kSlow, "wait_for_cancel", Json::array({0}), Json::object());
    ASSERT_TRUE(dirtyd.WaitForRunning(kSlow, 1));
    call.Cancel();
    EXPECT_EQ(call.Get().error().reason, Reason::kCancelled);
    ASSERT_TRUE(dirtyd.WaitForRunning(kSlow, 0));
    const client::Result late =
        client.Execute(kSlow, "wait_for_cancel", Json::array({0}), Json::object(), {.timeout = kLate});
    EXPECT_EQ(late.error().reason, Reason::kTimeout);
    EXPECT_LE(late.error().timeout, kLate);
    EXPECT_NE(late.error().call_id, "") << "the arbiter's own answer";
  }
  dirtyd.ExpectCountersAddUp();
}

TEST(ClientSession, AClientOfAStoppedDirtydCanEnd) {
  using Transport = client::Options::Transport;
  Dirtyd dirtyd({kEcho});
  for (const Transport transport : {Transport::kAuto, Transport::kUnary}) {
    auto client = std::make_unique<client::Client>(dirtyd.NewClient({.transport = transport}));
    const std::string args = absl::StrCat("[\"", std::string(250'000, 'x'), "\"]");  // more than the socket takes
    std::vector<client::RawCall> calls;
    ASSERT_TRUE(client->Execute(kEcho, "pid").ok());
    for (int i = 0; i < 100; ++i) calls.push_back(client->ExecuteRawAsync(kEcho, "echo", args, ""));
    for (client::RawCall& call : calls) ASSERT_TRUE(call.Get().ok());  // and dirtyd takes much at once from now on
    calls.clear();
    dirtyd.process().Signal(SIGSTOP);
    ASSERT_TRUE(WaitUntil([&] { return ProcessState(dirtyd.pid()) == 'T'; }));
    for (int i = 0; i < 20; ++i) calls.push_back(client->ExecuteRawAsync(kEcho, "echo", args, ""));
    std::future<void> end = std::async(std::launch::async, [&] {
      client.reset();
      for (client::RawCall& call : calls) EXPECT_FALSE(call.Get().ok());
    });
    EXPECT_EQ(end.wait_for(seconds(30)), std::future_status::ready)
        << (transport == Transport::kUnary ? "calls of their own" : "a session");
    dirtyd.process().Signal(SIGCONT);
  }
}

TEST(ClientSession, WhatWasToldAsAnErrorIsTheSameEitherWay) {
  // Long enough for a process to exit.
  Dirtyd dirtyd({kEcho, kSlow, "libfaults.so:Faulty", "--workers", "1", "--timeout", kSanitized ? "5" : "0.5",
                 "--max_message_size", "1MiB"});
  client::Client session = dirtyd.NewClient();
  client::Client unary = dirtyd.NewClient({.transport = client::Options::Transport::kUnary});
  struct Case {
    const char *app, *action;
    Json args;
    Reason reason;
  };
  for (const Case& wrong : std::vector<Case>{
           {"libfaults.so:Nobody", "x", Json::array(), Reason::kAppNotFound},
           {kEcho, "", Json::array(), Reason::kInvalidRequest},
           {kEcho, "unheard_of", Json::array(), Reason::kAppError},
           {"libfaults.so:Faulty", "throw_runtime", Json::array({"what happened"}), Reason::kAppError},
           {"libfaults.so:Faulty", "throw_int", Json::array(), Reason::kAppError},
           {kEcho, "bytes", Json::array({3 << 19}), Reason::kTooLarge},
           {kSlow, "wait_for_cancel", Json::array({0}), Reason::kTimeout},
           {"libfaults.so:Faulty", "exit", Json::array({3}), Reason::kWorkerLost},
       }) {
    const client::Result on_session = session.Execute(wrong.app, wrong.action, wrong.args);
    dirtyd.WaitForWorkers(1);
    const client::Result alone = unary.Execute(wrong.app, wrong.action, wrong.args);
    dirtyd.WaitForWorkers(1);
    ASSERT_FALSE(on_session.ok());
    ASSERT_FALSE(alone.ok());
    const client::Error &a = on_session.error(), &b = alone.error();
    EXPECT_EQ(a.reason, wrong.reason) << a.message;
    EXPECT_EQ(a.reason, b.reason) << b.message;
    EXPECT_EQ(a.app, b.app);
    EXPECT_EQ(a.action, b.action);
    EXPECT_EQ(a.call_id.empty(), b.call_id.empty());
    EXPECT_EQ(a.exception_type, b.exception_type);
    EXPECT_EQ(a.exit_code, b.exit_code);
    EXPECT_EQ(a.signal, b.signal);
    EXPECT_EQ(a.timeout, b.timeout);
    EXPECT_EQ(a.retry_delay.has_value(), b.retry_delay.has_value());
    EXPECT_TRUE(a.message == b.message || a.worker_id != b.worker_id) << a.message << "\n" << b.message;
  }
}

}  // namespace
}  // namespace dirty::integration
