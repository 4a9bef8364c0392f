// The sanitizers find what is planted in a process that a test starts, and say so where ./tools/test looks: in its
// report. What they find in dirtyd and its workers would be lost otherwise, because a worker may die in a test.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace dirty {
namespace {

constexpr int kFound = 99;

TEST(Sanitizers, ReportWhatTheyFindInAChildIntoItsFile) {
  const struct {
    const char *sanitizer, *fault, *report;
  } table[] = {{"address", "leak", "4321 byte(s) leaked"},
               {"address", "stale", "heap-use-after-free"},
               {"undefined", "overflow", "signed integer overflow"},
               {"thread", "race", "data race"}};
  int planted = 0;
  for (const auto& row : table) {
    if (!absl::StrContains(DIRTY_SANITIZE, row.sanitizer)) continue;
    SCOPED_TRACE(row.fault);
    ++planted;
    char folder[] = "/tmp/dirty-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    const std::string options = absl::StrCat("log_path=", folder, "/report:exitcode=", kFound);
    const std::string command =
        absl::StrCat("ASAN_OPTIONS=", options, ":detect_leaks=1 UBSAN_OPTIONS=", options, ":print_stacktrace=1",
                     " TSAN_OPTIONS=", options, " ", DIRTY_PLANTED, " ", row.fault);
    const int status = std::system(command.c_str());
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kFound) << status;
    std::string text;
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
      std::ifstream report(file.path());
      text.append(std::istreambuf_iterator<char>(report), std::istreambuf_iterator<char>());
    }
    EXPECT_THAT(text, ::testing::HasSubstr(row.report));
    std::filesystem::remove_all(folder);
  }
  EXPECT_GT(planted, 0) << DIRTY_SANITIZE;
}

}  // namespace
}  // namespace dirty
