#ifndef DIRTY_CLIENT_CPP_CORE_H_
#define DIRTY_CLIENT_CPP_CORE_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "client/cpp/transport.h"
#include "dirty/client.h"

namespace dirty::client::internal {

// What the copies of a client share: the transport, made by the first call, and again by the first one after a fork.
// Thread-safe. Its end is the transport's.
class Core {
 public:
  explicit Core(Options options);
  ~Core();

  // Everything that can be refused before anything is sent.
  Outcome<Outgoing> Prepare(const std::string& app, const std::string& action, std::string args, std::string kwargs,
                            CallOptions options) const;

  // As the transport's.
  RawResult Execute(Outgoing call);
  std::shared_ptr<Cancellable> Start(Outgoing call, std::function<void(RawResult)> done);
  std::unique_ptr<ChunkReader> Open(Outgoing call);

  // As Client's. Each Suspend is followed by one Resume, on the same thread, in parent and child.
  bool Suspend(std::chrono::nanoseconds patience);
  void Resume();

 private:
  Transport& Enter(int users);  // waits while suspended
  void Leave(int users);

  const Options options_;
  int suspended_in_ = 0;  // the process, of the thread that suspends
  std::mutex gate_;       // held while suspended; before mutex_
  mutable std::mutex mutex_;
  std::condition_variable left_;
  // Guarded by mutex_:
  int users_ = 0;  // threads in the transport, and calls that nobody waits for; no streams
  std::unique_ptr<Transport> transport_;
};

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_CORE_H_
