// What operators see: events as they happen, progress, and top in a terminal.

#include <gmock/gmock.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <future>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/loop/unique_fd.h"
#include "tests/integration/harness.h"
#include "tests/integration/load.h"

namespace dirty::integration {
namespace {

using client::Json;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Watch, TellsOfWorkersReloadsAndScaling) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 1")));
  Process text(dirtyd.Ctl({"watch"}));
  Process json(dirtyd.Ctl({"watch", "--json"}));
  Process interrupted(dirtyd.Ctl({"watch"}));
  // They watch once they have seen something.
  uint32_t workers = 2;
  for (Process* process : {&text, &json, &interrupted}) {
    ASSERT_TRUE(WaitUntil([&] {
      EXPECT_TRUE(Scale(dirtyd, workers++ % 2 + 1).ok());
      return !process->out().empty();
    }));
  }
  interrupted.Signal(SIGINT);
  EXPECT_EQ(interrupted.WaitExit().code, 0);
  ASSERT_TRUE(Reload(dirtyd).ok());
  const v1::WorkerStatus worker = dirtyd.WaitForWorkers(1).at(0);
  kill(worker.pid(), SIGKILL);
  for (const char* kind : {"\"worker_spawned\":", "\"worker_ready\":", "\"worker_draining\":", "\"worker_exited\":",
                           "\"reloaded\":", "\"rolling\":", "\"scaled\":"}) {
    EXPECT_TRUE(Json::accept(json.WaitForOutput(kind))) << kind;
  }
  EXPECT_THAT(json.WaitForOutput(absl::StrCat("\"worker_exited\":{\"worker_id\":", worker.id(), ",")),
              HasSubstr("\"signal\":\"SIGKILL\""));
  text.WaitForOutput(absl::StrCat("worker ", worker.id()));
  dirtyd.Stop(SIGTERM);
  EXPECT_EQ(text.WaitExit().code, 3) << text.err();
  EXPECT_EQ(json.WaitExit().code, 3) << json.err();
}

// Processor time of one thread of a process, or of all that it has or had, in ticks.
uint64_t Ticks(const std::string& stat) {
  const std::string text = ReadText(stat);
  const std::vector<std::string> fields = absl::StrSplit(text.substr(text.rfind(')') + 2), ' ');
  return std::stoull(fields.at(11)) + std::stoull(fields.at(12));
}

TEST(Metrics, TheirTextIsNotMadeByTheLoop) {
  const int apps = Repetitions(1000, 100);
  std::string config = "apps:\n";
  for (int i = 0; i < apps; ++i) absl::StrAppend(&config, "  - {app: libfaults.so:Echo, name: echo", i, "}\n");
  Dirtyd dirtyd({}, {.config = config});
  const client::Client client = dirtyd.NewClient();
  for (int i = 0; i < apps; ++i) ASSERT_TRUE(client.Execute(absl::StrCat("echo", i), "echo", Json::array({i})).ok());
  const std::string of_all = absl::StrCat("/proc/", dirtyd.pid(), "/stat");
  const std::string of_loop = absl::StrCat("/proc/", dirtyd.pid(), "/task/", dirtyd.pid(), "/stat");
  const uint64_t all = Ticks(of_all), loop = Ticks(of_loop);
  // At once: those that come while a text is made share the next one.
  std::vector<std::future<Ran>> asked;
  for (int i = 0; i < 10; ++i) {
    asked.push_back(std::async(std::launch::async, [&] { return RunProgram(dirtyd.Ctl({"metrics"})); }));
    if (i % 2 == 0) asked.back().wait();
  }
  for (std::future<Ran>& each : asked) {
    const Ran ran = each.get();
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_THAT(ran.out, HasSubstr(absl::StrCat("\ndirty_calls_total{app=\"echo", apps - 1, "\",outcome=\"ok\"} 1\n")));
    EXPECT_THAT(ran.out, EndsWith("\n"));
  }
  const uint64_t all_took = Ticks(of_all) - all, loop_took = Ticks(of_loop) - loop;
  printf("[ MEASURED ] the loop %d of %d ticks\n", static_cast<int>(loop_took), static_cast<int>(all_took));
  if (kMeasured) {
    EXPECT_LT(loop_took, all_took / 2);
  }
  // An end meanwhile is a clean one, for whoever still waits for a text too.
  asked.clear();
  for (int i = 0; i < 4; ++i) {
    asked.push_back(std::async(std::launch::async, [&] { return RunProgram(dirtyd.Ctl({"metrics"})); }));
  }
  dirtyd.Stop(SIGQUIT);
}

TEST(Dirtyctl, ReloadShowsProgress) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 1")));
  const Ran ran = RunProgram(dirtyd.Ctl({"reload"}));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("reloaded, generation 2\n"));
  EXPECT_THAT(ran.err, HasSubstr("worker 2"));
  const Ran quiet = RunProgram(dirtyd.Ctl({"reload", "--quiet"}));
  EXPECT_EQ(quiet.err, "");
  const Ran json = RunProgram(dirtyd.Ctl({"reload", "--json"}));
  EXPECT_TRUE(Json::accept(json.out)) << json.out;
  EXPECT_EQ(json.err, "");
  dirtyd.Stop(SIGTERM);
}

// dirtyctl top in a terminal of its own.
class InTerminal {
 public:
  InTerminal(const Words& command, unsigned short rows, unsigned short columns) {
    winsize size{.ws_row = rows, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    std::vector<char*> argv;
    words_ = command;
    for (std::string& word : words_) argv.push_back(word.data());
    argv.push_back(nullptr);
    setenv("TERM", "xterm", 1);
    int fd = -1;
    pid_ = forkpty(&fd, nullptr, nullptr, &size);
    if (pid_ == 0) {
      execv(argv[0], argv.data());
      _exit(127);
    }
    fd_ = UniqueFd(fd);
  }
  ~InTerminal() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  // Reads until all that was drawn since the last time holds `text`, or the end.
  std::string ReadUntil(const std::string& text) {
    std::string drawn;
    EXPECT_TRUE(WaitUntil([&] {
      char buffer[4096];
      const ssize_t count = read(fd_.get(), buffer, sizeof buffer);
      if (count > 0) drawn.append(buffer, static_cast<size_t>(count));
      return count <= 0 || absl::StrContains(drawn, text);
    })) << drawn;
    EXPECT_THAT(drawn, HasSubstr(text));
    return drawn;
  }
  void Write(const std::string& keys) const {
    EXPECT_EQ(write(fd_.get(), keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  void Resize(unsigned short rows, unsigned short columns) const {
    const winsize size{.ws_row = rows, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    ioctl(fd_.get(), TIOCSWINSZ, &size);
  }
  Exit WaitExit() const {
    int status = 0;
    Exit exit;
    exit.ended = WaitUntil([&] { return waitpid(pid_, &status, WNOHANG) == pid_; });
    if (WIFEXITED(status)) exit.code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) exit.signal = WTERMSIG(status);
    return exit;
  }
  pid_t pid() const { return pid_; }

 private:
  Words words_;
  pid_t pid_ = -1;
  UniqueFd fd_;
};

constexpr char kEnter[] = "\x1b[?1049h", kLeave[] = "\x1b[?1049l";

TEST(DirtyctlTop, DrawsInATerminalSurvivesARestartAndLeavesItAsItWas) {
  Deployment deployment;
  Dirtyd dirtyd({}, deployment.Options(OneApp("workers: 1")));
  client::Client client = dirtyd.NewClient();
  InTerminal top(dirtyd.Ctl({"top", "--interval", "50ms"}), 24, 80);
  top.ReadUntil(kEnter);
  top.ReadUntil("workers ready: default 1/1");
  HeldCall held(client, dirtyd.folder(), "held");
  top.ReadUntil(" hold ");
  held.Release();
  EXPECT_TRUE(held.Get().ok());
  top.Resize(1, 20);
  top.ReadUntil("\x1b[H" + absl::StrCat("dirtyd ", DIRTY_VERSION, "  pid ").substr(0, 20));
  top.Resize(24, 80);
  dirtyd.Stop(SIGTERM);
  top.ReadUntil("dirtyd cannot be reached: ");
  dirtyd.Start();
  top.ReadUntil("workers ready: default 1/1");
  top.Write("q");
  top.ReadUntil(kLeave);
  EXPECT_EQ(top.WaitExit().code, 0);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    SCOPED_TRACE(signal);
    InTerminal ended(dirtyd.Ctl({"top"}), 24, 80);
    ended.ReadUntil("workers ready: default 1/1");
    kill(ended.pid(), signal);
    ended.ReadUntil(kLeave);
    const Exit exit = ended.WaitExit();
    EXPECT_EQ(exit.code, signal == SIGINT ? 0 : -1);
    EXPECT_EQ(exit.signal, signal == SIGINT ? 0 : signal);
  }
  const Ran piped = RunProgram(dirtyd.Ctl({"top", "--count", "2", "--interval", "20ms"}));
  EXPECT_EQ(piped.code, 0) << piped.err;
  EXPECT_THAT(piped.out, AllOf(HasSubstr("workers ready: default 1/1"), Not(HasSubstr("\x1b"))));
  dirtyd.Stop(SIGTERM);
}

}  // namespace
}  // namespace dirty::integration
