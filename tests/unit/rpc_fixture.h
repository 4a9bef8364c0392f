// A real server with the services of server/rpc on a loop in a thread of its own, and what tests of them share.
#pragma once

#include <gmock/gmock.h>
#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/loop/loop.h"
#include "server/loop/mutex.h"
#include "server/loop/unique_fd.h"
#include "server/loop/watcher.h"
#include "server/observe/log.h"
#include "server/rpc/health.h"
#include "server/rpc/listener.h"
#include "server/rpc/reflection.h"

namespace dirty {

// Longer than anything takes: only a test that fails waits so long.
inline constexpr absl::Duration kLimit = absl::Seconds(60);

// For conditions that nobody announces, such as a count of descriptors.
inline bool Eventually(const std::function<bool()>& condition) {
  for (absl::Time end = absl::Now() + kLimit; absl::Now() < end; absl::SleepFor(absl::Milliseconds(1))) {
    if (condition()) return true;
  }
  return false;
}

class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/dirty-test-XXXXXX";
    path_ = mkdtemp(name);
    // Other users go through it, by mode.
    std::filesystem::permissions(path_, std::filesystem::perms(0755));
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  std::string operator/(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

 private:
  std::string path_;
};

// Keeps the lines, as "message key=value ...". Thread-safe.
class FakeLogger final : public Logger {
 public:
  void Log(LogLevel, absl::string_view message, std::initializer_list<LogField> fields) override {
    std::string line(message);
    for (const auto& [key, value] : fields) absl::StrAppend(&line, " ", key, "=", value);
    MutexLock lock(&mutex_);
    lines_.push_back(std::move(line));
    written_.NotifyAll();
  }
  bool Enabled(LogLevel) const override { return true; }

  // Waits for so many lines.
  std::vector<std::string> Lines(size_t count) {
    MutexLock lock(&mutex_);
    for (absl::Time end = absl::Now() + kLimit; lines_.size() < count && absl::Now() < end;) {
      written_.WaitFor(&mutex_, end - absl::Now());
    }
    return lines_;
  }

 private:
  Mutex mutex_;
  Condition written_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

// Moved by the test. Thread-safe.
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override {
    MutexLock lock(&mutex_);
    return now_;
  }
  void Advance(absl::Duration by) {
    MutexLock lock(&mutex_);
    now_ += by;
  }

 private:
  mutable Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1000);
};

// Loop-confined.
class FakeHealthSource final : public HealthSource {
 public:
  std::optional<bool> Serving(absl::string_view service) override {
    auto it = serving.find(std::string(service));
    return it == serving.end() ? std::nullopt : std::optional<bool>(it->second);
  }
  std::map<std::string, bool> serving = {{"", true}};
};

// A connected raw socket, or none: errno.
inline UniqueFd ConnectTo(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  memcpy(address.sun_path, path.data(), path.size());
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return UniqueFd();
  return fd;
}

class RpcTest : public testing::Test {
 protected:
  // For good: gRPC's last shutdown would wait up to 10 s for the poller that a large write to a full socket started.
  static void SetUpTestSuite() { grpc_init(); }
  void SetUp() override { StartServer({}); }
  void TearDown() override { StopServer(); }

  void StartServer(const Listener::ClientSocket& options, UniqueFd passed = UniqueFd()) {
    Listener::ClientSocket socket = options;
    if (socket.path.empty()) socket.path = client_path_;
    health_ = std::make_unique<HealthService>(source_);
    reflection_ = std::make_unique<ReflectionService>(Services(), &Pool());
    grpc::ServerBuilder builder;
    builder.RegisterService(&health_->service());
    for (grpc::Service* service : reflection_->services()) builder.RegisterService(service);
    watcher_ = std::make_unique<Watcher>();
    listener_ = std::make_unique<Listener>(*watcher_, clock_, log_);
    ASSERT_TRUE(listener_->AddClientSocket(socket, builder, std::move(passed)).ok());
    ASSERT_TRUE(listener_->AddAdminSocket(admin_path_, builder).ok());
    loop_ = std::make_unique<Loop>(builder.AddCompletionQueue(), steady_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    health_->Start(*loop_);
    reflection_->Start(*loop_);
    listener_->Start();
    thread_ = std::thread([this] { loop_->Run(); });
  }

  // As dirtyd does it. Idempotent.
  void StopServer() {
    if (server_ == nullptr) return;
    OnLoop([this] {
      health_->Shutdown();
      reflection_->Shutdown();
      listener_->StopAccepting();
      listener_->ShutdownConnections();
    });
    server_->Shutdown();
    loop_->Post([this] { loop_->Quit(); });
    thread_.join();
    watcher_->Stop();
    loop_->Drain();
    listener_.reset();
    server_.reset();
  }

  void OnLoop(const std::function<void()>& work) {
    std::promise<void> done;
    loop_->Post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  static std::shared_ptr<grpc::Channel> Connect(const std::string& path) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(absl::StrCat("unix:", path), grpc::InsecureChannelCredentials(), arguments);
  }

  static void SetDeadline(grpc::ClientContext& context) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + kLimit));
    context.set_wait_for_ready(true);
  }

  static std::vector<std::string> Services() { return {"dirty.v1.Arbiter", "dirty.v1.Admin", "grpc.health.v1.Health"}; }
  // Ours and one file with extensions, which ours do not have.
  static const google::protobuf::DescriptorPool& Pool();

  TempDir dir_;
  const std::string client_path_ = dir_ / "dirty.sock";
  const std::string admin_path_ = dir_ / "admin.sock";
  FakeLogger log_;
  FakeClock clock_;
  SteadyClock steady_;
  FakeHealthSource source_;
  std::unique_ptr<Watcher> watcher_;
  std::unique_ptr<HealthService> health_;
  std::unique_ptr<ReflectionService> reflection_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Loop> loop_;
  std::thread thread_;
};

}  // namespace dirty
