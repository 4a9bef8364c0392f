// Spellings of single values: durations, sizes, variables, paths, apps.

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/config/keys.h"
#include "server/config/values.h"

namespace dirty {
namespace {

TEST(Durations, AreReadInEverySpelling) {
  const std::pair<const char*, absl::Duration> cases[] = {
      {"0", absl::ZeroDuration()},        {"30", absl::Seconds(30)},
      {"0.25", absl::Milliseconds(250)},  {".5", absl::Milliseconds(500)},
      {"100ms", absl::Milliseconds(100)}, {"5s", absl::Seconds(5)},
      {"5m", absl::Minutes(5)},           {"1h", absl::Hours(1)},
      {"1.5h", absl::Minutes(90)},        {"1h30m", absl::Minutes(90)},
      {"20us", absl::Microseconds(20)},
  };
  for (const auto& [text, expected] : cases) {
    auto duration = ParseDuration(text);
    ASSERT_TRUE(duration.ok()) << duration.status();
    EXPECT_EQ(*duration, expected) << text;
  }
}

TEST(Durations, ThatAreNoneAreRefused) {
  for (const char* text : {"", "10 parsecs", "s", "ms", "1e3", "0x10", "inf", "nan", "5 s", "+5", ".", "1d", "5S"}) {
    EXPECT_EQ(ParseDuration(text).status().message(),
              absl::string_view(Quoted(text) + " is not a duration; use 30, 30s, 5m, 100ms"));
  }
  EXPECT_EQ(ParseDuration("-1").status().message(), "\"-1\" is negative");
  EXPECT_EQ(ParseDuration("-100ms").status().message(), "\"-100ms\" is negative");
  EXPECT_EQ(ParseDuration("999999999999999999h").status().message(),
            "\"999999999999999999h\" is longer than 100 years; 0 means no limit");
}

TEST(Durations, AreReadBackAsTheyAreWritten) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    // All magnitudes, from nanoseconds to years.
    absl::Duration duration = absl::Nanoseconds(static_cast<int64_t>(random() >> (3 + random() % 60)));
    EXPECT_EQ(*ParseDuration(SpellDuration(duration)), duration) << SpellDuration(duration);
  }
  EXPECT_EQ(SpellDuration(absl::Minutes(5)), "300s");
  EXPECT_EQ(SpellDuration(absl::Milliseconds(1500)), "1500ms");
}

TEST(Sizes, AreReadInEverySpelling) {
  EXPECT_EQ(*ParseSize("0"), 0u);
  EXPECT_EQ(*ParseSize("1000"), 1000u);
  EXPECT_EQ(*ParseSize("64KiB"), 65536u);
  EXPECT_EQ(*ParseSize("64MiB"), 67108864u);
  EXPECT_EQ(*ParseSize("1GiB"), 1073741824u);
  EXPECT_EQ(*ParseSize("18446744073709551615"), UINT64_MAX);
}

TEST(Sizes, ThatAreNoneAreRefused) {
  for (const char* text : {"", "MiB", "64MB", "64M", "1.5GiB", "64 MiB", "64KiBMiB", "0x10", "+1"}) {
    EXPECT_EQ(ParseSize(text).status().message(),
              absl::string_view(Quoted(text) + " is not a size; use 1048576, 64KiB, 64MiB, 1GiB"));
  }
  EXPECT_EQ(ParseSize("-64MiB").status().message(), "\"-64MiB\" is negative");
  EXPECT_EQ(ParseSize("18446744073709551616").status().message(), "\"18446744073709551616\" is too large");
  EXPECT_EQ(ParseSize("17179869184GiB").status().message(), "\"17179869184GiB\" is too large");
}

TEST(Sizes, AreReadBackAsTheyAreWritten) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 2000; ++i) {
    uint64_t size = (random() >> (random() % 64)) << (random() % 3 * 10);
    EXPECT_EQ(*ParseSize(SpellSize(size)), size);
  }
  EXPECT_EQ(SpellSize(64 << 20), "64MiB");
}

TEST(Variables, Expand) {
  const std::map<std::string, std::string> variables = {{"HOME", "/home/me"}, {"EMPTY", ""}, {"A_1", "x"}};
  const std::pair<const char*, const char*> cases[] = {
      {"plain", "plain"},
      {"${HOME}/a", "/home/me/a"},
      {"${A_1}${A_1}", "xx"},
      {"${EMPTY}", ""},
      {"${EMPTY:-d}", "d"},
      {"${UNSET:-d e:-f}", "d e:-f"},
      {"${UNSET:-}", ""},
      {"$${HOME}", "${HOME}"},
      {"$HOME $ $$", "$HOME $ $$"},
      {"$$${HOME}", "$${HOME}"},
      {"{worker_index}", "{worker_index}"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(*ExpandVariables(text, variables), expected) << text;
}

TEST(Variables, ThatAreUnsetOrMalformedAreRefused) {
  EXPECT_EQ(ExpandVariables("a${NOPE}", {}).status().message(),
            "the environment variable NOPE is not set; set it, or write ${NOPE:-default}");
  EXPECT_EQ(ExpandVariables("${HOME", {}).status().message(), "\"${HOME\" lacks its }; write $${ for a literal ${");
  for (const char* text : {"${}", "${1A}", "${A B}", "${:-x}", "${A:x}"}) {
    EXPECT_THAT(std::string(ExpandVariables(text, {}).status().message()), testing::HasSubstr("names no variable"));
  }
}

TEST(Paths, StartAtTheFolder) {
  EXPECT_EQ(AbsolutePath("a/b", "/etc"), "/etc/a/b");
  EXPECT_EQ(AbsolutePath("../b/", "/etc/x"), "/etc/b");
  EXPECT_EQ(AbsolutePath(".", "/etc"), "/etc");
  EXPECT_EQ(AbsolutePath("/a//b/./c/", "/etc"), "/a/b/c");
  EXPECT_EQ(AbsolutePath("/", "/etc"), "/");
}

TEST(Apps, AreLibrariesByTheirFileName) {
  for (const char* module : {"libx.so", "/a/libx.so", "libx.so.1", "libx.so.1.2"}) EXPECT_TRUE(IsLibrary(module));
  for (const char* module : {"libx", "a.so.b", "so", "app.js", "1", "1.2", ""}) EXPECT_FALSE(IsLibrary(module));
}

TEST(Quotes, KeepLinesWholeAndShort) {
  EXPECT_EQ(Quoted("a\nb"), "\"a\\nb\"");
  EXPECT_EQ(Quoted(std::string(101, 'x')), "\"" + std::string(100, 'x') + "...\"");
  EXPECT_EQ(Quoted(std::string(99, 'x') + "\u00e9y"), "\"" + std::string(99, 'x') + "...\"");  // not half a letter
}

TEST(Suggestions, AreNear) {
  const std::vector<std::string> words = {"workers", "timeout", "threads"};
  EXPECT_EQ(Nearest("worker", words), "workers");
  EXPECT_EQ(Nearest("tiemout", words), "timeout");
  EXPECT_EQ(Nearest("colour", words), "");
  EXPECT_EQ(DidYouMean("thread", words), "; did you mean \"threads\"?");
}

}  // namespace
}  // namespace dirty
