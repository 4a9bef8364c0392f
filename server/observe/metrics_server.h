// Serves the metrics to scrapers over HTTP: `GET /metrics`, one answer a connection.
//
// On a thread of its own, which asks the loop for one snapshot and makes the text of it. Whoever connects costs the
// loop a snapshot each kMinimumInterval at most, and this process kMostConnections small buffers at most: scrapers that
// are slow, silent or too many are cut off. Those that wait for the same snapshot share one text.
//
// Owned by main; it outlives the loop. Made and stopped by the same thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/loop/timers.h"
#include "server/loop/unique_fd.h"
#include "server/loop/watcher.h"
#include "server/observe/metrics.h"

namespace dirty {

class MetricsServer {
 public:
  using Snapshot = std::shared_ptr<const MetricsSnapshot>;
  // Has a snapshot made; `done` gets it on any thread, once or (at the end) never. Called on the server's thread.
  using Collect = std::function<void(std::function<void(Snapshot)> done)>;

  static constexpr size_t kMostConnections = 32;
  static constexpr size_t kLongestRequest = 8192;
  static constexpr absl::Duration kMinimumInterval = absl::Milliseconds(50);  // between two snapshots
  static constexpr absl::Duration kPatience = absl::Seconds(10);              // for a connection, all in all

  // Listens on `HOST:PORT`, or on `unix:PATH`, whose path is free (mode 0660, and this group if given). An error names
  // the configuration's key and the address.
  static absl::StatusOr<UniqueFd> Listen(const std::string& address, std::optional<gid_t> group);

  MetricsServer(UniqueFd listener, Collect collect, absl::Duration patience = kPatience);
  ~MetricsServer() { Stop(); }
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // Ends every connection and joins the thread. Idempotent.
  void Stop() { watcher_.Stop(); }

 private:
  using Text = std::shared_ptr<const std::string>;
  enum class State { kReading, kWaiting, kAsked, kWriting };

  struct Connection {
    Watcher::Id id = 0;
    int fd = -1;  // the watcher's
    State state = State::kReading;
    absl::Time until;
    std::string request;
    Text answer;
    size_t sent = 0;
  };

  // All on the watcher's thread.
  Watcher::Next OnConnect(int listener);
  void Accept(UniqueFd peer);
  Watcher::Next OnEvent(uint64_t key);
  Watcher::Next OnTick(int timer);
  void SetTicking(bool ticking);
  // False: the connection is over.
  bool Read(Connection& connection);
  bool Write(Connection& connection);
  bool Answer(Connection& connection, Text text);
  // Asks for a snapshot if somebody waits for one and it is time.
  void AskIfDue();
  void OnSnapshot(const Snapshot& snapshot);
  bool MakeRoom();
  void Drop(uint64_t key);

  const Collect collect_;
  const absl::Duration patience_;
  const SteadyClock clock_;
  std::map<uint64_t, Connection> connections_;  // in the order of arrival
  uint64_t last_key_ = 0;
  bool asking_ = false;
  absl::Time asked_ = absl::InfinitePast();
  bool ticking_ = false;
  int timer_ = -1;   // the watcher's
  Watcher watcher_;  // last: its thread uses the rest
};

}  // namespace dirty
