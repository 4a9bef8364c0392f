#include "server/supervise/grpc_links.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdio>
#include <cstring>
#include <deque>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "dirty/v1/worker.grpc.pb.h"
#include "server/loop/unique_fd.h"
#include "server/supervise/worker_frames.h"

namespace dirty {
namespace {

// Megabyte payloads in few frames and few reads; measured in docs/architecture.md. A link is one connection a worker,
// so that buffers of this size are affordable here.
constexpr int kFrameSize = 4 << 20;
constexpr int kReadChunk = 1 << 20;
// For what a worker that is gone had sent; only a process that still holds its socket makes us wait so long.
constexpr absl::Duration kLastFrames = absl::Milliseconds(250);

grpc::ChannelArguments LinkArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // workers check their results, and a link must not end for one of them
  arguments.SetMaxSendMessageSize(-1);
  // Nothing is compressed: a worker's small frame could become gigabytes, which gRPC unpacks before it looks at the
  // size.
  arguments.SetInt(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE);
  arguments.SetInt("grpc.enable_retries", 0);
  arguments.SetInt("grpc.enable_channelz", 0);
  arguments.SetInt("grpc.http2.bdp_probe", 0);
  arguments.SetInt("grpc.http2.max_frame_size", kFrameSize);
  arguments.SetInt("grpc.http2.lookahead_bytes", kFrameSize);
  arguments.SetInt("grpc.experimental.tcp_read_chunk_size", kReadChunk);
  arguments.SetInt("grpc.experimental.tcp_max_read_chunk_size", kFrameSize);
  return arguments;
}

// The path is in a folder of the workers' user, who may put anything there: a symbolic link would have us speak to a
// socket that only we may connect to. Hence what was opened is what is connected to.
absl::StatusOr<UniqueFd> Connect(const std::string& path) {
  const UniqueFd found(open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat entry = {};
  if (!found.ok() || fstat(found.get(), &entry) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot connect to ", path, ": ", strerror(errno)));
  }
  if (!S_ISSOCK(entry.st_mode)) {
    return absl::UnavailableError(
        absl::StrCat("cannot connect to ", path, ": it is ", S_ISLNK(entry.st_mode) ? "a symbolic link" : "no socket"));
  }
  if (entry.st_nlink > 1) {
    return absl::UnavailableError(absl::StrCat("cannot connect to ", path, ": it has another name elsewhere"));
  }
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d", found.get());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  // Non-blocking on a Unix socket: at once, or EAGAIN where the worker's backlog is full, which one connection cannot
  // do.
  if (!fd.ok() || connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot connect to ", path,
                                               errno == ENOENT ? " by way of /proc, which has to be mounted: " : ": ",
                                               strerror(errno)));
  }
  return fd;
}

}  // namespace

class GrpcLinks::Link final : public WorkerPort {
 public:
  Link(GrpcLinks& owner, WorkerId worker)
      : owner_(owner), worker_(worker), frames_(worker, *owner.events_, *owner.dispatcher_) {}

  void Open(const WorkerSpec& spec) {
    absl::StatusOr<UniqueFd> fd = Connect(owner_.options_.socket_path(worker_));
    if (!fd.ok()) {
      owner_.loop_.timers().Schedule(owner_.loop_.timers().Now(),
                                     [links = &owner_, id = worker_, why = std::string(fd.status().message())] {
                                       if (links->Find(id) != nullptr) links->events_->OnLinkBroken(id, why);
                                     });
      return;
    }
    channel_ = grpc::CreateCustomInsecureChannelFromFd("worker", fd->Release(), LinkArguments());
    auto stub = v1::Worker::NewStub(channel_);
    stream_ = stub->PrepareAsyncAttach(&context_, owner_.loop_.queue());
    ++pending_;
    starting_ = true;
    stream_->StartCall(&started_);

    auto frame = std::make_unique<v1::ArbiterFrame>();
    v1::WorkerConfig* hello = frame->mutable_hello();
    hello->set_protocol_version(kLinkProtocolVersion);
    hello->set_worker_id(spec.id);
    hello->set_index(spec.index);
    hello->set_pool(spec.pool->name);
    hello->set_generation(spec.generation);
    hello->set_slots(spec.pool->threads);
    for (const AppSettings& settings : spec.apps) {
      v1::AppSpec* app = hello->add_apps();
      app->set_name(settings.name);
      app->set_path(owner_.options_.locate(settings, *spec.pool));
      app->set_may_skip(!settings.workers.has_value());
      if (spec.pool->runtime == WorkerRuntime::kNative && !absl::StrContains(app->path(), '/')) {
        app->mutable_searched()->Assign(spec.pool->library_path.begin(), spec.pool->library_path.end());
      }
    }
    hello->set_max_message_size(owner_.options_.max_message_size);
    hello->set_max_json_depth(owner_.options_.max_json_depth);
    hello->set_worker_init_hook(spec.init_hook);
    hello->set_arbiter_start_time(owner_.options_.arbiter_start_time);
    Send(std::move(frame));
  }

  void Send(std::unique_ptr<v1::ArbiterFrame> frame) {
    if (broken_ || stream_ == nullptr) return;
    outbox_.push_back(std::move(frame));
    WriteNext();
  }

  // Calls `then` once the last frame was handled; at once if that is so.
  void AfterLastFrame(std::function<void()> then) {
    if (stream_ == nullptr || ended_) return then();
    after_last_frame_ = std::move(then);
    last_frame_timer_ = owner_.loop_.timers().ScheduleIn(kLastFrames, [this] {
      last_frame_timer_ = 0;
      std::exchange(after_last_frame_, nullptr)();
    });
  }

  // No more events. True: nothing is under way, it can go at once.
  bool Close() {
    closed_ = true;
    owner_.loop_.timers().Cancel(last_frame_timer_);
    outbox_.clear();
    if (pending_ > 0) context_.TryCancel();
    return pending_ == 0;
  }

  // WorkerPort
  void Start(std::unique_ptr<v1::StartCall> start) override {
    auto frame = std::make_unique<v1::ArbiterFrame>();
    frame->set_allocated_start(start.release());
    Send(std::move(frame));
  }
  void Cancel(CallNumber call, v1::CancelReason reason) override {
    auto frame = std::make_unique<v1::ArbiterFrame>();
    frame->mutable_cancel()->set_call(call);
    frame->mutable_cancel()->set_reason(reason);
    Send(std::move(frame));
  }
  void Credit(CallNumber call, uint32_t chunks) override {
    auto frame = std::make_unique<v1::ArbiterFrame>();
    frame->mutable_credit()->set_call(call);
    frame->mutable_credit()->set_chunks(chunks);
    Send(std::move(frame));
  }

 private:
  void WriteNext() {
    if (starting_ || writing_ || broken_ || outbox_.empty()) return;
    std::unique_ptr<v1::ArbiterFrame> frame = std::move(outbox_.front());
    outbox_.pop_front();
    grpc::WriteOptions options;
    if (!outbox_.empty()) options.set_buffer_hint();
    writing_ = true;
    ++pending_;
    stream_->Write(*frame, options, &wrote_);  // serialised by now: the frame can go
  }

  void OnStarted(bool ok) {
    starting_ = false;
    if (!Returned()) return;
    if (!ok) return Finish();
    ReadNext();
    WriteNext();
  }

  void ReadNext() {
    ++pending_;
    stream_->Read(&frame_, &read_);
  }

  void OnWrote(bool ok) {
    writing_ = false;
    if (!Returned()) return;
    if (ok) {
      WriteNext();
    } else {
      broken_ = true;  // the read says why
      outbox_.clear();
    }
  }

  void OnRead(bool ok) {
    // Counted until it is handled, so that an event that closes the link does not take it away under us.
    if (ok && !closed_) Handle();
    if (!Returned()) return;
    if (ok) {
      ReadNext();
    } else {
      Finish();
    }
  }

  void Finish() {
    broken_ = true;
    outbox_.clear();
    ++pending_;
    stream_->Finish(&status_, &finished_);
  }

  void OnFinished(bool) {
    ended_ = true;
    if (!closed_) Break(status_.ok() ? "the worker ended it" : status_.error_message());
    // May close the link; it goes with this tag.
    if (!closed_ && after_last_frame_) std::exchange(after_last_frame_, nullptr)();
    Returned();
  }

  // The first reason is the true one: what follows is how the stream ends because of it.
  void Break(const std::string& why) {
    broken_ = true;
    if (!std::exchange(told_broken_, true)) owner_.events_->OnLinkBroken(worker_, why);
  }

  // After every tag. False: the link is closed, and `this` may be gone.
  bool Returned() {
    --pending_;
    if (!closed_) return true;
    if (pending_ == 0) {
      auto it = owner_.closing_.find(this);
      if (it != owner_.closing_.end()) owner_.closing_.erase(it);
    }
    return false;
  }

  void Handle() {
    absl::Status status = frames_.Handle(frame_);
    if (status.ok()) return;
    context_.TryCancel();
    Break(std::string(status.message()));
  }

  GrpcLinks& owner_;
  const WorkerId worker_;
  grpc::ClientContext context_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<v1::ArbiterFrame, v1::WorkerFrame>> stream_;
  std::deque<std::unique_ptr<v1::ArbiterFrame>> outbox_;
  v1::WorkerFrame frame_;
  WorkerFrames frames_;
  grpc::Status status_;
  int pending_ = 0;  // tags under way
  bool starting_ = false;
  bool writing_ = false;
  bool broken_ = false;
  bool told_broken_ = false;
  bool closed_ = false;
  bool ended_ = false;  // no frame will come
  std::function<void()> after_last_frame_;
  TimerQueue::TimerId last_frame_timer_ = 0;
  MemberCompletion<Link> started_{this, &Link::OnStarted};
  MemberCompletion<Link> wrote_{this, &Link::OnWrote};
  MemberCompletion<Link> read_{this, &Link::OnRead};
  MemberCompletion<Link> finished_{this, &Link::OnFinished};
};

GrpcLinks::GrpcLinks(Loop& loop, Options options) : loop_(loop), options_(std::move(options)) {}

GrpcLinks::~GrpcLinks() = default;

GrpcLinks::Link* GrpcLinks::Find(WorkerId worker) {
  auto it = links_.find(worker);
  return it == links_.end() ? nullptr : it->second.get();
}

void GrpcLinks::Open(const WorkerSpec& spec) {
  auto link = std::make_unique<Link>(*this, spec.id);
  Link* raw = link.get();
  links_[spec.id] = std::move(link);
  raw->Open(spec);
}

void GrpcLinks::Ping(WorkerId worker, uint64_t sequence) {
  Link* link = Find(worker);
  if (link == nullptr) return;
  auto frame = std::make_unique<v1::ArbiterFrame>();
  frame->mutable_ping()->set_sequence(sequence);
  link->Send(std::move(frame));
}

void GrpcLinks::Drain(WorkerId worker) {
  Link* link = Find(worker);
  if (link == nullptr) return;
  auto frame = std::make_unique<v1::ArbiterFrame>();
  frame->mutable_drain();
  link->Send(std::move(frame));
}

void GrpcLinks::DumpStacks(WorkerId worker, uint64_t call) {
  Link* link = Find(worker);
  if (link == nullptr) return;
  auto frame = std::make_unique<v1::ArbiterFrame>();
  frame->mutable_dump_stacks()->set_call(call);
  link->Send(std::move(frame));
}

void GrpcLinks::ReopenLogs(WorkerId worker) {
  Link* link = Find(worker);
  if (link == nullptr) return;
  auto frame = std::make_unique<v1::ArbiterFrame>();
  frame->mutable_reopen_logs();
  link->Send(std::move(frame));
}

void GrpcLinks::OnExit(WorkerId worker, const ExitStatus& status) {
  Link* link = Find(worker);
  if (link == nullptr) return exits_->OnExit(worker, status);
  link->AfterLastFrame([this, worker, status] { exits_->OnExit(worker, status); });
}

WorkerPort* GrpcLinks::Port(WorkerId worker) { return Find(worker); }

void GrpcLinks::Close(WorkerId worker) {
  auto it = links_.find(worker);
  if (it == links_.end()) return;
  std::unique_ptr<Link> link = std::move(it->second);
  links_.erase(it);
  if (!link->Close()) closing_.emplace(link.get(), std::move(link));
}

}  // namespace dirty
