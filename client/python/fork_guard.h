// Clients survive forks. gRPC does not: so before one, every client lets go of it, and makes it anew when it is used
// next, in parent and child. Forks of the module subprocess, which an exec follows, are none of that business, and
// neither are vfork and posix_spawn, which do not come here.
#pragma once

#include "dirty/client.h"

namespace dirty::python {

// Has `client` let go at each fork, from now on, while this lives. Thread-safe, never with the GIL.
class ForkGuard {
 public:
  explicit ForkGuard(const client::Client& client);
  ~ForkGuard();
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;

  // Whether this process was forked while something else (an app's worker, a call that did not end) had gRPC in use, so
  // that no client can be used.
  static bool Broken();

 private:
  const client::Client client_;
};

}  // namespace dirty::python
