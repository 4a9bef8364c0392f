#include "server/observe/metrics_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/loop/mutex.h"

namespace dirty {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int kPatienceMs = 60'000;
constexpr char kGet[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

// A folder for the sockets of one test.
class Folder {
 public:
  Folder() : path_("/tmp/dirty-metrics-XXXXXX") { EXPECT_NE(mkdtemp(path_.data()), nullptr); }
  ~Folder() {
    unlink(Socket().c_str());
    rmdir(path_.c_str());
  }
  std::string Socket() const { return path_ + "/m"; }

 private:
  std::string path_;
};

// Where snapshots come from: at once, or when the test gives them.
class FakeLoop {
 public:
  MetricsServer::Collect Collect() {
    return [this](std::function<void(MetricsServer::Snapshot)> done) {
      {
        MutexLock lock(&mutex_);
        ++asked_;
        changed_.NotifyAll();
        if (hold_) {
          held_.push_back(std::move(done));
          return;
        }
      }
      Give(done);
    };
  }
  void Hold() {
    MutexLock lock(&mutex_);
    hold_ = true;
  }
  void WaitUntilAsked() {
    MutexLock lock(&mutex_);
    while (held_.empty()) changed_.Wait(&mutex_);
  }
  void Release() {
    std::vector<std::function<void(MetricsServer::Snapshot)>> held;
    {
      MutexLock lock(&mutex_);
      hold_ = false;
      held.swap(held_);
    }
    for (const auto& done : held) Give(done);
  }
  int asked() {
    MutexLock lock(&mutex_);
    return asked_;
  }

 private:
  static void Give(const std::function<void(MetricsServer::Snapshot)>& done) {
    auto snapshot = std::make_shared<MetricsSnapshot>();
    snapshot->sessions = 4711;
    for (int i = 0; i < 2000; ++i) snapshot->worker_starts[absl::StrCat("pool", i)] = 1;  // a megabyte of text
    done(std::move(snapshot));
  }

  Mutex mutex_;
  Condition changed_;
  bool hold_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void(MetricsServer::Snapshot)>> held_ ABSL_GUARDED_BY(mutex_);
  int asked_ ABSL_GUARDED_BY(mutex_) = 0;
};

class MetricsServerTest : public ::testing::Test {
 protected:
  void Start(absl::Duration patience = MetricsServer::kPatience) {
    absl::StatusOr<UniqueFd> listener = MetricsServer::Listen("unix:" + folder_.Socket(), std::nullopt);
    ASSERT_TRUE(listener.ok()) << listener.status();
    server_ = std::make_unique<MetricsServer>(*std::move(listener), loop_.Collect(), patience);
  }

  UniqueFd Connect() const {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = {}};
    strncpy(name.sun_path, folder_.Socket().c_str(), sizeof name.sun_path - 1);
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0) << strerror(errno);
    return fd;
  }
  static void Send(const UniqueFd& fd, const std::string& text) {
    (void)!send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }
  // All that comes until the server closes.
  static std::string ReadAll(const UniqueFd& fd) {
    std::string all;
    char bytes[65536];
    for (;;) {
      pollfd ready = {.fd = fd.get(), .events = POLLIN, .revents = 0};
      if (poll(&ready, 1, kPatienceMs) != 1) return all + "<nothing more comes>";
      const ssize_t size = recv(fd.get(), bytes, sizeof bytes, 0);
      if (size <= 0) return all;
      all.append(bytes, static_cast<size_t>(size));
    }
  }
  std::string Ask(const std::string& request) const {
    UniqueFd fd = Connect();
    Send(fd, request);
    return ReadAll(fd);
  }

  Folder folder_;
  FakeLoop loop_;
  std::unique_ptr<MetricsServer> server_;
};

TEST_F(MetricsServerTest, AnswersAScraper) {
  Start();
  const std::string answer = Ask(kGet);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(answer, HasSubstr("\ndirty_sessions 4711\n"));
  EXPECT_THAT(answer, HasSubstr("\nprocess_open_fds "));
  const size_t body = answer.find("\r\n\r\n") + 4;
  EXPECT_THAT(answer, HasSubstr(absl::StrCat("\r\nContent-Length: ", answer.size() - body, "\r\n")));
  EXPECT_GT(answer.size(), 1u << 20) << "more than a socket's buffer holds";
  EXPECT_THAT(Ask("GET /metrics?x=1 HTTP/1.0\n\n"), StartsWith("HTTP/1.1 200 OK"));
}

TEST_F(MetricsServerTest, RefusesWhatIsNoScrape) {
  Start();
  EXPECT_THAT(Ask("GET / HTTP/1.1\r\n\r\n"), AllOf(StartsWith("HTTP/1.1 404 "), HasSubstr("/metrics")));
  EXPECT_THAT(Ask("POST /metrics HTTP/1.1\r\n\r\n"), AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("Allow: GET")));
  for (const char* nonsense : {"\r\n\r\n", "GET\r\n\r\n", " /metrics HTTP/1.1\r\n\r\n", "GET /metrics\r\n\r\n",
                               "GET /metrics SPDY/3\r\n\r\n", "\x16\x03\x01\n\n"}) {
    EXPECT_THAT(Ask(nonsense), StartsWith("HTTP/1.1 400 ")) << nonsense;
  }
  EXPECT_THAT(Ask("GET /metrics HTTP/1.1\r\nX: " + std::string(MetricsServer::kLongestRequest, 'x')),
              StartsWith("HTTP/1.1 431 "));
  EXPECT_EQ(loop_.asked(), 0) << "none of it is worth the loop's time";
}

TEST_F(MetricsServerTest, ARequestMayComeInPieces) {
  Start();
  UniqueFd slow = Connect();
  for (const char c : std::string(kGet)) Send(slow, std::string(1, c));
  EXPECT_THAT(ReadAll(slow), StartsWith("HTTP/1.1 200 OK"));
}

TEST_F(MetricsServerTest, ThoseWhoWaitTogetherCostOneSnapshot) {
  Start();
  loop_.Hold();
  UniqueFd first = Connect();
  Send(first, kGet);
  loop_.WaitUntilAsked();
  std::vector<UniqueFd> others;
  for (int i = 0; i < 20; ++i) {
    others.push_back(Connect());
    Send(others.back(), kGet);
  }
  EXPECT_THAT(Ask("GET / HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 ")) << "the others have arrived";
  loop_.Release();
  EXPECT_THAT(ReadAll(first), StartsWith("HTTP/1.1 200 OK"));
  for (const UniqueFd& other : others) EXPECT_THAT(ReadAll(other), StartsWith("HTTP/1.1 200 OK"));
  EXPECT_EQ(loop_.asked(), 2) << "a snapshot is never older than its request";
}

TEST_F(MetricsServerTest, AThousandSilentConnectionsKeepNobodyOut) {
  Start();
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 1000; ++i) {
    silent.push_back(Connect());
    if (i % 2 == 0) Send(silent.back(), "GET /met");
  }
  EXPECT_THAT(Ask(kGet), HasSubstr("dirty_sessions 4711"));
  // But for the last ones they are gone.
  size_t open = 0;
  for (const UniqueFd& each : silent) {
    char byte;
    open += recv(each.get(), &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN ? 1 : 0;
  }
  EXPECT_LE(open, MetricsServer::kMostConnections);
}

TEST_F(MetricsServerTest, AScraperThatDoesNotReadHarmsNobodyAndIsCutOff) {
  Start(absl::Seconds(3));  // rendering takes a part of it under sanitizers
  UniqueFd stuck = Connect(), silent = Connect();
  Send(stuck, kGet);
  EXPECT_THAT(Ask(kGet), HasSubstr("dirty_sessions 4711"));
  EXPECT_EQ(ReadAll(silent), "");
  // It gets what the kernel had taken, and no more.
  const std::string part = ReadAll(stuck);
  EXPECT_THAT(part, StartsWith("HTTP/1.1 200 OK"));
  EXPECT_LT(part.size(), 1u << 20);
}

TEST_F(MetricsServerTest, ALoopThatDoesNotAnswerIsNotWaitedForForEver) {
  Start(absl::Milliseconds(300));
  loop_.Hold();
  EXPECT_EQ(Ask(kGet), "");
  loop_.Release();
  EXPECT_THAT(Ask(kGet), StartsWith("HTTP/1.1 200 OK"));
}

TEST_F(MetricsServerTest, StopsWithScrapersConnectedAndASnapshotOnItsWay) {
  Start();
  loop_.Hold();
  UniqueFd scraper = Connect();
  Send(scraper, kGet);
  loop_.WaitUntilAsked();
  server_->Stop();
  EXPECT_EQ(ReadAll(scraper), "");
  loop_.Release();
}

TEST(MetricsListenTest, SaysWhatIsWrongWithAnAddress) {
  UniqueFd taken(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof name;
  ASSERT_EQ(bind(taken.get(), reinterpret_cast<sockaddr*>(&name), size), 0);
  ASSERT_EQ(listen(taken.get(), 1), 0);
  ASSERT_EQ(getsockname(taken.get(), reinterpret_cast<sockaddr*>(&name), &size), 0);
  const std::string address = absl::StrCat("127.0.0.1:", ntohs(name.sin_port));
  auto why = [](const std::string& where) {
    return std::string(MetricsServer::Listen(where, std::nullopt).status().message());
  };
  EXPECT_EQ(why(address), absl::StrCat("metrics: cannot listen on ", address, ": Address already in use"));
  EXPECT_THAT(why("192.0.2.1:9464"), StartsWith("metrics: cannot listen on 192.0.2.1:9464: "));
  EXPECT_THAT(why("no-such-host.invalid:9464"), StartsWith("metrics: cannot listen on no-such-host.invalid:9464: "));
  EXPECT_THAT(why("unix:/nowhere/m"), HasSubstr("metrics: cannot listen on unix:/nowhere/m: No such file"));
  EXPECT_THAT(why("unix:/" + std::string(200, 'x')), HasSubstr("too long"));
}

}  // namespace
}  // namespace dirty
