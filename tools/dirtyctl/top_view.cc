#include "tools/dirtyctl/top_view.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/dirtyctl/text.h"

namespace dirty::ctl {
namespace {

using Lines = std::vector<std::string>;

constexpr std::size_t kNarrowestApp = 12;

// Counters begin again when an app was away: that is no negative rate.
double PerSecond(uint64_t before, uint64_t now, absl::Duration time) {
  return now <= before ? 0 : static_cast<double>(now - before) / absl::ToDoubleSeconds(time);
}

// `85us`, `1.2ms`, `340ms`, `4.1s`.
std::string Latency(const google::protobuf::Duration& proto) {
  const absl::Duration time = ToDuration(proto);
  if (time < absl::Milliseconds(1)) return absl::StrCat(absl::ToInt64Microseconds(time), "us");
  if (time < absl::Milliseconds(10)) return absl::StrFormat("%.1fms", absl::ToDoubleMilliseconds(time));
  return Age(time);
}

std::string Spread(const v1::Percentiles& times) {
  if (times.count() == 0) return "-";
  return absl::StrCat(Latency(times.p50()), " ", Latency(times.p90()), " ", Latency(times.p99()));
}

std::string Rate(double rate) { return absl::StrFormat("%.1f", rate); }

Lines Apps(const Snapshot& now, const std::optional<Rates>& rates, std::size_t width) {
  std::vector<Row> rows = {{"APP", "STATE", "QUEUE", "RUN", "CALL/S", "FAIL/S", "RAN 50 90 99%", "WAITED 50 90 99%"}};
  for (const v1::AppStatus& app : now.status.apps()) {
    Row row = {app.name(), v1::AppStatus::State_Name(app.state()), absl::StrCat(app.queued()),
               absl::StrCat(app.running())};
    if (rates) {
      const auto found = rates->apps.find(app.name());
      const Rates::App rate = found == rates->apps.end() ? Rates::App() : found->second;
      row.insert(row.end(), {Rate(rate.calls), Rate(rate.failures)});
    } else {
      row.insert(row.end(), {"-", "-"});
    }
    row.insert(row.end(), {Spread(app.ran()), Spread(app.waited())});
    rows.push_back(std::move(row));
  }
  return TableLines(rows, width);
}

// In at most `columns`, if that is possible: without the id first, then with less of the app's name.
std::string Running(const v1::RunningCall& call, std::size_t columns) {
  const std::string what = Printable(absl::StrCat(call.action(), " ", Age(ToDuration(call.elapsed()))));
  const std::string app = Printable(call.app());
  std::string all = absl::StrCat(app, " ", what, " ", Printable(call.call_id()));
  if (columns == 0 || Columns(all) <= columns) return all;
  const std::size_t left = columns > Columns(what) + 1 ? columns - Columns(what) - 1 : 0;
  return absl::StrCat(CutBeginning(app, std::max(left, kNarrowestApp)), " ", what);
}

// What a worker runs stands behind its line, and its further calls below.
Lines Workers(const Snapshot& now, const std::optional<Rates>& rates, std::size_t width) {
  const bool pools = now.status.pools_size() > 1;
  std::vector<Row> rows = {{"WORKER", "PID", "STATE", "CPU%", "RSS", "CALL/S", "BUSY"}};
  if (pools) rows[0].insert(rows[0].begin() + 2, "POOL");
  for (const v1::WorkerStatus& worker : now.status.workers()) {
    std::string cpu = "-", calls = "-";
    if (rates) {
      if (const auto found = rates->workers.find(worker.id()); found != rates->workers.end()) {
        calls = Rate(found->second.calls);
        if (found->second.cpu_percent) cpu = absl::StrFormat("%.0f", *found->second.cpu_percent);
      }
    }
    rows.push_back({absl::StrCat(worker.id()), absl::StrCat(worker.pid()), v1::WorkerStatus::State_Name(worker.state()),
                    cpu, Size(worker.rss_bytes()), calls, absl::StrCat(worker.running_size(), "/", worker.threads())});
    if (pools) rows.back().insert(rows.back().begin() + 2, worker.pool());
  }
  const Lines table = TableLines(rows);
  std::size_t used = 0;
  for (const std::string& line : table) used = std::max(used, Columns(line) + 2);
  const std::size_t free = width == 0 ? 0 : width - std::min(used, width - 1);
  Lines lines = {absl::StrCat(table[0], std::string(used - Columns(table[0]), ' '), "RUNS")};
  for (std::size_t i = 1; i < table.size(); ++i) {
    lines.push_back(table[i]);
    for (const v1::RunningCall& call : now.status.workers(static_cast<int>(i) - 1).running()) {
      if (Columns(lines.back()) >= used) lines.emplace_back();
      lines.back().resize(lines.back().size() + used - Columns(lines.back()), ' ');
      lines.back() += Running(call, free);
    }
  }
  return lines;
}

// The first `rows` lines; what is left out is counted in the last.
void KeepRows(Lines& lines, std::size_t rows) {
  if (lines.size() <= rows) return;
  const std::size_t left_out = lines.size() - rows + 1;
  lines.resize(rows);
  if (rows != 0) lines.back() = absl::StrCat("... ", left_out, " more lines");
}

}  // namespace

std::optional<Rates> RatesBetween(const std::optional<Snapshot>& before, const Snapshot& now) {
  if (!before || before->status.pid() != now.status.pid() || now.elapsed <= before->elapsed ||
      ToTime(before->status.start_time()) != ToTime(now.status.start_time())) {
    return std::nullopt;
  }
  Rates rates;
  rates.time = now.elapsed - before->elapsed;
  std::map<std::string, const v1::AppStatus*> apps;
  for (const v1::AppStatus& app : before->status.apps()) apps[app.name()] = &app;
  for (const v1::AppStatus& app : now.status.apps()) {
    const auto earlier = apps.find(app.name());
    if (earlier == apps.end()) continue;
    Rates::App& rate = rates.apps[app.name()];
    rate.calls = PerSecond(Ended(*earlier->second), Ended(app), rates.time);
    rate.failures = PerSecond(Failed(*earlier->second), Failed(app), rates.time);
    rates.total.calls += rate.calls;
    rates.total.failures += rate.failures;
  }
  std::map<uint32_t, const v1::WorkerStatus*> workers;
  for (const v1::WorkerStatus& worker : before->status.workers()) workers[worker.id()] = &worker;
  for (const v1::WorkerStatus& worker : now.status.workers()) {
    const auto earlier = workers.find(worker.id());
    if (earlier == workers.end()) continue;
    Rates::Worker& rate = rates.workers[worker.id()];
    rate.calls = PerSecond(earlier->second->calls(), worker.calls(), rates.time);
    if (worker.has_cpu_time() && earlier->second->has_cpu_time()) {
      const absl::Duration used = ToDuration(worker.cpu_time()) - ToDuration(earlier->second->cpu_time());
      rate.cpu_percent = std::max(0.0, 100 * absl::FDivDuration(used, rates.time));
    }
  }
  return rates;
}

Lines TopLines(const Snapshot& now, const std::optional<Rates>& rates, const Screen& screen) {
  uint64_t queued = 0, running = 0;
  for (const v1::AppStatus& app : now.status.apps()) {
    queued += app.queued();
    running += app.running();
  }
  Lines lines = {Heading(now.status, now.time),
                 absl::StrCat("calls/s ", rates ? Rate(rates->total.calls) : "-", "  failures/s ",
                              rates ? Rate(rates->total.failures) : "-", "  queued ", queued, "  running ", running,
                              "  workers ready: ", ReadyWorkers(now.status)),
                 ""};
  Lines apps = Apps(now, rates, screen.columns);
  Lines workers = Workers(now, rates, screen.columns);
  if (screen.rows != 0) {
    const std::size_t free = screen.rows > lines.size() + 1 ? screen.rows - lines.size() - 1 : 0;
    const std::size_t for_workers = std::min(workers.size(), std::max(free / 2, free - std::min(free, apps.size())));
    KeepRows(apps, free - for_workers);
    KeepRows(workers, for_workers);
  }
  lines.insert(lines.end(), apps.begin(), apps.end());
  lines.push_back("");
  lines.insert(lines.end(), workers.begin(), workers.end());
  if (screen.rows != 0 && lines.size() > screen.rows) lines.resize(screen.rows);
  if (screen.columns != 0) {
    for (std::string& line : lines) line = Cut(line, screen.columns);
  }
  return lines;
}

std::string TopJson(const Snapshot& now, const std::optional<Rates>& rates) {
  auto json = nlohmann::ordered_json::parse(ToJson(now.status, false));
  if (rates) {
    nlohmann::ordered_json apps = nlohmann::ordered_json::object();
    for (const auto& [name, rate] : rates->apps) apps[name] = {{"calls", rate.calls}, {"failures", rate.failures}};
    nlohmann::ordered_json workers = nlohmann::ordered_json::object();
    for (const auto& [id, rate] : rates->workers) {
      auto& worker = workers[absl::StrCat(id)];
      worker["calls"] = rate.calls;
      if (rate.cpu_percent) worker["cpu_percent"] = *rate.cpu_percent;
    }
    json["rates"] = {{"seconds", absl::ToDoubleSeconds(rates->time)},
                     {"calls", rates->total.calls},
                     {"failures", rates->total.failures},
                     {"apps", apps},
                     {"workers", workers}};
  }
  return json.dump() + "\n";
}

}  // namespace dirty::ctl
