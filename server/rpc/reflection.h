// Server reflection (grpc.reflection.v1 and v1alpha) on the loop: gRPC's own service would take a thread for each
// stream. It tells clients such as grpcurl which services there are and what their messages look like.
//
// Owned by main. Loop-confined, but for construction and services(), which come before the server is built. It outlives
// Loop::Drain, after which none of its streams is left.
#pragma once

#include <google/protobuf/descriptor.h>

#include <memory>
#include <string>
#include <vector>

#include "server/loop/loop.h"

namespace grpc {
class Service;
}

namespace dirty {

class ReflectionService {
 public:
  // `names`: the services to list, such as "dirty.v1.Arbiter"; each is in `pool`, which outlives this object.
  explicit ReflectionService(std::vector<std::string> names, const google::protobuf::DescriptorPool* pool =
                                                                 google::protobuf::DescriptorPool::generated_pool());
  ~ReflectionService();

  // Both versions, to be registered with the server's builder.
  std::vector<grpc::Service*> services();

  // Takes streams from now on. Once the server has started; `loop` outlives the streams.
  void Start(Loop& loop);

  // Ends every stream with UNAVAILABLE and takes no new ones. Just before the server's shutdown. Idempotent.
  void Shutdown();

 private:
  class Version;
  template <typename V>
  class VersionOf;
  struct Catalogue;

  std::unique_ptr<Catalogue> catalogue_;
  std::vector<std::unique_ptr<Version>> versions_;
};

}  // namespace dirty
