#include "server/supervise/python_config.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/loop/timers.h"
#include "server/loop/unique_fd.h"

extern char** environ;

namespace dirty {
namespace {

// As dirty_worker/gunicorn_config.py has it.
constexpr absl::string_view kEnd = "# end of gunicorn's configuration\n";
constexpr absl::string_view kUnused = "# unused: ";
constexpr size_t kLargest = 1 << 20;

struct Pipe {
  UniqueFd read, write;
};

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");
  return Pipe{.read = UniqueFd(fds[0]), .write = UniqueFd(fds[1])};
}

// Both outputs to their ends. False: not in time, or too much.
bool ReadAll(const UniqueFd& out_fd, const UniqueFd& err_fd, std::string& out, std::string& err) {
  const SteadyClock clock;
  absl::Time end = clock.Now() + kPythonConfigTimeout;
  pollfd fds[2] = {{.fd = out_fd.get(), .events = POLLIN, .revents = 0},
                   {.fd = err_fd.get(), .events = POLLIN, .revents = 0}};
  std::string* texts[2] = {&out, &err};
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    absl::Duration left = end - clock.Now();
    if (left <= absl::ZeroDuration() || out.size() + err.size() > kLargest) return false;
    if (poll(fds, 2, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1) <= 0) continue;
    for (int i = 0; i < 2; ++i) {
      if (fds[i].fd < 0 || fds[i].revents == 0) continue;
      char data[4096];
      ssize_t size = read(fds[i].fd, data, sizeof data);
      if (size > 0) {
        texts[i]->append(data, static_cast<size_t>(size));
      } else if (size == 0 || errno != EINTR) {
        fds[i].fd = -1;
      }
    }
  }
  return true;
}

std::string LastLine(absl::string_view text) {
  std::vector<absl::string_view> lines = absl::StrSplit(absl::StripAsciiWhitespace(text), '\n');
  return std::string(lines.back());
}

}  // namespace

absl::StatusOr<PythonConfig> ReadPythonConfig(const std::string& interpreter, const std::string& python_folder,
                                              const std::string& path) {
  absl::StatusOr<Pipe> out = MakePipe(), err = MakePipe();
  if (!out.ok()) return out.status();
  if (!err.ok()) return err.status();
  std::vector<std::string> words = {interpreter, "-m", "dirty_worker.gunicorn_config", path};
  std::vector<std::string> variables;
  std::string python_path = python_folder;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    absl::string_view variable = *entry;
    if (absl::ConsumePrefix(&variable, "PYTHONPATH=")) {
      absl::StrAppend(&python_path, ":", variable);
    } else {
      variables.emplace_back(*entry);
    }
  }
  variables.push_back(absl::StrCat("PYTHONPATH=", python_path));
  std::vector<char*> argv, envp;
  for (std::string& word : words) argv.push_back(word.data());
  for (std::string& variable : variables) envp.push_back(variable.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out->write.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err->write.get(), STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  pid_t pid = 0;
  int error = posix_spawnp(&pid, interpreter.c_str(), &actions, &attributes, argv.data(), envp.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return absl::ErrnoToStatus(error, absl::StrCat("cannot run ", interpreter));
  out->write.Reset();
  err->write.Reset();
  std::string text, errors;
  bool in_time = ReadAll(out->read, err->read, text, errors);
  if (!in_time) kill(-pid, SIGKILL);
  // The loop may have reaped it as a stranger's child; what it wrote says enough.
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!in_time) {
    return absl::DeadlineExceededError(
        absl::StrCat("it did not end within ", absl::FormatDuration(kPythonConfigTimeout), " under ", interpreter));
  }
  absl::string_view yaml = text;
  if (!absl::ConsumeSuffix(&yaml, kEnd)) {
    std::string why = errors.empty() ? "it ended without a word" : LastLine(errors);
    return absl::InvalidArgumentError(absl::StrCat(why, " (read by ", interpreter, ")"));
  }
  PythonConfig config{.yaml = std::string(yaml), .notice = ""};
  if (size_t at = yaml.rfind(kUnused); at != absl::string_view::npos) {
    config.notice = absl::StrCat("settings of gunicorn that dirtyd does not use: ",
                                 absl::StripAsciiWhitespace(yaml.substr(at + kUnused.size())));
  }
  return config;
}

}  // namespace dirty
