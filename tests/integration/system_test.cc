// dirtyd and the system around it: memory limits, isolation, hooks, systemd.

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/loop/unique_fd.h"
#include "tests/integration/harness.h"

namespace dirty::integration {
namespace {

using client::Json;
using client::Reason;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kFaulty[] = "libfaults.so:Faulty";
constexpr uid_t kNobody = 65534;

// --- Memory ---

// Two pools, one of which may have 64 MiB a worker.
constexpr char kLimitedPool[] =
    "apps: ['libfaults.so:Echo']\n"
    "pools:\n"
    "  - {name: small, apps: ['libfaults.so:Faulty'], workers: 2, memory_limit: 64MiB}\n";

// Whether this user can make a memory control group here: dirtyd's own way to find out is what is tested.
bool MemoryGroupsWork() {
  for (absl::string_view line : absl::StrSplit(ReadText("/proc/self/cgroup"), '\n')) {
    std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || (parts[1] != "memory" && !parts[1].empty())) continue;
    std::string path = absl::StrCat("/sys/fs/cgroup", parts[1].empty() ? "" : "/memory", parts[2]);
    if (parts[1].empty() && !absl::StrContains(ReadText(path + "/cgroup.controllers"), "memory")) continue;
    // Of version 2: with other processes in our group, such as this one, dirtyd cannot limit groups below it.
    if (parts[1] == "memory" && access((path + "/cgroup.procs").c_str(), W_OK) == 0) return true;
  }
  return false;
}

TEST(Memory, AWorkerBeyondItsLimitDiesOfItAndNobodyElse) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's shadow memory is beyond any limit";
  if (!MemoryGroupsWork()) GTEST_SKIP() << "no memory control group of version 1 that this user may write to";
  Dirtyd dirtyd({}, {.config = kLimitedPool});
  std::vector<v1::WorkerStatus> before = dirtyd.WaitForWorkers(3);
  client::Client client = dirtyd.NewClient();
  client::Result result = client.Execute(kFaulty, "leak", Json::array({256 << 20}));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().reason, Reason::kWorkerLost) << result.error().message;
  std::vector<v1::WorkerStatus> after = dirtyd.WaitForWorkers(3);
  v1::StatusResponse status = dirtyd.Status();
  ASSERT_EQ(status.exits_size(), 1) << status.DebugString();
  EXPECT_EQ(status.exits(0).reason(), "out of memory");
  EXPECT_EQ(status.exits(0).signal(), "SIGKILL");
  std::set<uint32_t> survivors;
  for (const v1::WorkerStatus& worker : after) survivors.insert(worker.id());
  for (const v1::WorkerStatus& worker : before) {
    EXPECT_EQ(survivors.count(worker.id()), worker.id() == status.exits(0).worker_id() ? 0u : 1u);
  }
  // Killed otherwise, it is not blamed on memory.
  kill(after.back().pid(), SIGKILL);
  EXPECT_TRUE(WaitUntil([&] { return dirtyd.Status().exits_size() == 2; }));
  v1::StatusResponse later = dirtyd.Status();
  for (const v1::WorkerExit& exit : later.exits()) {
    EXPECT_EQ(exit.reason() == "out of memory", exit.worker_id() == status.exits(0).worker_id()) << exit.DebugString();
  }
  EXPECT_TRUE(client.Execute(kEcho, "echo", Json::array({1})).ok());
}

TEST(Memory, WithoutAGroupALimitSaysWhatToDo) {
  if (!IsRoot()) GTEST_SKIP() << "only root can become somebody who may not make control groups";
  Folder folder;
  ASSERT_EQ(chown(folder.path().c_str(), kNobody, kNobody), 0);
  const std::string config = folder / "dirty.yaml";
  std::ofstream(config) << kLimitedPool;
  Process dirtyd({Program("dirtyd"), "--config", config, "--runtime_dir", folder / "rt", "--library_path", TestApps()},
                 {.uid = kNobody});
  EXPECT_THAT(dirtyd.WaitForLine("memory_limit: "),
              AllOf(HasSubstr("no control group can be made"), HasSubstr("Delegate=yes")));
  dirtyd.Signal(SIGQUIT);
  EXPECT_EQ(dirtyd.WaitExit().code, 0);
}

// --- Threads ---

// How many threads and processes its user may have for this process to make another.
void LimitProcesses(const Process& process, const Process::Options& user, int limit) {
  const Ran ran = RunProgram(
      {"/usr/bin/prlimit", "--pid", absl::StrCat(process.pid()), absl::StrCat("--nproc=", limit, ":")}, user);
  EXPECT_EQ(ran.code, 0) << ran.err;
}

// As a user who has no other processes.
class Threads : public ::testing::Test {
 protected:
  Threads() {
    if (!IsRoot()) return;
    options_.uid = kNobody;
    EXPECT_EQ(chown(folder_.path().c_str(), kNobody, kNobody), 0);
  }

  Folder folder_;
  Process::Options options_;
};

TEST_F(Threads, ThatCannotBeHadAtTheStartAreAClearError) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer needs threads of its own";
  const Ran ran = RunProgram(
      {"/usr/bin/prlimit", "--nproc=1:1", Program("dirtyd"), kEcho, "--runtime_dir", folder_ / "rt"}, options_);
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("dirtyd: cannot start a thread: "), HasSubstr("ulimit -u")));
}

TEST_F(Threads, ThatCannotBeHadRefuseAReloadAndDelayTheEnd) {
  Process dirtyd({Program("dirtyd"), kEcho, "--runtime_dir", folder_ / "rt", "--library_path", TestApps()}, options_);
  ASSERT_NE(dirtyd.WaitForLine(" ready: "), "");
  auto admin = v1::Admin::NewStub(AdminChannel(folder_ / "rt/admin.sock"));
  auto reload = [&] {
    Context context;
    v1::ReloadResponse response;
    return admin->Reload(&context, {}, &response);
  };
  LimitProcesses(dirtyd, options_, 0);
  grpc::Status status = reload();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("cannot start a thread"));
  LimitProcesses(dirtyd, options_, 10000);
  status = reload();
  EXPECT_TRUE(status.ok()) << status.error_message();

  LimitProcesses(dirtyd, options_, 0);
  dirtyd.Signal(SIGTERM);
  EXPECT_NE(dirtyd.WaitForLine("the end has to wait: cannot start a thread"), "");
  LimitProcesses(dirtyd, options_, 10000);
  EXPECT_EQ(dirtyd.WaitExit().code, 0);
  EXPECT_THAT(dirtyd.err(), Not(HasSubstr("without closing")));
}

TEST_F(Threads, ThatCannotBeHadDoNotDelayTheEndForEver) {
  Process dirtyd({Program("dirtyd"), kEcho, "--runtime_dir", folder_ / "rt", "--library_path", TestApps()}, options_);
  ASSERT_NE(dirtyd.WaitForLine(" ready: "), "");
  LimitProcesses(dirtyd, options_, 0);
  dirtyd.Signal(SIGTERM);
  EXPECT_EQ(dirtyd.WaitExit().code, 0);
  EXPECT_NE(dirtyd.WaitForLine("ended without closing the server: cannot start a thread"), "");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "rt"));
}

// --- Isolation ---

TEST(Isolation, AWorkerSharesNothingButItsOutput) {
  Dirtyd dirtyd({kEcho});
  pid_t worker = dirtyd.ReadyWorkers().at(0).pid();
  auto open_files = [](pid_t pid) {
    std::set<std::string> files;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/fd"), error)) {
      std::string target = std::filesystem::read_symlink(entry.path(), error).string();
      if (absl::StartsWith(target, "pipe:") || absl::StartsWith(target, "socket:")) files.insert(target);
    }
    return files;
  };
  std::set<std::string> of_dirtyd = open_files(dirtyd.pid()), of_worker = open_files(worker), shared;
  std::set_intersection(of_dirtyd.begin(), of_dirtyd.end(), of_worker.begin(), of_worker.end(),
                        std::inserter(shared, shared.end()));
  EXPECT_EQ(shared.size(), 2u) << "standard output and error, and no other";
  EXPECT_THAT(ReadText(absl::StrCat("/proc/", worker, "/status")), HasSubstr("NoNewPrivs:\t1"));
  EXPECT_EQ(getsid(worker), worker);
  EXPECT_EQ(getpgid(worker), worker);
}

TEST(Isolation, GrandchildrenGoWithTheWorkerHoweverItEnds) {
  Dirtyd dirtyd({kFaulty});
  client::Client client = dirtyd.NewClient();
  for (const char* end : {"exit", "kill"}) {
    SCOPED_TRACE(end);
    client::Result child = client.Execute(kFaulty, "hold_descriptors", Json::array());
    ASSERT_TRUE(child.ok());
    pid_t pid = child->result.get<pid_t>();
    EXPECT_NE(ProcessState(pid), '\0');
    uint32_t id = dirtyd.ReadyWorkers().at(0).id();
    EXPECT_FALSE(client.Execute(kFaulty, end, Json::array({0})).ok());
    EXPECT_TRUE(WaitUntil([&] {
      char state = ProcessState(pid);
      return state == '\0' || state == 'Z';
    }));
    EXPECT_TRUE(dirtyd.WaitForWorker(id + 1));
  }
}

TEST(Isolation, TheServiceManagersVariablesAreDirtydsAlone) {
  Dirtyd dirtyd({kEcho, "--env", "PLACE=at {worker_index}"},
                {.process = {.environment = {"NOTIFY_SOCKET=/nowhere", "LISTEN_FDS=1", "LISTEN_PID=1",
                                             "WATCHDOG_USEC=1", "WATCHDOG_PID=1"}}});
  client::Client client = dirtyd.NewClient();
  for (const char* name : {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
    client::Result result = client.Execute(kEcho, "env", Json::array({name}));
    ASSERT_FALSE(result.ok()) << name;
    EXPECT_THAT(result.error().message, HasSubstr("is not set"));
  }
  EXPECT_EQ(client.Execute(kEcho, "env", Json::array({"PLACE"}))->result, "at 0");
}

// --- Hooks ---

// Appends each event to a file, one a line.
std::string RecordingHooks(const std::string& file) {
  std::string hook = absl::StrCat("{exec: [sh, -c, 'cat >> ", file, "']}\n");
  return absl::StrCat("hooks:\n  on_dirty_starting: ", hook, "  dirty_post_fork: ", hook, "  dirty_worker_init: ", hook,
                      "  dirty_worker_exit: ", hook);
}

std::vector<Json> Events(const std::string& file) {
  std::vector<Json> events;
  for (absl::string_view line : absl::StrSplit(ReadText(file), '\n', absl::SkipEmpty())) {
    events.push_back(Json::parse(std::string(line), nullptr, /*allow_exceptions=*/false));
  }
  return events;
}

TEST(Hooks, AreToldOfAWorkersLife) {
  Folder folder;
  std::string file = folder / "events";
  Dirtyd dirtyd({}, {.config = absl::StrCat("apps: ['libfaults.so:Faulty']\n", RecordingHooks(file))});
  v1::WorkerStatus worker = dirtyd.ReadyWorkers().at(0);
  client::Client client = dirtyd.NewClient();
  EXPECT_FALSE(client.Execute(kFaulty, "exit", Json::array({3})).ok());
  EXPECT_TRUE(dirtyd.WaitForWorker(worker.id() + 1));
  dirtyd.Stop(SIGTERM);
  std::vector<Json> events = Events(file), of_worker;
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events[0]["hook"], "on_dirty_starting");
  EXPECT_EQ(events[0]["apps"], Json::array({kFaulty}));
  for (const Json& event : events) {
    EXPECT_EQ(event["arbiter_pid"], dirtyd.pid());
    if (event.contains("worker") && event["worker"]["id"] == worker.id()) of_worker.push_back(event);
  }
  ASSERT_EQ(of_worker.size(), 3u) << "forked, initialised, gone";
  EXPECT_EQ(of_worker[0]["hook"], "dirty_post_fork");
  EXPECT_EQ(of_worker[0]["worker"]["pid"], worker.pid());
  EXPECT_EQ(of_worker[1]["hook"], "dirty_worker_init");
  EXPECT_EQ(of_worker[2]["hook"], "dirty_worker_exit");
  EXPECT_EQ(of_worker[2]["exit"]["exit_code"], 3);
  EXPECT_EQ(std::count_if(events.begin(), events.end(), [](const Json& e) { return e["hook"] == "dirty_worker_exit"; }),
            2)
      << "also of the one that the shutdown ended";
}

TEST(Hooks, AFailureAtTheStartStopsIt) {
  Folder folder;
  const std::string config = folder / "dirty.yaml";
  std::ofstream(config)
      << "apps: ['libfaults.so:Echo']\n"
         "hooks:\n  on_dirty_starting: {exec: [sh, -c, 'echo the licence has expired >&2; exit 4']}\n";
  Ran ran =
      RunProgram({Program("dirtyd"), "--config", config, "--runtime_dir", folder / "rt", "--library_path", TestApps()});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, HasSubstr("hook on_dirty_starting failed: exited with 4: the licence has expired"));
  EXPECT_FALSE(Exists(folder / "rt"));
}

TEST(Hooks, AFailureOfAnInitFailsThatStartAlone) {
  Folder folder;
  std::string broken = folder / "broken";
  Touch(broken);
  Dirtyd dirtyd({}, {.config = absl::StrCat("apps: ['libfaults.so:Echo']\n"
                                            "hooks:\n  dirty_worker_init: {exec: [sh, -c, 'test ! -e ",
                                            broken, "']}\n"),
                     .ready = false});
  dirtyd.process().WaitForLine("hook dirty_worker_init failed: exited with 1");
  EXPECT_THAT(dirtyd.ReadyWorkers(), IsEmpty());
  std::filesystem::remove(broken);
  dirtyd.WaitForWorkers(1);
  EXPECT_TRUE(dirtyd.NewClient().Execute(kEcho, "echo", Json::array({1})).ok());
}

// --- systemd ---

// Plays the service manager that dirtyd notifies.
class ServiceManager {
 public:
  explicit ServiceManager(const std::string& path)
      : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }

  // Waits for a message that begins so; what came before it is in all().
  std::string WaitFor(absl::string_view prefix) {
    std::string found;
    WaitUntil([&] {
      char data[4096];
      ssize_t size = read(fd_.get(), data, sizeof data);
      if (size <= 0) return false;
      all_.emplace_back(data, static_cast<size_t>(size));
      if (absl::StartsWith(all_.back(), prefix)) found = all_.back();
      return !found.empty();
    });
    return found;
  }
  const Words& all() const { return all_; }

 private:
  UniqueFd fd_;
  Words all_;
};

TEST(Systemd, IsToldOfReadyReloadAndStop) {
  Folder folder;
  ServiceManager manager(folder / "notify");
  Dirtyd dirtyd(
      {}, {.config = "apps: ['libfaults.so:Echo']\n",
           .process = {.environment = {absl::StrCat("NOTIFY_SOCKET=", folder / "notify"), "WATCHDOG_USEC=2000000"}}});
  EXPECT_EQ(manager.WaitFor("READY=1"), absl::StrCat("READY=1\nMAINPID=", dirtyd.pid()));
  EXPECT_THAT(manager.WaitFor("STATUS="), Not(IsEmpty()));
  EXPECT_THAT(manager.WaitFor("WATCHDOG=1"), Not(IsEmpty()));
  dirtyd.process().Signal(SIGHUP);
  EXPECT_THAT(manager.WaitFor("RELOADING=1"), MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+"));
  EXPECT_EQ(manager.WaitFor("READY=1"), "READY=1");
  dirtyd.Stop(SIGTERM);
  EXPECT_EQ(manager.WaitFor("STOPPING=1"), "STOPPING=1");
}

TEST(Systemd, AWatchdogOfAnotherProcessGetsNoPings) {
  Folder folder;
  ServiceManager manager(folder / "notify");
  Dirtyd dirtyd({kEcho}, {.process = {.environment = {absl::StrCat("NOTIFY_SOCKET=", folder / "notify"),
                                                      "WATCHDOG_USEC=1000000", "WATCHDOG_PID=1"}}});
  manager.WaitFor("READY=1");
  EXPECT_THAT(manager.all(), Not(Contains("WATCHDOG=1"))) << "it was meant for another process";
}

// Listens on the paths and becomes the program, as systemd does. Arguments: names joined by ':', paths joined by ':',
// then the program.
constexpr char kActivate[] = R"(
import os, socket, sys
names, paths, program = sys.argv[1], sys.argv[2].split(':'), sys.argv[3:]
sockets = []
for path in paths:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    sockets.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    sockets[-1].bind(path)
    os.chmod(path, 0o600)
    sockets[-1].listen(16)
held = [os.dup(s.fileno()) for s in sockets]
held = [os.dup2(fd, 100 + i) for i, fd in enumerate(held)]
for i, fd in enumerate(held):
    os.dup2(fd, 3 + i)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(held)), LISTEN_FDNAMES=names)
os.execv(program[0], program)
)";

TEST(Systemd, ServesOnTheSocketsThatItIsGiven) {
  for (const char* names : {"dirty:admin", ":"}) {
    SCOPED_TRACE(names);
    Folder folder;
    std::string socket = folder / "rt/dirty.sock", admin = folder / "rt/admin.sock";
    {
      Process dirtyd({"python3", "-c", kActivate, names, absl::StrCat(socket, ":", admin), Program("dirtyd"), kEcho,
                      "--library_path", TestApps(), "--runtime_dir", folder / "rt"});
      dirtyd.WaitForLine("ready: ");
      client::Options options;
      options.socket = socket;
      EXPECT_TRUE(client::Client(options).Execute(kEcho, "echo", Json::array({1})).ok());
      EXPECT_EQ(RunProgram({Program("dirtyctl"), "--socket", socket, "--admin_socket", admin, "status"}).code, 0);
      struct stat entry;
      ASSERT_EQ(stat(socket.c_str(), &entry), 0);
      EXPECT_EQ(entry.st_mode & 07777, 0600u) << "its mode is the service manager's";
      dirtyd.Signal(SIGTERM);
      EXPECT_EQ(dirtyd.WaitExit().code, 0);
    }
    EXPECT_TRUE(Exists(socket)) << "so is its path";
    EXPECT_TRUE(Exists(admin));
    EXPECT_FALSE(Exists(folder / "rt/workers"));
  }
}

TEST(Systemd, RefusesSocketsThatDoNotFit) {
  Folder folder;
  Ran ran = RunProgram({"python3", "-c", kActivate, "web", folder / "rt/web.sock", Program("dirtyd"), kEcho,
                        "--library_path", TestApps(), "--runtime_dir", folder / "rt"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("(web), passed by the service manager, listens on"),
                             HasSubstr("FileDescriptorName=dirty or admin")));
}

TEST(Systemd, UnitsAreValid) {
  if (RunProgram({"sh", "-c", "command -v systemd-analyze"}).code != 0) GTEST_SKIP() << "systemd-analyze is missing";
  Folder folder;
  for (const char* unit : {"dirtyd.service", "dirtyd.socket"}) {
    // As installed, but the program is where it was built.
    std::string text = ReadText(absl::StrCat(DIRTY_UNITS, "/", unit));
    size_t at = text.find("/usr/local/bin/dirtyd");
    if (at != std::string::npos) text.replace(at, strlen("/usr/local/bin/dirtyd"), Program("dirtyd"));
    std::ofstream(folder / unit) << text;
    Ran ran = RunProgram({"systemd-analyze", "verify", "--man=no", folder / unit});
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.err, "");
  }
  std::string service = ReadText(folder / "dirtyd.service");
  for (const char* needed : {"Type=notify\n", "NotifyAccess=main\n", "WatchdogSec=", "ExecReload=", "Delegate=yes\n",
                             "KillMode=mixed\n", "TimeoutStopSec=60s\n", "RuntimeDirectoryPreserve=yes\n"}) {
    EXPECT_THAT(service, HasSubstr(needed));
  }
}

}  // namespace
}  // namespace dirty::integration
