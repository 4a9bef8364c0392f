// What only a session needs: many threads on one stream, who leads it, what ends with it and what does not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "dirty/client.h"
#include "tests/unit/client_fixture.h"

namespace dirty::client {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

// Answers once it is told to.
class Gate {
 public:
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    opened_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = false;
};

class ClientSession : public ClientTest {
 protected:
  ClientSession() : ClientTest(Way::kSession) {}

  // `block` until cancelled, `gate` until the gate opens, others at once, with the arguments.
  FakeArbiter::Handler Handler() {
    return [this](FakeCall& call, const v1::ExecuteRequest& request, v1::ExecuteResponse& response) {
      if (request.action() == "block") return FakeArbiter::Block(call, request, response);
      if (request.action() == "gate") gate_.Pass();
      response.set_result(request.args());
      *response.mutable_attachments() = request.attachments();
      return grpc::Status::OK;
    };
  }

  // Calls by `threads` at once; how many were right.
  static int Burst(const Client& client, int threads, int calls) {
    std::atomic<int> right = 0;
    {
      std::vector<std::jthread> all;
      for (int thread = 0; thread < threads; ++thread) {
        all.emplace_back([&, thread] {
          for (int i = 0; i < calls; ++i) {
            const Json args = Json::array({thread, i});
            const Result result = client.Execute("a", "b", args);
            right += result.ok() && result->result == args;
          }
        });
      }
    }
    return right;
  }

  Gate gate_;
};

TEST_F(ClientSession, EveryKindOfCallUsesIt) {
  Client client = Connect(Handler());
  EXPECT_TRUE(client.Execute("a", "b").ok());
  EXPECT_TRUE(client.ExecuteRaw("a", "b", "1", "").ok());
  EXPECT_TRUE(client.ExecuteRawAsync("a", "b", "1", "").Get().ok());
  Stream stream = client.ExecuteStream("a", "b", Json::array({2}));
  EXPECT_TRUE(stream.Next());
  EXPECT_TRUE(stream.Next());
  EXPECT_FALSE(stream.Next());
  EXPECT_FALSE(stream.error());
  EXPECT_EQ(arbiter_->on_sessions(), 4);
  EXPECT_EQ(arbiter_->received(), 4);
  EXPECT_EQ(arbiter_->sessions(), 1);
}

TEST_F(ClientSession, AnAsynchronousCallOpensOneForThoseThatFollow) {
  FakeArbiter arbiter(folder_ / "s.sock", Handler());
  Client client({.socket = folder_ / "s.sock"});
  for (int i = 0; arbiter.on_sessions() == 0; ++i) {
    ASSERT_LT(i, 10'000);
    ASSERT_TRUE(client.ExecuteRawAsync("a", "b", "1", "").Get().ok());
  }
}

TEST_F(ClientSession, LargeRequestsGoBesideItAndLargeResultsOnIt) {
  const std::string large(4 << 20, 'x');
  Client client = Connect([&](FakeCall&, const v1::ExecuteRequest& request, v1::ExecuteResponse& response) {
    response.set_result(std::to_string(request.attachments_size()));
    response.add_attachments(large);
    return grpc::Status::OK;
  });
  Result result = client.Execute("a", "b");
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->attachments[0], large);
  EXPECT_EQ(arbiter_->on_sessions(), 1);
  ASSERT_TRUE(client.Execute("a", "b", {}, {}, {.attachments = {large}}).ok());
  EXPECT_EQ(arbiter_->on_sessions(), 1);
  EXPECT_EQ(arbiter_->received(), 2);
}

TEST_F(ClientSession, TheArbitersLimitIsKnownBeforeSending) {
  Client client = Connect(Handler(), {}, {.max_message_size = 100'000});
  const CallOptions options{.attachments = {std::string(100'001, 'x')}};
  for (const Result& result :
       {client.Execute("a", "b", {}, {}, options), client.ExecuteAsync("a", "b", {}, {}, options).Get()}) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().reason, Reason::kTooLarge);
    EXPECT_THAT(result.error().message, HasSubstr("max_message_size is 100000"));
  }
  EXPECT_EQ(arbiter_->received(), 0);
}

TEST_F(ClientSession, TheLimitOfAnArbiterThatIsGoneIsForgotten) {
  Client client = Connect(Handler(), {}, {.max_message_size = 100'000});
  const std::string large(150'000, '1');
  EXPECT_EQ(client.ExecuteRaw("a", "b", large, "").error().reason, Reason::kTooLarge);
  arbiter_.reset();
  arbiter_ = std::make_unique<FakeArbiter>(folder_ / "dirty.sock", Handler(),
                                           FakeArbiter::Options{.max_message_size = 200'000});
  EXPECT_TRUE(client.ExecuteRaw("a", "b", large, "").ok());
  EXPECT_THAT(client.ExecuteRaw("a", "b", large + large, "").error().message, HasSubstr("max_message_size is 200000"));
}

TEST_F(ClientSession, CallsAboveItsNumberThatCameBeforeItsHelloGoBesideIt) {
  constexpr int kCalls = 5;
  std::array<std::atomic<int>, kCalls> asked{};
  auto before_hello = [&] {  // until each is on the session: only who waits for something is asked
    for (std::atomic<int>& times : asked) {
      times = 0;
      for (int seen = 0; (seen = times) < 2;) times.wait(seen);
    }
  };
  FakeArbiter arbiter(folder_ / "s.sock", Handler(), {.max_calls = 2, .before_hello = before_hello});
  Client client({.socket = folder_ / "s.sock"});
  std::vector<std::jthread> threads;
  for (std::atomic<int>& times : asked) {
    threads.emplace_back([&] {
      auto interrupted = [&times] {
        ++times;
        times.notify_all();
        return false;
      };
      EXPECT_TRUE(client.ExecuteRaw("a", "gate", "1", "", {.interrupted = interrupted}).ok());
    });
  }
  arbiter.WaitForCalls(kCalls);
  EXPECT_EQ(arbiter.on_sessions(), 2);
  EXPECT_EQ(arbiter.sessions(), 1);
  gate_.Open();
  threads.clear();
}

TEST_F(ClientSession, CallsAboveItsNumberLeaveNobodyBehind) {
  Client client = Connect(Handler(), {}, {.max_calls = 3});
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < 2; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) EXPECT_TRUE(client.ExecuteRawAsync("a", "b", "1", "").Get().ok());
    });
  }
  EXPECT_EQ(Burst(client, 3, 500), 1500);
}

TEST_F(ClientSession, CallsAboveItsNumberGoBesideIt) {
  Client client = Connect(Handler(), {}, {.max_calls = 2});
  std::vector<RawCall> calls;
  for (int i = 0; i < 5; ++i) calls.push_back(client.ExecuteRawAsync("a", "gate", "1", ""));
  arbiter_->WaitForCalls(5);
  EXPECT_EQ(arbiter_->on_sessions(), 2);
  EXPECT_TRUE(client.ExecuteRaw("a", "b", "1", "").ok());
  gate_.Open();
  for (RawCall& call : calls) EXPECT_TRUE(call.Get().ok());
}

TEST_F(ClientSession, SixteenThreadsShareIt) {
  Client client = Connect(Handler());
  EXPECT_EQ(Burst(client, 16, 1000), 16'000);
  EXPECT_EQ(arbiter_->on_sessions(), 16'000);
  EXPECT_EQ(arbiter_->sessions(), 1);
}

TEST_F(ClientSession, OneThatTimesOutWhileItLeadsHandsOver) {
  Client client = Connect(Handler());
  std::jthread leader(
      [&] { EXPECT_EQ(client.ExecuteRaw("a", "block", "", "", {.timeout = 1ms}).error().reason, Reason::kTimeout); });
  arbiter_->WaitForCalls(1);
  std::vector<std::jthread> followers;
  for (int i = 0; i < 4; ++i) {
    followers.emplace_back([&] { EXPECT_TRUE(client.ExecuteRaw("a", "gate", "1", "").ok()); });
  }
  arbiter_->WaitForCalls(5);
  leader.join();
  gate_.Open();
}

TEST_F(ClientSession, OneThatIsStoppedWhileItLeadsHandsOver) {
  Client client = Connect(Handler());
  for (int round = 1; round <= 50; ++round) {
    std::stop_source stop;
    std::jthread leader([&] {
      EXPECT_EQ(client.ExecuteRaw("a", "block", "", "", {.stop = stop.get_token()}).error().reason, Reason::kCancelled);
    });
    arbiter_->WaitForCalls(3 * round - 2);
    std::jthread follower([&] { EXPECT_TRUE(client.ExecuteRaw("a", "b", "1", "").ok()); });
    std::jthread stopper([&] { stop.request_stop(); });
    EXPECT_TRUE(client.ExecuteRaw("a", "b", "1", "").ok());
    arbiter_->WaitForCalls(3 * round);
  }
}

TEST_F(ClientSession, OneWhoseCallEndsWhileItLeadsHandsOver) {
  Client client = Connect(Handler());
  std::vector<std::jthread> waiting;
  for (int i = 0; i < 8; ++i) {
    waiting.emplace_back([&] { EXPECT_TRUE(client.ExecuteRaw("a", "gate", "1", "").ok()); });
  }
  arbiter_->WaitForCalls(8);
  EXPECT_EQ(Burst(client, 4, 100), 400);  // they come and go while the others wait
  gate_.Open();
}

TEST_F(ClientSession, CancelEndsOneAmongMany) {
  Client client = Connect(Handler());
  std::vector<RawCall> calls;
  for (int i = 0; i < 20; ++i) calls.push_back(client.ExecuteRawAsync("a", i == 7 ? "block" : "gate", "1", ""));
  arbiter_->WaitForCalls(20);
  calls[7].Cancel();
  EXPECT_TRUE(calls[7].WaitFor(10s));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(calls[i].WaitFor(0s), i == 7) << i;
  }
  gate_.Open();
  for (int i = 0; i < 20; ++i) {
    const RawResult result = calls[i].Get();
    EXPECT_EQ(result.ok(), i != 7) << i;
    if (i == 7) {
      EXPECT_EQ(result.error().reason, Reason::kCancelled);
    }
  }
}

TEST_F(ClientSession, EveryKindOfCallAtOnce) {
  Client client = Connect(Handler());
  std::atomic<int> right = 0;
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 9; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < 100; ++i) {
          const Json args = Json::array({thread, i});
          if (thread % 3 == 0) {
            const Result result = client.Execute("a", "b", args);
            right += result.ok() && result->result == args;
          } else if (thread % 3 == 1) {
            const Result result = client.ExecuteAsync("a", "b", args, {}).Get();
            right += result.ok() && result->result == args;
          } else {
            Stream stream = client.ExecuteStream("a", "b", Json::array({i}));
            int next = 0;
            while (std::optional<Chunk> chunk = stream.Next()) right -= chunk->value != next++;
            right += next == i && !stream.error();
          }
        }
      });
    }
  }
  EXPECT_EQ(right, 900);
  EXPECT_EQ(arbiter_->on_sessions(), 900);
}

TEST_F(ClientSession, ALongStreamBesideFastCalls) {
  Client client = Connect(Handler());
  Stream slow = client.ExecuteStream("a", "b", Json::array({5000}));
  ASSERT_TRUE(slow.Next());
  EXPECT_EQ(Burst(client, 4, 200), 800);  // nobody reads meanwhile
  int values = 1;
  while (std::optional<Chunk> chunk = slow.Next()) EXPECT_EQ(chunk->value, values++);
  EXPECT_FALSE(slow.error());
  EXPECT_EQ(values, 5000);
}

TEST_F(ClientSession, ReadyWakesWhoDoesNotWait) {
  Client client = Connect(Handler());
  Stream stream = client.ExecuteStream("a", "gate", Json::array({1000}));
  int values = 0;
  for (bool more = true; more;) {
    std::promise<void> woken;
    if (!stream.Ready([&woken] { woken.set_value(); })) woken.get_future().wait();
    more = stream.Next().has_value();
    values += more ? 1 : 0;
    if (values == 1000) gate_.Open();
  }
  EXPECT_EQ(values, 1000);
  EXPECT_FALSE(stream.error());
}

TEST_F(ClientSession, ABrokenSessionEndsItsCallsAndTheNextOneMakesAnother) {
  Client client = Connect(Handler());
  for (int round = 1; round <= 20; ++round) {
    std::vector<std::future<RawResult>> waiting;
    for (int i = 0; i < 3; ++i) {
      waiting.push_back(std::async(std::launch::async, [&] { return client.ExecuteRaw("a", "block", "", ""); }));
    }
    RawCall call = client.ExecuteRawAsync("a", "block", "", "");
    Stream stream = client.ExecuteStream("a", "block", Json::array({1}));
    EXPECT_TRUE(stream.Next());
    arbiter_->WaitForCalls(6 * round - 1);
    arbiter_->EndSessions();
    for (auto& result : waiting) EXPECT_EQ(result.get().error().reason, Reason::kOutcomeUnknown);
    const RawResult cut_off = call.Get();
    EXPECT_EQ(cut_off.error().reason, Reason::kOutcomeUnknown);
    EXPECT_THAT(cut_off.error().message, HasSubstr("outcome unknown: the connection to "));
    EXPECT_FALSE(stream.Next());
    EXPECT_EQ(stream.error()->reason, Reason::kOutcomeUnknown);
    EXPECT_TRUE(client.ExecuteRaw("a", "b", "1", "").ok());
    EXPECT_EQ(arbiter_->received(), 6 * round) << "a call was sent again";
    EXPECT_EQ(arbiter_->sessions(), round + 1);
  }
}

TEST_F(ClientSession, WhatAnArbiterThatShutsDownDidNotAnswerNeverStarted) {
  v1::Error said;
  said.set_reason(v1::REASON_SHUTTING_DOWN);
  said.set_message("dirtyd is shutting down");
  Client client = Connect(Handler(), {}, {.last_words = FakeArbiter::Refusal(grpc::UNAVAILABLE, said)});
  std::future<RawResult> waiting =
      std::async(std::launch::async, [&] { return client.ExecuteRaw("a", "block", "", ""); });
  arbiter_->WaitForCalls(1);
  for (const RawResult& result : {client.ExecuteRaw("a", "shut down", "", ""), waiting.get()}) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().reason, Reason::kShuttingDown);
    EXPECT_EQ(result.error().message, "dirtyd is shutting down");
  }
}

TEST_F(ClientSession, OneThatEndedWhileNobodyLookedCostsNoCall) {
  Client client = Connect(Handler());
  for (int round = 1; round <= 5; ++round) {
    arbiter_->EndSessions();
    arbiter_->WaitForSessionsToEnd();
    std::this_thread::sleep_for(20ms);  // the news arrives, but there is no event: nobody looks
    const RawResult result = client.ExecuteRaw("a", "b", "1", "");
    EXPECT_TRUE(result.ok()) << result.error().message;
  }
}

TEST_F(ClientSession, AnIdleOneOutlivesTheArbiter) {
  Client client = Connect(Handler());
  for (int round = 0; round < 10; ++round) {
    arbiter_->Stop();
    arbiter_->Start();
    const auto start = std::chrono::steady_clock::now();
    const RawResult result = client.ExecuteRaw("a", "b", "1", "");
    EXPECT_TRUE(result.ok()) << result.error().message;
    EXPECT_LT(std::chrono::steady_clock::now() - start, 2s);
  }
}

TEST_F(ClientSession, AStopDuringTheCallOfAnotherThreadHurtsNobody) {
  Client client = Connect(Handler());
  std::atomic<int> wrong = 0;
  std::atomic<bool> over = false;
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&] {
        while (!over) wrong += client.ExecuteRaw("a", "b", "1", "").ok() ? 0 : 1;
      });
    }
    for (int i = 0; i < 200; ++i) {
      std::stop_source stop;
      std::future<RawResult> stopped = std::async(
          std::launch::async, [&] { return client.ExecuteRaw("a", "block", "", "", {.stop = stop.get_token()}); });
      stop.request_stop();
      EXPECT_EQ(stopped.get().error().reason, Reason::kCancelled);
    }
    over = true;
  }
  EXPECT_EQ(wrong, 0) << "calls of others failed";
}

}  // namespace
}  // namespace dirty::client
