#include <iostream>
#include <nlohmann/json.hpp>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tools/dirtyctl/commands.h"
#include "tools/dirtyctl/report.h"

namespace dirty::ctl {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr auto kAnswerTime = std::chrono::seconds(1);  // a probe that waits longer is as good as one that fails

}  // namespace

int RunHealth(const Arguments& arguments) {
  if (arguments.Has("live") && !arguments.operands.empty()) return FailUsage("--live asks about dirtyd, not an app");
  auto connection = Connect(arguments, client::internal::SocketKind::kClient);
  if (!connection.ok()) return Fail(connection.error());
  HealthCheckRequest request;
  if (!arguments.operands.empty()) {
    request.set_service(arguments.operands[0]);
  } else if (!arguments.Has("live")) {
    request.set_service("dirty.v1.Arbiter");
  }
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kAnswerTime);
  HealthCheckResponse response;
  const grpc::Status status =
      grpc::health::v1::Health::NewStub((*connection)->channel())->Check(&context, request, &response);
  if (status.error_code() == grpc::StatusCode::NOT_FOUND) {
    std::cerr << "dirtyctl: dirtyd has no app " << request.service() << "\n";
    return kFailed;
  }
  if (!status.ok()) return Fail(status, (*connection)->path());
  const std::string answer = HealthCheckResponse::ServingStatus_Name(response.status());
  if (arguments.Has("json")) {
    std::cout << nlohmann::json{{"service", request.service()}, {"status", answer}} << "\n";
  } else {
    std::cout << answer << "\n";
  }
  return response.status() == HealthCheckResponse::SERVING ? kDone : kFailed;
}

}  // namespace dirty::ctl
