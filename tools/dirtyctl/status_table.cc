#include "tools/dirtyctl/status_table.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <vector>

#include "tools/dirtyctl/text.h"

namespace dirty::ctl {
namespace {

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
  std::string text = absl::StrCat(Heading(status, now), "\n");
  if (status.has_last_reload()) {
    const v1::ReloadOutcome& reload = status.last_reload();
    absl::StrAppend(&text, Under(absl::StrCat("last reload ", Age(now - ToTime(reload.time())), " ago, ",
                                              reload.ok() ? "ok" : "failed"),
                                 reload.message()));
  }
  absl::StrAppend(&text, "workers ready: ", ReadyWorkers(status), "\n");

  std::vector<Row> apps = {{"APP", "POOL", "STATE", "WORKERS", "QUEUED", "RUNNING", "RECEIVED", "OK", "FAILED"}};
  std::string remarks;
  for (const v1::AppStatus& app : status.apps()) {
    apps.push_back({app.name(), app.pool(), v1::AppStatus::State_Name(app.state()), absl::StrCat(app.ready_workers()),
                    absl::StrCat(app.queued()), absl::StrCat(app.running()), absl::StrCat(app.counters().received()),
                    absl::StrCat(app.counters().ok()), absl::StrCat(Failed(app))});
    if (!app.reason().empty()) absl::StrAppend(&remarks, Under(absl::StrCat("  ", app.name()), app.reason()));
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

  std::vector<Row> exits = {{"ENDED", "PID", "POOL", "AGO", "UP", "CALLS", "WHY", "HOW", "LAST WORDS"}};
  for (const v1::WorkerExit& exit : status.exits()) {
    exits.push_back({absl::StrCat(exit.worker_id()), absl::StrCat(exit.pid()), exit.pool(),
                     Age(now - ToTime(exit.time())), Age(ToDuration(exit.uptime())), absl::StrCat(exit.calls()),
                     exit.reason(), Ending(exit), exit.last_words()});
    if (exits.size() > 10) break;
  }
  if (exits.size() > 1) absl::StrAppend(&text, "\n", Table(exits));
  return text;
}

}  // namespace dirty::ctl
