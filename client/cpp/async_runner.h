#ifndef DIRTY_CLIENT_CPP_ASYNC_RUNNER_H_
#define DIRTY_CLIENT_CPP_ASYNC_RUNNER_H_

#include <grpcpp/completion_queue.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "client/cpp/connection.h"
#include "client/cpp/operation.h"

namespace dirty::client::internal {

// Runs Operations: a thread that takes their tags, while there are any to come, and another, while there is no
// connection, that waits for one. Both start when first needed. Thread-safe, but Close comes last.
class AsyncRunner : public std::enable_shared_from_this<AsyncRunner> {
 public:
  AsyncRunner(std::shared_ptr<Connector> connector, std::chrono::nanoseconds connect_timeout);
  ~AsyncRunner();

  // Sends it as soon as there is a connection. Waits for nothing.
  void Start(const std::shared_ptr<Operation>& call);

  // The thread that waits for a connection looks at its calls again.
  void Wake();

  // Ends everything because of a fork, without waiting. Precondition: the connector is closed.
  void Cut(const std::string& why);

  // Cancels everything and waits until every outcome was told. On a thread of its own, which a callback that lets go
  // of the last client is on, it does not wait for that thread.
  void Close();

  std::chrono::nanoseconds connect_timeout() const { return connect_timeout_; }

 private:
  void Send(const std::shared_ptr<Operation>& call, std::shared_ptr<Connection> connection);  // or cancels it
  void Receive();                                                                             // the first thread
  void Connect();                                                                             // the second thread

  const std::shared_ptr<Connector> connector_;
  const std::chrono::nanoseconds connect_timeout_;
  grpc::CompletionQueue queue_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  bool closing_ = false;
  bool look_again_ = false;
  std::vector<std::shared_ptr<Operation>> unsent_;
  std::unordered_map<Operation*, std::shared_ptr<Operation>> sent_;
  std::thread receiver_;
  std::thread connecter_;
};

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_ASYNC_RUNNER_H_
