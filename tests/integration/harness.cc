#include "tests/integration/harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <grpcpp/security/credentials.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "server/loop/mutex.h"
#include "server/loop/unique_fd.h"

extern char** environ;

namespace dirty::integration {

int Repetitions(int full, int sanitized) {
  int count = kSanitized ? sanitized : full;
  if (kSanitized) printf("[ REPEATS  ] %d instead of %d times, under a sanitizer\n", count, full);
  return count;
}

bool WaitUntil(const std::function<bool()>& condition, absl::Duration bound) {
  absl::Time until = absl::Now() + bound;
  while (!condition()) {
    if (absl::Now() > until) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

bool Exists(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0;
}

void Touch(const std::string& path) { std::ofstream(path).flush(); }

std::string ReadText(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char buffer[65536];
  // An error in the middle is an end, too: of a process, in /proc.
  for (ssize_t size; fd.ok() && (size = read(fd.get(), buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<size_t>(size));
  }
  return text;
}

std::string Program(absl::string_view name) { return absl::StrCat(DIRTY_BIN, "/", name); }

std::string TestApps() { return DIRTY_TEST_APPS; }

bool IsRoot() { return geteuid() == 0; }

// --- Folder ---

Folder::Folder() {
  char name[] = "/tmp/dirty-XXXXXX";
  path_ = mkdtemp(name);
  chmod(name, 0755);
}

Folder::~Folder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

std::string Folder::operator/(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

// --- Process ---

// One pipe of a child, read by a thread of its own until the last writer has gone.
struct Process::Output {
  Mutex mutex;
  Condition changed;
  std::string text ABSL_GUARDED_BY(mutex);
  bool ended ABSL_GUARDED_BY(mutex) = false;

  static std::shared_ptr<Output> Reading(UniqueFd fd) {
    auto output = std::make_shared<Output>();
    std::thread([output, fd = std::move(fd)] {
      char buffer[65536];
      for (;;) {
        ssize_t size = read(fd.get(), buffer, sizeof buffer);
        if (size < 0 && errno == EINTR) continue;
        MutexLock lock(&output->mutex);
        if (size <= 0) output->ended = true;
        if (size > 0) output->text.append(buffer, static_cast<size_t>(size));
        output->changed.NotifyAll();
        if (size <= 0) return;
      }
    }).detach();
    return output;
  }

  std::string Text() {
    MutexLock lock(&mutex);
    return text;
  }
};

Process::Process(const Words& command, const Options& options) {
  // setpriv and unshare instead of a fork: this process has threads, and gRPC.
  Words words;
  if (options.pid_namespace) words = {"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"};
  words.insert(words.end(), {"setpriv", "--pdeathsig", "KILL"});
  if (options.uid.has_value()) {
    words.insert(words.end(), {absl::StrCat("--reuid=", *options.uid),
                               absl::StrCat("--regid=", options.gid.value_or(*options.uid)), "--clear-groups"});
  }
  words.insert(words.end(), command.begin(), command.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::vector<char*> environment;
  Words added = options.environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!absl::StartsWith(*entry, "DIRTY_")) environment.push_back(*entry);
  }
  for (std::string& entry : added) environment.push_back(entry.data());
  environment.push_back(nullptr);

  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) abort();
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, err[1], STDERR_FILENO);
  int error = posix_spawnp(&child_, argv[0], &files, nullptr, argv.data(), environment.data());
  posix_spawn_file_actions_destroy(&files);
  close(out[1]);
  close(err[1]);
  out_ = Output::Reading(UniqueFd(out[0]));
  err_ = Output::Reading(UniqueFd(err[0]));
  if (error != 0) {
    ADD_FAILURE() << argv[0] << ": " << strerror(error);
    child_ = 0;
    exit_.ended = true;
    return;
  }
  pid_ = child_;
  if (options.pid_namespace) {
    WaitUntil([&] {
      std::vector<pid_t> children = Children(child_);
      if (!children.empty()) pid_ = children.front();
      return pid_ != child_ || !running();
    });
  }
}

Process::~Process() {
  if (!running()) return;
  kill(child_, SIGKILL);
  WaitExit();
}

void Process::Signal(int signal) const { kill(pid_, signal); }

bool Process::running() { return !WaitExit(absl::ZeroDuration()).ended; }

Exit Process::WaitExit(absl::Duration bound) {
  if (exit_.ended) return exit_;
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, child_, 0)));
  pollfd event = {.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  poll(&event, 1, static_cast<int>(absl::ToInt64Milliseconds(bound)));
  int status = 0;
  if (waitpid(child_, &status, WNOHANG) != child_) return exit_;
  exit_.ended = true;
  if (WIFEXITED(status)) exit_.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) exit_.signal = WTERMSIG(status);
  return exit_;
}

std::string Process::out() const { return out_->Text(); }
std::string Process::err() const { return err_->Text(); }

std::string Process::WaitIn(const std::shared_ptr<Output>& output, absl::string_view text, size_t from) {
  absl::Time until = absl::Now() + kBound;
  MutexLock lock(&output->mutex);
  for (;;) {
    absl::string_view all = absl::string_view(output->text).substr(std::min(from, output->text.size()));
    all = all.substr(0, all.rfind('\n') == all.npos ? 0 : all.rfind('\n') + 1);
    if (size_t at = all.find(text); at != all.npos) {
      size_t begin = all.rfind('\n', at) == all.npos ? 0 : all.rfind('\n', at) + 1;
      return std::string(all.substr(begin, all.find('\n', at) - begin));
    }
    absl::Duration left = until - absl::Now();
    if (output->ended || left <= absl::ZeroDuration()) {
      ADD_FAILURE() << "no line with \"" << text << "\"" << (output->ended ? " before the end" : "");
      return "";
    }
    output->changed.WaitFor(&output->mutex, left);
  }
}

std::string Process::WaitForLine(absl::string_view text, size_t from) { return WaitIn(err_, text, from); }
std::string Process::WaitForOutput(absl::string_view text) { return WaitIn(out_, text, 0); }

Ran RunProgram(const Words& command, const Process::Options& options) {
  Process process(command, options);
  Exit exit = process.WaitExit();
  EXPECT_TRUE(exit.ended) << command[0] << " does not end";
  // The rest of its output may still be in the pipes.
  Ran ran{.code = exit.code, .out = {}, .err = {}};
  EXPECT_TRUE(WaitUntil([&] { return process.OutputEnded(); })) << command[0] << " left its output open";
  ran.out = process.out();
  ran.err = process.err();
  return ran;
}

bool Process::OutputEnded() const {
  for (Output* output : {out_.get(), err_.get()}) {
    MutexLock lock(&output->mutex);
    if (!output->ended) return false;
  }
  return true;
}

// --- /proc ---

namespace {

// Field `number` of /proc/PID/stat, from 3 on (the second may hold anything).
std::string StatField(pid_t pid, size_t number) {
  std::string text = ReadText(absl::StrCat("/proc/", pid, "/stat"));
  size_t end = text.rfind(')');
  if (end == std::string::npos) return "";
  std::vector<std::string> fields = absl::StrSplit(absl::string_view(text).substr(end + 2), ' ');
  return number - 3 < fields.size() ? fields[number - 3] : "";
}

std::vector<pid_t> AllProcesses() {
  std::vector<pid_t> pids;
  DIR* proc = opendir("/proc");
  while (dirent* entry = readdir(proc)) {
    pid_t pid;
    if (absl::SimpleAtoi(entry->d_name, &pid)) pids.push_back(pid);
  }
  closedir(proc);
  return pids;
}

}  // namespace

size_t Descriptors(pid_t pid) {
  std::error_code error;
  size_t count = 0;
  for (auto it = std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/fd"), error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    ++count;
  }
  return count;
}

size_t DescriptorsAtRest(pid_t pid) {
  size_t count = Descriptors(pid);
  absl::Time since = absl::Now();
  EXPECT_TRUE(WaitUntil([&] {
    const size_t now = Descriptors(pid);
    if (std::exchange(count, now) != now) since = absl::Now();
    return absl::Now() - since >= absl::Milliseconds(500);
  })) << "it does not come to rest";
  return count;
}

size_t ResidentBytes(pid_t pid) {
  std::vector<std::string> fields = absl::StrSplit(ReadText(absl::StrCat("/proc/", pid, "/statm")), ' ');
  size_t pages = 0;
  if (fields.size() < 2 || !absl::SimpleAtoi(fields[1], &pages)) return 0;
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

char ProcessState(pid_t pid) {
  std::string state = StatField(pid, 3);
  return state.empty() ? '\0' : state[0];
}

std::string Title(pid_t pid) {
  std::string line = ReadText(absl::StrCat("/proc/", pid, "/cmdline"));
  while (!line.empty() && line.back() == '\0') line.pop_back();
  for (char& c : line) {
    if (c == '\0') c = ' ';
  }
  return line;
}

std::vector<pid_t> Children(pid_t parent) {
  std::vector<pid_t> children;
  for (pid_t pid : AllProcesses()) {
    if (StatField(pid, 4) == absl::StrCat(parent)) children.push_back(pid);
  }
  return children;
}

// --- gRPC ---

v1::RpcStatus DetailsOf(const grpc::Status& status) {
  v1::RpcStatus details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  return details;
}

v1::Error ErrorOf(const grpc::Status& status) {
  v1::Error error;
  v1::RpcStatus details = DetailsOf(status);
  if (details.details_size() > 0) {
    EXPECT_TRUE(details.details(0).UnpackTo(&error)) << details.DebugString();
  }
  return error;
}

namespace {

grpc::ChannelArguments ChannelArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 64 << 10);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  return arguments;
}

}  // namespace

std::shared_ptr<grpc::Channel> ClientChannel(const std::string& socket) {
  return grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), ChannelArguments());
}

std::shared_ptr<grpc::Channel> AdminChannel(const std::string& socket) {
  return grpc::CreateCustomChannel("unix:" + socket, grpc::experimental::LocalCredentials(UDS), ChannelArguments());
}

Context::Context() { set_deadline(absl::ToChronoTime(absl::Now() + kBound)); }

// --- Dirtyd ---

Dirtyd::Dirtyd(Words args, Options options) : args_(std::move(args)), options_(std::move(options)) {
  if (!options_.config.empty()) {
    std::ofstream(folder_ / "dirty.yaml") << options_.config;
    args_.insert(args_.begin(), {"--config", folder_ / "dirty.yaml"});
  }
  Start();
}

Words Dirtyd::Arguments(const Words& more) const {
  Words command = {Program("dirtyd")};
  command.insert(command.end(), args_.begin(), args_.end());
  command.insert(command.end(), {"--library_path", TestApps(), "--runtime_dir", runtime_dir()});
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

void Dirtyd::Start(const Words& more) {
  admin_.reset();
  seen_.clear();
  process_ = std::make_unique<Process>(Arguments(more), options_.process);
  if (options_.ready) process_->WaitForLine("ready: ");
}

Dirtyd::~Dirtyd() {
  if (process_->running()) Stop(SIGQUIT);
  if (testing::Test::HasFailure()) printf("--- dirtyd's log:\n%s---\n", process_->err().c_str());
}

void Dirtyd::Stop(int signal) {
  for (pid_t pid : Children(pid())) seen_.push_back(pid);
  process_->Signal(signal);
  Exit exit = process_->WaitExit();
  EXPECT_TRUE(exit.ended) << "dirtyd does not end";
  EXPECT_EQ(exit.code, 0) << "signal " << exit.signal;
  if (exit.ended) ExpectNothingLeft();
}

void Dirtyd::ExpectNothingLeft() {
  for (pid_t pid : seen_) EXPECT_EQ(ProcessState(pid), '\0') << "pid " << pid << " is left: " << Title(pid);
  EXPECT_FALSE(Exists(runtime_dir())) << "the runtime directory is left";
  EXPECT_EQ(process_->out(), "") << "nothing belongs on standard output";
}

client::Client Dirtyd::NewClient(client::Options options) const {
  if (options.socket.empty()) options.socket = socket();
  return client::Client(options);
}

v1::Admin::Stub& Dirtyd::admin() {
  if (admin_ == nullptr) admin_ = v1::Admin::NewStub(AdminChannel(admin_socket()));
  return *admin_;
}

Words Dirtyd::Ctl(const Words& words) const {
  Words command = {Program("dirtyctl"), "--socket", socket(), "--admin_socket", admin_socket()};
  command.insert(command.end(), words.begin(), words.end());
  return command;
}

v1::StatusResponse Dirtyd::Status() {
  v1::StatusResponse response;
  Context context;
  grpc::Status status = admin().Status(&context, {}, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response;
}

v1::AppStatus Dirtyd::App(const std::string& name) {
  v1::StatusResponse status = Status();
  for (const v1::AppStatus& app : status.apps()) {
    if (app.name() == name) return app;
  }
  ADD_FAILURE() << "no app " << name << " in the status";
  return {};
}

std::vector<v1::WorkerStatus> Dirtyd::ReadyWorkers() {
  std::vector<v1::WorkerStatus> ready;
  v1::StatusResponse status = Status();
  for (const v1::WorkerStatus& worker : status.workers()) {
    if (worker.state() == v1::WorkerStatus::READY) ready.push_back(worker);
  }
  return ready;
}

std::vector<v1::WorkerStatus> Dirtyd::WaitForWorkers(size_t count) {
  std::vector<v1::WorkerStatus> ready;
  EXPECT_TRUE(WaitUntil([&] {
    v1::StatusResponse status = Status();
    ready = {status.workers().begin(), status.workers().end()};
    std::erase_if(ready, [](const v1::WorkerStatus& worker) { return worker.state() != v1::WorkerStatus::READY; });
    return ready.size() == count && static_cast<size_t>(status.workers_size()) == count;
  })) << ready.size()
      << " workers are ready instead of " << count;
  return ready;
}

bool Dirtyd::WaitForWorker(uint32_t id) {
  return WaitUntil([&] {
    v1::StatusResponse status = Status();
    return status.workers_size() == 1 && status.workers(0).id() == id &&
           status.workers(0).state() == v1::WorkerStatus::READY;
  });
}

bool Dirtyd::WaitForQueued(const std::string& app, uint32_t calls) {
  return WaitUntil([&] { return App(app).queued() == calls; });
}

bool Dirtyd::WaitForRunning(const std::string& app, uint32_t calls) {
  return WaitUntil([&] { return App(app).running() == calls; });
}

void Dirtyd::ExpectCountersAddUp() {
  v1::StatusResponse status = Status();
  for (const v1::AppStatus& app : status.apps()) {
    const v1::Counters& counters = app.counters();
    const google::protobuf::Descriptor* fields = v1::Counters::descriptor();
    uint64_t outcomes = 0;
    for (int i = 0; i < fields->field_count(); ++i) {
      if (fields->field(i)->name() == "received") continue;
      outcomes += v1::Counters::GetReflection()->GetUInt64(counters, fields->field(i));
    }
    EXPECT_EQ(counters.received(), app.queued() + app.running() + outcomes) << app.DebugString();
  }
}

}  // namespace dirty::integration
