#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <iostream>
#include <optional>

#include "client/cpp/socket.h"
#include "dirty/v1/admin.grpc.pb.h"
#include "tools/dirtyctl/commands.h"
#include "tools/dirtyctl/report.h"
#include "tools/dirtyctl/status_table.h"
#include "tools/dirtyctl/text.h"
#include "tools/dirtyctl/watch.h"

namespace dirty::ctl {
namespace {

using client::internal::Connection;
using client::internal::SocketKind;
using client::internal::UniqueFd;

constexpr absl::Duration kAnswerTime = absl::Seconds(10);
constexpr absl::Duration kReplacingTime = absl::Hours(1);  // apps may take their whole boot_timeout, one after another

// One connection to the Admin service, for one command.
class AdminSession {
 public:
  AdminSession(const Arguments& arguments, std::shared_ptr<Connection> connection)
      : arguments_(arguments), connection_(std::move(connection)), stub_(v1::Admin::NewStub(connection_->channel())) {}

  int Run() {
    const std::string& name = arguments_.command->name;
    if (name == "status") return Status();
    if (name == "reload") return Reload();
    if (name == "restart") return Restart();
    if (name == "scale") return Scale();
    if (name == "cancel") return Cancel();
    if (name == "watch") return PrintEvents(*stub_, connection_->path(), arguments_.Has("json"));
    if (name == "metrics") return Metrics();
    if (name == "reopen-logs") return ReopenLogs();
    if (name == "log-level") return SetLogLevel();
    return Shutdown();
  }

 private:
  // Calls `method`; with --json prints the answer, else what `words` makes of it.
  template <typename Request, typename Response, typename Words>
  int Ask(grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
          const Request& request, Words words) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kAnswerTime));
    Response response;
    const grpc::Status status = (stub_.get()->*method)(&context, request, &response);
    return Tell(status, response, words);
  }

  template <typename Response, typename Words>
  int Tell(const grpc::Status& status, const Response& response, Words words) {
    if (!status.ok()) return Fail(status, connection_->path());
    std::cout << (arguments_.Has("json") ? ToJson(response, true) : words(response)) << std::flush;
    return kDone;
  }

  int Status() {
    return Ask(&v1::Admin::Stub::Status, v1::StatusRequest(),
               [](const v1::StatusResponse& status) { return StatusTable(status, absl::Now()); });
  }

  // The same for what takes a while: with progress on standard error, unless only the answer is wanted.
  template <typename Request, typename Response, typename Words>
  int AskAndWatch(grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                  const Request& request, Words words) {
    std::optional<Progress> progress;
    if (!arguments_.Has("quiet") && !arguments_.Has("json")) progress.emplace(*stub_);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kReplacingTime));
    Response response;
    const grpc::Status status = (stub_.get()->*method)(&context, request, &response);
    if (progress) progress->End(status.ok() && std::is_same_v<Response, v1::ReloadResponse>);
    return Tell(status, response, words);
  }

  int Reload() {
    v1::ReloadRequest request;
    for (const std::string& pool : arguments_.All("pool")) request.add_pools(pool);
    for (const std::string& app : arguments_.All("app")) request.add_apps(app);
    return AskAndWatch(&v1::Admin::Stub::Reload, request, [](const v1::ReloadResponse& done) {
      std::string text = absl::StrCat("reloaded, generation ", done.generation(), "\n");
      for (const std::string& change : done.changes()) absl::StrAppend(&text, "  ", change, "\n");
      for (const std::string& change : done.needs_restart()) {
        absl::StrAppend(&text, "  needs a restart of dirtyd: ", change, "\n");
      }
      return text;
    });
  }

  int Restart() {
    v1::RestartRequest request;
    if (!arguments_.operands.empty()) request.set_worker_id(arguments_.Number(0));
    return AskAndWatch(&v1::Admin::Stub::Restart, request, [](const v1::RestartResponse& done) {
      std::string text = absl::StrCat("workers replaced: ", done.replaced(), "\n");
      for (const std::string& line : done.still_failing()) absl::StrAppend(&text, "  ", line, "\n");
      return text;
    });
  }

  int Scale() {
    v1::ScaleRequest request;
    request.set_pool(arguments_.Get("pool"));
    request.set_workers(arguments_.Number(0));
    return Ask(&v1::Admin::Stub::Scale, request, [](const v1::ScaleResponse& done) {
      return absl::StrCat("workers: ", done.previous_workers(), " -> ", done.workers(), "\n");
    });
  }

  int Cancel() {
    v1::CancelRequest request;
    request.set_call_id(arguments_.operands[0]);
    return Ask(&v1::Admin::Stub::Cancel, request, [](const v1::CancelResponse& done) {
      return std::string(done.was_running() ? "it was running and is asked to stop\n"
                                            : "it was waiting and is dropped\n");
    });
  }

  int Metrics() {
    return Ask(&v1::Admin::Stub::Metrics, v1::MetricsRequest(),
               [](const v1::MetricsResponse& metrics) { return metrics.text(); });
  }

  int ReopenLogs() {
    return Ask(&v1::Admin::Stub::ReopenLogs, v1::ReopenLogsRequest(),
               [](const v1::ReopenLogsResponse&) { return std::string("log files are reopened\n"); });
  }

  int SetLogLevel() {
    v1::SetLogLevelRequest request;
    request.set_level(arguments_.operands[0]);
    return Ask(&v1::Admin::Stub::SetLogLevel, request, [&](const v1::SetLogLevelResponse& done) {
      return absl::StrCat("log level: ", done.previous_level(), " -> ", request.level(), "\n");
    });
  }

  // Asks for it, then waits for the end of the process, or of the connection where its pid means nothing to us.
  int Shutdown() {
    const absl::Duration wait = arguments_.GetDuration("wait", absl::Minutes(2));
    const pid_t pid = connection_->PeerPid();
    const UniqueFd process(pid > 0 ? static_cast<int>(syscall(SYS_pidfd_open, pid, 0)) : -1);
    const absl::Time start = absl::Now();
    v1::ShutdownRequest request;
    request.set_immediate(arguments_.Has("now"));
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(start + kAnswerTime));
    v1::ShutdownResponse response;
    const grpc::Status status = stub_->Shutdown(&context, request, &response);
    // It may be gone before its answer is here.
    if (!status.ok() && !(status.error_code() == grpc::StatusCode::UNAVAILABLE && !connection_->Alive())) {
      return Fail(status, connection_->path());
    }
    const auto milliseconds = static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(wait), INT_MAX));
    bool gone;
    if (process) {
      pollfd events{.fd = process.get(), .events = POLLIN, .revents = 0};
      gone = poll(&events, 1, milliseconds) > 0;
    } else {
      gone = connection_->WaitForHangUp(std::chrono::milliseconds(milliseconds));
    }
    const std::string who = pid > 0 ? absl::StrCat("dirtyd (pid ", pid, ")") : "dirtyd";
    const std::string time = absl::StrFormat("%.1f s", absl::ToDoubleSeconds(absl::Now() - start));
    if (!gone) {
      std::cerr << "dirtyctl: " << who << " is shutting down but still there after " << time
                << ": it waits for running calls (--now does not)\n";
      return kFailed;
    }
    std::cout << who << " is gone, after " << time << "\n";
    return kDone;
  }

  const Arguments& arguments_;
  const std::shared_ptr<Connection> connection_;
  const std::unique_ptr<v1::Admin::Stub> stub_;
};

}  // namespace

int RunAdmin(const Arguments& arguments) {
  auto connection = Connect(arguments, SocketKind::kAdmin);
  if (!connection.ok()) return Fail(connection.error());
  return AdminSession(arguments, *std::move(connection)).Run();
}

client::Outcome<std::shared_ptr<Connection>> Connect(const Arguments& arguments, SocketKind kind) {
  const absl::Duration time = arguments.GetDuration("connect-timeout", absl::Seconds(1));
  const bool admin = kind == SocketKind::kAdmin;
  const char* const env = admin ? "DIRTY_ADMIN_SOCKET" : "DIRTY_SOCKET";
  client::internal::Connector connector(
      client::internal::SocketPaths(arguments.GetSocket(admin ? "admin-socket" : "socket", env), env,
                                    admin ? "admin.sock" : "dirty.sock"),
      kind);
  return connector.Get(client::internal::Clock::now() + absl::ToChronoNanoseconds(time), {});
}

}  // namespace dirty::ctl
