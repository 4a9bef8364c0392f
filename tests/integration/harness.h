// What tests with real processes share: programs that are started and watched, a dirtyd with a folder of its own, and
// stubs that talk to it. Nothing here waits for a time: it waits for an event, and gives up after kBound.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "dirty/client.h"
#include "dirty/v1/admin.grpc.pb.h"
#include "dirty/v1/arbiter.grpc.pb.h"

namespace dirty::integration {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#else
inline constexpr bool kSanitized = false;
#endif

// Bounds that are part of a promise, in time or memory, are checked only where the program runs as users run it.
#ifdef NDEBUG
inline constexpr bool kMeasured = !kSanitized;
#else
inline constexpr bool kMeasured = false;
#endif

// For what comes at once unless it is broken.
inline constexpr absl::Duration kBound = absl::Seconds(kSanitized ? 120 : 30);

// How often a test repeats: fewer times under sanitizers, and it says so.
int Repetitions(int full, int sanitized);

// Asks until the answer is yes. False: not within kBound.
bool WaitUntil(const std::function<bool()>& condition, absl::Duration bound = kBound);

// Whether a file exists; makes one, or removes it.
bool Exists(const std::string& path);
void Touch(const std::string& path);
std::string ReadText(const std::string& path);

using Words = std::vector<std::string>;

// A temporary folder that other users may look into, removed with what is in it. Its path is short: sockets go there.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(absl::string_view name) const;

 private:
  std::string path_;
};

// How a process ended.
struct Exit {
  bool ended = false;  // false: it still runs
  int code = -1;       // -1: a signal ended it
  int signal = 0;
};

// A child process with its output, killed with the test. Thread-compatible.
class Process {
 public:
  struct Options {
    Words environment = {};         // NAME=VALUE, beside our own
    std::optional<uid_t> uid = {};  // needs root; without supplementary groups
    std::optional<gid_t> gid = {};
    bool pid_namespace = false;  // as PID 1 of its own; needs root
  };
  explicit Process(const Words& command) : Process(command, Options()) {}
  Process(const Words& command, const Options& options);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Of the program itself, also where it is PID 1 elsewhere.
  pid_t pid() const { return pid_; }
  void Signal(int signal) const;
  Exit WaitExit(absl::Duration bound = kBound);
  bool running();

  // What it wrote so far.
  std::string out() const;
  std::string err() const;
  // Whether every writer of its output has gone.
  bool OutputEnded() const;
  // Waits until standard error, from byte `from` on, holds a line with `text`, and returns that line. Empty: it ended
  // or the bound has passed, and the test has failed.
  std::string WaitForLine(absl::string_view text, size_t from = 0);
  // The same for standard output.
  std::string WaitForOutput(absl::string_view text);

 private:
  struct Output;
  std::string WaitIn(const std::shared_ptr<Output>& output, absl::string_view text, size_t from);
  pid_t child_ = 0;  // of ours: the program, or what holds its namespace
  pid_t pid_ = 0;
  Exit exit_;
  std::shared_ptr<Output> out_, err_;
};

// A program that ran to its end.
struct Ran {
  int code = -1;
  std::string out, err;
};
Ran RunProgram(const Words& command, const Process::Options& options = {});

// Paths of the programs under test.
std::string Program(absl::string_view name);
// The folder of the apps in tests/apps.
std::string TestApps();

bool IsRoot();

// /proc, of a process: 0 or empty if it is gone.
size_t Descriptors(pid_t pid);
// Once it has been the same for half a second: of connections that have ended gRPC closes the last ones a moment later.
size_t DescriptorsAtRest(pid_t pid);
size_t ResidentBytes(pid_t pid);
char ProcessState(pid_t pid);  // as in proc(5): 'Z'; 0: gone
std::string Title(pid_t pid);
std::vector<pid_t> Children(pid_t pid);

// dirtyd's Error in the details of a status. Reason UNSPECIFIED: there is none.
v1::Error ErrorOf(const grpc::Status& status);
v1::RpcStatus DetailsOf(const grpc::Status& status);

std::shared_ptr<grpc::Channel> ClientChannel(const std::string& socket);
std::shared_ptr<grpc::Channel> AdminChannel(const std::string& socket);
// A context whose deadline is kBound from now.
class Context : public grpc::ClientContext {
 public:
  Context();
};

// A dirtyd with the apps of tests/apps on its library path and a runtime directory of its own. When it goes, it has
// been ended, cleanly, and left nothing behind; its log is shown if the test failed.
class Dirtyd {
 public:
  struct Options {
    std::string config = {};  // the text of its configuration file; empty: none
    bool ready = true;        // wait for `ready:`
    Process::Options process = {};
  };
  explicit Dirtyd(Words args) : Dirtyd(std::move(args), Options()) {}
  Dirtyd(Words args, Options options);
  ~Dirtyd();

  // Starts it again after its end, as before, with further arguments.
  void Start(const Words& more = {});
  // Ends it and checks what it leaves behind. `signal`: SIGTERM or SIGQUIT.
  void Stop(int signal);
  // Checks what an ended one left behind.
  void ExpectNothingLeft();

  Process& process() { return *process_; }
  pid_t pid() const { return process_->pid(); }
  const Folder& folder() const { return folder_; }
  std::string runtime_dir() const { return folder_ / "rt"; }
  std::string socket() const { return folder_ / "rt/dirty.sock"; }
  std::string admin_socket() const { return folder_ / "rt/admin.sock"; }
  // Arguments for another dirtyd beside this one.
  Words Arguments(const Words& more) const;

  client::Client NewClient(client::Options options = {}) const;
  std::unique_ptr<v1::Arbiter::Stub> NewArbiterStub() const { return v1::Arbiter::NewStub(ClientChannel(socket())); }
  v1::Admin::Stub& admin();
  // dirtyctl with both sockets.
  Words Ctl(const Words& words) const;

  v1::StatusResponse Status();
  v1::AppStatus App(const std::string& name);
  // Its workers that are READY, by id.
  std::vector<v1::WorkerStatus> ReadyWorkers();
  // Waits until so many are ready, and none else is left.
  std::vector<v1::WorkerStatus> WaitForWorkers(size_t count);
  // Waits until this one is ready and no other is left: of a replacement, whose predecessor may look alive for a
  // moment.
  bool WaitForWorker(uint32_t id);
  bool WaitForQueued(const std::string& app, uint32_t calls);
  bool WaitForRunning(const std::string& app, uint32_t calls);
  // Whether received = queued + running + all outcomes, for every app.
  void ExpectCountersAddUp();

 private:
  Folder folder_;
  Words args_;
  Options options_;
  std::unique_ptr<Process> process_;
  std::unique_ptr<v1::Admin::Stub> admin_;
  std::vector<pid_t> seen_;  // processes below it, to be gone after its end
};

}  // namespace dirty::integration
