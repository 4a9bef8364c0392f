// What the supervisor keeps of workers, seats, pools and a rollout. Of supervisor*.cc only.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "server/supervise/supervisor.h"

namespace dirty {

enum class Supervisor::Phase {
  kSpawned,       // until it listens
  kInitialising,  // from its link until every app was tried
  kReady,
  kDraining,  // its running calls go on
  kStopping,  // it closes its apps, or is being killed
};
struct Supervisor::Worker {
  WorkerSpec spec;
  Pool* pool = nullptr;
  Seat* seat = nullptr;  // null: retired
  Phase phase = Phase::kSpawned;
  pid_t pid = 0;
  absl::Time spawned_at;
  absl::Time spawned_wall;
  absl::Time phase_since;  // of the app being initialised
  absl::Time ready_at = absl::InfiniteFuture();
  std::string initialising;  // the app whose init runs
  std::set<std::string> ready_apps;
  std::set<std::string> started_apps;  // their init has begun
  std::set<std::string> failed_apps;
  std::map<std::string, uint32_t> app_workers;  // what they said, if the configuration does not: App::workers
  bool recycle = false;                         // to be replaced although nothing changed
  bool told_to_end = false;                     // by somebody else
  bool outdated = false;                        // to be replaced by the rollout under way
  bool of_rollout = false;                      // spawned while one was under way
  bool booted = false;                          // every app was tried; the hook dirty_worker_init may still run
  bool dispatched = false;                      // the dispatcher knows it
  bool link_broken = false;
  std::string end_reason;                // why we end it; empty: it was not us
  std::string end_detail;                // for callers: "was killed because ..."
  std::optional<absl::Time> replace_at;  // what ReplaceAt said
  uint64_t calls_limit = 0;              // 0: none
  uint64_t memory_baseline = 0;
  uint64_t pings_unanswered = 0;
  TimerQueue::TimerId boot_timer = 0;
  TimerQueue::TimerId notice_timer = 0;
  TimerQueue::TimerId ping_timer = 0;
  TimerQueue::TimerId end_timer = 0;
  TimerQueue::TimerId recycle_timer = 0;

  // One whose link broke takes no calls, whatever its phase.
  bool serves() const { return phase == Phase::kReady && !link_broken; }
};

// A place in a pool.
struct Supervisor::Seat {
  uint32_t index = 0;
  WorkerId current = 0;
  WorkerId incoming = 0;    // its replacement, until it is ready
  uint32_t early_ends = 0;  // in a row, soon after having been ready: crashes, and what somebody else told to end
  TimerQueue::TimerId respawn_timer = 0;
  std::deque<v1::WorkerExit> exits;  // newest first
};

struct Supervisor::Pool {
  std::shared_ptr<const PoolSettings> settings;
  uint32_t desired = 0;
  std::vector<std::unique_ptr<Seat>> seats;
  bool leaving = false;  // not configured any more; serves until the rollout has succeeded
  bool removed = false;  // its workers drain
};

// The rollout under way.
struct Supervisor::RolloutState {
  std::optional<Settings> before;  // what to go back to
  uint64_t generation_before = 0;
  std::set<const Pool*> pools;                  // where it happens
  const Seat* seat = nullptr;                   // one seat only
  std::set<std::string> failing;                // apps that no worker served when it began
  std::map<std::string, uint32_t> app_workers;  // what App::workers was
  uint32_t replaced = 0;
  std::string failure;  // set: it is being rolled back
  TimerQueue::TimerId end_timer = 0;
  std::function<void(const RolloutResult&)> done;
};

}  // namespace dirty
