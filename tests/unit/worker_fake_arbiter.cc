#include "tests/unit/worker_fake_arbiter.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dirty::worker {
namespace {

constexpr std::chrono::seconds kEndTime{2};  // for a worker that is not needed any more

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  char path[] = "/tmp/dirty-test-XXXXXX";
  if (mkdtemp(path) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = path;
}

TemporaryDirectory::~TemporaryDirectory() { std::filesystem::remove_all(path_); }

void AwaitThat(const std::string& what, const std::function<bool()>& condition) {
  for (auto end = std::chrono::steady_clock::now() + kPatience; !condition();) {
    if (std::chrono::steady_clock::now() > end) throw std::runtime_error("still not so: " + what);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

bool FileExists(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0;
}

void TouchFile(const std::string& path) { std::ofstream(path).flush(); }

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
}

FakeArbiter::FakeArbiter(Environment environment) {
  config.set_protocol_version(1);
  config.set_worker_id(7);
  config.set_pool("default");
  config.set_slots(1);
  config.set_max_message_size(64 << 20);
  config.set_max_json_depth(128);

  std::string socket = directory_.File("worker.sock");
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  constexpr int kReadyFd = 9;
  environment["DIRTY_WORKER_SOCKET"] = socket;
  environment["DIRTY_READY_FD"] = absl::StrCat(kReadyFd);
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
  for (const auto& [name, value] : environment) variables.push_back(absl::StrCat(name, "=", value));
  std::vector<char*> pointers;
  for (std::string& variable : variables) pointers.push_back(variable.data());
  pointers.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ready[1], kReadyFd);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, directory_.File("stderr").c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  std::string program = DIRTY_WORKER_PROGRAM;
  char* arguments[] = {program.data(), nullptr};
  int error = posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments, pointers.data());
  posix_spawn_file_actions_destroy(&actions);
  close(ready[1]);
  if (error != 0) throw std::runtime_error("cannot start " + program);

  pollfd poll_ready = {ready[0], POLLIN, 0};
  char byte = 0;
  bool listens = poll(&poll_ready, 1, std::chrono::milliseconds(kPatience).count()) == 1 &&
                 read(ready[0], &byte, 1) == 1 && byte == '\n';
  // Closed after the newline.
  bool closed = listens && read(ready[0], &byte, 1) == 0;
  close(ready[0]);
  if (!closed) throw std::runtime_error("the worker does not listen: " + Stderr());

  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(-1);
  args.SetMaxSendMessageSize(-1);
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_ = v1::Worker::NewStub(grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), args));
}

FakeArbiter::~FakeArbiter() {
  if (!reaped_) {
    // Asked first: a worker that ends by itself is looked at for leaks, and its coverage counts. Some are stuck on
    // purpose.
    v1::ArbiterFrame drain;
    drain.mutable_drain();
    if (stream_ == nullptr || !stream_->Write(drain)) kill(pid_, SIGTERM);
    int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
    pollfd poll_end = {pidfd, POLLIN, 0};
    poll(&poll_end, 1, std::chrono::milliseconds(kEndTime).count());
    close(pidfd);
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  if (reader_.joinable()) {
    context_.TryCancel();
    reader_.join();
    stream_->Finish();
  }
}

FakeArbiter& FakeArbiter::Load(const std::string& app_class) {
  return LoadPath(app_class, absl::StrCat(DIRTY_TEST_APPS, "/libfaults.so:", app_class));
}

FakeArbiter& FakeArbiter::LoadPath(const std::string& name, const std::string& path) {
  v1::AppSpec& spec = *config.add_apps();
  spec.set_name(name);
  spec.set_path(path);
  return *this;
}

void FakeArbiter::Attach() {
  context_.set_wait_for_ready(true);
  stream_ = stub_->Attach(&context_);
  reader_ = std::thread([this] { ReadFrames(); });
  v1::ArbiterFrame hello;
  *hello.mutable_hello() = config;
  Send(hello);
}

void FakeArbiter::AttachAndWait() {
  Attach();
  while (true) {
    v1::WorkerFrame frame = Next();
    if (frame.has_app_failed()) failed[frame.app_failed().app()] = frame.app_failed().error();
    if (frame.has_ready()) return;
  }
}

void FakeArbiter::ReadFrames() {
  v1::WorkerFrame frame;
  while (stream_->Read(&frame)) {
    std::lock_guard lock(mutex_);
    frames_.push_back(std::move(frame));
    changed_.notify_all();
  }
  std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

void FakeArbiter::Send(const v1::ArbiterFrame& frame) {
  if (!stream_->Write(frame)) throw std::runtime_error("the link is broken: " + Stderr());
}

v1::WorkerFrame FakeArbiter::Take(const std::string& what, const std::function<bool(const v1::WorkerFrame&)>& matches) {
  std::unique_lock lock(mutex_);
  v1::WorkerFrame frame;
  auto take = [&] {
    for (auto it = frames_.begin(); it != frames_.end(); ++it) {
      if (!matches(*it)) continue;
      frame = std::move(*it);
      frames_.erase(it);
      return true;
    }
    return false;
  };
  bool taken = false;
  changed_.wait_for(lock, kPatience, [&] { return (taken = take()) || ended_; });
  if (!taken) {
    throw std::runtime_error(
        absl::StrCat(ended_ ? "the link ended without " : "there came no ", what, "; the worker said: ", Stderr()));
  }
  return frame;
}

v1::WorkerFrame FakeArbiter::Next() {
  return Take("frame", [](const v1::WorkerFrame&) { return true; });
}

v1::WorkerFrame FakeArbiter::Next(v1::WorkerFrame::FrameCase kind) {
  return Take(absl::StrCat("frame of kind ", static_cast<int>(kind)),
              [kind](const v1::WorkerFrame& frame) { return frame.frame_case() == kind; });
}

uint64_t FakeArbiter::Start(const std::string& app, const std::string& action, const std::string& args,
                            const std::string& kwargs, const std::vector<std::string>& attachments) {
  v1::StartCall start;
  v1::ExecuteRequest& request = *start.mutable_request();
  request.set_app(app);
  request.set_action(action);
  request.set_args(args);
  request.set_kwargs(kwargs);
  for (const std::string& attachment : attachments) request.add_attachments(attachment);
  return StartCall(std::move(start));
}

uint64_t FakeArbiter::StartStream(const std::string& app, const std::string& action, const std::string& args,
                                  uint32_t credits) {
  v1::StartCall start;
  start.mutable_request()->set_app(app);
  start.mutable_request()->set_action(action);
  start.mutable_request()->set_args(args);
  start.set_stream(true);
  start.set_credits(credits);
  return StartCall(std::move(start));
}

uint64_t FakeArbiter::StartCall(v1::StartCall start) {
  start.set_call(++last_call_);
  start.set_call_id(absl::StrCat("call-", last_call_));
  v1::ArbiterFrame frame;
  *frame.mutable_start() = std::move(start);
  Send(frame);
  return last_call_;
}

v1::CallDone FakeArbiter::Done(uint64_t call) {
  return Take(absl::StrCat("end of call ", call),
              [call](const v1::WorkerFrame& frame) { return frame.has_done() && frame.done().call() == call; })
      .done();
}

bool FakeArbiter::HasEnded(uint64_t call) {
  std::lock_guard lock(mutex_);
  return std::any_of(frames_.begin(), frames_.end(),
                     [call](const v1::WorkerFrame& frame) { return frame.has_done() && frame.done().call() == call; });
}

v1::Chunk FakeArbiter::NextChunk(uint64_t call) {
  return Take(absl::StrCat("chunk of call ", call),
              [call](const v1::WorkerFrame& frame) { return frame.has_chunk() && frame.chunk().call() == call; })
      .chunk()
      .chunk();
}

v1::CallDone FakeArbiter::Call(const std::string& app, const std::string& action, const std::string& args,
                               const std::string& kwargs, const std::vector<std::string>& attachments) {
  return Done(Start(app, action, args, kwargs, attachments));
}

void FakeArbiter::Cancel(uint64_t call, v1::CancelReason reason) {
  v1::ArbiterFrame frame;
  frame.mutable_cancel()->set_call(call);
  frame.mutable_cancel()->set_reason(reason);
  Send(frame);
}

void FakeArbiter::Credit(uint64_t call, uint32_t chunks) {
  v1::ArbiterFrame frame;
  frame.mutable_credit()->set_call(call);
  frame.mutable_credit()->set_chunks(chunks);
  Send(frame);
}

void FakeArbiter::Ping(uint64_t sequence) {
  v1::ArbiterFrame frame;
  frame.mutable_ping()->set_sequence(sequence);
  Send(frame);
  Take(absl::StrCat("pong ", sequence),
       [sequence](const v1::WorkerFrame& answer) { return answer.has_pong() && answer.pong().sequence() == sequence; });
}

void FakeArbiter::Drain() {
  v1::ArbiterFrame frame;
  frame.mutable_drain();
  Send(frame);
}

void FakeArbiter::Break() { context_.TryCancel(); }

grpc::Status FakeArbiter::LinkStatus() {
  reader_.join();
  return stream_->Finish();
}

grpc::Status FakeArbiter::AttachAgain() {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  auto stream = stub_->Attach(&context);
  v1::WorkerFrame frame;
  while (stream->Read(&frame)) {
  }
  return stream->Finish();
}

void FakeArbiter::Signal(int signal) { kill(pid_, signal); }

int FakeArbiter::WaitForExit() {
  int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  pollfd ended = {pidfd, POLLIN, 0};
  int count = poll(&ended, 1, std::chrono::milliseconds(kPatience).count());
  close(pidfd);
  if (count != 1) throw std::runtime_error("the worker does not end: " + Stderr());
  waitpid(pid_, &wait_status_, 0);
  reaped_ = true;
  return wait_status_;
}

}  // namespace dirty::worker
