// dirty-bench: see `dirty-bench --help`.

#include <absl/synchronization/mutex.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>

#include "client/cpp/socket.h"
#include "tools/bench/load.h"
#include "tools/bench/options.h"
#include "tools/bench/own_dirtyd.h"
#include "tools/bench/processes.h"
#include "tools/bench/report.h"
#include "tools/bench/sessions.h"
#include "tools/dirtyctl/report.h"

namespace dirty::bench {
namespace {

constexpr auto kAdminTime = std::chrono::seconds(1);  // to connect: it only adds what calls cost

int Fail(const client::Error& error) {
  std::cerr << "dirty-bench: " << ctl::Describe(error) << "\n";
  return error.reason == client::Reason::kConnection ? ctl::kUnreachable : ctl::kFailed;
}

// Where the admin socket is: as the flag says, else the environment, else beside the client socket.
std::string AdminSocket(const Options& options) {
  if (!options.admin_socket.empty() || options.socket.empty() || std::getenv("DIRTY_ADMIN_SOCKET") != nullptr) {
    return options.admin_socket;
  }
  return options.socket.substr(0, options.socket.rfind('/') + 1) + "admin.sock";
}

// Who takes part, if the admin socket tells.
std::optional<Processes> FindProcesses(const Options& options) {
  const client::Outcome<Operator> found = Operator::Connect(AdminSocket(options), kAdminTime);
  if (!found.ok()) return std::nullopt;
  const absl::StatusOr<v1::StatusResponse> status = found->Status();
  if (!status.ok()) return std::nullopt;
  return ProcessesOf(*status);
}

// The client socket that is called.
std::string ClientSocket(const Options& options) {
  return client::internal::SocketPaths(options.socket, "DIRTY_SOCKET", "dirty.sock").front();
}

int FailSession(const std::string& socket, const grpc::Status& status) {
  const bool absent = status.error_code() == grpc::StatusCode::UNIMPLEMENTED;
  std::cerr << "dirty-bench: " << (absent ? "UNIMPLEMENTED: this dirtyd has no sessions: " : "") << socket << ": "
            << status.error_message() << "\n";
  return status.error_code() == grpc::StatusCode::UNAVAILABLE ? ctl::kUnreachable : ctl::kFailed;
}

int MeasureCalls(const Options& options) {
  if (const std::optional<client::Error> error = TryCall(options, options.socket)) return Fail(*error);
  if (options.transport == "session") {
    // The client would go on without one.
    const std::string socket = ClientSocket(options);
    if (grpc::Status failed = HoldSessions(1, socket, [] {}); !failed.ok()) return FailSession(socket, failed);
  }
  const std::optional<Processes> processes = FindProcesses(options);
  if (!processes) {
    std::cerr << "dirty-bench: no admin socket answers: what dirtyd and its workers use is not measured\n";
  }
  const Processes known = processes.value_or(Processes());
  CpuTimes before;
  Costs costs;
  const Measurement found = Run(
      options, options.socket, [&] { before = CpuTimesOf(known); },
      [&] {
        const CpuTimes after = CpuTimesOf(known);
        costs.cpu = {after.client - before.client, after.dirtyd - before.dirtyd, after.workers - before.workers};
      });
  costs.known = processes.has_value();
  costs.client = MemoryOf(getpid());
  if (known.dirtyd != 0) costs.dirtyd = MemoryOf(known.dirtyd);
  for (pid_t worker : known.workers) costs.workers.push_back(MemoryOf(worker));
  if (options.json) {
    std::cout << ToJson(options, found, costs).dump(2) << "\n";
  } else {
    std::cout << ToText(options, found, costs);
  }
  std::cout.flush();
  return found.first_error ? Fail(*found.first_error) : ctl::kDone;
}

int MeasureSessions(const Options& options) {
  const std::optional<Processes> processes = FindProcesses(options);
  if (!processes) {
    std::cerr << "dirty-bench: no admin socket answers, so dirtyd's memory cannot be found\n";
    return ctl::kUnreachable;
  }
  const std::string socket = ClientSocket(options);
  IdleSessions found = {options.idle_sessions, MemoryOf(processes->dirtyd).resident, 0};
  const grpc::Status failed =
      HoldSessions(options.idle_sessions, socket, [&] { found.after = MemoryOf(processes->dirtyd).resident; });
  if (!failed.ok()) return FailSession(socket, failed);
  std::cout << (options.json ? ToJson(found).dump(2) + "\n" : ToText(found)) << std::flush;
  return ctl::kDone;
}

int Main(const std::vector<std::string>& words) {
  absl::StatusOr<Options> options = ParseOptions(words);
  if (!options.ok()) {
    std::cerr << "dirty-bench: " << options.status().message() << "\n";
    return ctl::kWrongUsage;
  }
  if (options->wish == Options::Wish::kHelp) return std::cout << Help(), ctl::kDone;
  if (options->wish == Options::Wish::kVersion) return std::cout << "dirty-bench " << DIRTY_VERSION << "\n", ctl::kDone;

  std::unique_ptr<OwnDirtyd> own;
  if (!options->self.empty()) {
    absl::StatusOr<std::unique_ptr<OwnDirtyd>> started = OwnDirtyd::Start(*options);
    if (!started.ok()) {
      std::cerr << "dirty-bench: " << started.status().message() << "\n";
      return ctl::kUnreachable;
    }
    own = *std::move(started);
    options->socket = own->socket();
    options->admin_socket = own->admin_socket();
  }
  return options->idle_sessions != 0 ? MeasureSessions(*options) : MeasureCalls(*options);
}

}  // namespace
}  // namespace dirty::bench

int main(int argc, char** argv) {
  // Debian's abseil has the detector on; it costs microseconds a call.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return dirty::bench::Main({argv + 1, argv + argc});
}
