// What nobody learns from dirtyd who should not: secrets in workers, logs and answers. And what nobody can make of it:
// forged lines of the log, orders to an operator's terminal, files that a name leads to.

#include <dirent.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "tests/integration/certificates.h"
#include "tests/integration/harness.h"
#include "tests/security/attacker.h"

namespace dirty::security {
namespace {

using client::Json;
using integration::Context;
using integration::Dirtyd;
using integration::Folder;
using integration::ReadText;
using integration::RunProgram;
using integration::TestApps;
using integration::Words;
using ::testing::Contains;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kSlow[] = "libfaults.so:Slow";
constexpr char kFaulty[] = "libfaults.so:Faulty";
constexpr char kSecret[] = "hunter2-of-the-test";

// What the descriptors of a process lead to: "socket:[123]", "/dev/null".
std::multiset<std::string> OpenFiles(pid_t pid) {
  std::multiset<std::string> all;
  const std::string folder = absl::StrCat("/proc/", pid, "/fd");
  DIR* entries = opendir(folder.c_str());
  while (const dirent* entry = entries != nullptr ? readdir(entries) : nullptr) {
    char target[4096];
    ssize_t size = readlink(absl::StrCat(folder, "/", entry->d_name).c_str(), target, sizeof target);
    if (size > 0) all.emplace(target, static_cast<size_t>(size));
  }
  if (entries != nullptr) closedir(entries);
  return all;
}

// A network listener, as it is configured.
std::string Network(const integration::Authority& authority, const std::string& tokens) {
  return absl::StrCat("network: {address: '127.0.0.1:0', certificate: ", authority.Certificate("server"),
                      ", key: ", authority.Key("server"), ", token_file: ", tokens, "}\n");
}

// --- Workers ---

TEST(Worker, HasNoDescriptorOfDirtydAndNothingOfItsSecrets) {
  Folder folder;
  const integration::Authority authority("authority");
  authority.Sign("server");
  std::ofstream(folder / "tokens") << kSecret << "\n";
  ASSERT_EQ(chmod((folder / "tokens").c_str(), 0600), 0);
  Dirtyd dirtyd(
      {kEcho},
      {.config = Network(authority, folder / "tokens"),
       .process = {.environment = {"NOTIFY_SOCKET=/nowhere", "WATCHDOG_USEC=1000000000", "LISTEN_FDNAMES=x"}}});
  client::Client client = dirtyd.NewClient();
  auto variable = [&](const char* name) {
    auto result = client.Execute(kEcho, "env", Json::array({name}), Json::object(), {});
    return result.ok() ? result->result.get<std::string>() : "unset: " + result.error().message.substr(0, 20);
  };
  EXPECT_THAT(variable("DIRTY_WORKER_SOCKET"), StartsWith(dirtyd.runtime_dir()));
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDNAMES"}) {
    EXPECT_THAT(variable(name), StartsWith("unset"));
  }
  const pid_t worker = static_cast<pid_t>(dirtyd.ReadyWorkers().at(0).pid());
  // Both ends of a pipe have one name, and those of a socket two: of dirtyd's, a worker has the ends of its output.
  const std::multiset<std::string> its = OpenFiles(worker), dirtyds = OpenFiles(dirtyd.pid());
  ASSERT_FALSE(its.empty());
  ASSERT_THAT(dirtyds, Contains(StartsWith("socket:")));
  std::vector<std::string> shared;
  std::set_intersection(its.begin(), its.end(), dirtyds.begin(), dirtyds.end(), std::back_inserter(shared));
  std::erase_if(shared, [](const std::string& name) {
    return name == "/dev/null" || absl::StartsWith(name, "anon_inode:");  // those are of every process
  });
  EXPECT_EQ(shared.size(), 2u) << testing::PrintToString(shared);
  EXPECT_THAT(shared, testing::Each(StartsWith("pipe:")));
  EXPECT_THAT(its, Not(Contains(HasSubstr("dirty.lock"))));
  dirtyd.Stop(SIGTERM);
}

TEST(Secrets, OfEnvironmentsAndTokensAreInNoAnswerAndNoLine) {
  Folder folder;
  const integration::Authority authority("authority");
  authority.Sign("server");
  std::ofstream(folder / "tokens") << kSecret << "\n";
  ASSERT_EQ(chmod((folder / "tokens").c_str(), 0600), 0);
  const std::string config = absl::StrReplaceAll(
      "env: {PASSWORD: '${SECRET}', ANOTHER: S}\n"
      "apps:\n"
      "  - {app: libfaults.so:Echo, env: {OF_APP: S}}\n"
      "  - libfaults.so:Faulty\n"
      "  - libfaults.so:BadInit\n"
      "pools: [{name: gone, runtime: exec, command: [/no/such/program], env: {OF_POOL: S}, apps: ['gone:App']}]\n",
      {{": S}", absl::StrCat(": ", kSecret, "}")}});
  Dirtyd dirtyd({"--log_level", "debug"}, {.config = config + Network(authority, folder / "tokens"),
                                           .ready = false,
                                           .process = {.environment = {absl::StrCat("SECRET=", kSecret)}}});
  ASSERT_NE(dirtyd.process().WaitForLine("gone:App failed to start"), "");
  ASSERT_TRUE(integration::WaitUntil([&] { return dirtyd.App(kEcho).state() == v1::AppStatus::READY; }));
  client::Client client = dirtyd.NewClient();
  auto has = client.Execute(kEcho, "env", Json::array({"PASSWORD"}), Json::object(), {});
  ASSERT_TRUE(has.ok()) << has.error().message;
  EXPECT_EQ(has->result, kSecret) << "the worker has it";
  // Arguments and results, too, are nobody's but the app's.
  EXPECT_TRUE(client.Execute(kEcho, "echo", Json::array({kSecret}), Json::object({{"k", kSecret}}), {}).ok());
  EXPECT_FALSE(client.Execute(kFaulty, "kill", Json::array({kSecret}), Json::object(), {}).ok());
  ASSERT_TRUE(integration::WaitUntil([&] { return dirtyd.App(kEcho).ready_workers() == 1; }));
  const Words answers = {RunProgram(dirtyd.Ctl({"status", "--json"})).out, RunProgram(dirtyd.Ctl({"status"})).out,
                         RunProgram(dirtyd.Ctl({"metrics"})).out, RunProgram(dirtyd.Ctl({"reload"})).out};
  for (const std::string& answer : answers) {
    EXPECT_NE(answer, "");
    EXPECT_THAT(answer, Not(HasSubstr(kSecret)));
  }
  dirtyd.Stop(SIGTERM);
  EXPECT_THAT(dirtyd.process().err(), HasSubstr(kEcho));
  EXPECT_THAT(dirtyd.process().err(), Not(HasSubstr(kSecret)));
}

// --- Names ---

TEST(Names, LeadToNoFile) {
  // A library that is there, and that nobody configured.
  const std::string library = absl::StrCat(TestApps(), "/libversioned.so");
  ASSERT_TRUE(integration::Exists(library));
  Dirtyd dirtyd({kEcho});
  auto stub = dirtyd.NewArbiterStub();
  for (const std::string& app :
       {absl::StrCat(library, ":Versioned"), std::string("libversioned.so:Versioned"),
        std::string("../apps/libversioned.so:Versioned"), std::string("./libversioned.so:Versioned"),
        std::string("../../../../../../etc/passwd:X"), std::string("os:system"), std::string("libfaults.so:Slow"),
        std::string("libfaults.so:Echo/../Slow"), std::string("/"), std::string(".."), std::string("libfaults.so"),
        std::string("libfaults.so:Echo\0x", 19), std::string(100'000, '/')}) {
    v1::ExecuteRequest request;
    request.set_app(app);
    request.set_action("echo");
    Context context;
    v1::ExecuteResponse response;
    const grpc::Status status = stub->Execute(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND) << app.substr(0, 100);
  }
  const std::vector<v1::WorkerStatus> workers = dirtyd.ReadyWorkers();
  ASSERT_EQ(workers.size(), 1u);
  for (pid_t pid : {dirtyd.pid(), static_cast<pid_t>(workers[0].pid())}) {
    EXPECT_THAT(ReadText(absl::StrCat("/proc/", pid, "/maps")), Not(HasSubstr("libversioned")));
  }
  EXPECT_EQ(workers[0].calls(), 0u);
  dirtyd.Stop(SIGTERM);
}

// --- Logs ---

// What a line, a terminal or a parser could take for something else.
const std::string kForged[] = {
    "x\n2026-01-01T00:00:00.000Z ERROR forged=1",
    "x\r2026-01-01T00:00:00.000Z ERROR forged=1",
    "\x1b[2J\x1b]0;forged\x07",
    std::string("nul\0forged", 10),
    std::string("\xc2\x9b") + "2Jforged",
    "\"} {\"level\":\"error\",\"message\":\"forged\"}",
    std::string("\x7f\x08\x08\x08") + "forged",
    std::string("\xe2\x80\xae") + "forged",
    std::string(5000, 'f') + "\nforged",
};

class Log : public testing::TestWithParam<const char*> {};

void TellForgedThings(Dirtyd& dirtyd) {
  auto stub = dirtyd.NewArbiterStub();
  for (const std::string& text : kForged) {
    for (const auto& [app, action, argument, request_id] :
         std::vector<std::array<std::string, 4>>{{text, "echo", "1", "r"},
                                                 {kEcho, text, "1", "r"},
                                                 {kEcho, "nothing", "1", text},
                                                 {kFaulty, "throw_runtime", text, text},
                                                 {kFaulty, "stderr", text, "r"},
                                                 {kFaulty, "stdout", text, "r"},
                                                 {kEcho, "echo", text, text}}) {
      v1::ExecuteRequest request;
      request.set_app(app);
      request.set_action(action);
      request.set_args(Json::array({argument}).dump());
      request.set_request_id(request_id);
      Context context;
      context.AddMetadata("x-forged-bin", text);
      context.AddMetadata("traceparent", "00-forged forged");
      v1::ExecuteResponse response;
      stub->Execute(&context, request, &response);
    }
  }
}

TEST_P(Log, HasOneWholeLineForEachEventWhateverItSays) {
  const bool json = std::string(GetParam()) == "json";
  Dirtyd dirtyd({kEcho, kFaulty, "--log_level", "debug", "--log_format", GetParam()});
  TellForgedThings(dirtyd);
  // A worker whose last words are forged, too.
  auto result = dirtyd.NewClient().Execute(kFaulty, "kill", Json::array({1}), Json::object(), {});
  EXPECT_FALSE(result.ok());
  dirtyd.WaitForWorkers(1);
  dirtyd.Stop(SIGTERM);
  const std::string log = dirtyd.process().err();
  EXPECT_THAT(log, HasSubstr("forged"));
  const auto line_of_text =
      ContainsRegex("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z (DEBUG|INFO|WARNING|ERROR) ");
  int lines = 0;
  for (absl::string_view view : absl::StrSplit(log, '\n', absl::SkipEmpty())) {
    const std::string line(view);
    ++lines;
    for (unsigned char c : line) {
      EXPECT_TRUE((c >= 0x20 || c == '\t') && c != 0x7f) << "a control character in " << line;
    }
    EXPECT_THAT(line, Not(HasSubstr("\xc2\x9b")));
    if (json) {
      const Json parsed = Json::parse(line, nullptr, false);
      ASSERT_TRUE(parsed.is_object()) << line;
      for (const char* key : {"time", "level", "message"}) EXPECT_TRUE(parsed.contains(key)) << line;
      // A line of its own is what a worker printed: it says so.
      EXPECT_TRUE(parsed["message"] != "forged" || parsed.contains("stream")) << line;
    } else {
      EXPECT_THAT(line.substr(0, 100), line_of_text);
      EXPECT_THAT(line, Not(StartsWith("2026-01-01T00:00:00.000Z")));
    }
  }
  EXPECT_GT(lines, 20);
}

INSTANTIATE_TEST_SUITE_P(Formats, Log, testing::Values("text", "json"),
                         [](const auto& format) { return format.param; });

TEST(Terminal, IsNotSteeredByWhatCallsSay) {
  Dirtyd dirtyd({kEcho, kSlow, kFaulty, "--threads", "2"});
  TellForgedThings(dirtyd);
  const std::string release = dirtyd.folder() / "release";
  auto stub = dirtyd.NewArbiterStub();
  v1::ExecuteRequest request;
  request.set_app(kSlow);
  request.set_action("wait_for_file");
  request.set_args(Json::array({release}).dump());
  request.set_request_id("\x1b[2J\nforged");
  Context context;
  v1::ExecuteResponse response;
  grpc::CompletionQueue queue;
  auto call = stub->AsyncExecute(&context, request, &queue);
  grpc::Status status;
  call->Finish(&response, &status, &status);
  ASSERT_TRUE(dirtyd.WaitForRunning(kSlow, 1));
  for (const Words& words : {Words{"status"}, Words{"call", kFaulty, "throw_runtime", "\"\\u001b[2J forged\""},
                             Words{"call", "\x1b[2Jx:Y", "a"}}) {
    const integration::Ran ran = RunProgram(dirtyd.Ctl(words));
    EXPECT_THAT(ran.out + ran.err, Not(HasSubstr("\x1b"))) << words[0];
    EXPECT_NE(ran.out + ran.err, "");
  }
  integration::Touch(release);
  void* tag;
  bool ok;
  EXPECT_TRUE(queue.Next(&tag, &ok) && status.ok()) << status.error_message();
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  dirtyd.Stop(SIGTERM);
}

}  // namespace
}  // namespace dirty::security
