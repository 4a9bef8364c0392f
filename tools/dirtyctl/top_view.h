#ifndef DIRTY_TOOLS_DIRTYCTL_TOP_VIEW_H_
#define DIRTY_TOOLS_DIRTYCTL_TOP_VIEW_H_

// What `dirtyctl top` shows of two snapshots. Stateless; top.cc takes the snapshots and owns the terminal.

#include <absl/time/time.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dirty/v1/admin.pb.h"

namespace dirty::ctl {

// The arbiter at one moment.
struct Snapshot {
  v1::StatusResponse status;
  absl::Time time;         // for ages
  absl::Duration elapsed;  // of a clock that only goes forward, for rates
};

// What happened in a second between two snapshots of the same dirtyd.
struct Rates {
  struct App {
    double calls = 0;  // that ended
    double failures = 0;
  };
  struct Worker {
    std::optional<double> cpu_percent;  // of one processor; empty: dirtyd cannot tell
    double calls = 0;
  };
  absl::Duration time;  // between the two
  App total;
  std::map<std::string, App> apps;
  std::map<uint32_t, Worker> workers;  // those that are in both
};

// Empty: there is no earlier one, or dirtyd was restarted in between.
std::optional<Rates> RatesBetween(const std::optional<Snapshot>& before, const Snapshot& now);

// 0: no limit.
struct Screen {
  std::size_t rows = 0;
  std::size_t columns = 0;
};

// At most as many lines as the screen has rows, none longer than its columns; both tables keep their fair share of the
// rows and say how many they left out. Without rates: `-`.
std::vector<std::string> TopLines(const Snapshot& now, const std::optional<Rates>& rates, const Screen& screen);

// The Status message on one line, and `rates` beside its fields.
std::string TopJson(const Snapshot& now, const std::optional<Rates>& rates);

}  // namespace dirty::ctl

#endif  // DIRTY_TOOLS_DIRTYCTL_TOP_VIEW_H_
