// The arbiter's part, played by a test: starts a real dirty-worker, attaches to it, and exchanges frames with it.
//
// What does not come within kPatience throws std::runtime_error with the worker's standard error.
#pragma once

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "dirty/v1/worker.grpc.pb.h"

namespace dirty::worker {

inline constexpr std::chrono::seconds kPatience{30};

// A directory that is removed with what is in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Waits until `condition` holds.
void AwaitThat(const std::string& what, const std::function<bool()>& condition);
bool FileExists(const std::string& path);
void TouchFile(const std::string& path);
std::string ReadFile(const std::string& path);

using Environment = std::map<std::string, std::string>;

class FakeArbiter {
 public:
  // Starts a worker and waits until it listens; `environment` is added to this process's.
  explicit FakeArbiter(Environment environment = {});
  ~FakeArbiter();

  // The worker's configuration, for Attach to send. One slot, worker 7 of the pool "default".
  v1::WorkerConfig config;
  // Adds an app of libfaults.so, named by its class.
  FakeArbiter& Load(const std::string& app_class);
  FakeArbiter& LoadPath(const std::string& name, const std::string& path);

  // Opens the link and sends the configuration.
  void Attach();
  // Attach, and wait until the worker is ready. Apps that failed are in `failed`.
  void AttachAndWait();
  std::map<std::string, v1::Error> failed;

  void Send(const v1::ArbiterFrame& frame);
  // The next frame; the next of one kind, leaving those before it.
  v1::WorkerFrame Next();
  v1::WorkerFrame Next(v1::WorkerFrame::FrameCase kind);

  // Starts a call of the class `app` and gives its number; ends with Done(number).
  uint64_t Start(const std::string& app, const std::string& action, const std::string& args = "",
                 const std::string& kwargs = "", const std::vector<std::string>& attachments = {});
  uint64_t StartStream(const std::string& app, const std::string& action, const std::string& args, uint32_t credits);
  uint64_t StartCall(v1::StartCall start);
  v1::CallDone Done(uint64_t call);
  // Whether Done would not have to wait.
  bool HasEnded(uint64_t call);
  v1::Chunk NextChunk(uint64_t call);
  // Start and Done.
  v1::CallDone Call(const std::string& app, const std::string& action, const std::string& args = "",
                    const std::string& kwargs = "", const std::vector<std::string>& attachments = {});

  void Cancel(uint64_t call, v1::CancelReason reason);
  void Credit(uint64_t call, uint32_t chunks);
  void Ping(uint64_t sequence);  // and waits for the pong
  void Drain();

  // Cuts the link off, as the death of the arbiter does.
  void Break();
  // The link's status, once the worker ended it.
  grpc::Status LinkStatus();
  // A second link.
  grpc::Status AttachAgain();

  void Signal(int signal);
  // As waitpid says, once the process has ended.
  int WaitForExit();
  pid_t pid() const { return pid_; }
  std::string Stderr() const { return ReadFile(directory_.File("stderr")); }

 private:
  v1::WorkerFrame Take(const std::string& what, const std::function<bool(const v1::WorkerFrame&)>& matches);
  void ReadFrames();

  TemporaryDirectory directory_;
  pid_t pid_ = -1;
  int wait_status_ = 0;
  bool reaped_ = false;
  std::unique_ptr<v1::Worker::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ArbiterFrame, v1::WorkerFrame>> stream_;
  std::thread reader_;
  uint64_t last_call_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<v1::WorkerFrame> frames_;
  bool ended_ = false;
};

}  // namespace dirty::worker
