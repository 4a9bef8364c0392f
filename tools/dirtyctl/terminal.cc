#include "tools/dirtyctl/terminal.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>
#include <errno.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdlib>

namespace dirty::ctl {
namespace {

// Alternate screen, hidden cursor, no wrapping; and back, in the other order.
constexpr char kEnter[] = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr char kLeave[] = "\x1b[?7h\x1b[?25h\x1b[?1049l";

}  // namespace

SignalQueue::SignalQueue(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, &before_);
  fd_ = client::internal::UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

SignalQueue::~SignalQueue() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

int SignalQueue::Next() const {
  signalfd_siginfo info;
  return read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info) ? static_cast<int>(info.ssi_signo)
                                                                                  : 0;
}

bool Terminal::Usable() {
  const char* term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) == 1 && term != nullptr && *term != '\0' && absl::string_view(term) != "dumb";
}

Screen Terminal::size() const {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) return {24, 80};
  return {size.ws_row, size.ws_col};
}

void Terminal::Draw(const std::vector<std::string>& lines) const {
  std::string frame = "\x1b[H";
  for (std::size_t i = 0; i < lines.size(); ++i) absl::StrAppend(&frame, i == 0 ? "" : "\r\n", lines[i], "\x1b[K");
  WriteOut(frame + "\x1b[J");
}

void Terminal::Suspend() {
  Leave();
  raise(SIGSTOP);
  Enter();
}

void Terminal::Enter() {
  termios settings;
  if (tcgetattr(STDIN_FILENO, &settings) == 0) {
    before_ = settings;
    settings.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &settings);
  }
  WriteOut(kEnter);
}

void Terminal::Leave() {
  WriteOut(kLeave);
  if (before_) tcsetattr(STDIN_FILENO, TCSANOW, &*before_);
  before_.reset();
}

bool WriteOut(const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t size = write(STDOUT_FILENO, text.data() + at, text.size() - at);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return false;
    at += static_cast<std::size_t>(size);
  }
  return true;
}

}  // namespace dirty::ctl
