#include <gtest/gtest.h>

#include "server/dispatch/proto_time.h"
#include "server/dispatch/recent_times.h"

namespace dirty {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(600);

TEST(RecentTimes, NothingIsTold) {
  v1::Percentiles percentiles;
  RecentTimes().Describe(kStart, percentiles);
  EXPECT_EQ(percentiles.count(), 0u);
  EXPECT_FALSE(percentiles.has_p50());
}

TEST(RecentTimes, EachPercentileIsAtMostASixteenthAboveTheTrueOne) {
  for (absl::Duration unit : {absl::Microseconds(1), absl::Milliseconds(1), absl::Seconds(1), absl::Seconds(40)}) {
    RecentTimes times;
    for (int i = 1; i <= 1000; ++i) times.Add(kStart, unit * i);
    v1::Percentiles percentiles;
    times.Describe(kStart, percentiles);
    EXPECT_EQ(percentiles.count(), 1000u);
    auto near = [&](const google::protobuf::Duration& value, int truth) {
      EXPECT_GE(FromProto(value), unit * truth);
      EXPECT_LE(FromProto(value), unit * truth * (1 + 1.0 / 16) + absl::Microseconds(1)) << truth;
    };
    near(percentiles.p50(), 500);
    near(percentiles.p90(), 900);
    near(percentiles.p99(), 990);
    EXPECT_EQ(FromProto(percentiles.max()), unit * 1000);
  }
}

TEST(RecentTimes, TakesZeroNegativeAndEndless) {
  RecentTimes times;
  times.Add(kStart, absl::Seconds(-1));
  times.Add(kStart, absl::ZeroDuration());
  times.Add(kStart, absl::Hours(1000));
  v1::Percentiles percentiles;
  times.Describe(kStart, percentiles);
  EXPECT_EQ(percentiles.count(), 3u);
  EXPECT_EQ(FromProto(percentiles.max()), absl::Hours(1000));
}

TEST(RecentTimes, ForgetsAfterTwoMinutes) {
  RecentTimes times;
  times.Add(kStart, absl::Seconds(1));
  auto count = [&](absl::Duration later) {
    v1::Percentiles percentiles;
    times.Describe(kStart + later, percentiles);
    return percentiles.count();
  };
  EXPECT_EQ(count(absl::Seconds(119)), 1u);
  EXPECT_EQ(count(absl::Seconds(120)), 0u);
  times.Add(kStart + absl::Seconds(60), absl::Seconds(1));
  EXPECT_EQ(count(absl::Seconds(119)), 2u);
  EXPECT_EQ(count(absl::Seconds(120)), 1u);
  times.Add(kStart + absl::Hours(1), absl::Seconds(1));
  EXPECT_EQ(count(absl::Hours(1)), 1u);
}

}  // namespace
}  // namespace dirty
