// How long the actions of one app waited and ran, for the metrics.
//
// Callers choose the names of actions, so only those that are real have a series of their own: an action gets one when
// it first succeeds. What else ran, and what comes after kMostActions, is counted together, as "other". Loop-confined.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/observe/metrics.h"

namespace dirty {

class ActionTimes {
 public:
  static constexpr size_t kMostActions = 50;
  // Longer names, and those with control characters, have no series of their own.
  static constexpr size_t kLongestName = 100;
  static constexpr absl::string_view kOther = "other";

  // Of a call that ran.
  void Add(absl::string_view action, absl::Duration waited, absl::Duration ran, bool ok);

  // By name; "other" last, once something was counted there.
  std::vector<ActionMetrics> Describe() const;

 private:
  struct Times {
    TimeHistogram waited;
    TimeHistogram ran;
  };

  Times& Find(absl::string_view action, bool ok);

  absl::flat_hash_map<std::string, std::unique_ptr<Times>> actions_;
  std::unique_ptr<Times> other_;
};

}  // namespace dirty
