#include "tools/dirtyctl/status_table.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <vector>

namespace dirty::ctl {
namespace {

using Row = std::vector<std::string>;

// Columns as wide as their widest cell.
std::string Table(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows[0].size());
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string table;
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&line, row[i], std::string(widths[i] - row[i].size() + 2, ' '));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&table, line, "\n");
  }
  return table;
}

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

// Precise where it is short: `12ms`, `4.1s`, `3m20s`, `2d4h`.
std::string Age(absl::Duration age) {
  if (age < absl::Seconds(1)) return absl::StrCat(std::max<int64_t>(absl::ToInt64Milliseconds(age), 0), "ms");
  if (age < absl::Minutes(1)) return absl::StrFormat("%.1fs", absl::ToDoubleSeconds(age));
  if (age < absl::Hours(24)) return absl::FormatDuration(absl::Trunc(age, absl::Seconds(1)));
  return absl::StrCat(age / absl::Hours(24), "d", (age % absl::Hours(24)) / absl::Hours(1), "h");
}

std::string Size(uint64_t bytes) {
  if (bytes == 0) return "-";
  const double mebibytes = static_cast<double>(bytes) / (1 << 20);
  return mebibytes < 1024 ? absl::StrFormat("%.0fM", mebibytes) : absl::StrFormat("%.1fG", mebibytes / 1024);
}

uint64_t Failed(const v1::AppStatus& app) {
  const v1::Counters& counters = app.counters();
  return counters.received() - counters.ok() - app.queued() - app.running();
}

// The outcomes that happened, such as `timeout 3, worker_lost 1`.
std::string Failures(const v1::Counters& counters) {
  std::vector<std::string> parts;
  const auto* descriptor = v1::Counters::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* field = descriptor->field(i);
    const uint64_t count = counters.GetReflection()->GetUInt64(counters, field);
    if (field->name() != "received" && field->name() != "ok" && count != 0) {
      parts.push_back(absl::StrCat(field->name(), " ", count));
    }
  }
  return absl::StrJoin(parts, ", ");
}

std::string Ending(const v1::WorkerExit& exit) {
  if (!exit.signal().empty()) return exit.signal();
  return exit.has_exit_code() ? absl::StrCat("exit ", exit.exit_code()) : "-";
}

}  // namespace

std::string StatusTable(const v1::StatusResponse& status, absl::Time now) {
  std::string text = absl::StrCat("dirtyd ", status.version(), "  pid ", status.pid(), "  ",
                                  v1::StatusResponse::State_Name(status.state()), "  up ",
                                  Age(now - ToTime(status.start_time())), "  generation ", status.generation(), "\n");
  if (status.has_last_reload()) {
    absl::StrAppend(&text, "last reload ", Age(now - ToTime(status.last_reload().time())),
                    " ago: ", status.last_reload().ok() ? "ok" : "failed",
                    status.last_reload().message().empty() ? "" : ", ", status.last_reload().message(), "\n");
  }
  std::vector<std::string> pools;
  for (const v1::PoolStatus& pool : status.pools()) {
    const auto ready = std::count_if(status.workers().begin(), status.workers().end(), [&pool](const auto& worker) {
      return worker.pool() == pool.name() && worker.state() == v1::WorkerStatus::READY;
    });
    pools.push_back(absl::StrCat(pool.name(), " ", ready, "/", pool.desired_workers()));
  }
  absl::StrAppend(&text, "workers ready: ", absl::StrJoin(pools, ", "), "\n");

  std::vector<Row> apps = {{"APP", "POOL", "STATE", "WORKERS", "QUEUED", "RUNNING", "RECEIVED", "OK", "FAILED"}};
  std::string remarks;
  for (const v1::AppStatus& app : status.apps()) {
    apps.push_back({app.name(), app.pool(), v1::AppStatus::State_Name(app.state()), absl::StrCat(app.ready_workers()),
                    absl::StrCat(app.queued()), absl::StrCat(app.running()), absl::StrCat(app.counters().received()),
                    absl::StrCat(app.counters().ok()), absl::StrCat(Failed(app))});
    if (!app.reason().empty()) absl::StrAppend(&remarks, "  ", app.name(), ": ", app.reason(), "\n");
    const std::string failures = Failures(app.counters());
    if (!failures.empty()) absl::StrAppend(&remarks, "  ", app.name(), ": ", failures, "\n");
  }
  if (apps.size() > 1) absl::StrAppend(&text, "\n", Table(apps), remarks);

  std::vector<Row> workers = {{"WORKER", "PID", "POOL", "STATE", "UP", "CALLS", "RSS", "BUSY", "APPS"}};
  std::vector<Row> calls = {{"CALL", "APP", "ACTION", "WORKER", "ELAPSED", "REQUEST"}};
  for (const v1::WorkerStatus& worker : status.workers()) {
    workers.push_back({absl::StrCat(worker.id()), absl::StrCat(worker.pid()), worker.pool(),
                       v1::WorkerStatus::State_Name(worker.state()), Age(now - ToTime(worker.start_time())),
                       absl::StrCat(worker.calls()), Size(worker.rss_bytes()),
                       absl::StrCat(worker.running_size(), "/", worker.threads()), absl::StrJoin(worker.apps(), " ")});
    for (const v1::RunningCall& call : worker.running()) {
      calls.push_back({call.call_id(), call.app(), call.action(), absl::StrCat(worker.id()),
                       Age(ToDuration(call.elapsed())), call.request_id()});
    }
  }
  if (workers.size() > 1) absl::StrAppend(&text, "\n", Table(workers));
  if (calls.size() > 1) absl::StrAppend(&text, "\n", Table(calls));

  std::vector<Row> exits = {{"ENDED", "PID", "POOL", "AGO", "UP", "CALLS", "WHY", "HOW", "LAST LINE"}};
  for (const v1::WorkerExit& exit : status.exits()) {
    exits.push_back({absl::StrCat(exit.worker_id()), absl::StrCat(exit.pid()), exit.pool(),
                     Age(now - ToTime(exit.time())), Age(ToDuration(exit.uptime())), absl::StrCat(exit.calls()),
                     exit.reason(), Ending(exit),
                     exit.stderr_tail_size() == 0 ? "" : exit.stderr_tail(exit.stderr_tail_size() - 1)});
    if (exits.size() > 10) break;
  }
  if (exits.size() > 1) absl::StrAppend(&text, "\n", Table(exits));
  return text;
}

}  // namespace dirty::ctl
