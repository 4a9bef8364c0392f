// The metrics: what is known at one moment, and its text in Prometheus' format.
//
// Nothing is kept here. Who counts keeps plain numbers, and a scrape asks for all of them at once: a call costs two
// additions to histograms. docs/metrics.md explains each metric.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "dirty/v1/admin.pb.h"
#include "server/observe/time_histogram.h"

namespace dirty {

// The calls of one action that ran.
struct ActionMetrics {
  std::string action;
  TimeHistogram waited;
  TimeHistogram ran;
};

// What Status does not say of an app.
struct AppMetrics {
  std::string name;
  uint64_t chunks = 0;          // of streamed results, that were passed on
  uint32_t queue_capacity = 0;  // UINT32_MAX: no limit
  std::vector<ActionMetrics> actions;
};

// Everything, at one moment. A value.
struct MetricsSnapshot {
  v1::StatusResponse status;
  std::vector<AppMetrics> apps;
  uint64_t calls_without_app = 0;  // that named no app, or none that is configured
  uint64_t reloads = 0;
  uint64_t failed_reloads = 0;
  std::map<std::string, uint64_t> worker_starts;                         // by pool
  std::map<std::pair<std::string, std::string>, uint64_t> worker_exits;  // by pool and WorkerExit.reason
  TimeHistogram loop_lag;
  uint64_t sessions = 0;
  uint64_t connections = 0;
  uint64_t log_lines_dropped = 0;
};

// This process as the kernel sees it; 0: it does not say.
struct ProcessMetrics {
  double cpu_seconds = 0;
  double start_time_seconds = 0;  // since the epoch
  uint64_t resident_bytes = 0;
  uint64_t virtual_bytes = 0;
  uint64_t open_descriptors = 0;
  uint64_t max_descriptors = 0;
  uint64_t threads = 0;
};

// Reads /proc/self. Any thread; some ten microseconds, but a millisecond for each 2,000 descriptors before Linux 6.2.
ProcessMetrics ReadProcessMetrics();

// Prometheus' text format, version 0.0.4. Any thread.
std::string RenderMetrics(const MetricsSnapshot& snapshot, const ProcessMetrics& process);

// What it is sent as.
inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace dirty
