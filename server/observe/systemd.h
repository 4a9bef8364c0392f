// dirtyd as a service of systemd (Type=notify, socket activation), without its library. Without systemd nothing here
// does anything.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/loop/timers.h"
#include "server/loop/unique_fd.h"

namespace dirty {

// A descriptor that the service manager passed.
struct PassedDescriptor {
  UniqueFd fd;
  std::string name;  // FileDescriptorName= of its unit; empty: none
};

// What the service manager told this process.
struct ServiceEnvironment {
  std::string notify_socket;                                   // empty: nobody listens
  absl::Duration watchdog_timeout = absl::InfiniteDuration();  // WatchdogSec=
  std::vector<PassedDescriptor> descriptors;
};

// Takes it out of the environment: no child inherits the variables or the descriptors. Once, at the very start, before
// any thread and before anything else opens a descriptor. What is meant for another process is left out.
ServiceEnvironment TakeServiceEnvironment();

// Tells the service manager how it goes. Never waits and never fails: what it does not take is lost. Owned by main.
// Loop-confined (or main's before the loop runs).
class ServiceNotifier {
 public:
  // While starting and stopping, which may take longer than TimeoutStartSec= and TimeoutStopSec=, this much more is
  // asked for again and again, as long as the loop runs.
  static constexpr absl::Duration kExtension = absl::Seconds(30);

  // Of the environment's notify_socket and watchdog_timeout.
  explicit ServiceNotifier(const ServiceEnvironment& environment);

  // Pings and extensions come from timers of the loop: a loop that is stuck is noticed. Before the loop runs; `timers`
  // outlives this.
  void StartWatchdog(TimerQueue& timers);

  // It serves. Once; not after Stopping.
  void Ready();
  // A reload began; it ended, however. Between Ready and Stopping; pairs.
  void Reloading();
  void ReloadDone();
  // It is about to end. Once.
  void Stopping();
  // One line of text for `systemctl status`. The same text is told once.
  void Status(absl::string_view text);

 private:
  enum class State { kStarting, kRunning, kReloading, kStopping };

  void Send(const std::string& message);
  void Extend();
  void Ping();

  const std::string address_;
  const absl::Duration watchdog_timeout_;
  UniqueFd socket_;
  TimerQueue* timers_ = nullptr;
  State state_ = State::kStarting;
  std::string status_;
};

}  // namespace dirty
