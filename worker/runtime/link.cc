#include "worker/runtime/link.h"

#include <grpc/grpc.h>
#include <stdlib.h>
#include <sys/un.h>

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dirty::worker {
namespace {

// Megabyte payloads in few frames and few reads; no probing and no bookkeeping that a link of one stream does not need.
void Tune(grpc::ServerBuilder& builder) {
  constexpr int kLargeFrame = 4 << 20;
  builder.SetMaxReceiveMessageSize(-1).SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kLargeFrame);
  builder.AddChannelArgument(GRPC_ARG_TCP_READ_CHUNK_SIZE, 256 << 10);
  builder.AddChannelArgument(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kLargeFrame);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLargeFrame);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
}

// gRPC's epoll has the kernel wake the worker whenever dirtyd has read what it was sent, because the socket then takes
// more: a quarter of the worker's time. With poll, gRPC asks for what it waits for alone, and a worker has one
// connection. gRPC reads the variable as it starts; the apps' own programs, and their own gRPC, are not to see it.
class PollNotEpoll {
 public:
  PollNotEpoll() {
    if (ours_) setenv(kName, "poll", 0);
  }
  ~PollNotEpoll() {
    if (ours_) unsetenv(kName);
  }
  PollNotEpoll(const PollNotEpoll&) = delete;
  PollNotEpoll& operator=(const PollNotEpoll&) = delete;

 private:
  static constexpr char kName[] = "GRPC_POLL_STRATEGY";
  const bool ours_ = getenv(kName) == nullptr;
};

}  // namespace

Link::Link() = default;

Link::~Link() = default;

absl::Status Link::Listen(const std::string& socket) {
  if (socket.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("the socket's path has ", socket.size(), " bytes, at most ",
                                                   sizeof(sockaddr_un::sun_path) - 1, " are possible: ", socket));
  }
  PollNotEpoll strategy;
  interrupt_.emplace();
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(absl::StrCat("unix:", socket), grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service_);
  Tune(builder);
  queue_ = builder.AddCompletionQueue();
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", socket, ": is its directory there and writable?"));
  }
  return absl::OkStatus();
}

void Link::Serve(Receiver& receiver) {
  receiver_ = &receiver;
  Accept();
}

void Link::Interrupt() { interrupt_->Set(queue_.get(), gpr_inf_past(GPR_CLOCK_MONOTONIC), &interrupted_); }

bool Link::Poll(absl::FunctionRef<bool()> goes_on) {
  void* tag;
  bool ok;
  while (goes_on()) {
    // Not as soon as the last frame was read: gRPC 1.51 then tells the other side at once how much it may send, with a
    // system call of its own. A call that is run before the next Poll is answered first.
    if (reads_on_) {
      reads_on_ = false;
      arbiter_->stream.Read(&incoming_, &read_);
    }
    switch (queue_->AsyncNext(&tag, &ok, give_up_)) {
      case grpc::CompletionQueue::GOT_EVENT:
        (*static_cast<Tag*>(tag))(ok);
        break;
      case grpc::CompletionQueue::TIMEOUT:
        receiver_->OnLostTooLong();
        give_up_ = std::chrono::system_clock::time_point::max();
        break;
      case grpc::CompletionQueue::SHUTDOWN:
        return false;
    }
  }
  return true;
}

void Link::Accept() {
  next_ = std::make_unique<Attachment>();
  if (arbiter_ == nullptr) next_->context.AsyncNotifyWhenDone(&ended_);
  service_.RequestAttach(&next_->context, &next_->stream, queue_.get(), queue_.get(), &accepted_);
}

void Link::OnAccepted(bool ok) {
  if (!ok) {  // the server shuts down, and nobody starts anything any more
    next_.reset();
    down_ = true;
    reads_on_ = false;
    return;
  }
  if (arbiter_ == nullptr) {
    arbiter_ = std::move(next_);
    {
      MutexLock lock(mutex_);
      attached_ = true;
    }
    reads_on_ = true;
  } else {
    Attachment* refused = next_.release();
    refused->refused = [refused](bool) { delete refused; };
    refused->stream.Finish(
        grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "this worker has its arbiter: one Attach in its life"),
        &refused->refused);
  }
  Accept();
}

void Link::OnRead(bool ok) {
  if (!ok) {  // the arbiter will send nothing more
    bool expected;
    {
      MutexLock lock(mutex_);
      expected = end_expected_;
    }
    if (!expected) Lose();
    return;
  }
  v1::ArbiterFrame frame;
  grpc::Status parsed = grpc::SerializationTraits<v1::ArbiterFrame>::Deserialize(&incoming_, &frame);
  if (!parsed.ok()) {
    fprintf(stderr, "dirty-worker: a frame from dirtyd cannot be read (%s): giving up\n",
            parsed.error_message().c_str());
    Lose();
    return;
  }
  receiver_->OnFrame(frame);
  reads_on_ = !down_;
}

void Link::OnEnded() {
  if (arbiter_->context.IsCancelled()) Lose();
}

void Link::Lose() {
  {
    MutexLock lock(mutex_);
    if (lost_ || closing_) return;
    lost_ = true;
    unwritten_.clear();
  }
  give_up_ = std::chrono::system_clock::now() + kLostGrace;
  receiver_->OnLost();
}

void Link::Send(const v1::WorkerFrame& frame) {
  grpc::ByteBuffer bytes;
  bool own_buffer;
  grpc::Status serialised = grpc::SerializationTraits<v1::WorkerFrame>::Serialize(frame, &bytes, &own_buffer);
  if (!serialised.ok()) {  // sizes are checked before
    fprintf(stderr, "dirty-worker: a frame cannot be written: %s\n", serialised.error_message().c_str());
    abort();
  }
  {
    MutexLock lock(mutex_);
    if (!attached_ || lost_ || closing_) return;
    if (writing_) {
      unwritten_.push_back(std::move(bytes));
      return;
    }
    writing_ = true;
  }
  Write(bytes, grpc::WriteOptions());
}

void Link::OnWritten(bool ok) {
  grpc::ByteBuffer bytes;
  grpc::WriteOptions options;
  bool finish = false;
  {
    MutexLock lock(mutex_);
    if (!ok) unwritten_.clear();
    if (unwritten_.empty()) {
      writing_ = false;
      progress_.NotifyAll();
      if (!closing_) return;
      finish = true;
    } else {
      bytes = std::move(unwritten_.front());
      unwritten_.pop_front();
      if (!unwritten_.empty()) options.set_buffer_hint();
    }
  }
  if (finish) {
    Finish();
  } else {
    Write(bytes, options);
  }
}

void Link::Flush() {
  MutexLock lock(mutex_);
  auto deadline = std::chrono::steady_clock::now() + kFlushTime;
  while (writing_ && progress_.WaitUntil(lock, deadline)) {
  }
}

void Link::ExpectEnd() {
  MutexLock lock(mutex_);
  end_expected_ = true;
}

void Link::Write(const grpc::ByteBuffer& bytes, grpc::WriteOptions options) {
  MutexLock lock(stream_mutex_);
  arbiter_->stream.Write(bytes, options, &written_);
}

void Link::Finish() {
  MutexLock lock(stream_mutex_);
  arbiter_->stream.Finish(grpc::Status::OK, &finish_);
}

void Link::OnFinished() {
  MutexLock lock(mutex_);
  finished_ = true;
  progress_.NotifyAll();
}

bool Link::Close() {
  bool attached, finish;
  {
    MutexLock lock(mutex_);
    closing_ = true;
    attached = attached_;
    finish = attached_ && !writing_;
  }
  if (finish) Finish();
  if (attached) {
    MutexLock lock(mutex_);
    auto deadline = std::chrono::steady_clock::now() + kCloseGrace;
    while (!finished_) {
      if (!progress_.WaitUntil(lock, deadline)) return false;
    }
  }
  server_->Shutdown(std::chrono::system_clock::now());
  queue_->Shutdown();  // ends Run; not before the server is down, which gRPC would complain of
  return true;
}

}  // namespace dirty::worker
