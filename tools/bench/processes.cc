#include "tools/bench/processes.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>
#include <time.h>
#include <unistd.h>

#include <fstream>

#include "client/cpp/socket.h"

namespace dirty::bench {
namespace {

constexpr auto kAnswerTime = std::chrono::seconds(10);

// 0 if it is gone.
std::chrono::nanoseconds CpuTimeOf(pid_t pid) {
  clockid_t clock;
  timespec time;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return {};
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

CpuTimes CpuTimesOf(const Processes& processes) {
  CpuTimes times;
  times.client = CpuTimeOf(getpid());
  if (processes.dirtyd != 0) times.dirtyd = CpuTimeOf(processes.dirtyd);
  for (pid_t worker : processes.workers) times.workers += CpuTimeOf(worker);
  return times;
}

Memory MemoryOf(pid_t pid) {
  Memory memory;
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(file, line);) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    uint64_t kib = 0;
    if (words.size() != 3 || !absl::SimpleAtoi(words[1], &kib)) continue;
    if (words[0] == "VmRSS:") memory.resident = kib * 1024;
    if (words[0] == "VmHWM:") memory.peak = kib * 1024;
  }
  return memory;
}

Operator::Operator(std::shared_ptr<client::internal::Connection> connection)
    : connection_(std::move(connection)), stub_(v1::Admin::NewStub(connection_->channel())) {}

client::Outcome<Operator> Operator::Connect(const std::string& path, std::chrono::nanoseconds timeout) {
  client::internal::Connector connector(client::internal::SocketPaths(path, "DIRTY_ADMIN_SOCKET", "admin.sock"));
  auto connection = connector.Get(client::internal::Clock::now() + timeout, {});
  if (!connection.ok()) return connection.error();
  return Operator(*std::move(connection));
}

absl::StatusOr<v1::StatusResponse> Operator::Status() const {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kAnswerTime);
  v1::StatusResponse response;
  const grpc::Status status = stub_->Status(&context, v1::StatusRequest(), &response);
  if (!status.ok()) return absl::UnavailableError(absl::StrCat(connection_->path(), ": ", status.error_message()));
  return response;
}

Processes ProcessesOf(const v1::StatusResponse& status) {
  Processes processes;
  processes.dirtyd = status.pid();
  for (const v1::WorkerStatus& worker : status.workers()) processes.workers.push_back(worker.pid());
  return processes;
}

}  // namespace dirty::bench
