// The worker's end of the link: serves dirty.v1.Worker on one socket and carries frames. Owned by Worker.
//
// One thread at a time, the one that leads, is in Poll; it reads frames and hands them to the Receiver. Frames are
// written by whoever sends them: serialised and, if nothing else is being written, put on the socket by the sending
// thread.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "dirty/v1/worker.grpc.pb.h"
#include "worker/runtime/call.h"
#include "worker/runtime/mutex.h"

namespace dirty::worker {

class Link final : public FrameSink {
 public:
  // Called by the thread in Poll; must not block.
  class Receiver {
   public:
    virtual ~Receiver() = default;
    virtual void OnFrame(v1::ArbiterFrame& frame) = 0;
    // The arbiter is gone: it closed the link, or broke it. Once, and not after Close.
    virtual void OnLost() = 0;
    // kLostGrace later the process still runs.
    virtual void OnLostTooLong() = 0;
  };

  // How long running calls and close() may take once the arbiter is gone.
  static constexpr std::chrono::milliseconds kLostGrace{1000};
  // How long Flush waits for an arbiter that does not read.
  static constexpr std::chrono::milliseconds kFlushTime{1000};
  // How long Close waits for the arbiter to take the last frames.
  static constexpr std::chrono::milliseconds kCloseGrace{5000};

  Link();
  ~Link() override;

  // Binds and listens. An error says what to do. Main thread, once.
  absl::Status Listen(const std::string& socket);

  // Begins to serve. Once, after Listen, before the first Poll.
  void Serve(Receiver& receiver);

  // Handles what comes as long as `goes_on`, which is asked after every event. False: the link was closed. One thread
  // at a time; what it did happens before what the next one does.
  bool Poll(absl::FunctionRef<bool()> goes_on);

  // Has Poll ask `goes_on` now. Any thread, once, before Close.
  void Interrupt();

  // Any thread. Frames keep their order per thread. Before the arbiter attached, and once it is gone, they are dropped.
  void Send(const v1::WorkerFrame& frame) override;

  // Waits until what was sent is on the socket, so that it outlives a crash; at most kFlushTime. Not the thread in
  // Poll.
  void Flush();

  // From here on the arbiter may close its half without being taken for lost. Any thread.
  void ExpectEnd();

  // Ends the link after what was sent, and Poll with it: the last tag of the accept loop shuts the queue down. False:
  // the arbiter did not take the last frames in kCloseGrace, and Poll may not end. Main thread, once, after Listen.
  bool Close();

 private:
  using Tag = std::function<void(bool ok)>;
  // Raw, so that senders serialise their own frames.
  using RawService = v1::Worker::WithRawMethod_Attach<v1::Worker::Service>;
  using Stream = grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;
  struct Attachment {
    grpc::ServerContext context;
    Stream stream{&context};
    Tag refused;
  };

  void Accept();
  void OnAccepted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnEnded();
  void Lose();
  void OnFinished();
  void Write(const grpc::ByteBuffer& bytes, grpc::WriteOptions options);
  void Finish();

  RawService service_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<grpc::Server> server_;

  // Of the thread in Poll.
  Receiver* receiver_ = nullptr;
  std::unique_ptr<Attachment> next_;  // waits for somebody to attach
  grpc::ByteBuffer incoming_;
  bool down_ = false;      // the server shuts down: nothing is started any more
  bool reads_on_ = false;  // the next Poll is to read
  std::chrono::system_clock::time_point give_up_ = std::chrono::system_clock::time_point::max();
  Tag accepted_ = [this](bool ok) { OnAccepted(ok); };
  Tag ended_ = [this](bool) { OnEnded(); };
  Tag read_ = [this](bool ok) { OnRead(ok); };
  Tag written_ = [this](bool ok) { OnWritten(ok); };
  Tag finish_ = [this](bool) { OnFinished(); };
  Tag interrupted_ = [](bool) {};
  std::optional<grpc::Alarm> interrupt_;  // made by Listen, which starts gRPC

  std::unique_ptr<Attachment> arbiter_;  // written once, in Poll, before attached_

  // Held while a write or the finish is started. `writing_` alone keeps them apart; this lets ThreadSanitizer see it,
  // which cannot follow a completion through gRPC. Never held together with mutex_.
  Mutex stream_mutex_;

  Mutex mutex_;
  Condition progress_;  // a write or the stream has ended
  bool attached_ ABSL_GUARDED_BY(mutex_) = false;
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool end_expected_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<grpc::ByteBuffer> unwritten_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dirty::worker
