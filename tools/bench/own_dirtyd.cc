#include "tools/bench/own_dirtyd.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>
#include <vector>

#include "tools/bench/processes.h"

namespace dirty::bench {
namespace {

constexpr auto kStartTime = std::chrono::seconds(60);
constexpr auto kLook = std::chrono::milliseconds(20);  // between two looks at its status
constexpr std::size_t kShownLines = 20;

// The installation that this program belongs to: bin/dirty-bench is below it.
std::string Prefix() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return self.parent_path().parent_path().string();
}

absl::Status Refused(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<OwnDirtyd>> OwnDirtyd::Start(const Options& options) {
  const char* tmpdir = std::getenv("TMPDIR");
  std::string folder = absl::StrCat(tmpdir == nullptr || *tmpdir == '\0' ? "/tmp" : tmpdir, "/dirty-bench-XXXXXX");
  if (mkdtemp(folder.data()) == nullptr) return Refused(folder);
  std::unique_ptr<OwnDirtyd> dirtyd(new OwnDirtyd(folder));
  if (absl::Status failed = dirtyd->Spawn(options); !failed.ok()) return failed;
  if (absl::Status failed = dirtyd->AwaitReady(options.workers); !failed.ok()) return failed;
  return dirtyd;
}

absl::Status OwnDirtyd::Spawn(const Options& options) {
  const std::string prefix = Prefix();
  const std::string program = prefix + "/bin/dirtyd";
  if (access(program.c_str(), X_OK) != 0) return Refused(program);
  std::vector<std::string> words = {
      program,        EchoApp(options.self),         "--runtime_dir", folder_,
      "--workers",    absl::StrCat(options.workers), "--threads",     absl::StrCat(options.threads),
      "--pythonpath", prefix + "/lib/dirty/bench"};
  words.insert(words.end(), options.with.begin(), options.with.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string log = folder_ + "/log";
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) return Refused("fork");
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (getppid() != parent || fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0) _exit(127);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  return absl::OkStatus();
}

absl::Status OwnDirtyd::AwaitReady(unsigned workers) const {
  const auto end = std::chrono::steady_clock::now() + kStartTime;
  // Its socket may take a while, and it may end meanwhile.
  auto found = Operator::Connect(admin_socket(), kLook);
  while (!found.ok()) {
    if (Ended() || std::chrono::steady_clock::now() > end) return Failure();
    found = Operator::Connect(admin_socket(), kLook);
  }
  while (std::chrono::steady_clock::now() < end && !Ended()) {
    const absl::StatusOr<v1::StatusResponse> status = found->Status();
    if (!status.ok() || status->apps_size() == 0) break;
    if (status->apps(0).ready_workers() == workers) return absl::OkStatus();
    if (status->apps(0).state() == v1::AppStatus::FAILED) break;
    std::this_thread::sleep_for(kLook);
  }
  return Failure();
}

bool OwnDirtyd::Ended() const {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid_;
}

absl::Status OwnDirtyd::Failure() const {
  std::ifstream file(folder_ + "/log");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  if (lines.size() > kShownLines) lines.erase(lines.begin(), lines.end() - kShownLines);
  return absl::UnavailableError(
      absl::StrCat("dirtyd did not get ready; its log ends with\n  ", absl::StrJoin(lines, "\n  ")));
}

OwnDirtyd::~OwnDirtyd() {
  if (pid_ > 0) {
    kill(pid_, SIGTERM);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace dirty::bench
