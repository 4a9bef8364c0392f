// dirty-bench's command line and histogram.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tools/bench/histogram.h"
#include "tools/bench/options.h"

namespace dirty::bench {
namespace {

using std::chrono::hours;
using std::chrono::nanoseconds;
using ::testing::HasSubstr;

TEST(Histogram, IsExactForSmallValues) {
  Histogram histogram;
  for (int i = 1; i <= 1000; ++i) histogram.Add(nanoseconds(i));
  EXPECT_EQ(histogram.count(), 1000u);
  EXPECT_EQ(histogram.min(), nanoseconds(1));
  EXPECT_EQ(histogram.Percentile(0.5), nanoseconds(500));
  EXPECT_EQ(histogram.Percentile(0.999), nanoseconds(999));
  EXPECT_EQ(histogram.Percentile(1), nanoseconds(1000));
  EXPECT_EQ(histogram.max(), nanoseconds(1000));
  EXPECT_EQ(histogram.Mean(), nanoseconds(501));
}

TEST(Histogram, IsAtMostAThousandthAboveTheTruth) {
  std::mt19937_64 random(1);  // a fixed seed: the same values every time
  for (unsigned bits = 1; bits < 42; ++bits) {
    const auto value = nanoseconds(random() & ((uint64_t{1} << bits) - 1));
    Histogram histogram;
    for (nanoseconds one : {nanoseconds(0), value, nanoseconds(hours(1))}) histogram.Add(one);
    EXPECT_GE(histogram.Percentile(0.5), value);
    EXPECT_LE(histogram.Percentile(0.5).count(), value.count() + value.count() / 1000);
  }
}

TEST(Histogram, CountsWhatIsOutOfRangeAsTheNearest) {
  Histogram histogram;
  histogram.Add(nanoseconds(-5));
  EXPECT_EQ(histogram.max(), nanoseconds(0));
  histogram.Add(hours(100));
  EXPECT_GT(histogram.max(), hours(1));
  EXPECT_EQ(histogram.Percentile(1), histogram.max());
}

TEST(Histogram, MergesAsIfItHadCountedAll) {
  Histogram one, other, empty;
  for (int i = 1; i <= 100; ++i) (i % 2 == 0 ? one : other).Add(nanoseconds(i * 1000));
  one.Merge(other);
  one.Merge(empty);
  EXPECT_EQ(one.count(), 100u);
  EXPECT_EQ(one.min(), nanoseconds(1000));
  EXPECT_EQ(one.max(), nanoseconds(100000));
  EXPECT_NEAR(static_cast<double>(one.Percentile(0.5).count()), 50000, 50);
  EXPECT_EQ(empty.Percentile(0.5), nanoseconds(0));
}

Options Parsed(const std::vector<std::string>& words) {
  absl::StatusOr<Options> options = ParseOptions(words);
  EXPECT_TRUE(options.ok()) << options.status();
  return options.ok() ? *options : Options();
}

std::string WhatIsWrong(const std::vector<std::string>& words) {
  const absl::StatusOr<Options> options = ParseOptions(words);
  EXPECT_FALSE(options.ok()) << "it was accepted";
  EXPECT_THAT(std::string(options.status().message()), HasSubstr("; see dirty-bench --help"));
  return std::string(options.status().message());
}

TEST(CommandLine, KnowsItsOwnApp) {
  const Options options = Parsed({"--self", "python", "--workers=3"});
  EXPECT_EQ(options.app, "dirty_bench_app:Echo");
  EXPECT_EQ(options.action, "echo");
  EXPECT_EQ(options.args.size(), 104u);  // 100 bytes as a string in an array
  EXPECT_EQ(options.workers, 3u);
}

TEST(CommandLine, TakesSizes) {
  EXPECT_EQ(Parsed({"--self", "native", "--payload", "1KiB"}).args.size(), 1024u + 4);
  const Options options = Parsed({"--self", "native", "--attachment=1MiB"});
  EXPECT_EQ(options.attachment, 1u << 20);
  EXPECT_EQ(options.args, R"([{"$attachment":0}])");
}

TEST(CommandLine, MeasuresARunningDirtyd) {
  const Options options = Parsed({"--app", "a:A", "--action", "run", "--args", "[1]", "--kwargs={\"b\":2}",
                                  "--in_flight", "8", "--callers", "2", "--calls", "100", "--warmup", "0", "--json"});
  EXPECT_EQ(options.args, "[1]");
  EXPECT_EQ(options.kwargs, "{\"b\":2}");
  EXPECT_EQ(options.in_flight, 8u);
  EXPECT_EQ(options.calls, 100u);
  EXPECT_EQ(options.warm_up, absl::ZeroDuration());
  EXPECT_TRUE(options.json);
}

TEST(CommandLine, SaysWhatIsWrong) {
  EXPECT_THAT(WhatIsWrong({"--sefl"}), HasSubstr("unknown flag --sefl"));
  EXPECT_THAT(WhatIsWrong({"echo"}), HasSubstr("what is echo"));
  EXPECT_THAT(WhatIsWrong({}), HasSubstr("which --app and --action"));
  EXPECT_THAT(WhatIsWrong({"--self", "rust"}), HasSubstr("--self: rust is neither native nor python"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--callers", "0"}), HasSubstr("--callers: it starts at 1"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--callers"}), HasSubstr("--callers needs a value: N"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--json=1"}), HasSubstr("--json has no value"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--json", "--json"}), HasSubstr("--json is given twice"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--payload", "5GB"}), HasSubstr("--payload: 5GB is not a size"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--payload", "-1"}), HasSubstr("--payload: -1 is not a size"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--payload", "5GiB"}), HasSubstr("--payload: 5GiB is more than 1GiB"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--args", "{}"}), HasSubstr("--args: {} is not a JSON array"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--args", "[", "--payload", "1"}), HasSubstr("not a JSON array"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--payload", "1", "--attachment", "1"}),
              HasSubstr("--payload and --attachment do not go together"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--duration", "0"}), HasSubstr("--duration: 0 is too short"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--duration", "1s", "--calls", "5"}),
              HasSubstr("--duration and --calls do not go together"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--calls", "7", "--callers", "4", "--in-flight", "2"}),
              HasSubstr("--calls 7 is less than the 8 that are to be in flight"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--connections", "2"}), HasSubstr("more --connections than --callers"));
  EXPECT_THAT(WhatIsWrong({"--self", "native", "--transport", "udp"}),
              HasSubstr("udp is none of auto, session, unary"));
  EXPECT_THAT(WhatIsWrong({"--app", "a", "--action", "b", "--workers", "2"}), HasSubstr("--workers needs --self"));
}

}  // namespace
}  // namespace dirty::bench
