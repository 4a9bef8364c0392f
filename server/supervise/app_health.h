// Whether an app starts: its failed boots in a row, how long it backs off, when it is given up.
//
// A boot of the app fails when its init raises, overruns `boot_timeout`, or ends the process. Workers go on without an
// app that backs off; its retry is one extra worker. Pure and loop-confined; time and chance are arguments.
#pragma once

#include <optional>
#include <string>

#include "absl/time/time.h"
#include "dirty/v1/admin.pb.h"
#include "server/config/settings.h"

namespace dirty {

// The wait after so many failures in a row (at least 1): it doubles, up to the longest. `chance` in [0, 1) spreads it
// over the last quarter, so that many do not come back at once.
absl::Duration Backoff(const RestartSettings& settings, uint32_t failures, double chance);

class AppHealth {
 public:
  using State = v1::AppStatus::State;

  State state() const { return state_; }
  uint32_t failures() const { return failures_; }
  const std::string& reason() const { return reason_; }  // of the last failure; empty when READY
  bool waits_for_retry() const { return state_ == v1::AppStatus::BACKOFF || state_ == v1::AppStatus::FAILED; }
  absl::Time retry_at() const { return retry_at_; }
  bool disabled() const { return retry_at_ == absl::InfiniteFuture(); }

  // A boot failed in a worker that was spawned then. Of the workers that were spawned before the last failure only one
  // counts: four that start together fail once. True if it counted.
  bool Failed(absl::Time now, absl::Time spawned_at, std::string reason, const RestartSettings& settings,
              double chance);

  // A boot succeeded. The count is forgotten by Lasted.
  void Succeeded();

  // A success has lasted: the next failure is the first again.
  void Lasted() { failures_ = 0; }

  // Forgets everything: a reload gives it a new chance at once.
  void Reset() { *this = AppHealth(); }

  // There is no worker to start it in, and why.
  void Disable(std::string reason);

 private:
  State state_ = v1::AppStatus::STARTING;
  uint32_t failures_ = 0;
  absl::Time last_failure_ = absl::InfinitePast();
  absl::Time retry_at_ = absl::InfinitePast();
  std::string reason_;
};

}  // namespace dirty
