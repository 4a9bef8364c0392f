#include "server/dispatch/call_log.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/dispatch/errors.h"

namespace dirty {
namespace {

constexpr absl::Duration kInterval = absl::Seconds(1);
constexpr size_t kLongestAction = 256;  // bytes

}  // namespace

void CallLog::Add(const CallRecord& record) {
  const bool failed = record.error != nullptr, slow = record.ran >= record.slow_call;
  const LogLevel level = failed || slow ? LogLevel::kWarning : LogLevel::kDebug;
  if (!log_.Enabled(level)) return;
  if (failed && record.worker == 0) return AddUnrun(record);
  std::string reason = failed ? std::string(errors::ReasonName(record.error->reason())) : slow ? "slow" : "ok";
  if (failed && !record.error->exception_type().empty()) absl::StrAppend(&reason, " ", record.error->exception_type());
  const absl::string_view message = failed ? "call failed" : slow ? "slow call" : "call";
  log_.Log(level, message,
           {{"call", std::string(record.call_id)},
            {"request", std::string(record.request_id)},
            {"app", std::string(record.app)},
            {"action", std::string(record.action.substr(0, kLongestAction))},
            {"worker", absl::StrCat(record.worker)},
            {"waited", errors::Seconds(record.waited)},
            {"ran", errors::Seconds(record.ran)},
            {"reason", std::move(reason)},
            {"trace", std::string(record.trace_id)}});
}

void CallLog::AddUnrun(const CallRecord& record) {
  const bool refused = record.call_id.empty();
  // What is not configured has any name.
  const v1::Reason reason = record.error->reason();
  const std::string name =
      absl::StrCat(refused, " ", reason, " ", reason == v1::REASON_APP_NOT_FOUND ? "" : record.error->app());
  Kind& kind = kinds_[name];
  if (kind.counted++ > 0) return;
  kind.next = {.message = absl::StrCat(refused ? "call refused: " : "call not run: ", record.error->message()),
               .call = std::string(record.call_id),
               .request = std::string(record.request_id),
               .app = std::string(record.app),
               .action = std::string(record.action.substr(0, kLongestAction)),
               .waited = refused ? "" : errors::Seconds(record.waited),
               .reason = std::string(errors::ReasonName(reason)),
               .trace = std::string(record.trace_id)};
  if (kind.timer == 0) OnSecondOver(name);
}

void CallLog::OnSecondOver(const std::string& name) {
  auto it = kinds_.find(name);
  Kind& kind = it->second;
  if (kind.counted == 0) {
    kinds_.erase(it);
    return;
  }
  Tell(kind.next, std::exchange(kind.counted, 0) - 1);
  kind.timer = timers_.ScheduleIn(kInterval, [this, name] { OnSecondOver(name); });
}

void CallLog::Tell(const Line& line, uint64_t more) {
  log_.Log(LogLevel::kWarning, line.message,
           {{"call", line.call},
            {"request", line.request},
            {"app", line.app},
            {"action", line.action},
            {"waited", line.waited},
            {"reason", line.reason},
            {"more", more == 0 ? "" : absl::StrCat(more)},
            {"trace", line.trace}});
}

void CallLog::Flush() {
  for (auto& [name, kind] : kinds_) {
    timers_.Cancel(kind.timer);
    if (kind.counted > 0) Tell(kind.next, kind.counted - 1);
  }
  kinds_.clear();
}

}  // namespace dirty
