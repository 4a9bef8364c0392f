// Runs the operator's hooks. The real one is ExecHooks; tests use a fake.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "dirty/v1/admin.pb.h"
#include "server/config/settings.h"

namespace dirty {

// Loop-confined.
class HookRunner {
 public:
  virtual ~HookRunner() = default;

  // Runs `hook`, which is not empty, with the event. Hooks of one worker run one after the other, in order; those of
  // different workers beside each other. What they print goes to the log. One that takes longer than `timeout` is
  // killed, with its whole process group.
  // `done` is called once, on the loop, never from within: OK, or why it failed (it was logged already).
  virtual void Run(const HookSettings& hook, const v1::HookEvent& event, absl::Duration timeout,
                   std::function<void(absl::Status)> done) = 0;
};

}  // namespace dirty
