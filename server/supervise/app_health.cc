#include "server/supervise/app_health.h"

#include <algorithm>
#include <utility>

namespace dirty {

absl::Duration Backoff(const RestartSettings& settings, uint32_t failures, double chance) {
  absl::Duration wait = settings.initial_backoff;
  for (uint32_t i = 1; i < failures && wait < settings.max_backoff; ++i) wait *= 2;
  return std::min(wait, settings.max_backoff) * (0.75 + 0.25 * chance);
}

bool AppHealth::Failed(absl::Time now, absl::Time spawned_at, std::string reason, const RestartSettings& settings,
                       double chance) {
  if (spawned_at <= last_failure_) return false;
  last_failure_ = now;
  ++failures_;
  reason_ = std::move(reason);
  bool given_up = failures_ >= settings.give_up_after;
  state_ = given_up ? v1::AppStatus::FAILED : v1::AppStatus::BACKOFF;
  retry_at_ = now + (given_up ? settings.max_backoff : Backoff(settings, failures_, chance));
  return true;
}

void AppHealth::Succeeded() {
  state_ = v1::AppStatus::READY;
  reason_.clear();
  retry_at_ = absl::InfinitePast();
}

void AppHealth::Disable(std::string reason) {
  state_ = v1::AppStatus::FAILED;
  reason_ = std::move(reason);
  retry_at_ = absl::InfiniteFuture();
}

}  // namespace dirty
