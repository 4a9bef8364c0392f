#ifndef DIRTY_TESTS_UNIT_CLIENT_FAKE_ARBITER_H_
#define DIRTY_TESTS_UNIT_CLIENT_FAKE_ARBITER_H_

#include <grpcpp/server.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "dirty/v1/arbiter.grpc.pb.h"

namespace dirty::client {

// A folder of its own for sockets, gone with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Serves dirty.v1.Arbiter on a Unix socket from this process; every call is answered by `handler`. Thread-safe.
class FakeArbiter : public v1::Arbiter::Service {
 public:
  using Handler = std::function<grpc::Status(grpc::ServerContext&, const v1::ExecuteRequest&, v1::ExecuteResponse&)>;

  FakeArbiter(std::string socket, Handler handler);
  ~FakeArbiter() override;

  // Listens again after Stop, on the same path.
  void Start();

  // Ends every connection at once, as a death would.
  void Stop();

  // How many calls came.
  int received() const { return received_; }

  // Waits until so many calls came.
  void WaitForCalls(int count);

  // Answers with `app`, `action`, `args`, `kwargs`, `timeout` and `request_id` as one JSON object, and the attachments.
  static grpc::Status Echo(grpc::ServerContext&, const v1::ExecuteRequest& request, v1::ExecuteResponse& response);

  // Answers once the caller has cancelled or its deadline has passed.
  static grpc::Status Block(grpc::ServerContext& context, const v1::ExecuteRequest&, v1::ExecuteResponse&);

  // `error` as the arbiter sends it.
  static grpc::Status Refusal(grpc::StatusCode code, const v1::Error& error);

 private:
  grpc::Status Execute(grpc::ServerContext* context, const v1::ExecuteRequest* request,
                       v1::ExecuteResponse* response) override;
  grpc::Status ExecuteStream(grpc::ServerContext* context, const v1::ExecuteRequest* request,
                             grpc::ServerWriter<v1::Chunk>* writer) override;
  void Count();

  const std::string socket_;
  const Handler handler_;
  std::unique_ptr<grpc::Server> server_;
  std::atomic<int> received_ = 0;
  std::mutex mutex_;
  std::condition_variable came_;
};

}  // namespace dirty::client

#endif  // DIRTY_TESTS_UNIT_CLIENT_FAKE_ARBITER_H_
