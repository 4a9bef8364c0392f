#ifndef DIRTY_CLIENT_CPP_SESSION_H_
#define DIRTY_CLIENT_CPP_SESSION_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/async_stream.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/cpp/connection.h"
#include "client/cpp/shared_queue.h"
#include "client/cpp/transport.h"
#include "dirty/v1/arbiter.grpc.pb.h"

namespace dirty::client::internal {

class Session;

// A call that a session carries. Whoever made it keeps it until it is off its session. Guarded by the mutex of the
// session's queue, as all that is called here.
class SessionCall {
 public:
  explicit SessionCall(Outgoing call) : outgoing(std::move(call)) {}
  virtual ~SessionCall() = default;
  SessionCall(const SessionCall&) = delete;
  SessionCall& operator=(const SessionCall&) = delete;

  virtual void OnChunk(v1::Chunk&&) {}

  // It is off its session: with an outcome, or never sent because the session broke, so that it may be sent again.
  virtual void OnEnd(RawResult result) = 0;
  virtual void OnUnsent() = 0;

  Outgoing outgoing;          // its request until it is sent
  std::uint32_t credits = 0;  // of a stream: how many chunks may come at first; 0: no stream

 private:
  friend class Session;
  Session* session_ = nullptr;
  std::uint64_t id_ = 0;
  bool written_ = false;
};

// One Session stream of a connection. Belongs to a runner, which keeps it until all of its tags are back, and holds
// its calls by reference. Everything is called with the mutex of the queue; what takes a Lock lets go of it for a
// while.
class Session : public std::enable_shared_from_this<Session> {
 public:
  // What a tag of the queue points to.
  struct Tag {
    Session* session;
    void (Session::*take)(Lock& lock, bool ok);
  };

  // Starts it.
  Session(std::shared_ptr<Connection> connection, grpc::CompletionQueue* queue);

  // Takes the call, and writes it as soon as it can. False: it has as many as it may have, or is over.
  bool Add(Lock& lock, SessionCall& call);

  // Ends the call here, with this or because it is overdue, and has the arbiter cancel it if it was sent. False: it is
  // not on a session, so it has ended. The call may be gone when this returns.
  static bool End(Lock& lock, SessionCall& call, Error error);
  static bool Expire(Lock& lock, SessionCall& call);

  // More chunks may come. Does nothing if the call is not on a session.
  static void Grant(Lock& lock, const SessionCall& call, std::uint32_t chunks);

  // Reads on, if it does not. By the thread that leads.
  void Read(Lock& lock);

  template <typename Visit>
  void ForEachCall(Visit visit) const {
    for (const auto& [id, call] : calls_) visit(*call);
  }

  // Ends all calls: those that were sent with `sent`, the others with `unsent`.
  void EndCalls(const Error& sent, const Error& unsent);

  // Ends the stream; its tags come back.
  void Cancel() { context_.TryCancel(); }

  const std::shared_ptr<Connection>& connection() const { return connection_; }
  bool greeting() const { return stage_ == Stage::kGreeting; }
  bool open() const { return stage_ == Stage::kOpen; }
  bool writing() const { return writing_; }
  bool gone() const { return stage_ == Stage::kEnded && !reading_ && !writing_; }

  // It ended before the arbiter's hello.
  bool refused() const { return stage_ == Stage::kEnded && !greeted_; }

  // The arbiter's limit in bytes, 0 if it has none or did not say so yet.
  std::uint64_t max_message_size() const { return hello_.max_message_size(); }

 private:
  enum class Stage { kGreeting, kOpen, kFinishing, kEnded };

  // What waits to be written. An `execute` whose call was taken off becomes an empty frame.
  struct Frame {
    v1::SessionRequest::FrameCase kind;
    std::uint64_t id;
    std::uint32_t chunks = 0;
  };

  void Write(Lock& lock);  // the next frame, unless one is on its way
  void Fill(const Frame& frame);
  void TakeOffSurplus();
  void OnRead(Lock& lock, bool ok);
  void OnWritten(Lock& lock, bool ok);
  void OnFinished(Lock& lock, bool ok);
  void OnDone(v1::SessionDone& done);
  SessionCall* TakeOff(std::uint64_t id);  // null: not here

  const std::shared_ptr<Connection> connection_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<v1::SessionRequest, v1::SessionResponse>> stream_;
  Tag read_{this, &Session::OnRead}, written_{this, &Session::OnWritten}, finished_{this, &Session::OnFinished};

  Stage stage_ = Stage::kGreeting;
  bool reading_ = false;  // then incoming_ is gRPC's
  bool writing_ = false;
  bool in_write_ = false;  // a thread has outgoing_
  bool broken_ = false;    // nothing can be written
  bool greeted_ = false;
  v1::SessionResponse incoming_;
  v1::SessionRequest outgoing_;
  v1::SessionHello hello_;
  grpc::Status status_;
  std::deque<Frame> frames_;
  std::unordered_map<std::uint64_t, SessionCall*> calls_;  // by id
  std::uint64_t last_id_ = 0;
};

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_SESSION_H_
