// dirty-exec: turns itself into a worker. dirtyd spawns it, because what happens here must happen in the new process
// and is not safe between a fork and an exec of a program with threads.
//
//   dirty-exec --parent PID [--cgroup FILE] [--chdir DIR] [--user NAME] [--group NAME] [--oom-score-adj N] [--nofile N]
//              [--rlimit NAME=N ...] -- PROGRAM [ARG ...]
//
// Descriptors as in exec.h. What fails is told in one line on the status descriptor, with exit code 127. The
// environment is the worker's already; $HOME, $USER and $LOGNAME are added for another user where they are not set.

#include "server/spawn/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace {

[[noreturn]] __attribute__((format(printf, 1, 2))) void Fail(const char* format, ...) {
  char line[1024];
  va_list args;
  va_start(args, format);
  int length = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (length > static_cast<int>(sizeof line) - 1) length = sizeof line - 1;
  if (length > 0) (void)!write(dirty::kStatusFd, line, static_cast<size_t>(length));
  _exit(dirty::kExecFailed);
}

long long Number(const char* option, const char* text) {
  char* end = nullptr;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0') Fail("%s: %s is not a number", option, text);
  return value;
}

// Names and numbers are both names of users and groups; a name wins.
bool IsNumber(const char* text) { return *text != '\0' && strspn(text, "0123456789") == strlen(text); }

struct Limit {
  const char* name;
  __rlimit_resource resource;
};

constexpr Limit kLimits[] = {
    {"as", RLIMIT_AS},           {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
    {"data", RLIMIT_DATA},       {"fsize", RLIMIT_FSIZE},       {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
    {"nofile", RLIMIT_NOFILE},   {"nproc", RLIMIT_NPROC},       {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK},
};

// dirtyd raises its own soft limit; workers (which may use select) get back what dirtyd was started with.
void RestoreDescriptorLimit(rlim_t soft) {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) Fail("cannot set the descriptor limit: %s", strerror(errno));
}

void SetLimit(char* setting) {
  char* equals = strchr(setting, '=');
  if (equals == nullptr) Fail("rlimits: %s has no value", setting);
  *equals = '\0';
  long long value = Number("rlimits", equals + 1);
  rlim_t to = value < 0 ? RLIM_INFINITY : static_cast<rlim_t>(value);
  for (const Limit& known : kLimits) {
    if (strcmp(setting, known.name) != 0) continue;
    rlimit limit = {to, to};
    if (setrlimit(known.resource, &limit) == 0) return;
    int error = errno;
    rlimit now = {};
    getrlimit(known.resource, &now);
    char hard[32] = "none";
    if (now.rlim_max != RLIM_INFINITY)
      snprintf(hard, sizeof hard, "%llu", static_cast<unsigned long long>(now.rlim_max));
    Fail("rlimits: %s cannot be set to %lld: %s (the hard limit is %s)", setting, value, strerror(error), hard);
  }
  Fail("rlimits: there is no %s", setting);
}

void SetOutOfMemoryScore(long long score) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  char text[32];
  int length = snprintf(text, sizeof text, "%lld", score);
  if (fd < 0 || write(fd, text, static_cast<size_t>(length)) != length) {
    Fail("oom_score_adj: cannot be set to %lld: %s%s", score, strerror(errno),
         errno == EACCES || errno == EPERM ? " (it can only be raised without privileges)" : "");
  }
  close(fd);
}

// Joins the control group whose cgroup.procs `file` is.
void JoinControlGroup(const char* file) {
  int fd = open(file, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0", 1) != 1) Fail("control group: cannot join %s: %s", file, strerror(errno));
  close(fd);
}

void BecomeUser(const char* user, const char* group) {
  uid_t uid = geteuid();
  gid_t gid = getegid();
  const passwd* entry = nullptr;
  errno = 0;
  if (user != nullptr) {
    entry = getpwnam(user);
    if (entry != nullptr) {
      uid = entry->pw_uid;
    } else if (IsNumber(user)) {
      uid = static_cast<uid_t>(Number("user", user));
      entry = getpwuid(uid);
      if (entry == nullptr && group == nullptr) Fail("user: %s is not in the user database: set `group` too", user);
    } else {
      Fail("user: there is no user %s", user);
    }
    if (entry != nullptr) gid = entry->pw_gid;
  }
  if (group != nullptr) {
    const struct group* known = getgrnam(group);
    if (known != nullptr) {
      gid = known->gr_gid;
    } else if (IsNumber(group)) {
      gid = static_cast<gid_t>(Number("group", group));
    } else {
      Fail("group: there is no group %s", group);
    }
  }
  if (geteuid() != 0 && uid == geteuid() && gid == getegid()) return;  // already so, and the groups cannot be set
  int groups = user != nullptr && entry != nullptr ? initgroups(entry->pw_name, gid) : setgroups(1, &gid);
  if (groups != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) {
    Fail("user: cannot become uid %u, gid %u: %s (dirtyd is uid %u; only root can)", uid, gid, strerror(errno),
         getuid());
  }
  if (user != nullptr && entry != nullptr) {
    setenv("HOME", entry->pw_dir, 0);
    setenv("USER", entry->pw_name, 0);
    setenv("LOGNAME", entry->pw_name, 0);
  }
}

void ResetSignals() {
  struct sigaction by_default = {};
  by_default.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &by_default, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  const char* user = nullptr;
  const char* group = nullptr;
  const char* folder = nullptr;
  const char* score = nullptr;
  const char* nofile = nullptr;
  const char* cgroup = nullptr;
  long long parent = 0;
  int next = 1;
  for (; next + 1 < argc && strcmp(argv[next], "--") != 0; next += 2) {
    const char* option = argv[next];
    char* value = argv[next + 1];
    if (strcmp(option, "--parent") == 0) {
      parent = Number(option, value);
    } else if (strcmp(option, "--cgroup") == 0) {
      cgroup = value;
    } else if (strcmp(option, "--chdir") == 0) {
      folder = value;
    } else if (strcmp(option, "--user") == 0) {
      user = value;
    } else if (strcmp(option, "--group") == 0) {
      group = value;
    } else if (strcmp(option, "--oom-score-adj") == 0) {
      score = value;
    } else if (strcmp(option, "--nofile") == 0) {
      nofile = value;
    } else if (strcmp(option, "--rlimit") != 0) {  // those are applied in turn, below
      Fail("dirty-exec: unknown option %s", option);
    }
  }
  const int options_end = next;
  char** program = argv + next + 1;
  if (next + 1 >= argc || parent == 0) Fail("dirty-exec is started by dirtyd only");
  if (fcntl(dirty::kStatusFd, F_SETFD, FD_CLOEXEC) != 0) _exit(dirty::kExecFailed);

  // First: what is allocated from here on counts.
  if (cgroup != nullptr) JoinControlGroup(cgroup);
  // A session of its own, so that dirtyd can kill the worker's whole process group and no terminal reaches it.
  setsid();
  ResetSignals();
  // gRPC does not open every descriptor close-on-exec.
  if (close_range(dirty::kStatusFd + 1, ~0u, 0) != 0) Fail("close_range: %s", strerror(errno));

  // Privileged things first, then the user, then what only counts once the user was changed.
  if (score != nullptr) SetOutOfMemoryScore(Number("oom_score_adj", score));
  if (nofile != nullptr) RestoreDescriptorLimit(static_cast<rlim_t>(Number("--nofile", nofile)));
  for (int i = 1; i < options_end; i += 2) {
    if (strcmp(argv[i], "--rlimit") == 0) SetLimit(argv[i + 1]);
  }
  if (user != nullptr || group != nullptr) BecomeUser(user, group);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) Fail("PR_SET_NO_NEW_PRIVS: %s", strerror(errno));
  if (folder != nullptr && chdir(folder) != 0) {
    Fail("chdir: %s: %s (as uid %u)", folder, strerror(errno), geteuid());
  }
  // Cleared by a change of user, hence last. If dirtyd died before, nobody will tell: look.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) Fail("PR_SET_PDEATHSIG: %s", strerror(errno));
  if (getppid() != parent) _exit(dirty::kExecFailed);

  execvp(program[0], program);
  int error = errno;
  if (strchr(program[0], '/') == nullptr && error == ENOENT) {
    const char* path = getenv("PATH");
    Fail("cannot run %s: not found in PATH=%s", program[0], path != nullptr ? path : "");
  }
  Fail("cannot run %s: %s (as uid %u, in %s)", program[0], strerror(error), geteuid(),
       folder != nullptr ? folder : "dirtyd's own folder");
}
