// What the three RPCs of the Arbiter service share: their life. Of execute.cc and session.cc only.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/rpc/execute.h"

namespace dirty {

// One RPC, from its arming until its last tag is back; then it deletes itself. One tag is there for its whole life:
// `done`, which tells of its end, also of a cancellation. Loop-confined.
class ArbiterService::Rpc {
 public:
  Rpc(const Rpc&) = delete;
  Rpc& operator=(const Rpc&) = delete;

 protected:
  // A derived constructor requests the RPC, with `arrived_`.
  explicit Rpc(ArbiterService& owner) : owner_(owner) { context_.AsyncNotifyWhenDone(&done_); }
  virtual ~Rpc() = default;

  // A client called. Arms the next one of its kind first.
  virtual void Begin() = 0;
  // It is over, answered or not. What the dispatcher still has of it is to be abandoned.
  virtual void End() = 0;

  // For each operation but the arming: counted until its tag is back and says Returned, which may delete `this`.
  template <typename T>
  void* UnderWay(MemberCompletion<T>& tag) {
    ++pending_;
    return static_cast<Completion*>(&tag);
  }
  void Returned() {
    if (--pending_ > 0) return;
    owner_.CallClosed();
    delete this;
  }

  Dispatcher& dispatcher() { return owner_.dispatcher_; }
  grpc::ServerCompletionQueue* queue() { return owner_.loop_->queue(); }
  bool over() const { return over_; }
  // The RPC's own deadline, by the loop's clock.
  absl::Time Deadline() const {
    if (context_.deadline() == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
    return owner_.loop_->timers().Now() + (absl::FromChrono(context_.deadline()) - absl::Now());
  }

  ArbiterService& owner_;
  grpc::ServerContext context_;
  MemberCompletion<Rpc> arrived_{this, &Rpc::OnArrived};

 private:
  void OnArrived(bool ok) {
    if (!ok) {
      delete this;  // shutdown; `done` never comes for a call that did not start
      return;
    }
    owner_.CallOpened();
    pending_ = 1;
    Begin();
  }
  void OnDone(bool) {
    over_ = true;
    End();
    Returned();
  }

  int pending_ = 0;
  bool over_ = false;
  MemberCompletion<Rpc> done_{this, &Rpc::OnDone};
};

// The size of what users put into an answer: what costs memory. Cheap.
template <typename Message>
size_t PayloadBytes(const std::string& json, const Message& message) {
  size_t bytes = json.size();
  for (const std::string& attachment : message.attachments()) bytes += attachment.size();
  return bytes;
}

// Bytes that may wait for one client that does not read: what all may take together, but several messages, however
// large they may be. What is above costs it its calls. Far above what windows let wait for a reader who is only slow.
inline size_t MostHeld(const Settings& settings) {
  return std::max<size_t>(settings.max_memory_in_flight, size_t{4} * settings.max_message_size);
}

// `error`, a cancellation, was for such a client.
inline void SayUnread(size_t waiting, v1::Error& error) {
  error.set_message(absl::StrCat("cancelled because its client does not read: ", waiting >> 20,
                                 " MiB of answers wait for it; have fewer calls in flight, or read sooner"));
}

// The chunk that a streaming call's result is if it is not a stream: the last one, moved out of it. Null: there is
// none.
inline std::unique_ptr<v1::Chunk> TakeLastChunk(v1::ExecuteResponse& response) {
  if (response.result().empty()) return nullptr;
  auto chunk = std::make_unique<v1::Chunk>();
  chunk->set_value(std::move(*response.mutable_result()));
  response.clear_result();
  chunk->mutable_attachments()->Swap(response.mutable_attachments());
  return chunk;
}

}  // namespace dirty
