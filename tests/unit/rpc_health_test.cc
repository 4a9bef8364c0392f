#include <memory>
#include <thread>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/unit/rpc_fixture.h"
#include "tests/unit/rpc_http2.h"

namespace dirty {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

class HealthTest : public RpcTest {
 protected:
  // A watch, read by hand.
  struct Watch {
    Watch(const std::string& path, const std::string& service) : stub(Health::NewStub(Connect(path))) {
      SetDeadline(context);
      HealthCheckRequest request;
      request.set_service(service);
      reader = stub->Watch(&context, request);
    }
    // The next status; UNKNOWN at the end.
    HealthCheckResponse::ServingStatus Next() {
      HealthCheckResponse response;
      return reader->Read(&response) ? response.status() : HealthCheckResponse::UNKNOWN;
    }
    std::unique_ptr<Health::Stub> stub;
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<HealthCheckResponse>> reader;
  };

  void Set(const std::string& service, std::optional<bool> serving) {
    OnLoop([&] {
      if (serving.has_value()) {
        source_.serving[service] = *serving;
      } else {
        source_.serving.erase(service);
      }
      health_->Changed();
    });
  }

  size_t Watchers() {
    size_t count = 0;
    OnLoop([&] { count = health_->watchers(); });
    return count;
  }

  grpc::Status Check(const std::string& service, HealthCheckResponse* response) {
    grpc::ClientContext context;
    SetDeadline(context);
    HealthCheckRequest request;
    request.set_service(service);
    return Health::NewStub(Connect(client_path_))->Check(&context, request, response);
  }
};

TEST_F(HealthTest, ChecksWhatTheSourceSays) {
  HealthCheckResponse response;
  EXPECT_TRUE(Check("", &response).ok());
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  Set("app", false);
  EXPECT_TRUE(Check("app", &response).ok());
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Check("nothing", &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(HealthTest, ChecksOnTheAdminSocketToo) {
  grpc::ClientContext context;
  SetDeadline(context);
  HealthCheckResponse response;
  EXPECT_TRUE(Health::NewStub(Connect(admin_path_))->Check(&context, HealthCheckRequest(), &response).ok());
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
}

TEST_F(HealthTest, WatchersAreBounded) {
  constexpr size_t kMost = 1000;
  auto stub = Health::NewStub(Connect(client_path_));
  struct Open {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<HealthCheckResponse>> reader;
  };
  std::vector<std::unique_ptr<Open>> open;
  HealthCheckResponse response;
  auto watch = [&] {
    open.push_back(std::make_unique<Open>());
    open.back()->reader = stub->Watch(&open.back()->context, HealthCheckRequest());
    return open.back()->reader->Read(&response);
  };
  for (size_t i = 0; i < kMost; ++i) ASSERT_TRUE(watch()) << i;
  ASSERT_FALSE(watch());
  EXPECT_EQ(open.back()->reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  // One that leaves makes room.
  open.front()->context.TryCancel();
  open.front()->reader->Finish();
  while (Watchers() >= kMost) std::this_thread::yield();
  EXPECT_TRUE(watch());
  for (auto& each : open) each->context.TryCancel();
}

TEST_F(HealthTest, WatchersHearOfTheirServiceOnly) {
  Set("a", false);
  Watch a(client_path_, "a"), again(client_path_, "a"), b(client_path_, "b"), admin(admin_path_, "a");
  EXPECT_EQ(a.Next(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(again.Next(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(b.Next(), HealthCheckResponse::SERVICE_UNKNOWN);
  EXPECT_EQ(admin.Next(), HealthCheckResponse::NOT_SERVING);
  Set("a", true);
  EXPECT_EQ(a.Next(), HealthCheckResponse::SERVING);
  EXPECT_EQ(again.Next(), HealthCheckResponse::SERVING);
  EXPECT_EQ(admin.Next(), HealthCheckResponse::SERVING);
  // Had b been told of a's change, this would be SERVICE_UNKNOWN again.
  Set("b", true);
  EXPECT_EQ(b.Next(), HealthCheckResponse::SERVING);
}

TEST_F(HealthTest, TellsNothingTwice) {
  Watch watch(client_path_, "");
  EXPECT_EQ(watch.Next(), HealthCheckResponse::SERVING);
  for (int i = 0; i < 10; ++i) Set("", true);
  Set("", false);
  EXPECT_EQ(watch.Next(), HealthCheckResponse::NOT_SERVING);
}

TEST_F(HealthTest, WatchesAServiceThatComesAndGoes) {
  Watch watch(client_path_, "app");
  EXPECT_EQ(watch.Next(), HealthCheckResponse::SERVICE_UNKNOWN);
  Set("app", true);
  EXPECT_EQ(watch.Next(), HealthCheckResponse::SERVING);
  Set("app", std::nullopt);
  EXPECT_EQ(watch.Next(), HealthCheckResponse::SERVICE_UNKNOWN);
}

TEST_F(HealthTest, AWatcherThatDoesNotReadGetsTheLatest) {
  // A client whose window is shut: nothing can be sent to it.
  UniqueFd client = ConnectTo(client_path_);
  http2::Send(client.get(), http2::Preface(0) + http2::Call("/grpc.health.v1.Health/Watch") + http2::Message("", true));
  ASSERT_TRUE(Eventually([&] { return Watchers() == 1; }));
  bool serving = true;
  for (int i = 0; i < 101; ++i) Set("", serving = !serving);
  http2::Send(client.get(), http2::OpenWindow(1, 1 << 20));
  HealthCheckResponse first, second;
  ASSERT_TRUE(first.ParseFromString(http2::ReadMessage(client.get())));
  ASSERT_TRUE(second.ParseFromString(http2::ReadMessage(client.get())));
  EXPECT_EQ(first.status(), HealthCheckResponse::SERVING) << "was under way";
  EXPECT_EQ(second.status(), HealthCheckResponse::NOT_SERVING) << "the latest of a hundred";
  Set("", true);
  ASSERT_TRUE(first.ParseFromString(http2::ReadMessage(client.get())));
  EXPECT_EQ(first.status(), HealthCheckResponse::SERVING) << "and nothing between";
}

TEST_F(HealthTest, AWatcherThatLeavesIsForgotten) {
  {
    Watch stays(client_path_, ""), leaves(client_path_, "");
    EXPECT_EQ(stays.Next(), HealthCheckResponse::SERVING);
    EXPECT_EQ(leaves.Next(), HealthCheckResponse::SERVING);
    EXPECT_EQ(Watchers(), 2u);
    leaves.context.TryCancel();
    EXPECT_EQ(leaves.reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_TRUE(Eventually([&] { return Watchers() == 1; }));
    Set("", false);
    EXPECT_EQ(stays.Next(), HealthCheckResponse::NOT_SERVING);
    stays.context.TryCancel();
  }
  EXPECT_TRUE(Eventually([&] { return Watchers() == 0; }));
}

TEST_F(HealthTest, ShutdownEndsWatchesAfterTheLastStatus) {
  Watch watch(client_path_, "");
  EXPECT_EQ(watch.Next(), HealthCheckResponse::SERVING);
  OnLoop([&] {
    source_.serving[""] = false;
    health_->Shutdown();
  });
  EXPECT_EQ(watch.Next(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(watch.Next(), HealthCheckResponse::UNKNOWN);
  EXPECT_EQ(watch.reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(HealthTest, RefusesToKeepAHugeName) {
  Watch watch(client_path_, std::string(100000, 'x'));
  EXPECT_EQ(watch.Next(), HealthCheckResponse::UNKNOWN);
  EXPECT_EQ(watch.reader->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace dirty
