#ifndef DIRTY_TOOLS_BENCH_PROCESSES_H_
#define DIRTY_TOOLS_BENCH_PROCESSES_H_

// What calls cost: processor time and memory of the processes that take part. Stateless, thread-safe.

#include <absl/status/statusor.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/cpp/connection.h"
#include "dirty/v1/admin.grpc.pb.h"

namespace dirty::bench {

// Who takes part, beside this process.
struct Processes {
  pid_t dirtyd = 0;
  std::vector<pid_t> workers = {};
};

// Processor time that they have used until now, user and system, all threads.
struct CpuTimes {
  std::chrono::nanoseconds client{};
  std::chrono::nanoseconds dirtyd{};
  std::chrono::nanoseconds workers{};
};
CpuTimes CpuTimesOf(const Processes& processes);

// Memory of a process in bytes: resident now, and the most it ever was. 0: it cannot be read.
struct Memory {
  uint64_t resident = 0;
  uint64_t peak = 0;
};
Memory MemoryOf(pid_t pid);

// A connection to the admin socket; thread-compatible.
class Operator {
 public:
  // `path` empty: the usual ones. The error is why it cannot be reached.
  static client::Outcome<Operator> Connect(const std::string& path, std::chrono::nanoseconds timeout);

  // UNAVAILABLE if it does not answer.
  absl::StatusOr<v1::StatusResponse> Status() const;

 private:
  explicit Operator(std::shared_ptr<client::internal::Connection> connection);

  std::shared_ptr<client::internal::Connection> connection_;
  std::shared_ptr<v1::Admin::Stub> stub_;
};

Processes ProcessesOf(const v1::StatusResponse& status);

}  // namespace dirty::bench

#endif  // DIRTY_TOOLS_BENCH_PROCESSES_H_
