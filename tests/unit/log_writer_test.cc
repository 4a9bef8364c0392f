#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/loop/unique_fd.h"
#include "server/observe/log.h"
#include "tests/unit/launch_support.h"

namespace dirty {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class LogWriterTest : public ::testing::Test {
 protected:
  std::unique_ptr<LogWriter> Make(const std::string& file, LogFormat format = LogFormat::kText) {
    absl::StatusOr<std::unique_ptr<LogWriter>> log = MakeLogger({LogLevel::kInfo, format, file});
    EXPECT_TRUE(log.ok()) << log.status();
    return *std::move(log);
  }

  // Lines of the log without their times.
  std::vector<std::string> Lines(const std::string& file) {
    std::vector<std::string> lines = absl::StrSplit(ReadFile(file), '\n');
    EXPECT_EQ(lines.back(), "");  // the last one ends, too
    lines.pop_back();
    for (std::string& line : lines) line.erase(0, line.find(' ') + 1);
    return lines;
  }

  TestFolder folder_;
  std::string file_ = folder_ / "log";
};

TEST_F(LogWriterTest, WritesTimeLevelMessageAndFields) {
  Make(file_)->Info("ready: 2/2 workers",
                    {{"key", "value"}, {"quoted", "two words"}, {"empty", ""}, {"eq", "a=\"b\""}});
  EXPECT_THAT(ReadFile(file_), MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z INFO "
                                            "ready: 2/2 workers key=value quoted=\"two words\" "
                                            "eq=\"a=\\\\\"b\\\\\"\"\n"));
}

TEST_F(LogWriterTest, OneEventIsOneLine) {
  Make(file_)->Error("a\nb\x1b[0m \xff", {{"value", "c\nd"}, {"bad", "\xff"}});
  EXPECT_THAT(Lines(file_), ElementsAre("ERROR a\\nb\\x1b[0m \\xff value=\"c\\nd\" bad=\"\\ufffd\""));
}

TEST_F(LogWriterTest, WritesJson) {
  std::string message = "a \"quoted\"\\ \n\t\x1b \u20ac";
  Make(file_, LogFormat::kJson)->Warning(message, {{"worker", "1"}, {"bad", "x\xffy"}});
  std::string text = ReadFile(file_);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  nlohmann::json line = nlohmann::json::parse(text);
  EXPECT_EQ(line["message"], message);
  EXPECT_EQ(line["level"], "warning");
  EXPECT_EQ(line["worker"], "1");
  EXPECT_EQ(line["bad"], "x\ufffdy");
  EXPECT_TRUE(line.contains("time"));
}

TEST_F(LogWriterTest, LeavesOutWhatIsBelowTheLevel) {
  auto log = Make(file_);
  log->Debug("not this");
  EXPECT_FALSE(log->Enabled(LogLevel::kDebug));
  log->SetLevel(LogLevel::kDebug);
  log->Debug("this");
  log->SetLevel(LogLevel::kError);
  log->Warning("nor this");
  log.reset();
  EXPECT_THAT(Lines(file_), ElementsAre("DEBUG this"));
}

TEST_F(LogWriterTest, FlushWaitsForTheDisk) {
  auto log = Make(file_);
  for (int i = 0; i < 100; ++i) {
    log->Info(absl::StrCat("line ", i));
    log->Flush();
    ASSERT_EQ(Lines(file_).size(), static_cast<size_t>(i + 1));
  }
}

TEST_F(LogWriterTest, KeepsLinesOfManyThreadsWhole) {
  auto log = Make(file_);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&log, t] {
      for (int i = 0; i < 500; ++i) log->Info("from", {{"thread", absl::StrCat(t)}, {"line", absl::StrCat(i)}});
    });
  }
  for (std::thread& thread : threads) thread.join();
  log.reset();
  std::vector<std::string> lines = Lines(file_);
  ASSERT_EQ(lines.size(), 4000u);
  std::vector<int> next(8, 0);
  for (const std::string& line : lines) {
    int thread = -1, number = -1;
    ASSERT_EQ(sscanf(line.c_str(), "INFO from thread=%d line=%d", &thread, &number), 2) << line;
    ASSERT_EQ(next[static_cast<size_t>(thread)]++, number);
  }
}

TEST_F(LogWriterTest, ReopensAfterARotation) {
  auto log = Make(file_);
  log->Info("old");
  std::string rotated = folder_ / "log.1";
  log->Flush();
  ASSERT_EQ(rename(file_.c_str(), rotated.c_str()), 0);
  log->Info("still old");
  log->Reopen();
  log->Flush();
  log->Info("new");
  log.reset();
  EXPECT_THAT(Lines(rotated), ElementsAre("INFO old", "INFO still old"));
  EXPECT_THAT(Lines(file_), ElementsAre("INFO new"));
}

TEST_F(LogWriterTest, GoesOnInTheOldFileIfItCannotReopen) {
  auto log = Make(file_);
  log->SetOptions({LogLevel::kInfo, LogFormat::kText, "/no/such/folder/log"});
  log->Flush();
  log->Info("here");
  log.reset();
  EXPECT_THAT(Lines(file_),
              ElementsAre("ERROR the log was not reopened: log_file: /no/such/folder/log: No such file or directory",
                          "INFO here"));
}

TEST_F(LogWriterTest, SaysWhyAFileCannotBeOpened) {
  absl::StatusOr<std::unique_ptr<LogWriter>> log = MakeLogger({LogLevel::kInfo, LogFormat::kText, "/no/such/log"});
  EXPECT_EQ(log.status().message(), "log_file: /no/such/log: No such file or directory");
  // A pipe that nobody reads is told, too, not waited for.
  ASSERT_EQ(mkfifo(file_.c_str(), 0600), 0);
  EXPECT_FALSE(MakeLogger({LogLevel::kInfo, LogFormat::kText, file_}).ok());
}

TEST_F(LogWriterTest, WritesToStandardError) {
  UniqueFd saved(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
  UniqueFd file(open(file_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_EQ(dup2(file.get(), STDERR_FILENO), STDERR_FILENO);
  auto log = Make("-");
  ASSERT_EQ(dup2(saved.get(), STDERR_FILENO), STDERR_FILENO);
  log->Info("hello");
  log->Reopen();
  log.reset();
  EXPECT_THAT(Lines(file_), ElementsAre("INFO hello"));
}

TEST_F(LogWriterTest, NobodyWaitsForAReaderThatDoesNotReadAndLossesAreCounted) {
  ASSERT_EQ(mkfifo(file_.c_str(), 0600), 0);
  UniqueFd reader(open(file_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  auto log = Make(file_);
  const size_t total = 10'000;  // of 1 kB each: more than the pipe and the queue hold
  for (size_t i = 0; i < total; ++i) log->Info(std::string(1000, 'x'));

  ASSERT_EQ(fcntl(reader.get(), F_SETFL, 0), 0);
  std::string text;
  std::thread reading([&] {
    char data[65536];
    ssize_t size;
    while ((size = read(reader.get(), data, sizeof data)) > 0) text.append(data, static_cast<size_t>(size));
  });
  log.reset();
  reading.join();
  std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  ASSERT_THAT(lines.back(), HasSubstr(" lines of this log were lost: it could not be written"));
  size_t lost = 0;
  std::vector<std::string> words = absl::StrSplit(lines.back(), ' ');
  ASSERT_TRUE(absl::SimpleAtoi(words[2], &lost));
  EXPECT_GT(lost, 0u);
  EXPECT_EQ(lines.size() - 1 + lost, total);
}

TEST_F(LogWriterTest, AnExitWaitsOnlySoLongForAReader) {
  ASSERT_EQ(mkfifo(file_.c_str(), 0600), 0);
  UniqueFd reader(open(file_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  auto log = Make(file_);
  for (int i = 0; i < 100; ++i) log->Info(std::string(1000, 'x'));
  absl::Time start = absl::Now();
  log.reset();
  EXPECT_GE(absl::Now() - start, kLogFlushLimit - absl::Milliseconds(100));
  EXPECT_LT(absl::Now() - start, kLogFlushLimit + absl::Seconds(20));
}

TEST_F(LogWriterTest, TellsOfLinesThatAFullDiskLost) {
  auto log = Make("/dev/full");
  log->Info("one");
  log->Flush();
  log->Info("two");
  log->Flush();
  log->SetOptions({LogLevel::kInfo, LogFormat::kText, file_});
  log->Flush();
  log->Info("three");
  log.reset();
  EXPECT_THAT(Lines(file_),
              ElementsAre("INFO three", "WARNING 2 lines of this log were lost: it could not be written"));
}

TEST_F(LogWriterTest, ALostReaderIsNoSignal) {
  ASSERT_EQ(mkfifo(file_.c_str(), 0600), 0);
  UniqueFd reader(open(file_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  auto log = Make(file_);
  reader.Reset();
  log->Info("nobody reads this");
  log->Flush();
}

TEST(LogLevelTest, IsParsed) {
  LogLevel level = LogLevel::kInfo;
  EXPECT_TRUE(ParseLogLevel("warning", &level));
  EXPECT_EQ(level, LogLevel::kWarning);
  EXPECT_FALSE(ParseLogLevel("loud", &level));
}

}  // namespace
}  // namespace dirty
