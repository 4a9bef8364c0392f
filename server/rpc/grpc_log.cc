#include "server/rpc/grpc_log.h"

#include <grpc/support/log.h>

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/loop/mutex.h"

namespace dirty {
namespace {

constexpr int kLinesPerSecond = 5;

// Where the function finds the log.
struct Target {
  Mutex mutex;
  const Clock* clock ABSL_GUARDED_BY(mutex) = nullptr;
  Logger* log ABSL_GUARDED_BY(mutex) = nullptr;
  absl::Time second ABSL_GUARDED_BY(mutex) = absl::InfinitePast();  // that lines counts
  int lines ABSL_GUARDED_BY(mutex) = 0;
  int64_t unlogged ABSL_GUARDED_BY(mutex) = 0;
};
Target& TheTarget() {
  static Target& target = *new Target;  // gRPC's threads may outlive main's variables
  return target;
}

void Log(gpr_log_func_args* args) {
  Target& target = TheTarget();
  MutexLock lock(&target.mutex);
  if (target.log == nullptr) return;
  const absl::Time now = target.clock->Now();
  if (now - target.second >= absl::Seconds(1)) {
    target.second = now;
    target.lines = 0;
  }
  if (++target.lines > kLinesPerSecond) {
    ++target.unlogged;
    return;
  }
  // Under the mutex, so that the log does not go meanwhile.
  target.log->Warning(absl::StrCat("gRPC: ", args->message),
                      {{"more", absl::StrCat(std::exchange(target.unlogged, 0))}});
}

}  // namespace

GrpcLog::GrpcLog(const Clock& clock, Logger& log) {
  Target& target = TheTarget();
  {
    MutexLock lock(&target.mutex);
    target.clock = &clock;
    target.log = &log;
  }
  gpr_set_log_function(Log);
}

GrpcLog::~GrpcLog() {
  gpr_set_log_function(nullptr);  // its own
  Target& target = TheTarget();
  MutexLock lock(&target.mutex);
  target.log = nullptr;
}

}  // namespace dirty
