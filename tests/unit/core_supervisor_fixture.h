// A supervisor with a dispatcher, in a fake world.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/supervise/supervisor.h"
#include "tests/unit/core_fakes.h"

namespace dirty {

class SupervisorTest : public ::testing::Test, protected Dispatcher::Events, protected Supervisor::Events {
 protected:
  void Start(Settings settings) {
    supervisor_.Start(settings);
    time_.Settle();
  }

  // Begins a rolling change; `result_` tells how it ended.
  absl::Status Replace(Supervisor::Rollout rollout) {
    result_.reset();
    absl::Status begun = supervisor_.Replace(rollout, [this](const Supervisor::RolloutResult& result) {
      ASSERT_FALSE(result_.has_value());
      result_ = result;
    });
    time_.Settle();
    return begun;
  }
  absl::Status Reload(const Settings& settings) { return Replace({.reload = true, .settings = &settings}); }

  // A worker boots; `failing` are the apps whose init raises.
  void Boot(WorkerId id, std::vector<std::string> failing = {}) {
    supervisor_.OnListening(id);
    for (const AppSettings& app : workers_.alive[id].spec.apps) {
      supervisor_.OnAppStarting(id, app.name);
      if (std::find(failing.begin(), failing.end(), app.name) != failing.end()) {
        v1::Error error;
        error.set_exception_type("ValueError");
        error.set_message("no model");
        supervisor_.OnAppFailed(id, app.name, error);
      } else if (uint32_t wants = app.workers.has_value() ? 0 : wants_[app.name];
                 wants > 0 && workers_.alive[id].spec.index >= wants) {
        supervisor_.OnAppSkipped(id, app.name, wants);
      } else {
        supervisor_.OnAppReady(id, app.name, absl::Milliseconds(1), wants);
      }
    }
    supervisor_.OnWorkerReady(id);
    time_.Settle();
  }

  void Die(WorkerId id, int signal = 9) {
    workers_.alive.erase(id);
    ExitStatus status;
    status.signal = signal;
    status.stderr_tail = {status.last_words = "last words"};
    supervisor_.OnExit(id, status);
    time_.Settle();
  }

  void ExitCleanly(WorkerId id) {
    workers_.alive.erase(id);
    ExitStatus status;
    status.exit_code = 0;
    supervisor_.OnExit(id, status);
    time_.Settle();
  }

  // Workers do what they are told: those drained exit, those killed die. Those that start boot, with failures.
  void Obey(std::vector<std::string> failing = {}) {
    for (int round = 0; round < 20; ++round) {
      std::vector<WorkerId> ids;
      for (auto& [id, process] : workers_.alive) ids.push_back(id);
      bool changed = false;
      for (WorkerId id : ids) {
        if (!workers_.alive.contains(id)) continue;
        auto& process = workers_.alive[id];
        if (process.killed) {
          Die(id);
        } else if (process.draining) {
          ExitCleanly(id);
        } else if (!process.attached) {
          Boot(id, failing);
        } else {
          continue;
        }
        changed = true;
      }
      if (!changed) return;
    }
    FAIL() << "it does not come to rest";
  }

  std::vector<WorkerId> Alive() {
    std::vector<WorkerId> ids;
    for (auto& [id, process] : workers_.alive) ids.push_back(id);
    return ids;
  }
  std::vector<std::string> AppsOf(WorkerId id) {
    std::vector<std::string> names;
    for (const AppSettings& app : workers_.alive[id].spec.apps) names.push_back(app.name);
    return names;
  }
  v1::StatusResponse Status() {
    v1::StatusResponse status;
    supervisor_.Describe(status);
    for (v1::AppStatus& app : *status.mutable_apps()) dispatcher_.Describe(app);
    return status;
  }
  v1::AppStatus AppStatusOf(const std::string& name) {
    v1::StatusResponse status = Status();
    for (const v1::AppStatus& app : status.apps()) {
      if (app.name() == name) return app;
    }
    return {};
  }
  Admission Submit(FakeCaller& caller, const std::string& app = "a") {
    return dispatcher_.Submit(MakeSubmission(caller, app));
  }
  void Done(WorkerId worker, CallNumber call) {
    v1::CallDone done;
    done.set_call(call);
    done.mutable_response()->set_result("1");
    dispatcher_.OnCallDone(worker, done);
    time_.Settle();
  }

  // Dispatcher::Events
  void OnWorkerIdle(WorkerId worker) override { supervisor_.OnWorkerIdle(worker); }
  void OnSlotFree(WorkerId worker, uint64_t calls) override { supervisor_.OnSlotFree(worker, calls); }
  void OnCallStuck(WorkerId worker, CallNumber call, const std::string& what) override {
    supervisor_.OnCallStuck(worker, call, what);
  }
  void OnAllCallsEnded() override {}
  void OnCallRecord(const CallRecord&) override {}
  // Supervisor::Events
  void OnSupervisorChanged() override {}
  void OnWorkersStopped() override { ++stopped_; }
  void OnEvent(v1::Event event) override { events_.push_back(event.message()); }

  FakeTime time_;
  FakeLog log_;
  FakeWorkers workers_;
  Dispatcher dispatcher_{time_.timers, *this, {.id_prefix = "x-"}};
  FakeHooks hooks_;
  Supervisor supervisor_{{.timers = time_.timers,
                          .launcher = workers_,
                          .links = workers_,
                          .hooks = hooks_,
                          .dispatcher = dispatcher_,
                          .events = *this,
                          .log = log_,
                          .chance = [] { return 0.0; },
                          .hook_event = {}}};
  std::map<std::string, uint32_t> wants_;  // how many workers apps say they want
  std::vector<std::string> events_;
  int stopped_ = 0;
  std::optional<Supervisor::RolloutResult> result_;
};

}  // namespace dirty
