// Whether it is still worth starting a call, under overload: of one app.
//
// Where more comes in than can run, calls wait until their callers' time is almost over. Started then, they hold a slot
// until their deadline and fail all the same; soon every slot is busy with calls that cannot succeed, and none does. So
// once a call that waited longer than it ran has run out of its caller's time, calls whose turn comes are looked at:
// one that has less time left than nearly all calls lately needed is not started, and the slot takes the next. Where
// even the whole of a caller's time is less than that, three quarters of it have to be left: some calls are short.
// Calls that have hardly waited are always started, and correct the estimate.
//
// Pure. Loop-confined, owned by the dispatcher.
#pragma once

#include "absl/time/time.h"

namespace dirty {

class LoadShedder {
 public:
  // A call ran to its own end.
  void OnServed(absl::Duration ran);
  // A call ran out of its caller's time.
  void OnOutOfTime(absl::Time now, absl::Duration waited, absl::Duration ran);

  // Whether to start a call that has waited so long and has so much left. Infinite: its caller has time.
  bool WorthStarting(absl::Time now, absl::Duration waited, absl::Duration left);

  // What nearly all calls have needed lately.
  absl::Duration need() const { return mean_ + 3 * deviation_; }

 private:
  bool known_ = false;
  absl::Duration mean_, deviation_;               // moving averages
  absl::Time shed_until_ = absl::InfinitePast();  // moves on while there is something to shed
};

}  // namespace dirty
