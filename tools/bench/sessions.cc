#include "tools/bench/sessions.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "dirty/v1/arbiter.grpc.pb.h"

namespace dirty::bench {
namespace {

constexpr auto kOpenTime = std::chrono::seconds(10);
constexpr rlim_t kDescriptorsEach = 4;  // a socket, and what gRPC keeps beside it
constexpr uint32_t kProtocolVersion = 1;

// One session on its own connection.
class Session {
 public:
  explicit Session(const std::string& socket) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // else all channels share one connection
    arguments.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
    channel_ = grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments);
    stub_ = v1::Arbiter::NewStub(channel_);
  }

  // Greets, and waits for the answer.
  grpc::Status Open() {
    if (!channel_->WaitForConnected(std::chrono::system_clock::now() + kOpenTime)) {
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "no connection");
    }
    stream_ = stub_->Session(&context_);
    v1::SessionRequest hello;
    hello.mutable_hello()->set_protocol_version(kProtocolVersion);
    v1::SessionResponse answer;
    if (stream_->Write(hello) && stream_->Read(&answer)) {
      if (answer.has_hello()) return grpc::Status::OK;
      context_.TryCancel();
    }
    const grpc::Status status = stream_->Finish();
    stream_.reset();
    return status.ok() ? grpc::Status(grpc::StatusCode::INTERNAL, "no hello") : status;
  }

  ~Session() {
    if (!stream_) return;
    context_.TryCancel();
    static_cast<void>(stream_->Finish());
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Arbiter::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::SessionRequest, v1::SessionResponse>> stream_;
};

void RaiseDescriptorLimit(unsigned sessions) {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min(limit.rlim_max, std::max(limit.rlim_cur, sessions * kDescriptorsEach + 100));
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

grpc::Status HoldSessions(unsigned count, const std::string& socket, const std::function<void()>& opened) {
  RaiseDescriptorLimit(count);
  std::vector<std::unique_ptr<Session>> sessions;
  while (sessions.size() < count) {
    sessions.push_back(std::make_unique<Session>(socket));
    if (grpc::Status failed = sessions.back()->Open(); !failed.ok()) return failed;
  }
  opened();
  return grpc::Status::OK;
}

}  // namespace dirty::bench
