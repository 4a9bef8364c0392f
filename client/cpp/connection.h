#ifndef DIRTY_CLIENT_CPP_CONNECTION_H_
#define DIRTY_CLIENT_CPP_CONNECTION_H_

#include <grpcpp/channel.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "client/cpp/socket.h"
#include "client/cpp/unique_fd.h"
#include "dirty/client_types.h"
#include "dirty/v1/arbiter.grpc.pb.h"

namespace dirty::client::internal {

using Clock = std::chrono::steady_clock;

// One connection to an arbiter: a channel over a descriptor that we connected ourselves, so that it never connects
// again behind our back and a second descriptor can tell whether it still stands. Immutable, thread-safe.
class Connection {
 public:
  Connection(std::string path, UniqueFd fd);
  ~Connection();

  bool Alive() const;

  // Waits at most `time` for the other side to close. False: it has not.
  bool WaitForHangUp(std::chrono::milliseconds time) const;

  // Ends it, for all calls at once, whatever the other side does.
  void Cut() const;

  // The process that listens, as the kernel knows it; 0 if it is not in our pid namespace.
  pid_t PeerPid() const;

  const std::string& path() const { return path_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  v1::Arbiter::Stub& arbiter() const { return *arbiter_; }

 private:
  const std::string path_;
  const UniqueFd probe_;  // shares the channel's socket
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Arbiter::Stub> arbiter_;
};

// Makes connections, one at a time, and remembers the one that stands. Owned by a transport or a tool; thread-safe.
// All callers share one back-off of at most a second, so that an arbiter is not hammered by many threads.
class Connector {
 public:
  // `paths` are tried in turn; once one has answered, only that one.
  explicit Connector(std::vector<std::string> paths, SocketKind kind = SocketKind::kClient);

  // The connection that stands. Null: none, it is gone, or this is closed. Never waits.
  std::shared_ptr<Connection> Current();

  // Current, or one attempt on each path, unless the back-off of the last one is not over. Null: none. Waits 50 ms a
  // path at most.
  std::shared_ptr<Connection> TryGet();

  // The same until `deadline` or a stop. The error is Failure, or kCancelled.
  Outcome<std::shared_ptr<Connection>> Get(Clock::time_point deadline, const std::stop_token& stop);

  // kConnection, with why each path failed at the last attempt.
  Error Failure() const;

  // When TryGet attempts again.
  Clock::time_point NextAttempt() const;

  // No more connections: Get fails at once, and says `why`.
  void Close(const std::string& why);
  bool closed() const;

 private:
  struct Place {
    std::string path;
    UniqueFd silent = {};  // connected, but not greeted yet
    std::string failure = {};
    bool refused = false;  // accepted and closed at once
  };

  std::shared_ptr<Connection> Attempt(Place& place) const;
  void Succeeded(Place place, std::shared_ptr<Connection> connection);
  void Failed();

  const SocketKind kind_;
  // Held during an attempt; before mutex_.
  std::mutex attempt_mutex_;
  std::vector<Place> places_;          // guarded by attempt_mutex_
  std::chrono::milliseconds backoff_;  // guarded by attempt_mutex_

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;  // current_ is set
  // Guarded by mutex_:
  std::shared_ptr<Connection> current_;
  std::string failure_ = "not tried yet";
  bool closed_ = false;
  Clock::time_point next_attempt_{};
};

// The error of a call that was cancelled while it waited for a connection.
Error CancelledUnsent();

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_CONNECTION_H_
