#include "server/dispatch/action_times.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace dirty {
namespace {

bool IsLabel(absl::string_view action) {
  return action.size() <= ActionTimes::kLongestName && action != ActionTimes::kOther &&
         std::none_of(action.begin(), action.end(), [](unsigned char c) { return absl::ascii_iscntrl(c); });
}

}  // namespace

ActionTimes::Times& ActionTimes::Find(absl::string_view action, bool ok) {
  if (auto found = actions_.find(action); found != actions_.end()) return *found->second;
  if (ok && actions_.size() < kMostActions && IsLabel(action)) {
    return *actions_.emplace(std::string(action), std::make_unique<Times>()).first->second;
  }
  if (other_ == nullptr) other_ = std::make_unique<Times>();
  return *other_;
}

void ActionTimes::Add(absl::string_view action, absl::Duration waited, absl::Duration ran, bool ok) {
  Times& times = Find(action, ok);
  times.waited.Add(waited);
  times.ran.Add(ran);
}

std::vector<ActionMetrics> ActionTimes::Describe() const {
  std::vector<ActionMetrics> actions;
  for (const auto& [name, times] : actions_) actions.push_back({name, times->waited, times->ran});
  std::sort(actions.begin(), actions.end(), [](const auto& a, const auto& b) { return a.action < b.action; });
  if (other_ != nullptr) actions.push_back({std::string(kOther), other_->waited, other_->ran});
  return actions;
}

}  // namespace dirty
