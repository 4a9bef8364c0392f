#include "tools/bench/report.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>

#include "tools/dirtyctl/text.h"

namespace dirty::bench {
namespace {

using Json = nlohmann::json;

double Micros(std::chrono::nanoseconds time) { return static_cast<double>(time.count()) / 1e3; }

double Seconds(std::chrono::nanoseconds time) { return static_cast<double>(time.count()) / 1e9; }

struct Named {
  const char* name;   // in JSON
  const char* title;  // for people
  std::chrono::nanoseconds time;
};

std::vector<Named> Latencies(const Histogram& latency) {
  return {{"min", "min", latency.min()},
          {"p50", "p50", latency.Percentile(0.5)},
          {"p90", "p90", latency.Percentile(0.9)},
          {"p99", "p99", latency.Percentile(0.99)},
          {"p99_9", "p99.9", latency.Percentile(0.999)},
          {"max", "max", latency.max()},
          {"mean", "mean", latency.Mean()}};
}

double PerSecond(uint64_t count, std::chrono::nanoseconds elapsed) {
  return elapsed.count() == 0 ? 0 : static_cast<double>(count) / Seconds(elapsed);
}

double CpuPerCall(std::chrono::nanoseconds time, uint64_t calls) {
  return calls == 0 ? 0 : Micros(time) / static_cast<double>(calls);
}

uint64_t LargestPeak(const std::vector<Memory>& processes) {
  uint64_t peak = 0;
  for (const Memory& process : processes) peak = std::max(peak, process.peak);
  return peak;
}

// `1.234 ms`: four digits, in the unit that suits.
std::string Time(std::chrono::nanoseconds time) {
  const double micros = Micros(time);
  if (micros < 1e3) return absl::StrFormat("%.1f us", micros);
  if (micros < 1e6) return absl::StrFormat("%.4g ms", micros / 1e3);
  return absl::StrFormat("%.4g s", micros / 1e6);
}

std::string Table(const std::vector<ctl::Row>& rows) {
  std::string text;
  for (const std::string& line : ctl::TableLines(rows)) absl::StrAppend(&text, line, "\n");
  return text;
}

}  // namespace

Json ToJson(const Options& options, const Measurement& found, const Costs& costs) {
  Json latency = Json::object();
  for (const Named& value : Latencies(found.latency)) latency[value.name] = Micros(value.time);
  Json json = {{"app", options.app},
               {"action", options.action},
               {"callers", options.callers},
               {"in_flight", options.in_flight},
               {"connections", options.connections},
               {"transport", options.transport},
               {"elapsed_s", Seconds(found.elapsed)},
               {"calls", found.calls()},
               {"errors", found.errors},
               {"calls_per_s", PerSecond(found.latency.count(), found.elapsed)},
               {"latency_us", latency},
               {"cpu_us_per_call", {{"client", CpuPerCall(costs.cpu.client, found.calls())}}},
               {"peak_memory_bytes", {{"client", costs.client.peak}}}};
  if (options.stream) {
    json["chunks"] = found.chunks;
    json["chunks_per_s"] = PerSecond(found.chunks, found.elapsed);
  }
  if (costs.known) {
    json["cpu_us_per_call"]["dirtyd"] = CpuPerCall(costs.cpu.dirtyd, found.calls());
    json["cpu_us_per_call"]["workers"] = CpuPerCall(costs.cpu.workers, found.calls());
    json["peak_memory_bytes"]["dirtyd"] = costs.dirtyd.peak;
    json["peak_memory_bytes"]["worker"] = LargestPeak(costs.workers);
  }
  return json;
}

std::string ToText(const Options& options, const Measurement& found, const Costs& costs) {
  const uint64_t calls = found.calls();
  std::string text =
      absl::StrFormat("%s %s, %u caller%s x %u in flight, %u connection%s, transport %s\n\n", options.app,
                      options.action, options.callers, options.callers == 1 ? "" : "s", options.in_flight,
                      options.connections, options.connections == 1 ? "" : "s", options.transport);
  absl::StrAppendFormat(&text, "%d calls in %.2f s, %.0f a second\n", calls, Seconds(found.elapsed),
                        PerSecond(found.latency.count(), found.elapsed));
  if (options.stream) {
    absl::StrAppendFormat(&text, "%d values, %.0f a second\n", found.chunks, PerSecond(found.chunks, found.elapsed));
  }
  ctl::Row titles = {"LATENCY"};
  ctl::Row values = {""};
  for (const Named& value : Latencies(found.latency)) {
    titles.emplace_back(value.title);
    values.push_back(Time(value.time));
  }
  absl::StrAppend(&text, "\n", Table({titles, values}), "\n");

  std::vector<ctl::Row> rows = {{"PROCESS", "CPU A CALL", "PEAK MEMORY"}};
  auto add = [&](const char* name, std::chrono::nanoseconds cpu, uint64_t memory) {
    rows.push_back({name, absl::StrFormat("%.1f us", CpuPerCall(cpu, calls)), ctl::Size(memory)});
  };
  add("client", costs.cpu.client, costs.client.peak);
  if (costs.known) {
    add("dirtyd", costs.cpu.dirtyd, costs.dirtyd.peak);
    add("workers", costs.cpu.workers, LargestPeak(costs.workers));
  }
  absl::StrAppend(&text, Table(rows));
  if (!found.errors.empty()) {
    absl::StrAppend(&text, "\n");
    for (const auto& [reason, count] : found.errors) absl::StrAppendFormat(&text, "%d failed: %s\n", count, reason);
  }
  return text;
}

Json ToJson(const IdleSessions& found) {
  return {{"sessions", found.count},
          {"dirtyd_bytes_before", found.before},
          {"dirtyd_bytes", found.after},
          {"bytes_per_session", (static_cast<double>(found.after) - static_cast<double>(found.before)) / found.count}};
}

std::string ToText(const IdleSessions& found) {
  const double each = (static_cast<double>(found.after) - static_cast<double>(found.before)) / found.count;
  return absl::StrFormat("%u idle sessions: dirtyd has %s of memory, %s before; %.1f KiB a session\n", found.count,
                         ctl::Size(found.after), ctl::Size(found.before), each / 1024);
}

}  // namespace dirty::bench
