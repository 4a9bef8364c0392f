// dirtyctl: its command line, its table, and its commands against services in this process.

#include <gmock/gmock.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "dirty/v1/admin.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/unit/client_fake_arbiter.h"
#include "tools/dirtyctl/arguments.h"
#include "tools/dirtyctl/commands.h"
#include "tools/dirtyctl/report.h"
#include "tools/dirtyctl/status_table.h"

namespace dirty::ctl {
namespace {

using client::FakeArbiter;
using client::TemporaryFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using Words = std::vector<std::string>;

TEST(DirtyctlArguments, GlobalFlagsStandAnywhereAndDashesAreUnderscores) {
  for (const Words& words :
       {Words{"--admin_socket", "/a", "status", "--json"}, Words{"status", "--json", "--admin-socket=/a"},
        Words{"--json", "--admin_socket=/a", "status"}}) {
    auto arguments = ParseArguments(words);
    ASSERT_TRUE(arguments.ok()) << arguments.status();
    EXPECT_EQ(arguments->command->name, "status");
    EXPECT_EQ(arguments->Get("admin-socket"), "/a");
    EXPECT_TRUE(arguments->Has("json"));
  }
  EXPECT_EQ(ParseArguments({"log_level", "debug"})->command->name, "log-level");
}

TEST(DirtyctlArguments, NumbersAreOperands) {
  auto arguments =
      ParseArguments({"call", "a", "b", "-5", "-", "-0.5e3", "-.5", "--timeout", "5", "--", "--kwargs", "--"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(arguments->operands, ElementsAre("a", "b", "-5", "-", "-0.5e3", "-.5", "--kwargs", "--"));
  EXPECT_EQ(arguments->GetDuration("timeout", absl::ZeroDuration()), absl::Seconds(5));
}

TEST(DirtyctlArguments, FlagsRepeatOnlyWhereItMakesSense) {
  auto arguments = ParseArguments({"call", "a", "b", "--attach", "1", "--attach=2", "--stream", "--stream"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(arguments->flags["attach"], ElementsAre("1", "2"));
}

TEST(DirtyctlArguments, SaysWhatIsWrong) {
  const struct {
    Words words;
    const char* message;
  } table[] = {
      {{}, "no command; see dirtyctl --help"},
      {{"stauts"}, "unknown command stauts; see dirtyctl --help"},
      {{"status", "--kwargs", "{}"}, "unknown flag --kwargs; see dirtyctl status --help"},
      {{"--kwargs", "{}", "call"}, "unknown flag --kwargs; see dirtyctl --help"},
      {{"status", "-x"}, "unknown flag -x"},
      {{"status", "now"}, "status takes no arguments, but got 1"},
      {{"call", "a"}, "call takes APP ACTION [ARG_JSON ...], but got 1"},
      {{"scale"}, "scale takes N, but got nothing"},
      {{"call", "a", "b", "--output"}, "--output needs a value: FILE"},
      {{"call", "a", "b", "--kwargs", "{}", "--kwargs", "{}"}, "--kwargs is given twice"},
      {{"status", "--json=yes"}, "--json has no value"},
      {{"call", "a", "b", "--timeout", "soon"}, "--timeout: soon is not a duration"},
      {{"status", "--connect-timeout", "-1"}, "--connect-timeout: -1 is negative"},
  };
  for (const auto& row : table) {
    auto arguments = ParseArguments(row.words);
    ASSERT_FALSE(arguments.ok()) << row.message;
    EXPECT_THAT(std::string(arguments.status().message()), StartsWith(row.message));
  }
}

TEST(DirtyctlArguments, HelpIsThereForEveryCommand) {
  EXPECT_EQ(ParseArguments({"--version"})->wish, Arguments::Wish::kVersion);
  EXPECT_EQ(ParseArguments({"-h"})->wish, Arguments::Wish::kHelp);
  for (const Command& command : Commands()) {
    auto arguments = ParseArguments({command.name, "--help"});
    ASSERT_TRUE(arguments.ok()) << arguments.status();
    EXPECT_EQ(arguments->wish, Arguments::Wish::kHelp);
    EXPECT_EQ(arguments->command, &command);
    EXPECT_THAT(Help(&command), AllOf(HasSubstr(command.help), HasSubstr("--admin-socket"), HasSubstr("Exit codes")));
    EXPECT_THAT(Help(nullptr), HasSubstr(command.name));
  }
}

TEST(DirtyctlStatusTable, TellsWhatRunsAndWhatFailed) {
  v1::StatusResponse status;
  status.set_version("0.1.0");
  status.set_pid(12);
  status.set_state(v1::StatusResponse::RUNNING);
  status.set_generation(3);
  auto* pool = status.add_pools();
  pool->set_name("default");
  pool->set_desired_workers(2);
  auto* worker = status.add_workers();
  worker->set_id(1);
  worker->set_pool("default");
  worker->set_state(v1::WorkerStatus::READY);
  worker->set_threads(4);
  worker->set_rss_bytes(100 << 20);
  auto* call = worker->add_running();
  call->set_call_id("c-7");
  call->set_action("resize");
  call->mutable_elapsed()->set_seconds(65);
  auto* app = status.add_apps();
  app->set_name("a.so:A");
  app->set_state(v1::AppStatus::BACKOFF);
  app->set_reason("init failed");
  app->set_running(1);
  app->mutable_counters()->set_received(10);
  app->mutable_counters()->set_ok(6);
  app->mutable_counters()->set_timeout(3);
  auto* exit = status.add_exits();
  exit->set_worker_id(9);
  exit->set_signal("SIGSEGV");
  exit->add_stderr_tail("first");
  exit->add_stderr_tail("last words");
  const std::string table = StatusTable(status, absl::FromUnixSeconds(0));
  EXPECT_THAT(table, AllOf(HasSubstr("dirtyd 0.1.0  pid 12  RUNNING"), HasSubstr("workers ready: default 1/2"),
                           HasSubstr("a.so:A: init failed"), HasSubstr("a.so:A: timeout 3"), HasSubstr("100M"),
                           HasSubstr("1/4"), HasSubstr("1m5s"), HasSubstr("SIGSEGV")));
  EXPECT_THAT(table, EndsWith("last words\n"));
}

TEST(DirtyctlReport, PutsOneLineFirst) {
  EXPECT_EQ(Describe({.reason = client::Reason::kAppError,
                      .message = "bad size\nreally",
                      .app = "a.so:A",
                      .call_id = "c-1",
                      .worker_id = 2,
                      .exception_type = "ValueError",
                      .traceback = "line 1\nline 2\n"}),
            "APP_ERROR: ValueError: bad size\n  more:\n    really\n  app a.so:A, call c-1, worker 2\n"
            "  traceback:\n    line 1\n    line 2");
}

// What a command printed and its exit code.
struct Ran {
  int code = -1;
  std::string out, err;
};

Ran RunWords(const Words& words) {
  Ran ran;
  auto arguments = ParseArguments(words);
  if (!arguments.ok()) return {kWrongUsage, "", std::string(arguments.status().message())};
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const std::string& name = arguments->command->name;
  ran.code = name == "call" ? RunCall(*arguments) : name == "health" ? RunHealth(*arguments) : RunAdmin(*arguments);
  ran.out = ::testing::internal::GetCapturedStdout();
  ran.err = ::testing::internal::GetCapturedStderr();
  return ran;
}

std::string FileText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class DirtyctlCall : public ::testing::Test {
 protected:
  Ran Call(Words words) {
    words.insert(words.begin(), {"--socket", folder_ / "dirty.sock", "call", "a.so:A", "act"});
    return RunWords(words);
  }

  TemporaryFolder folder_;
  FakeArbiter arbiter_{folder_ / "dirty.sock", [](grpc::ServerContext& context, const auto& request, auto& response) {
                         if (request.args() != "[666]") return FakeArbiter::Echo(context, request, response);
                         v1::Error error;
                         error.set_reason(v1::REASON_WORKER_LOST);
                         error.set_message("worker 1 died");
                         error.add_stderr_tail("last words");
                         return FakeArbiter::Refusal(grpc::ABORTED, error);
                       }};
};

TEST_F(DirtyctlCall, SendsArgumentsAsTheyAreAndPrintsTheResultAlone) {
  std::ofstream(folder_ / "arg.json") << R"({"from": "file"})";
  const Ran ran = Call({"-5", "\"x\"", "@" + (folder_ / "arg.json"), "--kwargs", R"({"k":  1})", "--timeout", "5m"});
  EXPECT_EQ(ran.code, kDone) << ran.err;
  EXPECT_EQ(ran.err, "");
  const auto result = client::Json::parse(ran.out);
  EXPECT_EQ(result["args"], R"([-5,"x",{"from": "file"}])");
  EXPECT_EQ(result["kwargs"], R"({"k":  1})");
  EXPECT_THAT(ran.out, EndsWith("}\n"));
}

TEST_F(DirtyctlCall, SavesAttachmentsOrSaysThatTheyCame) {
  std::ofstream(folder_ / "one") << "first";
  std::ofstream(folder_ / "two") << "second";
  const Words attach = {"--attach", folder_ / "one", "--attach", folder_ / "two"};
  Words saving = attach;
  saving.insert(saving.end(), {"--output", folder_ / "out"});
  EXPECT_EQ(Call(saving).code, kDone);
  EXPECT_EQ(FileText(folder_ / "out"), "first");
  EXPECT_EQ(FileText(folder_ / "out.1"), "second");
  EXPECT_THAT(Call(attach).err, HasSubstr("attachment 1 of 6 bytes is not saved"));
  EXPECT_THAT(Call({"--output", folder_ / "none"}).err, HasSubstr("no attachment came back"));
  saving.back() = folder_ / "no/such/folder";
  EXPECT_EQ(Call(saving).code, kFailed);
}

TEST_F(DirtyctlCall, RefusesWhatIsNotJson) {
  const Ran ran = Call({"gpt-4"});
  EXPECT_EQ(ran.code, kWrongUsage);
  EXPECT_EQ(ran.err, "dirtyctl: gpt-4 is not JSON; for a string: '\"gpt-4\"'\n");
  EXPECT_EQ(Call({"@" + (folder_ / "none")}).code, kWrongUsage);
  EXPECT_EQ(Call({"--attach", folder_ / "none"}).code, kWrongUsage);
  EXPECT_EQ(Call({"--kwargs", "[1]"}).code, kWrongUsage);
  EXPECT_EQ(arbiter_.received(), 0);
}

TEST_F(DirtyctlCall, PrintsStreamedValuesOneALine) {
  const Ran ran = Call({"3", "--stream", "--output", folder_ / "out"});
  EXPECT_EQ(ran.code, kDone) << ran.err;
  EXPECT_EQ(ran.out, "0\n1\n2\n");
  EXPECT_EQ(FileText(folder_ / "out.2"), "bytes of 2");
}

TEST_F(DirtyctlCall, SaysWhatFailed) {
  const Ran ran = Call({"666"});
  EXPECT_EQ(ran.code, kFailed);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, StartsWith("dirtyctl: WORKER_LOST: worker 1 died\n"));
  EXPECT_THAT(ran.err, HasSubstr("last words"));
  const Ran absent = RunWords({"call", "a", "b", "--socket", folder_ / "none", "--connect-timeout", "0"});
  EXPECT_EQ(absent.code, kUnreachable);
  EXPECT_THAT(absent.err, HasSubstr("absent"));
}

class FakeHealth : public grpc::health::v1::Health::Service {
  grpc::Status Check(grpc::ServerContext*, const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override {
    using Response = grpc::health::v1::HealthCheckResponse;
    if (request->service() == "unknown") return {grpc::StatusCode::NOT_FOUND, ""};
    response->set_status(request->service().empty() ? Response::SERVING : Response::NOT_SERVING);
    return grpc::Status::OK;
  }
};

class FakeAdmin : public v1::Admin::Service {
 public:
  bool immediate = false;

 private:
  grpc::Status Status(grpc::ServerContext*, const v1::StatusRequest*, v1::StatusResponse* response) override {
    response->set_version("0.1.0");
    response->set_state(v1::StatusResponse::RUNNING);
    response->add_apps()->set_name("a.so:A");
    return grpc::Status::OK;
  }
  grpc::Status Shutdown(grpc::ServerContext*, const v1::ShutdownRequest* request, v1::ShutdownResponse*) override {
    immediate = request->immediate();
    return grpc::Status::OK;
  }
  grpc::Status Scale(grpc::ServerContext*, const v1::ScaleRequest* request, v1::ScaleResponse* response) override {
    if (request->pool() == "gone") return {grpc::StatusCode::NOT_FOUND, "no pool gone"};
    response->set_previous_workers(1);
    response->set_workers(request->workers());
    return grpc::Status::OK;
  }
};

class DirtyctlAdmin : public ::testing::Test {
 protected:
  DirtyctlAdmin() {
    grpc::ServerBuilder builder;
    // As dirtyd's admin socket.
    builder.AddListeningPort("unix:" + socket_, grpc::experimental::LocalServerCredentials(UDS));
    builder.RegisterService(&admin_);
    builder.RegisterService(&health_);
    server_ = builder.BuildAndStart();
  }

  Ran Admin(Words words) {
    words.insert(words.end(), {"--admin-socket", socket_});
    return RunWords(words);
  }

  TemporaryFolder folder_;
  const std::string socket_ = folder_ / "admin.sock";
  FakeAdmin admin_;
  FakeHealth health_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(DirtyctlAdmin, StatusIsATableOrJsonWithDefaults) {
  EXPECT_THAT(Admin({"status"}).out, HasSubstr("a.so:A"));
  const Ran ran = Admin({"status", "--json"});
  EXPECT_EQ(ran.code, kDone) << ran.err;
  const auto status = client::Json::parse(ran.out);
  EXPECT_EQ(status["state"], "RUNNING");
  EXPECT_EQ(status["protocol_version"], 0);
  EXPECT_EQ(status["apps"][0]["ready_workers"], 0);
  EXPECT_EQ(status["exits"], client::Json::array());
}

TEST_F(DirtyctlAdmin, WhatIsNotBuiltSaysSo) {
  for (const char* name : {"reload", "restart", "watch", "metrics", "reopen-logs", "top"}) {
    const Ran ran = Admin({name});
    EXPECT_EQ(ran.code, kFailed) << name;
    EXPECT_THAT(ran.err, StartsWith("dirtyctl: UNIMPLEMENTED")) << name;
  }
}

TEST_F(DirtyctlAdmin, CommandsCarryTheirArguments) {
  EXPECT_EQ(Admin({"scale", "4"}).out, "workers: 1 -> 4\n");
  const Ran ran = Admin({"scale", "4", "--pool", "gone"});
  EXPECT_EQ(ran.code, kFailed);
  EXPECT_THAT(ran.err, StartsWith("dirtyctl: NOT_FOUND: no pool gone"));
  EXPECT_EQ(Admin({"scale", "many"}).code, kWrongUsage);
  EXPECT_EQ(Admin({"restart", "0"}).code, kWrongUsage);
}

TEST_F(DirtyctlAdmin, ShutdownIsBoundedAndSaysSo) {
  // The process that listens is this one, and stays.
  const Ran ran = Admin({"shutdown", "--now", "--wait", "10ms"});
  EXPECT_EQ(ran.code, kFailed);
  EXPECT_THAT(ran.err, HasSubstr("(pid " + std::to_string(getpid()) + ") is shutting down but still there"));
  EXPECT_TRUE(admin_.immediate);
}

TEST_F(DirtyctlAdmin, NobodyThereIsExitCodeThree) {
  server_->Shutdown();
  server_ = nullptr;
  const Ran ran = Admin({"status", "--connect-timeout", "0"});
  EXPECT_EQ(ran.code, kUnreachable);
  EXPECT_THAT(ran.err, StartsWith("dirtyctl: CONNECTION: cannot reach dirtyd: " + socket_));
}

TEST_F(DirtyctlAdmin, TheEnvironmentsSocketIsNotPassedOverForAnotherDirtyd) {
  setenv("DIRTY_ADMIN_SOCKET", "/nonexistent/admin.sock", 1);
  const Ran ran = RunWords({"shutdown", "--connect-timeout", "0"});
  unsetenv("DIRTY_ADMIN_SOCKET");
  EXPECT_EQ(ran.code, kUnreachable);
  EXPECT_EQ(ran.err, "dirtyctl: CONNECTION: cannot reach dirtyd: /nonexistent/admin.sock: absent\n");
}

TEST_F(DirtyctlAdmin, HealthIsAnExitCode) {
  auto health = [&](Words words) {
    words.insert(words.begin(), {"health", "--socket", socket_});
    return RunWords(words);
  };
  EXPECT_EQ(health({"--live"}).code, kDone);
  EXPECT_EQ(health({"--live"}).out, "SERVING\n");
  EXPECT_EQ(health({}).code, kFailed);
  EXPECT_EQ(health({}).out, "NOT_SERVING\n");
  EXPECT_EQ(health({"a.so:A", "--json"}).out, "{\"service\":\"a.so:A\",\"status\":\"NOT_SERVING\"}\n");
  EXPECT_THAT(health({"unknown"}).err, HasSubstr("dirtyd has no app unknown"));
}

}  // namespace
}  // namespace dirty::ctl
