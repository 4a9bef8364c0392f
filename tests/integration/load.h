// Callers that do not stop while a test changes things below them, and apps that can be deployed
// (tests/apps/versioned).
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/integration/harness.h"

namespace dirty::integration {

inline constexpr char kVersioned[] = "libversioned.so:Versioned";
inline constexpr char kOther[] = "libversioned.so:Other";

// What the two apps are: files that their Init reads, outside of any dirtyd's folder, whose workers know them.
class Deployment {
 public:
  Deployment() {
    Deploy(kVersioned, "1");
    Deploy(kOther, "1");
  }

  // Its next Init finds this. Replaced as a whole, so that nobody reads half of it.
  void Deploy(const std::string& app, const std::string& version) const {
    std::ofstream(File(app) + ".new") << version;
    rename((File(app) + ".new").c_str(), File(app).c_str());
  }

  // How often its Init was begun.
  size_t Boots(const std::string& app) const { return ReadText(File(app) + ".boots").size(); }

  // For a dirtyd that runs them.
  Dirtyd::Options Options(const std::string& config) const {
    return {.config = config,
            .process = {.environment = {"DIRTY_TEST_VERSION_FILE=" + File(kVersioned),
                                        "DIRTY_TEST_OTHER_FILE=" + File(kOther)}}};
  }

  const Folder& folder() const { return folder_; }

 private:
  std::string File(const std::string& app) const { return folder_ / (app == kOther ? "other" : "version"); }

  Folder folder_;
};

// A call of Versioned that runs until it is let go.
class HeldCall {
 public:
  HeldCall(const client::Client& client, const Folder& folder, const std::string& name)
      : release_(folder / (name + ".release")),
        started_(folder / (name + ".started")),
        call_(client.ExecuteAsync(kVersioned, "hold", client::Json::array({release_, started_}),
                                  client::Json::object())) {}
  bool WaitUntilItRuns() const {
    return WaitUntil([&] { return Exists(started_); });
  }
  void Release() const { Touch(release_); }
  bool ended() const { return call_.WaitFor(std::chrono::seconds(0)); }
  client::Result Get() { return call_.Get(); }

 private:
  std::string release_, started_;
  client::Call call_;
};

// Threads that call without a pause until Stop. A call that is wrong fails the test, the first one with its reason.
class Load {
 public:
  // `call` makes one call and returns what was wrong with it; empty: nothing.
  Load(int callers, std::function<std::string()> call) : call_(std::move(call)) {
    for (int i = 0; i < callers; ++i) threads_.emplace_back([this] { Run(); });
  }
  ~Load() { Stop(); }

  // Waits until so many more calls have ended.
  void WaitForMore(uint64_t calls) const {
    const uint64_t until = ended_ + calls;
    EXPECT_TRUE(WaitUntil([&] { return ended_ >= until; })) << "callers wait";
  }

  void Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    EXPECT_EQ(wrong_, 0u) << "of " << ended_ << " calls";
  }

  uint64_t ended() const { return ended_; }
  uint64_t wrong() const { return wrong_; }

 private:
  void Run() {
    while (!stop_) {
      const std::string problem = call_();
      ++ended_;
      if (!problem.empty() && wrong_++ == 0) ADD_FAILURE() << problem;
    }
  }

  const std::function<std::string()> call_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> ended_{0}, wrong_{0};
  std::vector<std::thread> threads_;
};

// A configuration of Versioned alone, after other settings.
inline std::string OneApp(const std::string& more) { return absl::StrCat(more, "\napps:\n  - ", kVersioned, "\n"); }

// Writes the configuration of a running dirtyd anew.
inline void Configure(const Dirtyd& dirtyd, const std::string& config) {
  std::ofstream(dirtyd.folder() / "dirty.yaml") << config;
}

// An Admin RPC; its status.
inline grpc::Status Reload(Dirtyd& dirtyd, v1::ReloadResponse* response, const v1::ReloadRequest& request = {}) {
  Context context;
  return dirtyd.admin().Reload(&context, request, response);
}
inline grpc::Status Reload(Dirtyd& dirtyd) {
  v1::ReloadResponse response;
  return Reload(dirtyd, &response);
}
inline grpc::Status Scale(Dirtyd& dirtyd, uint32_t workers, const std::string& pool = "") {
  Context context;
  v1::ScaleRequest request;
  v1::ScaleResponse response;
  request.set_pool(pool);
  request.set_workers(workers);
  return dirtyd.admin().Scale(&context, request, &response);
}
inline grpc::Status Restart(Dirtyd& dirtyd, uint32_t worker, uint32_t* replaced = nullptr) {
  Context context;
  v1::RestartRequest request;
  v1::RestartResponse response;
  request.set_worker_id(worker);
  grpc::Status status = dirtyd.admin().Restart(&context, request, &response);
  if (replaced != nullptr) *replaced = response.replaced();
  return status;
}
inline grpc::Status CancelCall(Dirtyd& dirtyd, const std::string& call_id, bool* was_running = nullptr) {
  Context context;
  v1::CancelRequest request;
  v1::CancelResponse response;
  request.set_call_id(call_id);
  grpc::Status status = dirtyd.admin().Cancel(&context, request, &response);
  if (was_running != nullptr) *was_running = response.was_running();
  return status;
}

}  // namespace dirty::integration
