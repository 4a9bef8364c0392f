// grpc.health.v1.Health on the loop: gRPC's own service would bring a poller of its own.
//
// Owned by main. Loop-confined, but for construction and service(), which come before the server is built. It outlives
// Loop::Drain, after which none of its calls is left.
#pragma once

#include <cstddef>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/loop/loop.h"

namespace dirty {

// Knows who is healthy. Loop-confined.
class HealthSource {
 public:
  virtual ~HealthSource() = default;
  // Whether `service` can serve now. nullopt: there is no such service, yet.
  virtual std::optional<bool> Serving(absl::string_view service) = 0;
};

class HealthService {
 public:
  // `source` outlives it.
  explicit HealthService(HealthSource& source);
  ~HealthService();

  // To be registered with the server's builder.
  grpc::Service& service() { return service_; }

  // Takes calls from now on. Once the server has started; `loop` outlives the calls.
  void Start(Loop& loop);

  // Tells every watcher whose status differs from the last one it was sent. One that does not read gets the latest
  // when it reads again: at most one message of each watcher is under way.
  void Changed();

  // Ends every watch with UNAVAILABLE, after a last status if that changed, and takes no new calls. Just before the
  // server's shutdown: until then Check and Watch tell that dirtyd is stopping. Idempotent.
  void Shutdown();

  size_t watchers() const { return watches_.size(); }

 private:
  class CheckCall;
  class WatchCall;

  HealthSource& source_;
  grpc::health::v1::Health::AsyncService service_;
  Loop* loop_ = nullptr;
  bool stopping_ = false;
  size_t calls_ = 0;  // every call's object, also those that wait for a client
  absl::flat_hash_set<WatchCall*> watches_;
};

}  // namespace dirty
