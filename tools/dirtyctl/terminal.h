#ifndef DIRTY_TOOLS_DIRTYCTL_TERMINAL_H_
#define DIRTY_TOOLS_DIRTYCTL_TERMINAL_H_

#include <signal.h>
#include <termios.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "client/cpp/unique_fd.h"
#include "tools/dirtyctl/top_view.h"

namespace dirty::ctl {

// Takes signals from a descriptor instead of being interrupted, while it lives. Threads that are started meanwhile
// leave them alone, too: make it before anything of gRPC. One thread uses it.
class SignalQueue {
 public:
  SignalQueue(std::initializer_list<int> signals);
  ~SignalQueue();
  SignalQueue(const SignalQueue&) = delete;
  SignalQueue& operator=(const SignalQueue&) = delete;

  // Readable when one is there.
  int fd() const { return fd_.get(); }

  // The next one; 0: none.
  int Next() const;

 private:
  sigset_t before_;
  client::internal::UniqueFd fd_;
};

// The terminal's second screen, without cursor and line wrapping, and keys as they are pressed. As it was before when
// this goes. Standard output must be a terminal. One thread uses it.
class Terminal {
 public:
  Terminal() { Enter(); }
  ~Terminal() { Leave(); }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // Whether standard output is a terminal that knows how to move its cursor.
  static bool Usable();

  Screen size() const;
  void Draw(const std::vector<std::string>& lines) const;

  // Gives the terminal back and stops the process, as Ctrl-Z does; returns when it goes on.
  void Suspend();

 private:
  void Enter();
  void Leave();

  std::optional<termios> before_;
};

// Writes all of it to standard output. False: nobody reads.
bool WriteOut(const std::string& text);

}  // namespace dirty::ctl

#endif  // DIRTY_TOOLS_DIRTYCTL_TERMINAL_H_
