#include <gmock/gmock.h>

#include "server/config/changes.h"
#include "tests/unit/config_testing.h"

namespace dirty {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Settings Load(const std::string& text) { return File(text).MustLoad(); }

TEST(Changes, NothingChanged) {
  Changes changes = Compare(Load("apps: [a:B]\n"), Load("apps: [a:B]\n"));
  EXPECT_THAT(changes.applied, IsEmpty());
  EXPECT_THAT(changes.needs_restart, IsEmpty());
}

struct Case {
  const char* before;
  const char* after;
  std::vector<std::string> applied;
  std::vector<std::string> needs_restart;
};

const Case kCases[] = {
    {"apps: [a:B]\n", "apps: [a:B]\nworkers: 3\n", {"pool default: workers 1 -> 3"}, {}},
    {"apps: [a:B]\n", "apps: [a:B, a:C]\n", {"pool default: app a:C added"}, {}},
    {"apps: [a:B, a:C]\n", "apps: [a:B]\n", {"pool default: app a:C removed"}, {}},
    {"apps: [a:B]\n",
     "apps: [a:B]\npools: [{name: p, workers: 2, apps: [c:D, c:E]}]\n",
     {"pool p added, workers 2, apps c:D, c:E"},
     {}},
    {"apps: [a:B]\npools: [{name: p, apps: [c:D]}]\n", "apps: [a:B]\n", {"pool p removed"}, {}},
    {"apps: [a:B]\ntimeout: 3\n", "apps: [{app: a:B, queue_size: 2}]\n", {"app a:B: timeout, queue_size"}, {}},
    // Values of env are nobody's business.
    {"apps: [a:B]\nenv: {KEY: secret}\n", "apps: [a:B]\nenv: {KEY: other}\n", {"pool default: env"}, {}},
    {"apps: [a:B]\n",
     "apps: [a:B]\nlog_level: debug\ngraceful_timeout: 1\nhooks: {dirty_post_fork: {exec: [x]}}\n",
     {"graceful_timeout, log_level, hooks"},
     {}},
    {"apps: [a:B]\n",
     "apps: [a:B]\nsocket: /x/y.sock\nsocket_mode: \"0600\"\nuser: www\nthreads: 2\n",
     {"pool default: threads"},
     {"socket: /run/dirty/dirty.sock -> /x/y.sock", "socket_mode: 0660 -> 0600", "user: \"\" -> www"}},
    {"apps: [a:B]\nnetwork: {address: 'h:1', insecure: true}\n",
     "apps: [a:B]\nnetwork: {address: 'localhost:1', token_file: /t}\n",
     {},
     {"network.address: h:1 -> localhost:1", "network.token_file: \"\" -> /t", "network.insecure: true -> false"}},
};

TEST(Changes, AreToldByKeyAndWhatNeedsARestartKeepsItsValue) {
  for (const Case& test : kCases) {
    SCOPED_TRACE(test.after);
    Settings before = Load(test.before);
    Changes changes = Compare(before, Load(test.after));
    EXPECT_THAT(changes.applied, ::testing::ElementsAreArray(test.applied));
    EXPECT_THAT(changes.needs_restart, ::testing::ElementsAreArray(test.needs_restart));
    // Once applied, only what needs a restart differs.
    Changes again = Compare(changes.settings, Load(test.after));
    EXPECT_THAT(again.applied, IsEmpty());
    EXPECT_EQ(again.needs_restart, changes.needs_restart);
    EXPECT_EQ(changes.settings.socket, before.socket);
  }
}

}  // namespace
}  // namespace dirty
