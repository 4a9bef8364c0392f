#include "tests/unit/client_fake_arbiter.h"

#include <grpcpp/server_builder.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

namespace dirty::client {

TemporaryFolder::TemporaryFolder() {
  std::string pattern = "/tmp/dirty-client-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = pattern;
  std::filesystem::permissions(path_, static_cast<std::filesystem::perms>(0755));
}

TemporaryFolder::~TemporaryFolder() { std::filesystem::remove_all(path_); }

FakeArbiter::FakeArbiter(std::string socket, Handler handler)
    : socket_(std::move(socket)), handler_(std::move(handler)) {
  Start();
}

FakeArbiter::~FakeArbiter() { Stop(); }

void FakeArbiter::Start() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
  builder.SetMaxReceiveMessageSize(-1);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) throw std::runtime_error("cannot serve on " + socket_);
}

void FakeArbiter::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_ = nullptr;
}

void FakeArbiter::WaitForCalls(int count) {
  std::unique_lock lock(mutex_);
  came_.wait(lock, [this, count] { return received_ >= count; });
}

void FakeArbiter::Count() {
  {
    std::lock_guard lock(mutex_);
    ++received_;
  }
  came_.notify_all();
}

grpc::Status FakeArbiter::Execute(grpc::ServerContext* context, const v1::ExecuteRequest* request,
                                  v1::ExecuteResponse* response) {
  Count();
  return handler_(*context, *request, *response);
}

// A number of chunks that `args` says, then what the handler says.
grpc::Status FakeArbiter::ExecuteStream(grpc::ServerContext* context, const v1::ExecuteRequest* request,
                                        grpc::ServerWriter<v1::Chunk>* writer) {
  Count();
  const int chunks = nlohmann::json::parse(request->args())[0];
  for (int i = 0; i < chunks; ++i) {
    v1::Chunk chunk;
    chunk.set_value(std::to_string(i));
    chunk.add_attachments("bytes of " + std::to_string(i));
    if (!writer->Write(chunk)) return grpc::Status::CANCELLED;
  }
  v1::ExecuteResponse unused;
  return handler_(*context, *request, unused);
}

grpc::Status FakeArbiter::Echo(grpc::ServerContext&, const v1::ExecuteRequest& request, v1::ExecuteResponse& response) {
  response.set_result(nlohmann::json{{"app", request.app()},
                                     {"action", request.action()},
                                     {"args", request.args()},
                                     {"kwargs", request.kwargs()},
                                     {"timeout", request.timeout().seconds()},
                                     {"request_id", request.request_id()}}
                          .dump());
  *response.mutable_attachments() = request.attachments();
  response.set_call_id("c-1");
  response.set_worker_id(7);
  response.mutable_queued_time()->set_nanos(1'000'000);
  response.mutable_run_time()->set_seconds(2);
  return grpc::Status::OK;
}

grpc::Status FakeArbiter::Block(grpc::ServerContext& context, const v1::ExecuteRequest&, v1::ExecuteResponse&) {
  // A synchronous server has no event for this.
  while (!context.IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return grpc::Status::CANCELLED;
}

grpc::Status FakeArbiter::Refusal(grpc::StatusCode code, const v1::Error& error) {
  v1::RpcStatus details;
  details.set_code(code);
  details.set_message(error.message());
  details.add_details()->PackFrom(error);
  return {code, error.message(), details.SerializeAsString()};
}

}  // namespace dirty::client
