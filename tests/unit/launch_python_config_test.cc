// A configuration in Python, whose interpreter a shell plays.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>

#include "server/supervise/python_config.h"
#include "tests/unit/launch_support.h"

namespace dirty {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kEnd[] = "echo \"# end of gunicorn's configuration\"";

class PythonConfigTest : public ::testing::Test {
 protected:
  absl::StatusOr<PythonConfig> Read(const std::string& script) {
    std::ofstream(python_) << "#!/bin/sh\n" << script << "\n";
    chmod(python_.c_str(), 0755);
    return ReadPythonConfig(python_, "/python", "/srv/gunicorn.conf.py");
  }

  TestFolder folder_;
  const std::string python_ = folder_ / "python";
};

TEST_F(PythonConfigTest, IsWhatTheInterpreterPrints) {
  setenv("PYTHONPATH", "/mine", 1);
  absl::StatusOr<PythonConfig> config =
      Read(std::string("echo 'workers: 2'; echo \"chdir: $PYTHONPATH $*\"; echo warned >&2; ") + kEnd);
  unsetenv("PYTHONPATH");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->yaml, "workers: 2\nchdir: /python:/mine -m dirty_worker.gunicorn_config /srv/gunicorn.conf.py\n");
  EXPECT_EQ(config->notice, "");
}

TEST_F(PythonConfigTest, NamesWhatIsNotUsed) {
  absl::StatusOr<PythonConfig> config =
      Read(std::string("echo 'workers: 2'; echo '# unused: bind, certfile'; ") + kEnd);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->yaml, StartsWith("workers: 2\n"));
  EXPECT_EQ(config->notice, "settings of gunicorn that dirtyd does not use: bind, certfile");
}

TEST_F(PythonConfigTest, SaysWhatTheFileRaised) {
  EXPECT_EQ(Read("echo 'workers: 2'; echo Traceback >&2; echo 'NameError: x' >&2; exit 1").status().message(),
            "NameError: x (read by " + python_ + ")");
}

TEST_F(PythonConfigTest, HalfAConfigurationIsNone) {
  EXPECT_EQ(Read("echo 'workers: 2'").status().message(), "it ended without a word (read by " + python_ + ")");
}

TEST_F(PythonConfigTest, OneWithoutEndIsCutOff) {
  EXPECT_FALSE(Read("echo $$ > " + (folder_ / "pid") + "; while echo 'workers: 2'; do :; done").ok());
  std::ifstream file(folder_ / "pid");
  pid_t pid = 0;
  file >> pid;
  ASSERT_GT(pid, 0);
  EXPECT_TRUE(IsDeadSoon(pid));
}

TEST_F(PythonConfigTest, SaysWhichInterpreterCannotBeRun) {
  EXPECT_THAT(std::string(ReadPythonConfig("/no/such/python", "/python", "/x.py").status().message()),
              HasSubstr("cannot run /no/such/python"));
}

}  // namespace
}  // namespace dirty
