// A client that floods its connection with HTTP/2 frames, headers or streams. Of most, dirtyd's memory stays bounded
// and others are served meanwhile. gRPC 1.51 is from 2022: it bounds no streams of a client that does not acknowledge
// its settings. Of those dirtyd recovers, and what they cost is known: docs/security.md.

#include <signal.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/integration/harness.h"
#include "tests/security/attacker.h"
#include "tests/unit/rpc_http2.h"

namespace dirty::security {
namespace {

using integration::Dirtyd;
using integration::kMeasured;
using integration::Repetitions;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kExecute[] = "/dirty.v1.Arbiter/Execute";
// Beyond what dirtyd has at rest, with max_memory_in_flight at kInFlight.
constexpr size_t kInFlight = 64 * kMiB;
constexpr size_t kRoom = 192 * kMiB;
// What a byte of an unbounded flood may cost: a stream is opened with 80.
constexpr size_t kFactor = 160;

std::string Repeat(const std::string& bytes, int times) {
  std::string all;
  all.reserve(bytes.size() * static_cast<size_t>(times));
  for (int i = 0; i < times; ++i) all += bytes;
  return all;
}

struct Flood {
  std::string name;
  bool bounded = true;
  Attacker::Reads reads = Attacker::Reads::kYes;
  // The bytes of round `i`; in the first one after the connection's own opening.
  std::function<std::string(uint32_t i)> bytes;
};

// Never the same twice: streams are numbered in order.
uint32_t StreamOf(uint32_t round, uint32_t i, uint32_t per_round) { return 1 + 2 * (round * per_round + i); }

std::vector<Flood> Floods() {
  using namespace http2;  // NOLINT(google-build-using-namespace)
  constexpr uint32_t kPerRound = 500;
  const std::string ping = Frame(kPing, 0, 0, std::string(8, 'p'));
  const std::string settings = Frame(kSettings, 0, 0, "");
  const std::string junk = Header("x-junk", std::string(120, 'j'));
  auto always = [](std::string bytes) { return [bytes = std::move(bytes)](uint32_t) { return bytes; }; };
  auto on_a_stream = [](std::string bytes) {
    return [bytes = std::move(bytes)](uint32_t i) { return (i == 0 ? Call(kExecute) : "") + bytes; };
  };
  // New streams in each round, with what is sent on each.
  auto streams = [](std::function<std::string(uint32_t stream)> bytes) {
    return [bytes = std::move(bytes)](uint32_t round) {
      std::string all;
      for (uint32_t i = 0; i < kPerRound; ++i) all += bytes(StreamOf(round, i, kPerRound));
      return all;
    };
  };
  return {
      {.name = "Pings", .bytes = always(Repeat(ping, kPerRound))},
      {.name = "PingsWhoseAnswersNobodyReads", .reads = Attacker::Reads::kNo, .bytes = always(Repeat(ping, kPerRound))},
      {.name = "Settings", .bytes = always(Repeat(settings, kPerRound))},
      {.name = "SettingsWhoseAnswersNobodyReads",
       .reads = Attacker::Reads::kNo,
       .bytes = always(Repeat(settings, kPerRound))},
      {.name = "WindowUpdates", .bytes = always(Repeat(OpenWindow(0, 1), kPerRound))},
      {.name = "Priorities", .bytes = always(Repeat(Frame(kPriority, 0, 1, Number(0) + "\x01"), kPerRound))},
      {.name = "FramesOfNoType", .bytes = always(Repeat(Frame(static_cast<FrameType>(0xee), 0, 0, "what"), kPerRound))},
      {.name = "EmptyData", .bytes = on_a_stream(Repeat(Frame(kData, 0, 1, ""), kPerRound))},
      {.name = "RapidReset", .bounded = false, .bytes = streams([](uint32_t stream) {
                                                 return Call(kExecute, stream) +
                                                        Frame(kResetStream, 0, stream, Number(8));
                                               })},
      {.name = "StreamsWithoutEnd", .bounded = false, .bytes = streams([](uint32_t stream) {
                                                        return Call(kExecute, stream);
                                                      })},
      {.name = "SessionsWithoutEnd", .bounded = false, .bytes = streams([](uint32_t stream) {
                                                         return Call("/dirty.v1.Arbiter/Session", stream);
                                                       })},
      {.name = "HealthWatchesWithoutEnd", .bounded = false, .bytes = streams([](uint32_t stream) {
                                                              return Call("/grpc.health.v1.Health/Watch", stream) +
                                                                     Frame(kData, kEndStream, stream,
                                                                           std::string(5, '\0'));
                                                            })},
      {.name = "HeadersWithoutEnd",
       .bytes =
           [junk](uint32_t i) {
             return i == 0 ? Frame(kHeaders, 0, 1, CallHeaders(kExecute))
                           : Repeat(Frame(kContinuation, 0, 1, Repeat(junk, 100)), 5);
           }},
      {.name = "HugeHeaders",
       .bytes =
           [junk](uint32_t round) {
             return Frame(kHeaders, 0, 1 + 2 * round, CallHeaders(kExecute)) +
                    Repeat(Frame(kContinuation, 0, 1 + 2 * round, Repeat(junk, 100)), 9) +
                    Frame(kContinuation, kEndHeaders, 1 + 2 * round, junk);
           }},
      {.name = "HeadersThatUnpack",
       .bytes =
           [](uint32_t round) {
             // One entry of the table, of 4,000 bytes, and 10,000 times a byte that stands for it: 40 MB in 10 kB.
             constexpr char kIndexed = '\x40', kFirstEntry = '\xbe';
             const std::string entry = std::string(1, kIndexed) + "\x01x" + "\x7f\xa1\x1e" + std::string(4000, 'e');
             return Frame(kHeaders, kEndHeaders, 1 + 2 * round,
                          CallHeaders(kExecute) + (round == 0 ? entry : "") + std::string(10000, kFirstEntry));
           }},
  };
}

class FloodTest : public testing::TestWithParam<Flood> {};

TEST_P(FloodTest, TakesNoMemoryAndHoldsUpNobody) {
  const Flood& flood = GetParam();
  Dirtyd dirtyd({kEcho, "--max_memory_in_flight", absl::StrCat(kInFlight)});
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  const size_t before = PeakBytes(dirtyd.pid());
  const size_t most = static_cast<size_t>(flood.bounded ? Repetitions(32, 4) : Repetitions(2, 1)) * kMiB;
  std::atomic<bool> enough = false;
  std::atomic<size_t> sent = 0;
  std::atomic<int> connections = 0;
  std::thread attack([&] {
    while (sent < most && !enough) {
      // As often as dirtyd closes it; not more often than a program can.
      ++connections;
      Attacker attacker(dirtyd.socket(), flood.reads);
      if (!attacker.connected() || !attacker.Send(http2::Preface(1 << 20), absl::Seconds(1))) continue;
      for (uint32_t i = 0; sent < most && !enough; ++i) {
        const std::string bytes = flood.bytes(i);
        if (!attacker.Send(bytes, absl::Seconds(1))) break;
        sent += bytes.size();
      }
    }
  });
  if (flood.bounded) ExpectOthersAreServed(dirtyd, kEcho);
  // All of it, unless dirtyd takes no more or closes every connection.
  const int tries = flood.reads == Attacker::Reads::kYes ? 200 : 2;
  EXPECT_TRUE(integration::WaitUntil([&] { return sent >= most || connections > tries; }));
  enough = true;
  attack.join();
  const size_t peak = PeakBytes(dirtyd.pid());
  printf("[ FLOOD    ] %s: %.1f MB in %d connections; memory %zu MiB before, %zu MiB at most\n", flood.name.c_str(),
         static_cast<double>(sent) / 1e6, connections.load(), before / kMiB, peak / kMiB);
  if (kMeasured) {
    EXPECT_LE(peak, before + kRoom + (flood.bounded ? 0 : kFactor * sent));
  }
  // The first call may wait until what was unbounded is through.
  EXPECT_TRUE(dirtyd.NewClient().Execute(kEcho, "echo", client::Json::array({1}), client::Json::object(), {}).ok());
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  dirtyd.Stop(SIGTERM);
}

INSTANTIATE_TEST_SUITE_P(Http2, FloodTest, testing::ValuesIn(Floods()),
                         [](const auto& flood) { return flood.param.name; });

}  // namespace
}  // namespace dirty::security
