// Tells of SIGTERM, on a thread of its own; SIGINT (a terminal's ^C, which is meant for dirtyd) does nothing. Owned by
// Worker; one at a time.
//
// A thread rather than a signal mask, which the programs that app code starts would inherit.
#pragma once

#include <functional>
#include <thread>

namespace dirty::worker {

class Termination {
 public:
  // `on_term(n)` runs for the n-th SIGTERM, from 1.
  explicit Termination(std::function<void(int)> on_term);
  // SIGTERM is ignored from here on: the process is about to end by itself.
  ~Termination();

 private:
  int pipe_[2];
  std::thread thread_;
};

}  // namespace dirty::worker
