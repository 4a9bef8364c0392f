#include "server/dispatch/load_shedder.h"

#include <algorithm>

namespace dirty {
namespace {

// How long after the last sign of overload calls are still looked at. Afterwards one call a slot is started in vain
// before it is noticed again.
constexpr absl::Duration kMemory = absl::Seconds(10);

}  // namespace

// The estimate that TCP uses for its retransmission time (RFC 6298): a mean, and four mean deviations above it.
void LoadShedder::OnServed(absl::Duration ran) {
  if (!known_) {
    known_ = true;
    mean_ = ran;
    deviation_ = ran / 2;
    return;
  }
  const absl::Duration difference = ran - mean_;
  deviation_ += (absl::AbsDuration(difference) - deviation_) / 4;
  mean_ += difference / 8;
}

void LoadShedder::OnOutOfTime(absl::Time now, absl::Duration waited, absl::Duration ran) {
  if (waited > ran) shed_until_ = now + kMemory;
}

bool LoadShedder::WorthStarting(absl::Time now, absl::Duration waited, absl::Duration left) {
  if (now >= shed_until_ || !known_ || left >= std::min(waited, need())) return true;
  shed_until_ = now + kMemory;
  return false;
}

}  // namespace dirty
