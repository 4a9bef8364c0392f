#ifndef DIRTY_TOOLS_BENCH_LOAD_H_
#define DIRTY_TOOLS_BENCH_LOAD_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "dirty/client.h"
#include "tools/bench/histogram.h"
#include "tools/bench/options.h"

namespace dirty::bench {

// What was measured. Calls that ended while it was measured count; those of the warm-up and at the end do not.
struct Measurement {
  Histogram latency = {};  // of calls that succeeded
  std::map<std::string, uint64_t> errors = {};
  std::optional<client::Error> first_error = {};
  uint64_t chunks = 0;  // of streams
  std::chrono::nanoseconds elapsed = {};

  uint64_t calls() const;  // with those that failed
};

// Makes the calls that `options` ask for: each caller keeps `in_flight` calls going, and starts the next one when one
// ends. `begin` and `end` run on this thread, when the measurement begins and ends.
Measurement Run(const Options& options, const std::string& socket, const std::function<void()>& begin,
                const std::function<void()>& end);

// One call, as the load makes them. Empty: it succeeded.
std::optional<client::Error> TryCall(const Options& options, const std::string& socket);

}  // namespace dirty::bench

#endif  // DIRTY_TOOLS_BENCH_LOAD_H_
