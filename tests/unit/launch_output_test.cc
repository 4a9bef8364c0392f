#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/observe/worker_output.h"
#include "server/supervise/worker_process.h"
#include "tests/unit/launch_support.h"

namespace dirty {
namespace {

using ::testing::ElementsAre;

class WorkerOutputTest : public ::testing::Test {
 protected:
  std::vector<std::string> Lines() { return log_.Lines("worker=4 stream=stderr"); }
  RecordingLog log_;
  WorkerOutput output_{4, "stderr", log_};
};

TEST_F(WorkerOutputTest, SplitsLinesWhereverTheReadsFall) {
  for (const char* data : {"a", "b\nc", "", "\n\nlast"}) output_.Append(data);
  EXPECT_THAT(Lines(), ElementsAre("ab", "c", ""));
  output_.Finish();
  output_.Finish();
  EXPECT_THAT(Lines(), ElementsAre("ab", "c", "", "last"));
  EXPECT_THAT(output_.Tail(), ElementsAre("ab", "c", "", "last"));
}

TEST_F(WorkerOutputTest, SplitsLongLines) {
  std::string longest(WorkerOutput::kLongestLine, 'x');
  output_.Append(longest + "\nnext\n");
  EXPECT_THAT(Lines(), ElementsAre(longest, "next"));
  output_.Append(longest + longest + "y\n");
  EXPECT_THAT(Lines(), ElementsAre(longest, "next", longest, longest, "y"));
}

TEST_F(WorkerOutputTest, BoundsWhatItKeepsOfALineWithoutEnd) {
  for (int i = 0; i < 100; ++i) output_.Append(std::string(1000, 'x'));
  EXPECT_EQ(Lines().size(), 100'000u / WorkerOutput::kLongestLine);
}

TEST_F(WorkerOutputTest, NeverCutsACharacter) {
  std::string text;
  while (text.size() < 3 * WorkerOutput::kLongestLine) text += "\u20ac";  // three bytes
  output_.Append(text + "\n");
  std::string joined;
  for (const std::string& line : Lines()) {
    EXPECT_EQ(line.find('\\'), std::string::npos);  // nothing had to be escaped
    joined += line;
  }
  EXPECT_EQ(joined, text);
  ASSERT_FALSE(output_.Tail().empty());
  EXPECT_EQ(output_.Tail().front().size(), 510u);  // 170 whole ones
}

TEST_F(WorkerOutputTest, EscapesWhatCouldForgeALogOrControlATerminal) {
  output_.Append("a\rb \x1b[31m \xff\xc3 \xc2\x9b \xed\xa0\x80 \xf0\x9f\x98\x80\ttab\r\n");
  output_.Append(absl::string_view("nul \0.\n", 7));
  EXPECT_THAT(Lines(),
              ElementsAre("a\\rb \\x1b[31m \\xff\\xc3 \\xc2\\x9b \\xed\\xa0\\x80 \xf0\x9f\x98\x80\ttab", "nul \\x00."));
}

TEST_F(WorkerOutputTest, KeepsTheLastLines) {
  for (int i = 1; i <= 25; ++i) output_.Append(absl::StrCat(i, "\n"));
  std::vector<std::string> tail = output_.Tail();
  ASSERT_EQ(tail.size(), WorkerOutput::kTailLines);
  EXPECT_EQ(tail.front(), "6");
  EXPECT_EQ(tail.back(), "25");
}

TEST_F(WorkerOutputTest, WhatADyingProcessSaysIsAWarning) {
  output_.Append("at work\n");
  EXPECT_EQ(log_.Levels(), std::vector<LogLevel>{LogLevel::kInfo});
  output_.Append("stacks of pid 7:\n  File \"a.py\"\n");
  EXPECT_EQ(log_.Levels(), (std::vector<LogLevel>{LogLevel::kInfo, LogLevel::kWarning, LogLevel::kWarning}));
}

TEST_F(WorkerOutputTest, LastWordsAreWhatTellsMost) {
  EXPECT_EQ(output_.LastWords(), "");
  output_.Append("one\ntwo\n");
  EXPECT_EQ(output_.LastWords(), "two");
}

// However deep the stack is, and whoever else has one.
TEST_F(WorkerOutputTest, LastWordsOfACrashInPythonAreWhatHappenedAndWhere) {
  output_.Append("x\nFatal Python error: Segmentation fault\n\n");
  EXPECT_EQ(output_.LastWords(), "Fatal Python error: Segmentation fault");
  output_.Append("Thread 0x1 (most recent call first):\n  File \"other.py\", line 1 in wait\n\n");
  output_.Append("Current thread 0x2 (most recent call first):\n  File \"bad.py\", line 3 in init\n");
  for (int i = 0; i < 40; ++i) output_.Append(absl::StrCat("  File \"deep.py\", line ", i, " in call\n"));
  output_.Append("\nThread 0x3 (most recent call first):\n  File \"third.py\", line 1 in wait\n");
  EXPECT_EQ(output_.LastWords(), "Fatal Python error: Segmentation fault, in File \"bad.py\", line 3 in init");
}

TEST_F(WorkerOutputTest, LastWordsOfAProcessThatHangsAreWhereTheAppIs) {
  output_.Append("stacks of pid 7:\nThread 0x1 (most recent call first):\n  <no Python frame>\n\n");
  EXPECT_EQ(output_.LastWords(), "");
  output_.Append(
      "Thread 0x2 (most recent call first):\n  File \"slow.py\", line 6 in load\n  File \"x.py\", line 1\n\n");
  output_.Append("Thread 0x3 (most recent call first):\n  File \"/p/dirty_worker/_run.py\", line 34 in run\n");
  EXPECT_EQ(output_.LastWords(), "it was in File \"slow.py\", line 6 in load");
}

}  // namespace
}  // namespace dirty
