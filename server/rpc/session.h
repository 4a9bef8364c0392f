// A session: one client's stream with many calls in flight. Of execute.cc and session.cc only.
//
// Frames that the client sends are handled one by one, as they are read. Frames for the client wait in an outbox while
// one is being written; all but the last go with gRPC's hint that more follows, so that they share a system call.
//
// What is promised:
//  - Every `execute` gets exactly one `done`, whatever is wrong with it, in the order of completion. One that is not
//    admitted (no id, an id in flight, no request, too many) is answered at once with an error without `call_id`; an
//    error of a call that was admitted has one. So a client that used an id twice can tell which of the two is meant.
//  - A call's chunks come before its `done`. A result that is no stream is one last chunk, which needs no credit.
//  - A client that does not read is not read from, once kMostWaiting bytes wait for it. Its calls in flight may still
//    add their answers, until MostHeld bytes wait: then all that are still in flight are cancelled, and answered with
//    CANCELLED, which says why. So no call is lost, and what had ended by then is still there to be read.
//  - Half-close: the calls in flight are answered, then the stream ends with OK. Any other end of the stream abandons
//    its calls.
//  - A frame that cannot be parsed may have been a call: the stream ends at once, with INVALID_ARGUMENT.
//  - Shutdown of dirtyd: new calls get SHUTTING_DOWN, the others their answers. In the end the stream ends with
//    SHUTTING_DOWN (UNAVAILABLE), too: what was sent and has no `done` then has never started.
#pragma once

#include <deque>
#include <memory>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "server/rpc/chunk_window.h"
#include "server/rpc/execute_rpc.h"

namespace dirty {

// A frame as it was read. gRPC tells a frame that it cannot parse like a half-close: as the end of what there is to
// read.
struct IncomingFrame {
  v1::SessionRequest request;
  bool malformed = false;
};

}  // namespace dirty

template <>
class grpc::SerializationTraits<dirty::IncomingFrame> {
 public:
  static Status Deserialize(ByteBuffer* bytes, dirty::IncomingFrame* frame) {
    frame->malformed = !SerializationTraits<dirty::v1::SessionRequest>::Deserialize(bytes, &frame->request).ok();
    return Status::OK;
  }
};

namespace dirty {

class ArbiterService::Session final : public Rpc {
 public:
  explicit Session(ArbiterService& owner);

  // Ends with SHUTTING_DOWN when its calls are answered.
  void Shutdown();

 private:
  class Call;

  // A frame that waits: exactly one of the three.
  struct Outgoing {
    uint64_t id = 0;
    std::unique_ptr<v1::ExecuteResponse> response = {};
    std::unique_ptr<v1::Error> error = {};
    std::unique_ptr<v1::Chunk> chunk = {};
    CallNumber chunk_of = 0;
    size_t bytes = 0;
  };

  void Begin() override;
  void End() override;

  void OnRead(bool ok);
  void Handle();
  void OnMalformed();
  void Greet();
  void Execute(v1::SessionExecute& execute);
  void Cancel(uint64_t id);
  void Credit(uint64_t id, uint32_t chunks);

  // Of a Call.
  void OnCallChunk(Call& call, std::unique_ptr<v1::Chunk> chunk);
  void OnCallDone(Call& call, Outcome outcome);  // `call` is gone then
  void GiveCredits(Call& call);

  // Nobody waits for what is in flight, nor for what waits to be written.
  void Drop();
  // Cancels what is in flight, for the client does not read what it already has.
  void CutOff();

  void Send(Outgoing frame);
  void SendError(uint64_t id, errors::ErrorPtr error);
  void WriteNext();
  void OnWritten(bool ok);
  // Reads on, unless too much waits to be written.
  void ReadNext();
  // The stream is to end with this status when everything is answered and written. The first one counts.
  void EndWith(grpc::Status status);
  void OnFinished(bool) { Returned(); }

  grpc::ServerAsyncReaderWriter<v1::SessionResponse, IncomingFrame> stream_;
  IncomingFrame incoming_;
  v1::SessionResponse outgoing_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Call>> calls_;  // in flight, by the client's ids
  std::deque<Outgoing> outbox_;
  size_t waiting_ = 0;       // bytes in the outbox
  uint64_t written_id_ = 0;  // the chunk that is being written, and its call
  CallNumber written_of_ = 0;
  absl::Time deadline_;
  std::optional<grpc::Status> end_;
  TimerQueue::TimerId cut_off_ = 0;  // CutOff is to come: not from within what the dispatcher does
  bool cutting_off_ = false;
  bool greeted_ = false;
  bool reading_ = false;
  bool writing_ = false;
  bool all_read_ = false;  // half-closed, or nothing more can be understood
  bool finishing_ = false;
  MemberCompletion<Session> read_{this, &Session::OnRead};
  MemberCompletion<Session> written_{this, &Session::OnWritten};
  MemberCompletion<Session> finished_{this, &Session::OnFinished};
};

}  // namespace dirty
