// `dirtyctl top`: takes a snapshot every interval and shows it, in a terminal or line by line. Goes on while dirtyd is
// away. One thread; the answers' callbacks only wake it.

#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "client/cpp/socket.h"
#include "dirty/v1/admin.grpc.pb.h"
#include "tools/dirtyctl/commands.h"
#include "tools/dirtyctl/report.h"
#include "tools/dirtyctl/terminal.h"
#include "tools/dirtyctl/text.h"
#include "tools/dirtyctl/top_view.h"

namespace dirty::ctl {
namespace {

using client::internal::Clock;
using client::internal::Connection;
using client::internal::Connector;
using client::internal::UniqueFd;

constexpr absl::Duration kAnswerTime = absl::Seconds(5);

absl::Duration SinceBoot() { return absl::FromChrono(Clock::now().time_since_epoch()); }

bool IsAway(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE || status.error_code() == grpc::StatusCode::CANCELLED ||
         status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
}

class Top {
 public:
  explicit Top(const Arguments& arguments)
      : json_(arguments.Has("json")),
        interval_(arguments.GetDuration("interval", absl::Seconds(1))),
        left_(arguments.Has("count") ? ParseNumber("--count", arguments.Get("count")).value_or(1) : 0),
        connect_time_(arguments.GetDuration("connect-timeout", absl::Seconds(1))),
        connector_(client::internal::SocketPaths(arguments.GetSocket("admin-socket", "DIRTY_ADMIN_SOCKET"),
                                                 "DIRTY_ADMIN_SOCKET", "admin.sock"),
                   client::internal::SocketKind::kAdmin),
        answered_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  // Until it is over; the exit code.
  int Run() {
    if (Connect()) {
      if (!json_ && Terminal::Usable()) terminal_.emplace();
      for (absl::Duration next = SinceBoot(); TakeSnapshot() && Wait(next += interval_, false);) {
        next = std::max(next, SinceBoot() - interval_);  // after a long answer or a stop no snapshots are made up for
      }
    }
    terminal_.reset();
    if (refusal_) return Fail(*refusal_, socket_);
    return code_;
  }

  // The signal that ended it, other than Ctrl-C; 0: none.
  int signal() const { return signal_; }

 private:
  // The functions below that answer with bool say false once it is over.

  bool Over(int code) {
    code_ = code;
    return false;
  }

  // The first time dirtyd must be there.
  bool Connect() {
    const absl::Duration until = SinceBoot() + connect_time_;
    for (;;) {
      if (connector_.TryGet() != nullptr) return true;
      const absl::Duration next = absl::FromChrono(connector_.NextAttempt().time_since_epoch());
      if (SinceBoot() >= until) return Over(Fail(connector_.Failure()));
      if (!Wait(std::min(next, until), false)) return false;
    }
  }

  // Asks once and shows the answer, or that there is none.
  bool TakeSnapshot() {
    const std::shared_ptr<Connection> connection = connector_.TryGet();
    if (connection == nullptr) return ShowAway(connector_.Failure().message);
    socket_ = connection->path();
    const auto stub = v1::Admin::NewStub(connection->channel());
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kAnswerTime));
    const v1::StatusRequest request;
    Snapshot now;
    grpc::Status status;
    stub->async()->Status(&context, &request, &now.status, [&](grpc::Status result) {
      status = std::move(result);
      eventfd_write(answered_.get(), 1);
    });
    const bool go_on = Wait(absl::InfiniteDuration(), true);
    if (!go_on) {
      // The callback writes to what is on this stack.
      context.TryCancel();
      pollfd answer{.fd = answered_.get(), .events = POLLIN, .revents = 0};
      while (poll(&answer, 1, -1) < 0) {
      }
      return false;
    }
    if (IsAway(status)) {
      return ShowAway(absl::StrCat("cannot reach dirtyd: ", socket_, ": ",
                                   status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED
                                       ? "no answer for " + Age(kAnswerTime)
                                       : status.error_message()));
    }
    if (!status.ok()) {
      refusal_ = status;
      return false;
    }
    now.time = absl::Now();
    now.elapsed = SinceBoot();
    rates_ = RatesBetween(shown_, now);
    shown_ = std::move(now);
    return Show() && Count(kDone);
  }

  bool ShowAway(absl::string_view why) {
    shown_.reset();
    absl::ConsumePrefix(&why, "cannot reach dirtyd: ");
    away_ = Printable(absl::StrCat("dirtyd cannot be reached: ", why, ", trying again"));
    return Show() && Count(kUnreachable);
  }

  bool Count(int code) { return left_ == 0 || --left_ > 0 || Over(code); }

  bool Show() {
    if (terminal_) {
      const Screen screen = terminal_->size();
      terminal_->Draw(shown_ ? TopLines(*shown_, rates_, screen)
                             : std::vector<std::string>{Cut(away_, screen.columns)});
      return true;
    }
    if (!shown_) {
      std::cerr << "dirtyctl: " << away_ << std::endl;
      return true;
    }
    std::string text;
    if (json_) {
      text = TopJson(*shown_, rates_);
    } else {
      if (blocks_++ != 0) text = "\n";
      for (const std::string& line : TopLines(*shown_, rates_, {})) absl::StrAppend(&text, line, "\n");
    }
    return WriteOut(text) || Over(kFailed);
  }

  // Until `until` or, if one is awaited, the answer.
  bool Wait(absl::Duration until, bool answer) {
    for (;;) {
      const absl::Duration left = until - SinceBoot();
      if (left <= absl::ZeroDuration()) return true;
      pollfd events[] = {{.fd = signals_.fd(), .events = POLLIN, .revents = 0},
                         {.fd = terminal_ && keys_ ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0},
                         {.fd = answer ? answered_.get() : -1, .events = POLLIN, .revents = 0}};
      const int64_t milliseconds = absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1)));
      poll(events, 3, static_cast<int>(std::min<int64_t>(milliseconds, 1'000'000)));
      if (events[1].revents != 0 && !TakeKeys()) return false;
      while (const int signal = signals_.Next()) {
        if (!Handle(signal)) return false;
      }
      eventfd_t ignored;
      if (events[2].revents != 0 && eventfd_read(answered_.get(), &ignored) == 0) return true;
    }
  }

  bool TakeKeys() {
    char keys[64];
    const ssize_t size = read(STDIN_FILENO, keys, sizeof keys);
    if (size <= 0) keys_ = false;
    const absl::string_view pressed(keys, size > 0 ? static_cast<std::size_t>(size) : 0);
    return pressed.find_first_of("qQ") == absl::string_view::npos;
  }

  bool Handle(int signal) {
    if (signal == SIGTSTP) {
      if (terminal_) {
        terminal_->Suspend();
      } else {
        raise(SIGSTOP);
      }
    } else if (signal != SIGWINCH) {
      if (signal != SIGINT) signal_ = signal;
      return Over(kDone);
    }
    if (terminal_ && (shown_ || !away_.empty())) Show();
    return true;
  }

  const bool json_;
  const absl::Duration interval_;
  unsigned left_;  // snapshots or attempts until the end; 0: for ever
  const absl::Duration connect_time_;
  const SignalQueue signals_{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
  Connector connector_;
  const UniqueFd answered_;
  std::optional<Terminal> terminal_;
  bool keys_ = true;
  int signal_ = 0;
  int code_ = kDone;
  int blocks_ = 0;
  std::string socket_;
  std::string away_;                     // why there is no snapshot
  std::optional<grpc::Status> refusal_;  // an answer that trying again does not change
  std::optional<Snapshot> shown_;
  std::optional<Rates> rates_;
};

}  // namespace

int RunTop(const Arguments& arguments) {
  int code, signal;
  {
    Top top(arguments);
    code = top.Run();
    signal = top.signal();
  }
  // With the terminal as it was, and as if the signal had not been waited for.
  if (signal != 0) raise(signal);
  return code;
}

}  // namespace dirty::ctl
