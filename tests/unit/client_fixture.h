#ifndef DIRTY_TESTS_UNIT_CLIENT_FIXTURE_H_
#define DIRTY_TESTS_UNIT_CLIENT_FIXTURE_H_

// What holds for a client holds however its calls travel: tests run once each way.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "dirty/client.h"
#include "tests/unit/client_fake_arbiter.h"

namespace dirty::client {

enum class Way {
  kUnary,    // as RPCs of their own, because the client was told to
  kSession,  // on a session
  kRefused,  // as RPCs of their own, because the arbiter has no sessions
};
inline const auto kEveryWay = ::testing::Values(Way::kUnary, Way::kSession, Way::kRefused);

// Names a test's way.
struct WayName {
  static std::string Of(Way way) {
    switch (way) {
      case Way::kUnary:
        return "Unary";
      case Way::kSession:
        return "Session";
      case Way::kRefused:
        return "Refused";
    }
    return "";
  }
  std::string operator()(const ::testing::TestParamInfo<Way>& info) const { return Of(info.param); }
};

#define DIRTY_EVERY_WAY(suite) INSTANTIATE_TEST_SUITE_P(Every, suite, kEveryWay, WayName())

class ClientTest : public ::testing::Test {
 protected:
  explicit ClientTest(Way way) : way_(way) {}

  // As the way wants it.
  Options Adapted(Options options) const {
    if (way_ == Way::kUnary) options.transport = Options::Transport::kUnary;
    return options;
  }
  FakeArbiter::Options Adapted(FakeArbiter::Options options = {}) const {
    options.sessions = way_ != Way::kRefused;
    return options;
  }

  // A client of an arbiter of its own. Its session, if it has one, is open.
  Client Connect(FakeArbiter::Handler handler, Options options = {}, FakeArbiter::Options arbiter = {}) {
    arbiter_ = std::make_unique<FakeArbiter>(folder_ / "dirty.sock", std::move(handler), Adapted(arbiter));
    options.socket = folder_ / "dirty.sock";
    Client client(Adapted(options));
    EXPECT_TRUE(client.ExecuteRaw("a", "warm up", "", "").ok());
    EXPECT_EQ(arbiter_->sessions(), way_ == Way::kSession);
    return client;
  }

  const Way way_;
  TemporaryFolder folder_;
  std::unique_ptr<FakeArbiter> arbiter_;
};

}  // namespace dirty::client

#endif  // DIRTY_TESTS_UNIT_CLIENT_FIXTURE_H_
