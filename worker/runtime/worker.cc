#include "worker/runtime/worker.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/runtime/failure.h"
#include "worker/runtime/stack_dump.h"
#include "worker/runtime/termination.h"

namespace dirty::worker {
namespace {

constexpr uint32_t kProtocolVersion = 1;

std::string Title(const v1::WorkerConfig& config) {
  std::vector<std::string> apps;
  for (const v1::AppSpec& app : config.apps()) apps.push_back(app.name());
  return absl::StrCat("dirty-worker ", config.worker_id(), " ", config.pool(), " [", absl::StrJoin(apps, ", "), "]");
}

// Left alone, glibc gives memory back to the kernel as soon as 128 KiB are free at the end of the heap, and takes it
// again page by page: with payloads of 1 MB that was half of a call's time. These are the values that it reaches by
// itself after large blocks were freed; with half of them 10 MB took a quarter longer.
void KeepHeap() {
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
}

void SignalReady(int fd) {
  if (write(fd, "\n", 1) != 1) fprintf(stderr, "dirty-worker: nobody reads DIRTY_READY_FD (%d)\n", fd);
  close(fd);
}

}  // namespace

absl::StatusOr<WorkerEnvironment> WorkerEnvironment::Read() {
  WorkerEnvironment environment;
  const char* socket = getenv("DIRTY_WORKER_SOCKET");
  if (socket == nullptr || *socket == '\0') return absl::NotFoundError("DIRTY_WORKER_SOCKET is not set");
  environment.socket = socket;
  if (const char* text = getenv("DIRTY_READY_FD"); text != nullptr) {
    int fd;
    if (!absl::SimpleAtoi(text, &fd) || fd < 0) {
      return absl::InvalidArgumentError(absl::StrCat("DIRTY_READY_FD is not a descriptor: ", text));
    }
    environment.ready_fd = fd;
  }
  return environment;
}

Worker::Worker(AppHost& host, ProcessTitle& title) : host_(host), title_(title), executor_(host, link_) {}

Worker::~Worker() = default;

int Worker::Run(const WorkerEnvironment& environment) {
  KeepHeap();
  PrepareStackDumps();
  if (absl::Status status = link_.Listen(environment.socket); !status.ok()) {
    fprintf(stderr, "dirty-worker: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  Termination termination([this](int count) { OnTerm(count); });
  std::thread io([this] {
    pthread_setname_np(pthread_self(), "dirty-io");
    link_.Serve(*this);
    executor_.Serve();
  });
  if (environment.ready_fd) SignalReady(*environment.ready_fd);

  bool configured;
  {
    MutexLock lock(mutex_);
    while (state_ == State::kWaiting) changed_.Wait(lock);
    configured = state_ == State::kConfigured;
  }
  bool failed = configured && !LoadApps();
  if (failed) MoveTo(State::kDraining);
  bool lost;
  {
    MutexLock lock(mutex_);
    while (state_ == State::kConfigured || state_ == State::kReady) changed_.Wait(lock);
  }
  executor_.Drain();
  host_.CloseAll();
  {
    MutexLock lock(mutex_);
    lost = state_ == State::kLost;
  }
  if (!link_.Close()) {
    fprintf(stderr, "dirty-worker: dirtyd does not take this worker's last frames: exiting\n");
    _exit(1);
  }
  io.join();
  return lost || failed ? 1 : 0;
}

bool Worker::LoadApps() {
  title_.Set(Title(config_));
  host_.Configure(config_);
  for (const v1::AppSpec& spec : config_.apps()) {
    if (Ending()) return true;
    Load(spec);
  }
  if (Ending()) return true;
  if (absl::Status status = host_.FinishLoading(); !status.ok()) {
    fprintf(stderr, "dirty-worker: %s\n", std::string(status.message()).c_str());
    return false;
  }
  executor_.Start(config_.slots());
  v1::WorkerFrame frame;
  frame.mutable_ready();
  MutexLock lock(mutex_);
  if (state_ != State::kConfigured) return true;
  state_ = State::kReady;
  link_.Send(frame);  // what OnTerm tells comes after it
  return true;
}

void Worker::Load(const v1::AppSpec& spec) {
  v1::WorkerFrame starting;
  starting.mutable_app_starting()->set_app(spec.name());
  link_.Send(starting);
  link_.Flush();  // if this app takes the process down, the arbiter knows which one it was

  auto start = std::chrono::steady_clock::now();
  LoadResult result = host_.Load(spec);
  auto took = std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();

  v1::WorkerFrame tried;
  if (result.error) {
    result.error->set_app(spec.name());
    result.error->set_worker_id(config_.worker_id());
    tried.mutable_app_failed()->set_app(spec.name());
    *tried.mutable_app_failed()->mutable_error() = *std::move(result.error);
  } else if (result.skipped) {
    tried.mutable_app_skipped()->set_app(spec.name());
    tried.mutable_app_skipped()->set_workers(result.workers);
  } else {
    tried.mutable_app_ready()->set_app(spec.name());
    tried.mutable_app_ready()->set_workers(result.workers);
    tried.mutable_app_ready()->mutable_init_time()->set_seconds(took / 1000000000);
    tried.mutable_app_ready()->mutable_init_time()->set_nanos(static_cast<int32_t>(took % 1000000000));
  }
  link_.Send(tried);
}

void Worker::OnFrame(v1::ArbiterFrame& frame) {
  switch (frame.frame_case()) {
    case v1::ArbiterFrame::kHello:
      Configure(*frame.mutable_hello());
      break;
    case v1::ArbiterFrame::kStart:
      StartCall(frame);
      break;
    case v1::ArbiterFrame::kCancel:
      executor_.Cancel(frame.cancel().call(), frame.cancel().reason());
      break;
    case v1::ArbiterFrame::kCredit:
      executor_.AddCredit(frame.credit().call(), frame.credit().chunks());
      break;
    case v1::ArbiterFrame::kPing: {
      v1::WorkerFrame pong;
      pong.mutable_pong()->set_sequence(frame.ping().sequence());
      link_.Send(pong);
      break;
    }
    case v1::ArbiterFrame::kDrain:
      link_.ExpectEnd();
      MoveTo(State::kDraining);
      break;
    case v1::ArbiterFrame::kDumpStacks:
      host_.DumpStacks();
      break;
    case v1::ArbiterFrame::kReopenLogs:  // this runtime keeps no log file open
    case v1::ArbiterFrame::FRAME_NOT_SET:
      break;
  }
}

void Worker::Configure(v1::WorkerConfig& config) {
  {
    MutexLock lock(mutex_);
    if (state_ != State::kWaiting) return;  // the first hello counts
  }
  config_.Swap(&config);
  limits_ = {config_.max_message_size(), config_.max_json_depth(), config_.worker_id()};
  v1::WorkerFrame hello;
  hello.mutable_hello()->set_protocol_version(kProtocolVersion);
  hello.mutable_hello()->set_runtime(host_.Describe());
  link_.Send(hello);
  MoveTo(State::kConfigured);
}

void Worker::StartCall(v1::ArbiterFrame& frame) {
  executor_.Submit(std::make_shared<Call>(std::unique_ptr<v1::StartCall>(frame.release_start()), limits_, link_));
}

void Worker::OnLost() {
  MoveTo(State::kLost);
  executor_.CancelAll(v1::CANCEL_REASON_SHUTDOWN);
}

void Worker::OnLostTooLong() {
  fprintf(stderr, "dirty-worker: dirtyd is gone and what runs here did not end in time: exiting\n");
  _exit(1);
}

void Worker::OnTerm(int count) {
  if (count > 1) {
    fprintf(stderr, "dirty-worker: second SIGTERM: exiting at once\n");
    _exit(128 + SIGTERM);
  }
  {
    MutexLock lock(mutex_);
    if (state_ == State::kReady) {
      // Calls may be under way to here, and more are to come until another worker takes them: dirtyd drains this one.
      v1::WorkerFrame frame;
      frame.mutable_ending();
      link_.Send(frame);
    } else if (state_ < State::kReady) {
      state_ = State::kDraining;
      fprintf(stderr, "dirty-worker: told to end before it was ready: exiting\n");
    }
  }
  changed_.NotifyAll();
}

void Worker::MoveTo(State state) {
  {
    MutexLock lock(mutex_);
    if (state <= state_) return;
    state_ = state;
  }
  changed_.NotifyAll();
}

bool Worker::Ending() {
  MutexLock lock(mutex_);
  return state_ > State::kReady;
}

}  // namespace dirty::worker
