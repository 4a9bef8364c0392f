#ifndef DIRTY_TESTS_UNIT_CLIENT_FAKE_ARBITER_H_
#define DIRTY_TESTS_UNIT_CLIENT_FAKE_ARBITER_H_

#include <grpcpp/server.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
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

// What a handler knows of its call beside the request.
struct FakeCall {
  std::function<bool()> IsCancelled;
  std::chrono::system_clock::time_point deadline = std::chrono::system_clock::time_point::max();  // the transport's
};

// Serves dirty.v1.Arbiter on a Unix socket from this process; every call is answered by `handler`, but for those with
// action `warm up`, which do not count. Thread-safe.
class FakeArbiter : public v1::Arbiter::Service {
 public:
  using Handler = std::function<grpc::Status(FakeCall&, const v1::ExecuteRequest&, v1::ExecuteResponse&)>;

  struct Options {
    bool sessions = true;
    std::uint64_t max_message_size = 0;
    std::uint32_t max_calls = 0;
    std::function<void()> before_hello = {};     // of a session
    grpc::Status last_words = grpc::Status::OK;  // of a session that got a call with action `shut down`
  };

  FakeArbiter(std::string socket, Handler handler) : FakeArbiter(std::move(socket), std::move(handler), Options()) {}
  FakeArbiter(std::string socket, Handler handler, Options options);
  ~FakeArbiter() override;

  // Listens again after Stop, on the same path.
  void Start();

  // Ends every connection at once, as a death would.
  void Stop();

  // Ends every session, not the connections.
  void EndSessions();
  void WaitForSessionsToEnd();

  // How many calls came, how many of them on sessions, and how many sessions.
  int received() const { return received_; }
  int on_sessions() const { return on_sessions_; }
  int sessions() const { return sessions_; }

  // Waits until so many calls came.
  void WaitForCalls(int count);

  // Answers with `app`, `action`, `args`, `kwargs`, `timeout` and `request_id` as one JSON object, and the attachments.
  static grpc::Status Echo(FakeCall&, const v1::ExecuteRequest& request, v1::ExecuteResponse& response);

  // Answers once the caller has cancelled or its deadline has passed.
  static grpc::Status Block(FakeCall& call, const v1::ExecuteRequest&, v1::ExecuteResponse&);

  // `error` as the arbiter sends it.
  static grpc::Status Refusal(grpc::StatusCode code, const v1::Error& error);

 private:
  class SessionCalls;
  using Stream = grpc::ServerReaderWriter<v1::SessionResponse, v1::SessionRequest>;

  grpc::Status Execute(grpc::ServerContext* context, const v1::ExecuteRequest* request,
                       v1::ExecuteResponse* response) override;
  grpc::Status ExecuteStream(grpc::ServerContext* context, const v1::ExecuteRequest* request,
                             grpc::ServerWriter<v1::Chunk>* writer) override;
  grpc::Status Session(grpc::ServerContext* context, Stream* stream) override;
  grpc::Status Answer(FakeCall& call, const v1::ExecuteRequest& request, v1::ExecuteResponse& response);
  void Count(std::atomic<int>* also = nullptr);

  const std::string socket_;
  const Handler handler_;
  const Options options_;
  std::unique_ptr<grpc::Server> server_;
  std::atomic<int> received_ = 0;
  std::atomic<int> on_sessions_ = 0;
  std::atomic<int> sessions_ = 0;
  std::atomic<int> answered_ = 0;  // on sessions
  std::mutex mutex_;
  std::condition_variable came_;
  std::set<grpc::ServerContext*> open_;  // sessions, guarded by mutex_
};

}  // namespace dirty::client

#endif  // DIRTY_TESTS_UNIT_CLIENT_FAKE_ARBITER_H_
