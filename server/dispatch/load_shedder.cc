#include "server/dispatch/load_shedder.h"

namespace dirty {
namespace {

// How long after the last sign of overload calls are still looked at. Afterwards one call a slot is started in vain
// before it is noticed again.
constexpr absl::Duration kMemory = absl::Seconds(10);

}  // namespace

// Moving averages as TCP has them for its retransmission time (RFC 6298).
void LoadShedder::OnServed(absl::Duration ran) {
  if (!known_) {
    known_ = true;
    mean_ = ran;
    return;
  }
  const absl::Duration difference = ran - mean_;
  deviation_ += (absl::AbsDuration(difference) - deviation_) / 4;
  mean_ += difference / 8;
}

void LoadShedder::OnOutOfTime(absl::Time now, absl::Duration waited, absl::Duration ran) {
  // It was thought worth starting and would have needed more: a quarter, say. Else a wrong estimate that lets nothing
  // succeed would never be corrected.
  if (known_ && now < shed_until_) OnServed(ran * 5 / 4);
  if (waited > ran) shed_until_ = now + kMemory;
}

bool LoadShedder::WorthStarting(absl::Time now, absl::Duration waited, absl::Duration left) {
  if (now >= shed_until_ || !known_) return true;
  const absl::Duration time = waited + left;
  if (left >= (need() <= time ? need() : time * 3 / 4)) return true;
  shed_until_ = now + kMemory;
  return false;
}

}  // namespace dirty
