#ifndef DIRTY_TOOLS_BENCH_REPORT_H_
#define DIRTY_TOOLS_BENCH_REPORT_H_

// What dirty-bench prints. Values only.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tools/bench/load.h"
#include "tools/bench/options.h"
#include "tools/bench/processes.h"

namespace dirty::bench {

// Of the processes that take part.
struct Costs {
  bool known = false;  // of dirtyd and its workers; the client's own is always known
  CpuTimes cpu = {};   // while it was measured
  Memory client = {};
  Memory dirtyd = {};
  std::vector<Memory> workers = {};
};

// The result as one JSON object. Times in microseconds, memory in bytes, names as in the text.
nlohmann::json ToJson(const Options& options, const Measurement& found, const Costs& costs);

// The same for people.
std::string ToText(const Options& options, const Measurement& found, const Costs& costs);

// Memory of dirtyd with idle sessions.
struct IdleSessions {
  unsigned count = 0;
  uint64_t before = 0;
  uint64_t after = 0;
};
nlohmann::json ToJson(const IdleSessions& found);
std::string ToText(const IdleSessions& found);

}  // namespace dirty::bench

#endif  // DIRTY_TOOLS_BENCH_REPORT_H_
