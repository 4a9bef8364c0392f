#include "server/dispatch/errors.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/dispatch/proto_time.h"
#include "server/dispatch/text.h"

namespace dirty::errors {
namespace {

// The least that a QUEUE_FULL of an app asks for: when a call of a session ends, nobody knows.
constexpr absl::Duration kSessionRetryDelay = absl::Milliseconds(50);

ErrorPtr Make(v1::Reason reason, std::string message) {
  auto error = std::make_unique<v1::Error>();
  error->set_reason(reason);
  error->set_message(std::move(message));
  return error;
}

size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({change, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row[b.size()];
}

}  // namespace

std::string Seconds(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return "for ever";
  double seconds = absl::ToDoubleSeconds(duration);
  if (seconds < 0.000995) return absl::StrFormat("%.3g us", seconds * 1e6);
  if (seconds < 0.0995) return absl::StrFormat("%.3g ms", seconds * 1e3);
  if (seconds < 1) return absl::StrFormat("%.0f ms", seconds * 1e3);
  if (seconds < 100) return absl::StrFormat("%.1f s", seconds);
  return absl::StrFormat("%.0f s", seconds);
}

absl::string_view ReasonName(v1::Reason reason) {
  switch (reason) {
    case v1::REASON_INVALID_REQUEST:
      return "invalid_request";
    case v1::REASON_APP_NOT_FOUND:
      return "app_not_found";
    case v1::REASON_NO_WORKERS:
      return "no_workers";
    case v1::REASON_QUEUE_FULL:
      return "queue_full";
    case v1::REASON_QUEUE_TIMEOUT:
      return "queue_timeout";
    case v1::REASON_TIMEOUT:
      return "timeout";
    case v1::REASON_CANCELLED:
      return "cancelled";
    case v1::REASON_APP_ERROR:
      return "app_error";
    case v1::REASON_WORKER_LOST:
      return "worker_lost";
    case v1::REASON_TOO_LARGE:
      return "too_large";
    case v1::REASON_SHUTTING_DOWN:
      return "shutting_down";
    case v1::REASON_PERMISSION_DENIED:
      return "permission_denied";
    case v1::REASON_UNSPECIFIED:
    case v1::Reason_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::Reason_INT_MAX_SENTINEL_DO_NOT_USE_:
      return "unspecified";
  }
  return "unspecified";
}

ErrorPtr InvalidRequest(absl::string_view what) { return Make(v1::REASON_INVALID_REQUEST, std::string(what)); }

ErrorPtr AppNotFound(absl::string_view app, const std::vector<std::string>& names) {
  std::string message = absl::StrCat("no app \"", Beginning(app, 128), "\" is configured");
  std::string nearest = Nearest(app, names);
  if (!nearest.empty()) {
    absl::StrAppend(&message, "; did you mean \"", nearest, "\"?");
  } else if (names.size() == 1) {
    absl::StrAppend(&message, "; there is \"", names[0], "\"");
  } else {
    absl::StrAppend(&message, "; `dirtyctl status` lists the apps");
  }
  ErrorPtr error = Make(v1::REASON_APP_NOT_FOUND, std::move(message));
  error->set_app(std::string(Beginning(app, kMaxName)));
  return error;
}

ErrorPtr NoWorkers(absl::string_view app, absl::string_view why) {
  return Make(v1::REASON_NO_WORKERS, absl::StrCat("no worker can serve \"", app, "\": ", why));
}

ErrorPtr QueueFull(absl::string_view app, uint32_t queue_size, absl::Duration retry_delay) {
  ErrorPtr error =
      Make(v1::REASON_QUEUE_FULL, absl::StrCat("the queue of \"", app, "\" is full: queue_size ", queue_size,
                                               " calls wait already; try again in ", Seconds(retry_delay)));
  ToProto(retry_delay, error->mutable_retry_delay());
  return error;
}

ErrorPtr SessionFull(uint32_t max_calls) {
  ErrorPtr error = Make(v1::REASON_QUEUE_FULL, absl::StrCat("the session is full: max_calls_per_session ", max_calls,
                                                            " calls are in flight already; send more as they end"));
  ToProto(kSessionRetryDelay, error->mutable_retry_delay());
  return error;
}

ErrorPtr QueueTimeout(absl::string_view app, absl::Duration waited, absl::string_view why) {
  ErrorPtr error = Make(v1::REASON_QUEUE_TIMEOUT, absl::StrCat("waited ", Seconds(waited), " for a worker of \"", app,
                                                               "\": ", why, "; the call never started"));
  ToProto(waited, error->mutable_timeout());
  return error;
}

ErrorPtr ProtocolBroken(uint32_t worker_id, absl::string_view what) {
  return Make(v1::REASON_APP_ERROR,
              absl::StrCat("worker ", worker_id, " broke the worker protocol: ", what, "; its runtime is at fault"));
}

ErrorPtr Timeout(absl::string_view app, absl::string_view action, absl::Duration ran) {
  ErrorPtr error = Make(v1::REASON_TIMEOUT, absl::StrCat("\"", app, "\" ", action, " ran longer than ", Seconds(ran)));
  ToProto(ran, error->mutable_timeout());
  return error;
}

ErrorPtr StreamIdle(absl::string_view app, absl::string_view action, absl::Duration idle) {
  ErrorPtr error = Make(v1::REASON_TIMEOUT, absl::StrCat("\"", app, "\" ", action, " sent no further chunk for ",
                                                         Seconds(idle), " (stream_idle_timeout)"));
  ToProto(idle, error->mutable_timeout());
  return error;
}

ErrorPtr Cancelled(absl::string_view by) { return Make(v1::REASON_CANCELLED, absl::StrCat("cancelled by ", by)); }

ErrorPtr WorkerLost(uint32_t worker_id, absl::string_view how) {
  ErrorPtr error = Make(v1::REASON_WORKER_LOST,
                        absl::StrCat("worker ", worker_id, " ", how, " while it ran the call; its outcome is unknown"));
  error->set_worker_id(worker_id);
  return error;
}

ErrorPtr TooLarge(absl::string_view what, uint64_t bytes, uint64_t limit) {
  return Make(v1::REASON_TOO_LARGE, absl::StrCat("the ", what, " has ", bytes, " bytes; max_message_size is ", limit));
}

ErrorPtr ShuttingDown() {
  return Make(v1::REASON_SHUTTING_DOWN, "the arbiter is shutting down; the call never started");
}

ErrorPtr PermissionDenied(absl::string_view rpc) {
  return Make(v1::REASON_PERMISSION_DENIED,
              absl::StrCat(rpc, " is for operators: use the admin socket, not the clients'"));
}

std::string Nearest(absl::string_view name, const std::vector<std::string>& names) {
  name = name.substr(0, 256);
  std::string lower = absl::AsciiStrToLower(name);
  size_t best = name.size() / 3 + 1;  // further than that is another word
  std::string nearest;
  for (const std::string& candidate : names) {
    size_t distance = EditDistance(lower, absl::AsciiStrToLower(candidate));
    // `MLApp` for `myapp.ml:MLApp`: only the last part was given.
    if (!name.empty() && absl::string_view(candidate).size() > name.size() &&
        absl::string_view(candidate).substr(candidate.size() - name.size()) == name &&
        !absl::ascii_isalnum(static_cast<unsigned char>(candidate[candidate.size() - name.size() - 1]))) {
      distance = 1;
    }
    if (distance <= best && (nearest.empty() || distance < best)) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace dirty::errors
