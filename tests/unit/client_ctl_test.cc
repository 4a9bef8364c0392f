// dirtyctl: its command line, its table, and its commands against services in this process.

#include <gmock/gmock.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "dirty/v1/admin.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/unit/client_fake_arbiter.h"
#include "tools/dirtyctl/arguments.h"
#include "tools/dirtyctl/commands.h"
#include "tools/dirtyctl/report.h"
#include "tools/dirtyctl/status_table.h"
#include "tools/dirtyctl/text.h"
#include "tools/dirtyctl/top_view.h"
#include "tools/dirtyctl/watch.h"

namespace dirty::ctl {
namespace {

using client::FakeArbiter;
using client::TemporaryFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
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
  EXPECT_THAT(arguments->All("attach"), ElementsAre("1", "2"));
  EXPECT_THAT(arguments->All("kwargs"), ElementsAre());
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
      {{"scale", "many"}, "N is a whole number, not many; see dirtyctl scale --help"},
      {{"scale", "-1"}, "N is a whole number, not -1"},
      {{"restart", "all"}, "WORKER_ID is a whole number, not all"},
      {{"restart", "0"}, "WORKER_ID starts at 1"},
      {{"top", "--interval", "0"}, "--interval: 0 is too short"},
      {{"top", "--interval", "often"}, "--interval: often is not a duration"},
      {{"top", "--count", "0"}, "--count: its value starts at 1"},
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
  exit->set_last_words("last words");
  const std::string table = StatusTable(status, absl::FromUnixSeconds(0));
  EXPECT_THAT(table, AllOf(HasSubstr("dirtyd 0.1.0  pid 12  RUNNING"), HasSubstr("workers ready: default 1/2"),
                           HasSubstr("a.so:A: init failed"), HasSubstr("a.so:A: timeout 3"), HasSubstr("100M"),
                           HasSubstr("1/4"), HasSubstr("1m5s"), HasSubstr("SIGSEGV")));
  EXPECT_THAT(table, EndsWith("last words\n"));
}

TEST(DirtyctlStatusTable, ShowsEveryLineOfAFailedReload) {
  v1::StatusResponse status;
  auto* reload = status.mutable_last_reload();
  reload->mutable_time()->set_seconds(100);
  EXPECT_THAT(StatusTable(status, absl::FromUnixSeconds(105)), HasSubstr("\nlast reload 5.0s ago, failed\n"));
  reload->set_message("dirty.yaml:1: unknown key\ndirty.yaml:7: threads is 0");
  EXPECT_THAT(
      StatusTable(status, absl::FromUnixSeconds(105)),
      HasSubstr("\nlast reload 5.0s ago, failed:\n    dirty.yaml:1: unknown key\n    dirty.yaml:7: threads is 0\n"));
  reload->set_ok(true);
  reload->set_message("nothing changed");
  EXPECT_THAT(StatusTable(status, absl::FromUnixSeconds(105)),
              HasSubstr("\nlast reload 5.0s ago, ok: nothing changed\n"));
}

TEST(DirtyctlText, LetsNobodySteerTheTerminal) {
  EXPECT_EQ(Printable("a\x1b[2J\nb\x7f\xc2\x9b"
                      "c \xc3\xa4"),
            "a?[2J?b??c \xc3\xa4");
  EXPECT_EQ(TableLines({{"APP"}, {"\x1b]0;"}}), (std::vector<std::string>{"APP", "?]0;"}));
}

TEST(DirtyctlText, TablesCountCharactersAndShortenTheFirstColumn) {
  const std::vector<Row> rows = {{"APP", "STATE"}, {"libf\xc3\xa4hig.so:Thumbnail", "READY"}, {"short", "x"}};
  EXPECT_THAT(TableLines(rows), ElementsAre("APP                    STATE", "libf\xc3\xa4hig.so:Thumbnail  READY",
                                            "short                  x"));
  EXPECT_THAT(TableLines(rows, 21), ElementsAre("APP             STATE", "~.so:Thumbnail  READY", "short           x"));
  EXPECT_THAT(TableLines(rows, 5)[1], StartsWith("~o:Thumbnail  READY"));
  EXPECT_EQ(Cut("\xc3\xa4\xc3\xb6x", 2), "\xc3\xa4\xc3\xb6");
  EXPECT_EQ(Cut("ab", 5), "ab");
}

// A snapshot with one app and one worker.
Snapshot MakeSnapshot(absl::Duration elapsed, uint64_t received, uint64_t ok, uint64_t calls, absl::Duration cpu) {
  Snapshot snapshot{.status = {}, .time = absl::FromUnixSeconds(1000), .elapsed = elapsed};
  v1::StatusResponse& status = snapshot.status;
  status.set_pid(12);
  status.set_state(v1::StatusResponse::RUNNING);
  status.mutable_start_time()->set_seconds(10);
  auto* pool = status.add_pools();
  pool->set_name("default");
  pool->set_desired_workers(1);
  auto* app = status.add_apps();
  app->set_name("a.so:A");
  app->set_state(v1::AppStatus::READY);
  app->set_queued(5);
  app->set_running(2);
  app->mutable_counters()->set_received(received);
  app->mutable_counters()->set_ok(ok);
  auto* worker = status.add_workers();
  worker->set_id(3);
  worker->set_pool("default");
  worker->set_state(v1::WorkerStatus::READY);
  worker->set_threads(4);
  worker->set_calls(calls);
  worker->mutable_cpu_time()->set_seconds(absl::ToInt64Seconds(cpu));
  worker->mutable_cpu_time()->set_nanos(static_cast<int>(absl::ToInt64Nanoseconds(cpu % absl::Seconds(1))));
  return snapshot;
}

TEST(DirtyctlTop, RatesAreWhatHappenedBetweenTwoSnapshots) {
  const Snapshot before = MakeSnapshot(absl::Seconds(50), 107, 90, 60, absl::Seconds(7));
  const Snapshot now = MakeSnapshot(absl::Seconds(52), 147, 120, 80, absl::Milliseconds(8500));
  const std::optional<Rates> rates = RatesBetween(before, now);
  ASSERT_TRUE(rates.has_value());
  EXPECT_EQ(rates->time, absl::Seconds(2));
  EXPECT_DOUBLE_EQ(rates->apps.at("a.so:A").calls, 20);    // 140 ended instead of 100
  EXPECT_DOUBLE_EQ(rates->apps.at("a.so:A").failures, 5);  // 20 failed instead of 10
  EXPECT_DOUBLE_EQ(rates->total.calls, 20);
  EXPECT_DOUBLE_EQ(rates->workers.at(3).calls, 10);
  EXPECT_DOUBLE_EQ(rates->workers.at(3).cpu_percent.value(), 75);
}

TEST(DirtyctlTop, RatesNeedTwoSnapshotsOfTheSame) {
  const Snapshot before = MakeSnapshot(absl::Seconds(50), 107, 90, 60, absl::Seconds(7));
  Snapshot now = MakeSnapshot(absl::Seconds(52), 147, 120, 80, absl::Seconds(8));
  EXPECT_FALSE(RatesBetween(std::nullopt, now).has_value());
  EXPECT_FALSE(RatesBetween(now, before).has_value()) << "in no time";
  // Another worker and another app have no past; counters that begin again are not negative.
  now.status.mutable_workers(0)->set_id(4);
  now.status.mutable_apps(0)->mutable_counters()->set_received(7);
  now.status.mutable_apps(0)->mutable_counters()->set_ok(0);
  ASSERT_TRUE(RatesBetween(before, now).has_value());
  EXPECT_TRUE(RatesBetween(before, now)->workers.empty());
  EXPECT_DOUBLE_EQ(RatesBetween(before, now)->total.calls, 0);
  EXPECT_DOUBLE_EQ(RatesBetween(before, now)->total.failures, 0);
  now.status.mutable_workers(0)->set_id(3);
  now.status.mutable_workers(0)->clear_cpu_time();
  EXPECT_FALSE(RatesBetween(before, now)->workers.at(3).cpu_percent.has_value());
  // dirtyd was restarted, with another pid or, in a container, with the same.
  now.status.mutable_start_time()->set_seconds(11);
  EXPECT_FALSE(RatesBetween(before, now).has_value());
  now.status.mutable_start_time()->set_seconds(10);
  now.status.set_pid(13);
  EXPECT_FALSE(RatesBetween(before, now).has_value());
}

TEST(DirtyctlTop, ShowsWhatEachSlotRuns) {
  const Snapshot before = MakeSnapshot(absl::Seconds(50), 107, 90, 60, absl::Seconds(7));
  Snapshot now = MakeSnapshot(absl::Seconds(52), 147, 120, 80, absl::Seconds(8));
  auto* worker = now.status.mutable_workers(0);
  for (const char* id : {"c-7", "c-8"}) {
    auto* call = worker->add_running();
    call->set_call_id(id);
    call->set_app("a.so:A");
    call->set_action("resize\x1b");
    call->mutable_elapsed()->set_seconds(65);
  }
  auto* ran = now.status.mutable_apps(0)->mutable_ran();
  ran->set_count(9);
  ran->mutable_p50()->set_nanos(85'000);
  ran->mutable_p90()->set_nanos(1'234'000);
  ran->mutable_p99()->set_nanos(340'000'000);
  EXPECT_THAT(TopLines(now, RatesBetween(before, now), {}),
              ElementsAre("dirtyd   pid 12  RUNNING  up 16m30s  generation 0",
                          "calls/s 20.0  failures/s 5.0  queued 5  running 2  workers ready: default 1/1", "",
                          "APP     STATE  QUEUE  RUN  CALL/S  FAIL/S  RAN 50 90 99%     WAITED 50 90 99%",
                          "a.so:A  READY  5      2    20.0    5.0     85us 1.2ms 340ms  -", "",
                          "WORKER  PID  STATE  CPU%  RSS  CALL/S  BUSY  RUNS",
                          "3       0    READY  50    -    10.0    2/4   a.so:A resize? 1m5s c-7",
                          "                                             a.so:A resize? 1m5s c-8"));
  // A narrow screen tells what runs and for how long, before anything else of it.
  worker->mutable_running(0)->set_app("libthumbnail.so:Thumbnail");
  EXPECT_THAT(TopLines(now, std::nullopt, {24, 76})[7], EndsWith("  ~nail.so:Thumbnail resize? 1m5s"));
  EXPECT_THAT(TopLines(now, std::nullopt, {24, 76})[8], EndsWith("  a.so:A resize? 1m5s c-8"));
  EXPECT_EQ(TopLines(now, std::nullopt, {})[1],
            "calls/s -  failures/s -  queued 5  running 2  workers ready: default 1/1");
}

TEST(DirtyctlTop, FitsEveryScreen) {
  Snapshot now = MakeSnapshot(absl::Seconds(52), 147, 120, 80, absl::Seconds(8));
  now.status.add_pools()->set_name("gpu");
  EXPECT_THAT(TopLines(now, std::nullopt, {})[7], StartsWith("3       0    default  READY"));
  for (int i = 1; i < 20; ++i) *now.status.add_apps() = now.status.apps(0);
  for (int i = 1; i < 30; ++i) *now.status.add_workers() = now.status.workers(0);
  for (std::size_t rows = 1; rows <= 60; ++rows) {
    for (const std::size_t columns : {1, 20, 80, 300}) {
      const std::vector<std::string> lines = TopLines(now, std::nullopt, {rows, columns});
      EXPECT_EQ(lines.size(), std::min<std::size_t>(rows, 3 + 21 + 1 + 31)) << columns;
      for (const std::string& line : lines) EXPECT_LE(Columns(line), columns) << rows;
    }
  }
  // Both tables are seen, and what is left out is counted.
  const std::vector<std::string> lines = TopLines(now, std::nullopt, {24, 80});
  EXPECT_EQ(lines[13 - 1], "... 12 more lines");
  EXPECT_THAT(lines[14], StartsWith("WORKER"));
  EXPECT_EQ(lines[23], "... 22 more lines");
  // What one table does not need the other has.
  now.status.mutable_workers()->DeleteSubrange(2, 28);
  EXPECT_THAT(TopLines(now, std::nullopt, {24, 80}),
              AllOf(::testing::SizeIs(24), ::testing::Contains("... 5 more lines")));
}

TEST(DirtyctlTop, JsonIsTheStatusWithRatesBesideIt) {
  const Snapshot before = MakeSnapshot(absl::Seconds(50), 107, 90, 60, absl::Seconds(7));
  const Snapshot now = MakeSnapshot(absl::Seconds(52), 147, 120, 80, absl::Seconds(8));
  auto status = client::Json::parse(ToJson(now.status, false));
  EXPECT_EQ(client::Json::parse(TopJson(now, std::nullopt)), status);
  const std::string line = TopJson(now, RatesBetween(before, now));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  auto json = client::Json::parse(line);
  EXPECT_EQ(json["rates"], client::Json::parse(R"({"seconds": 2.0, "calls": 20.0, "failures": 5.0,
      "apps": {"a.so:A": {"calls": 20.0, "failures": 5.0}}, "workers": {"3": {"calls": 10.0, "cpu_percent": 50.0}}})"));
  json.erase("rates");
  EXPECT_EQ(json, status);
}

TEST(DirtyctlReport, PutsOneLineFirst) {
  EXPECT_EQ(Describe({.reason = client::Reason::kAppError,
                      .message = "bad size\nreally",
                      .app = "a.so:A",
                      .call_id = "c-1",
                      .worker_id = 2,
                      .exception_type = "ValueError",
                      .traceback = "line 1\nline 2\n"}),
            "APP_ERROR: ValueError: bad size\n  really\n  app a.so:A, call c-1, worker 2\n"
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
  ran.code = name == "call"     ? RunCall(*arguments)
             : name == "health" ? RunHealth(*arguments)
             : name == "top"    ? RunTop(*arguments)
                                : RunAdmin(*arguments);
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
  FakeArbiter arbiter_{folder_ / "dirty.sock", [](client::FakeCall& context, const auto& request, auto& response) {
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
  bool watchable = true;
  std::atomic<int> watched = 0;
  grpc::Status reload_status = grpc::Status::OK;
  v1::ReloadRequest reload;
  std::atomic<int> received = 0;

 private:
  grpc::Status Status(grpc::ServerContext*, const v1::StatusRequest*, v1::StatusResponse* response) override {
    response->set_version("0.1.0");
    response->set_state(v1::StatusResponse::RUNNING);
    auto* app = response->add_apps();
    app->set_name("a.so:A");
    app->mutable_counters()->set_ok(++received);
    app->mutable_counters()->set_received(received);
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
  // Answers once somebody watches, if anybody may.
  grpc::Status Reload(grpc::ServerContext* context, const v1::ReloadRequest* request,
                      v1::ReloadResponse* response) override {
    for (reload = *request; watchable && watched == 0 && !context->IsCancelled();) std::this_thread::yield();
    response->set_generation(2);
    response->add_changes("app b.so:B: added");
    response->add_needs_restart("socket");
    return reload_status;
  }
  // Two events, then none until the reader leaves.
  grpc::Status Watch(grpc::ServerContext* context, const v1::WatchRequest*,
                     grpc::ServerWriter<v1::Event>* writer) override {
    if (!watchable) return {grpc::StatusCode::UNIMPLEMENTED, "no Watch here"};
    v1::Event event;
    event.set_message("worker 2: ready\x1b");
    event.set_missed(3);
    writer->Write(event);
    event.set_message("reloaded");
    event.set_missed(0);
    event.mutable_reloaded()->set_ok(true);
    writer->Write(event);
    for (++watched; !context->IsCancelled() && !going;) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return grpc::Status::OK;
  }

 public:
  std::atomic<bool> going = false;  // ends Watch
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
  for (const char* name : {"restart", "metrics", "reopen-logs"}) {
    const Ran ran = Admin({name});
    EXPECT_EQ(ran.code, kFailed) << name;
    EXPECT_THAT(ran.err, HasSubstr("dirtyctl: UNIMPLEMENTED")) << name;
  }
}

TEST_F(DirtyctlAdmin, ReloadShowsProgressAndThenTheAnswer) {
  const Ran ran = Admin({"reload", "--pool", "gpu", "--pool", "js", "--app", "a.so:A"});
  EXPECT_EQ(ran.code, kDone);
  EXPECT_EQ(ran.out, "reloaded, generation 2\n  app b.so:B: added\n  needs a restart of dirtyd: socket\n");
  EXPECT_THAT(ran.err,
              AllOf(HasSubstr("(3 events missed)\n"), HasSubstr("  worker 2: ready?\n"), EndsWith("  reloaded\n")));
  EXPECT_THAT(admin_.reload.pools(), ElementsAre("gpu", "js"));
  EXPECT_THAT(admin_.reload.apps(), ElementsAre("a.so:A"));
}

TEST_F(DirtyctlAdmin, ReloadWithoutProgressIsTheAnswerAlone) {
  admin_.watchable = false;
  EXPECT_EQ(Admin({"reload"}).code, kDone) << "a refused Watch fails nothing";
  EXPECT_EQ(Admin({"reload"}).err, "");
  for (const char* flag : {"--quiet", "--json"}) {
    const Ran ran = Admin({"reload", flag});
    EXPECT_EQ(ran.code, kDone);
    EXPECT_EQ(ran.err, "");
    EXPECT_EQ(client::Json::accept(ran.out), flag == absl::string_view("--json"));
  }
  EXPECT_EQ(admin_.watched, 0);
}

TEST_F(DirtyctlAdmin, AFailedReloadTellsAll) {
  admin_.watchable = false;
  for (const v1::Reason reason : {v1::REASON_UNSPECIFIED, v1::REASON_INVALID_REQUEST}) {
    v1::Error error;
    error.set_reason(reason);
    error.set_message("dirty.yaml:1: unknown key thread\ndirty.yaml:7: workers is -1\n" + std::string(2000, 'x'));
    admin_.reload_status = FakeArbiter::Refusal(grpc::INVALID_ARGUMENT, error);
    const Ran ran = Admin({"reload", "--quiet"});
    EXPECT_EQ(ran.code, kFailed);
    EXPECT_EQ(ran.out, "");
    EXPECT_EQ(ran.err,
              "dirtyctl: INVALID_ARGUMENT: dirty.yaml:1: unknown key thread\n  dirty.yaml:7: workers is -1\n  " +
                  std::string(2000, 'x') + "\n");
  }
  admin_.reload_status = {grpc::StatusCode::ABORTED, "another reload is running"};
  EXPECT_THAT(Admin({"reload", "--quiet"}).err, StartsWith("dirtyctl: ABORTED: another reload is running"));
}

TEST_F(DirtyctlAdmin, WatchPrintsEventsUntilDirtydGoes) {
  for (const bool json : {false, true}) {
    admin_.watched = 0;
    admin_.going = false;
    std::thread end([&] {
      while (admin_.watched == 0) std::this_thread::yield();
      admin_.going = true;
    });
    const Ran ran = Admin(json ? Words{"watch", "--json"} : Words{"watch"});
    end.join();
    EXPECT_EQ(ran.code, kUnreachable);
    EXPECT_THAT(ran.err, StartsWith("dirtyctl: dirtyd went away"));
    if (!json) {
      EXPECT_THAT(ran.out, AllOf(HasSubstr("  worker 2: ready?\n"), EndsWith("  reloaded\n")));
      continue;
    }
    const std::size_t first = ran.out.find('\n');
    EXPECT_EQ(client::Json::parse(ran.out.substr(0, first))["missed"], "3");
    EXPECT_EQ(client::Json::parse(ran.out.substr(first))["reloaded"]["ok"], true);
  }
}

TEST_F(DirtyctlAdmin, TopPrintsBlocksWhereItCannotDraw) {
  const Ran ran = Admin({"top", "--count", "2", "--interval", "10ms"});
  EXPECT_EQ(ran.code, kDone) << ran.err;
  EXPECT_EQ(ran.err, "");
  EXPECT_THAT(ran.out, Not(HasSubstr("\x1b")));
  const std::size_t second = ran.out.find("\n\ndirtyd 0.1.0", 1);
  ASSERT_NE(second, std::string::npos) << ran.out;
  EXPECT_THAT(ran.out.substr(0, second), HasSubstr("calls/s -"));
  EXPECT_THAT(ran.out.substr(second), Not(HasSubstr("calls/s -")));
  EXPECT_EQ(admin_.received, 2);
}

TEST_F(DirtyctlAdmin, TopAsJsonIsAnObjectALine) {
  const Ran ran = Admin({"top", "--json", "--count", "2", "--interval", "10ms"});
  EXPECT_EQ(ran.code, kDone) << ran.err;
  const std::size_t first = ran.out.find('\n');
  EXPECT_FALSE(client::Json::parse(ran.out.substr(0, first)).contains("rates"));
  const auto second = client::Json::parse(ran.out.substr(first));
  EXPECT_GE(second["rates"]["seconds"], 0.005);
  EXPECT_GT(second["rates"]["apps"]["a.so:A"]["calls"], 0.0);
}

TEST_F(DirtyctlAdmin, TopNeedsDirtydOnceAndThenTriesAgain) {
  const Ran absent = RunWords({"top", "--admin-socket", folder_ / "none", "--connect-timeout", "0"});
  EXPECT_EQ(absent.code, kUnreachable);
  EXPECT_THAT(absent.err, HasSubstr("absent"));
  std::thread end([&] {
    while (admin_.received == 0) std::this_thread::yield();
    server_->Shutdown(std::chrono::system_clock::now());
  });
  const Ran ran = Admin({"top", "--count", "3", "--interval", "300ms"});
  end.join();
  EXPECT_EQ(ran.code, kUnreachable);
  EXPECT_THAT(ran.err,
              AllOf(StartsWith("dirtyctl: dirtyd cannot be reached: " + socket_), HasSubstr(", trying again\n")));
  server_ = nullptr;
}

TEST_F(DirtyctlAdmin, CommandsCarryTheirArguments) {
  EXPECT_EQ(Admin({"scale", "4"}).out, "workers: 1 -> 4\n");
  const Ran ran = Admin({"scale", "4", "--pool", "gone"});
  EXPECT_EQ(ran.code, kFailed);
  EXPECT_THAT(ran.err, StartsWith("dirtyctl: NOT_FOUND: no pool gone"));
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
