// The real dirty-worker with an arbiter that the test plays.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/unit/worker_fake_arbiter.h"

namespace dirty::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using Json = nlohmann::json;

std::string List(const std::string& text) { return Json({text}).dump(); }

bool ExitedWith(int status, int code) { return WIFEXITED(status) && WEXITSTATUS(status) == code; }

TEST(Handshake, AnnouncesItselfThenEachAppThenReady) {
  FakeArbiter arbiter;
  arbiter.Load("Echo").Load("BadInit").Load("Slow").Attach();
  v1::WorkerFrame hello = arbiter.Next();
  EXPECT_EQ(hello.hello().protocol_version(), 1u);
  EXPECT_THAT(hello.hello().runtime(), StartsWith("native/"));
  EXPECT_EQ(arbiter.Next().app_starting().app(), "Echo");
  EXPECT_EQ(arbiter.Next().app_ready().app(), "Echo");
  EXPECT_EQ(arbiter.Next().app_starting().app(), "BadInit");
  v1::WorkerFrame failed = arbiter.Next();
  EXPECT_EQ(failed.app_failed().app(), "BadInit");
  EXPECT_EQ(failed.app_failed().error().exception_type(), "std::invalid_argument");
  EXPECT_EQ(failed.app_failed().error().message(), "BadInit has no model");
  EXPECT_EQ(arbiter.Next().app_starting().app(), "Slow");
  EXPECT_EQ(arbiter.Next().app_ready().app(), "Slow");
  EXPECT_TRUE(arbiter.Next().has_ready());
  EXPECT_EQ(arbiter.Call("Echo", "add", "[1, 2]").response().result(), "3.0");
}

TEST(Handshake, TheProcessTitleTellsWorkerPoolAndApps) {
  FakeArbiter arbiter(Environment{{"DIRTY_TEST_MARK", "kept"}});
  arbiter.Load("Echo").Load("Slow").AttachAndWait();
  std::string title = ReadFile(absl::StrCat("/proc/", arbiter.pid(), "/cmdline"));
  EXPECT_STREQ(title.c_str(), "dirty-worker 7 default [Echo, Slow]");
  // The title lies where the environment was.
  EXPECT_EQ(arbiter.Call("Echo", "env", List("DIRTY_TEST_MARK")).response().result(), "\"kept\"");
}

TEST(Handshake, ASecondAttachIsRefusedAndHarmsNothing) {
  FakeArbiter arbiter;
  arbiter.Load("Echo").AttachAndWait();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(arbiter.AttachAgain().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  }
  EXPECT_EQ(arbiter.Call("Echo", "add", "[1, 2]").response().result(), "3.0");
}

TEST(Loading, SaysWhyAnAppCannotBeLoaded) {
  FakeArbiter arbiter;
  std::string apps = DIRTY_TEST_APPS;
  arbiter.LoadPath("missing", apps + "/libmissing.so:App")
      .LoadPath("unfound", "libunfound.so:App")
      .LoadPath("unnamed", apps + "/libfaults.so")
      .LoadPath("class", apps + "/libfaults.so:Ecko")
      .LoadPath("empty", apps + "/libempty.so:App")
      .LoadPath("noclasses", apps + "/libnoclasses.so:Forgotten")
      .LoadPath("abi", apps + "/libwrongabi.so:App")
      .LoadPath("text", apps + "/CMakeFiles:App")
      .LoadPath("alias", apps + "/libfaults.so:Echo")
      .AttachAndWait();
  EXPECT_EQ(arbiter.failed["missing"].message(), apps + "/libmissing.so: No such file or directory");
  EXPECT_THAT(arbiter.failed["unfound"].message(),
              HasSubstr("libunfound.so: no such library; add its directory to library_path"));
  EXPECT_THAT(arbiter.failed["unnamed"].message(), HasSubstr("a native app is named library.so:Class"));
  EXPECT_THAT(arbiter.failed["class"].message(), HasSubstr("libfaults.so has no app Ecko; it has Echo, Slow, Faulty"));
  EXPECT_THAT(arbiter.failed["empty"].message(), HasSubstr("libempty.so has no app: include <dirty/app.h>"));
  EXPECT_THAT(arbiter.failed["noclasses"].message(), HasSubstr("has no app: write DIRTY_APP(Forgotten)"));
  EXPECT_THAT(arbiter.failed["abi"].message(), HasSubstr("it has [dirty/app.h 0, "));
  EXPECT_THAT(arbiter.failed["abi"].message(), HasSubstr("this one needs [dirty/app.h 2, "));
  EXPECT_THAT(arbiter.failed["text"].message(), HasSubstr("cannot read file data"));
  for (const auto& [app, error] : arbiter.failed) {
    EXPECT_EQ(error.exception_type(), "dirty::LoadError") << app;
    EXPECT_EQ(error.app(), app);
    EXPECT_EQ(error.worker_id(), 7u);
  }
  EXPECT_EQ(arbiter.failed.size(), 8u);
  EXPECT_EQ(arbiter.Call("alias", "add", "[1, 2]").response().result(), "3.0");
}

TEST(Loading, ACrashInInitKillsTheProcess) {
  FakeArbiter arbiter;
  arbiter.Load("CrashInit").Attach();
  arbiter.Next(v1::WorkerFrame::kAppStarting);
  EXPECT_FALSE(ExitedWith(arbiter.WaitForExit(), 0));
  EXPECT_THAT(arbiter.Stderr(), HasSubstr("CrashInit is about to crash"));
}

TEST(Calls, ReturnValues) {
  FakeArbiter arbiter;
  arbiter.Load("Echo").AttachAndWait();
  EXPECT_EQ(arbiter.Call("Echo", "echo", R"([{"a": [1, "x", null]}])").response().result(), R"({"a":[1,"x",null]})");
  EXPECT_EQ(arbiter.Call("Echo", "sum_kwargs", "", R"({"a": 1, "b": 2.5})").response().result(), "3.5");
  EXPECT_EQ(arbiter.Call("Echo", "counter").response().result(), "1");
  EXPECT_EQ(arbiter.Call("Echo", "counter").response().result(), "2");
}

TEST(Calls, AttachmentsPassAsTheyAre) {
  FakeArbiter arbiter;
  arbiter.Load("Echo").AttachAndWait();
  std::string large(20 << 20, '\0');
  for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 31 + (i >> 8));
  v1::CallDone done =
      arbiter.Call("Echo", "echo", R"([{"b": {"$attachment": 1}, "a": [{"$attachment": 0}], "e": {"$attachment": 2}}])",
                   "", {large, std::string("\xff\x00\x01", 3), ""});
  ASSERT_TRUE(done.has_response()) << done.error().message();
  Json result = Json::parse(done.response().result());
  ASSERT_EQ(done.response().attachments_size(), 3);
  EXPECT_TRUE(done.response().attachments(result["a"][0]["$attachment"]) == large);
  EXPECT_EQ(done.response().attachments(result["b"]["$attachment"]), std::string("\xff\x00\x01", 3));
  EXPECT_EQ(done.response().attachments(result["e"]["$attachment"]), "");
}

TEST(Calls, KnowTheirIdAndDeadline) {
  FakeArbiter arbiter;
  arbiter.Load("Echo").AttachAndWait();
  Json context = Json::parse(arbiter.Call("Echo", "context").response().result());
  EXPECT_EQ(context["call_id"], "call-1");
  EXPECT_EQ(context["seconds_left"], nullptr);

  v1::StartCall start;
  start.mutable_request()->set_app("Echo");
  start.mutable_request()->set_action("context");
  start.mutable_time_left()->set_seconds(1000);
  start.mutable_time_left()->set_nanos(500'000'000);
  context = Json::parse(arbiter.Done(arbiter.StartCall(start)).response().result());
  EXPECT_GT(context["seconds_left"], 1000.0 - kPatience.count());
  EXPECT_LE(context["seconds_left"], 1000.5);
}

TEST(Calls, KnowTheirTrace) {
  FakeArbiter arbiter;
  arbiter.Load("Echo").AttachAndWait();
  v1::StartCall start;
  start.mutable_request()->set_app("Echo");
  start.mutable_request()->set_action("trace");
  const std::string trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  start.set_traceparent(trace);
  EXPECT_EQ(Json::parse(arbiter.Done(arbiter.StartCall(start)).response().result()), Json({trace, trace}));
  EXPECT_EQ(Json::parse(arbiter.Call("Echo", "trace").response().result()), Json({"", ""}));
}

TEST(Calls, WhateverTheAppThrowsIsAnAppError) {
  FakeArbiter arbiter;
  arbiter.Load("Faulty").Load("Echo").AttachAndWait();
  struct {
    const char *app, *action, *args, *type, *message;
  } cases[] = {
      {"Faulty", "throw_runtime", R"(["no such picture"])", "std::runtime_error", "no such picture"},
      {"Faulty", "throw_int", "", "int", "the app threw a value of type int, which says nothing more"},
      {"Faulty", "throw_dirty_error", R"(["BadPicture", "not a JPEG"])", "BadPicture", "not a JPEG"},
      {"Faulty", "throw_not_utf8", "", "std::runtime_error", "bad \uFFFD byte"},
      {"Faulty", "unheard_of", "", "UnknownAction", "no action 'unheard_of'"},
      {"Echo", "size", "[1]", "dirty::BadReference",
       "the reference given to Bytes must be {\"$attachment\": N}, got number"},
      {"Echo", "not_utf8", "", "dirty::BadResult",
       "result has a string that is not UTF-8: use Context::Attach for bytes"},
      {"Echo", "dangling", "", "dirty::BadResult", "result references attachment 7; the result has 0"},
      {"Echo", "deep", "[129]", "dirty::BadResult", "result is more than 128 levels deep (max_json_depth)"},
  };
  for (const auto& each : cases) {
    v1::CallDone done = arbiter.Call(each.app, each.action, each.args);
    ASSERT_TRUE(done.has_error()) << each.action;
    EXPECT_EQ(done.error().reason(), v1::REASON_APP_ERROR) << each.action;
    EXPECT_EQ(done.error().exception_type(), each.type) << each.action;
    EXPECT_EQ(done.error().message(), each.message) << each.action;
    EXPECT_EQ(done.error().app(), each.app);
    EXPECT_EQ(done.error().action(), each.action);
    EXPECT_EQ(done.error().call_id(), absl::StrCat("call-", done.call()));
    EXPECT_EQ(done.error().worker_id(), 7u);
  }
  // nlohmann::json throws in the app for what the app does not check.
  EXPECT_THAT(arbiter.Call("Echo", "echo").error().exception_type(), HasSubstr("out_of_range"));
  EXPECT_EQ(arbiter.Call("Faulty", "throw_cancelled").error().reason(), v1::REASON_CANCELLED);
}

TEST(Calls, BadRequestsAreRefusedWithoutHarm) {
  FakeArbiter arbiter;
  arbiter.Load("Echo").AttachAndWait();
  std::string deep(300, '[');
  struct {
    std::string args, kwargs, message;
  } cases[] = {
      {"[1,", "", "args is not JSON: unexpected end of input at byte 4"},
      {"{}", "", "args must be a JSON array, got object"},
      {deep + std::string(300, ']'), "", "args is 300 levels deep; at most 128 are allowed (max_json_depth)"},
      {"", R"({"image": {"$attachment": 3}})", "kwargs.image references attachment 3; the call has 1"},
  };
  for (const auto& each : cases) {
    v1::CallDone done = arbiter.Call("Echo", "echo", each.args, each.kwargs, {"one"});
    EXPECT_EQ(done.error().reason(), v1::REASON_INVALID_REQUEST);
    EXPECT_EQ(done.error().message(), each.message);
  }
  EXPECT_EQ(arbiter.Call("Echo", "add", "[1, 2]").response().result(), "3.0");
}

TEST(Calls, AResultThatIsTooLargeFailsThatCallOnly) {
  FakeArbiter arbiter;
  arbiter.config.set_max_message_size(1 << 20);
  arbiter.Load("Echo").AttachAndWait();
  for (const char* action : {"bytes", "text"}) {
    v1::CallDone done = arbiter.Call("Echo", action, absl::StrCat("[", 1 << 20, "]"));
    EXPECT_EQ(done.error().reason(), v1::REASON_TOO_LARGE);
    EXPECT_THAT(done.error().message(), HasSubstr("max_message_size is 1048576"));
    EXPECT_TRUE(arbiter.Call("Echo", action, absl::StrCat("[", (1 << 20) - 100, "]")).has_response());
  }
}

TEST(Slots, RunAsManyCallsAtOnce) {
  TemporaryDirectory files;
  FakeArbiter arbiter;
  arbiter.config.set_slots(4);
  arbiter.Load("Slow").AttachAndWait();
  std::vector<uint64_t> calls;
  for (int i = 0; i < 4; ++i) {
    Json args = {files.File("go"), files.File(absl::StrCat("started", i))};
    calls.push_back(arbiter.Start("Slow", "wait_for_file", args.dump()));
  }
  for (int i = 0; i < 4; ++i) {
    AwaitThat("the call runs", [&] { return FileExists(files.File(absl::StrCat("started", i))); });
  }
  TouchFile(files.File("go"));
  for (uint64_t call : calls) EXPECT_TRUE(arbiter.Done(call).has_response());
}

TEST(Slots, ManyCallsEachEndOnce) {
  FakeArbiter arbiter;
  arbiter.config.set_slots(4);
  arbiter.Load("Echo").AttachAndWait();
  constexpr int kCalls = 2000;
  std::set<uint64_t> open;
  for (int i = 0; i < kCalls; ++i) open.insert(arbiter.Start("Echo", "counter"));
  std::set<int> counts;
  for (int i = 0; i < kCalls; ++i) {
    v1::WorkerFrame frame = arbiter.Next();
    ASSERT_EQ(open.erase(frame.done().call()), 1u);
    counts.insert(std::stoi(frame.done().response().result()));
  }
  EXPECT_EQ(counts.size(), static_cast<size_t>(kCalls));
  EXPECT_EQ(*counts.rbegin(), kCalls);
}

TEST(Pings, AreAnsweredDuringInitAndWhileEverySlotIsBusy) {
  TemporaryDirectory files;
  FakeArbiter arbiter(Environment{{"DIRTY_TEST_INIT_FILE", files.File("init")}});
  arbiter.Load("SlowInit").Load("Slow").Attach();
  arbiter.Next(v1::WorkerFrame::kAppStarting);
  arbiter.Ping(1);
  TouchFile(files.File("init"));
  arbiter.Next(v1::WorkerFrame::kReady);
  uint64_t call = arbiter.Start("Slow", "wait_for_file", Json({files.File("go"), files.File("started")}).dump());
  AwaitThat("the call runs", [&] { return FileExists(files.File("started")); });
  arbiter.Ping(2);
  TouchFile(files.File("go"));
  EXPECT_TRUE(arbiter.Done(call).has_response());
}

// Short calls are run by the thread that reads them, long ones are not: whatever comes when they change places is
// neither lost nor late.
TEST(Slots, TheOnlyOneRunsShortAndLongCallsInAnyOrder) {
  TemporaryDirectory files;
  FakeArbiter arbiter;
  arbiter.Load("Slow").Load("Echo").AttachAndWait();
  int count = 0;
  for (int round = 0; round < 30; ++round) {
    for (int i = 0; i < round % 4; ++i) {
      EXPECT_EQ(arbiter.Call("Echo", "counter").response().result(), std::to_string(++count));
    }
    std::string go = files.File(absl::StrCat("go", round)), started = files.File(absl::StrCat("started", round));
    uint64_t running = arbiter.Start("Slow", "wait_for_file", Json({go, started}).dump());
    AwaitThat("the call runs", [&] { return FileExists(started); });
    uint64_t waiting = arbiter.Start("Echo", "counter");  // more than dirtyd would send
    arbiter.Ping(static_cast<uint64_t>(round));
    EXPECT_FALSE(arbiter.HasEnded(waiting));
    TouchFile(go);
    EXPECT_TRUE(arbiter.Done(running).has_response());
    EXPECT_EQ(arbiter.Done(waiting).response().result(), std::to_string(++count));
  }
}

TEST(Cancelling, StopsACooperativeCallAndFreesItsSlot) {
  TemporaryDirectory files;
  FakeArbiter arbiter;
  arbiter.Load("Slow").Load("Echo").AttachAndWait();
  uint64_t running = arbiter.Start("Slow", "wait_for_cancel", Json({0, files.File("started")}).dump());
  AwaitThat("the call runs", [&] { return FileExists(files.File("started")); });
  uint64_t waiting = arbiter.Start("Echo", "counter");
  arbiter.Cancel(waiting, v1::CANCEL_REASON_OPERATOR);
  arbiter.Cancel(running, v1::CANCEL_REASON_TIMEOUT);
  v1::CallDone done = arbiter.Done(running);
  EXPECT_EQ(done.error().reason(), v1::REASON_CANCELLED);
  EXPECT_EQ(done.error().message(), "the call ran too long and was cancelled");
  EXPECT_EQ(arbiter.Done(waiting).error().message(), "an operator cancelled the call");
  arbiter.Cancel(running, v1::CANCEL_REASON_CLIENT);                    // it has ended: ignored
  EXPECT_EQ(arbiter.Call("Echo", "counter").response().result(), "1");  // the cancelled one never ran
}

TEST(Streams, EveryChunkTakesOneCredit) {
  FakeArbiter arbiter;
  arbiter.Load("Emitter").AttachAndWait();
  uint64_t call = arbiter.StartStream("Emitter", "count", "[5]", 2);
  EXPECT_EQ(arbiter.NextChunk(call).value(), "0");
  EXPECT_EQ(arbiter.NextChunk(call).value(), "1");
  // The answer to a ping comes after all that was sent before.
  arbiter.Ping(1);
  arbiter.Credit(call, 1);
  EXPECT_EQ(arbiter.Next().chunk().chunk().value(), "2");
  arbiter.Credit(call, 100);
  EXPECT_EQ(arbiter.Next().chunk().chunk().value(), "3");
  EXPECT_EQ(arbiter.Next().chunk().chunk().value(), "4");
  v1::WorkerFrame end = arbiter.Next();
  ASSERT_TRUE(end.done().has_response());
  EXPECT_EQ(end.done().response().ByteSizeLong(), 0u);
}

TEST(Streams, WithoutCreditTheProducerWaits) {
  FakeArbiter arbiter;
  arbiter.Load("Emitter").AttachAndWait();
  uint64_t call = arbiter.StartStream("Emitter", "count", "[3]", 0);
  arbiter.Ping(1);
  arbiter.Ping(2);
  arbiter.Cancel(call, v1::CANCEL_REASON_CLIENT);
  // No chunk: the first frame is the end.
  EXPECT_EQ(arbiter.Next().done().error().reason(), v1::REASON_CANCELLED);
}

TEST(Streams, AReturnedValueIsTheLastChunk) {
  FakeArbiter arbiter;
  arbiter.Load("Emitter").Load("Echo").AttachAndWait();
  uint64_t call = arbiter.StartStream("Emitter", "count_and_return", "[1]", 16);
  EXPECT_EQ(arbiter.Next().chunk().chunk().value(), "0");
  EXPECT_EQ(arbiter.Next().chunk().chunk().value(), "\"end\"");
  EXPECT_TRUE(arbiter.Done(call).has_response());
  call = arbiter.StartStream("Echo", "bytes", "[3]", 16);
  v1::Chunk chunk = arbiter.NextChunk(call);
  EXPECT_EQ(chunk.value(), R"({"$attachment":0})");
  EXPECT_THAT(chunk.attachments(), ElementsAre("xxx"));
  EXPECT_EQ(arbiter.Done(call).response().ByteSizeLong(), 0u);
}

TEST(Streams, AttachmentsAreNumberedInEachChunk) {
  FakeArbiter arbiter;
  arbiter.Load("Emitter").AttachAndWait();
  uint64_t call = arbiter.StartStream("Emitter", "blocks", "[2, 3]", 16);
  for (std::string block : {"aaa", "bbb"}) {
    v1::Chunk chunk = arbiter.NextChunk(call);
    EXPECT_EQ(Json::parse(chunk.value())["block"]["$attachment"], 0);
    EXPECT_THAT(chunk.attachments(), ElementsAre(block));
  }
  EXPECT_TRUE(arbiter.Done(call).has_response());
}

TEST(Streams, AnErrorComesAfterTheChunks) {
  FakeArbiter arbiter;
  arbiter.Load("Emitter").AttachAndWait();
  arbiter.StartStream("Emitter", "count_and_throw", "[2]", 16);
  EXPECT_EQ(arbiter.Next().chunk().chunk().value(), "0");
  EXPECT_EQ(arbiter.Next().chunk().chunk().value(), "1");
  EXPECT_EQ(arbiter.Next().done().error().message(), "after the chunks");
}

TEST(Streams, AChunkThatIsTooLargeIsTooLarge) {
  FakeArbiter arbiter;
  arbiter.config.set_max_message_size(1000);
  arbiter.Load("Emitter").AttachAndWait();
  uint64_t call = arbiter.StartStream("Emitter", "blocks", "[1, 2000]", 16);
  EXPECT_EQ(arbiter.Done(call).error().reason(), v1::REASON_TOO_LARGE);
}

TEST(Streams, EmitIsRefusedWhenNobodyReads) {
  FakeArbiter arbiter;
  arbiter.Load("Emitter").AttachAndWait();
  v1::CallDone done = arbiter.Call("Emitter", "count", "[1]");
  EXPECT_EQ(done.error().reason(), v1::REASON_APP_ERROR);
  EXPECT_EQ(done.error().exception_type(), "dirty::Error");
  EXPECT_THAT(done.error().message(), HasSubstr("did not ask for a stream"));
}

TEST(Streams, AReaderThatLeavesStopsTheProducer) {
  TemporaryDirectory files;
  FakeArbiter arbiter;
  arbiter.Load("Emitter").AttachAndWait();
  uint64_t call = arbiter.StartStream("Emitter", "forever", List(files.File("stopped")), 4);
  for (int i = 0; i < 4; ++i) arbiter.NextChunk(call);
  arbiter.Cancel(call, v1::CANCEL_REASON_CLIENT);
  EXPECT_EQ(arbiter.Done(call).error().reason(), v1::REASON_CANCELLED);
  EXPECT_TRUE(FileExists(files.File("stopped")));
}

TEST(Draining, EndsRunningCallsThenClosesEachAppOnceLastFirst) {
  TemporaryDirectory files;
  FakeArbiter arbiter(Environment{{"DIRTY_TEST_CLOSE_LOG", files.File("log")}});
  arbiter.Load("Closer").Load("BadInit").Load("CloseThrows").Load("Closer2").Load("Slow").AttachAndWait();
  uint64_t call = arbiter.Start("Slow", "wait_for_file", Json({files.File("go"), files.File("started")}).dump());
  AwaitThat("the call runs", [&] { return FileExists(files.File("started")); });
  arbiter.Drain();
  arbiter.Ping(1);
  EXPECT_FALSE(FileExists(files.File("log")));
  TouchFile(files.File("go"));
  EXPECT_TRUE(arbiter.Done(call).has_response());
  EXPECT_TRUE(arbiter.LinkStatus().ok());
  EXPECT_TRUE(ExitedWith(arbiter.WaitForExit(), 0)) << arbiter.Stderr();
  EXPECT_EQ(ReadFile(files.File("log")), absl::StrCat("Closer2 ", arbiter.pid(), "\nCloser1 ", arbiter.pid(), "\n"));
  EXPECT_THAT(arbiter.Stderr(), HasSubstr("Close of CloseThrows threw std::runtime_error: CloseThrows does not close"));
}

TEST(Draining, DuringInitSkipsTheAppsThatAreLeft) {
  TemporaryDirectory files;
  FakeArbiter arbiter(
      Environment{{"DIRTY_TEST_CLOSE_LOG", files.File("log")}, {"DIRTY_TEST_INIT_FILE", files.File("init")}});
  arbiter.Load("Closer").Load("SlowInit").Load("Closer2").Attach();
  while (arbiter.Next(v1::WorkerFrame::kAppStarting).app_starting().app() != "SlowInit") {
  }
  arbiter.Drain();
  arbiter.Ping(1);
  TouchFile(files.File("init"));
  EXPECT_TRUE(arbiter.LinkStatus().ok());
  EXPECT_TRUE(ExitedWith(arbiter.WaitForExit(), 0)) << arbiter.Stderr();
  EXPECT_EQ(ReadFile(files.File("log")), absl::StrCat("Closer1 ", arbiter.pid(), "\n"));
}

TEST(Draining, SigtermIsToldAndCallsComeAsBeforeUntilTheDrain) {
  TemporaryDirectory files;
  FakeArbiter arbiter(Environment{{"DIRTY_TEST_CLOSE_LOG", files.File("log")}});
  arbiter.Load("Closer").Load("Slow").Load("Echo").AttachAndWait();
  uint64_t call = arbiter.Start("Slow", "wait_for_file", Json({files.File("go"), files.File("started")}).dump());
  AwaitThat("the call runs", [&] { return FileExists(files.File("started")); });
  const uint64_t waiting = arbiter.Start("Echo", "counter");
  arbiter.Signal(SIGTERM);
  EXPECT_TRUE(arbiter.Next(v1::WorkerFrame::kEnding).has_ending());
  const uint64_t late = arbiter.Start("Echo", "counter");
  TouchFile(files.File("go"));
  EXPECT_TRUE(arbiter.Done(call).has_response());
  EXPECT_TRUE(arbiter.Done(waiting).has_response());
  EXPECT_TRUE(arbiter.Done(late).has_response());
  EXPECT_EQ(ReadFile(files.File("log")), "");
  arbiter.Drain();
  EXPECT_TRUE(ExitedWith(arbiter.WaitForExit(), 0)) << arbiter.Stderr();
  EXPECT_EQ(ReadFile(files.File("log")), absl::StrCat("Closer1 ", arbiter.pid(), "\n"));
}

TEST(Draining, SigtermDuringAnInitEndsTheWorkerAfterIt) {
  TemporaryDirectory files;
  FakeArbiter arbiter(
      Environment{{"DIRTY_TEST_CLOSE_LOG", files.File("log")}, {"DIRTY_TEST_INIT_FILE", files.File("init")}});
  arbiter.Load("Closer").Load("SlowInit").Load("Closer2").Attach();
  while (arbiter.Next(v1::WorkerFrame::kAppStarting).app_starting().app() != "SlowInit") {
  }
  arbiter.Signal(SIGTERM);
  AwaitThat("the worker says that it ends", [&] { return absl::StrContains(arbiter.Stderr(), "before it was ready"); });
  TouchFile(files.File("init"));
  EXPECT_TRUE(ExitedWith(arbiter.WaitForExit(), 0)) << arbiter.Stderr();
  EXPECT_EQ(ReadFile(files.File("log")), absl::StrCat("Closer1 ", arbiter.pid(), "\n"));
}

TEST(Draining, SigintIsNotForWorkers) {  // a terminal sends it to the whole group at ^C
  FakeArbiter arbiter;
  arbiter.Load("Echo").AttachAndWait();
  arbiter.Signal(SIGINT);
  EXPECT_TRUE(arbiter.Call("Echo", "counter").has_response());
  arbiter.Drain();
  EXPECT_TRUE(ExitedWith(arbiter.WaitForExit(), 0)) << arbiter.Stderr();
}

TEST(Draining, SigtermBeforeAnArbiterAttachedEndsTheWorker) {
  FakeArbiter arbiter;
  arbiter.Signal(SIGTERM);
  EXPECT_TRUE(ExitedWith(arbiter.WaitForExit(), 0)) << arbiter.Stderr();
}

TEST(Draining, ASecondSigtermEndsAWorkerThatIsStuck) {
  TemporaryDirectory files;
  FakeArbiter arbiter;
  arbiter.Load("Slow").AttachAndWait();
  arbiter.Start("Slow", "wait_for_file", Json({files.File("never"), files.File("started")}).dump());
  AwaitThat("the call runs", [&] { return FileExists(files.File("started")); });
  AwaitThat("the worker exits", [&] {
    arbiter.Signal(SIGTERM);
    return arbiter.Stderr().find("second SIGTERM") != std::string::npos;
  });
  EXPECT_TRUE(ExitedWith(arbiter.WaitForExit(), 128 + SIGTERM)) << arbiter.Stderr();
}

TEST(LostLink, CancelsWhatRunsClosesTheAppsAndExits) {
  TemporaryDirectory files;
  FakeArbiter arbiter(Environment{{"DIRTY_TEST_CLOSE_LOG", files.File("log")}});
  arbiter.Load("Closer").Load("Slow").AttachAndWait();
  arbiter.Start("Slow", "wait_for_cancel", Json({0, files.File("started")}).dump());
  AwaitThat("the call runs", [&] { return FileExists(files.File("started")); });
  arbiter.Break();
  EXPECT_TRUE(ExitedWith(arbiter.WaitForExit(), 1)) << arbiter.Stderr();
  EXPECT_EQ(ReadFile(files.File("log")), absl::StrCat("Closer1 ", arbiter.pid(), "\n"));
}

TEST(LostLink, EndsAWorkerWhoseCallDoesNotEnd) {
  TemporaryDirectory files;
  FakeArbiter arbiter;
  arbiter.Load("Slow").AttachAndWait();
  arbiter.Start("Slow", "wait_for_file", Json({files.File("never"), files.File("started")}).dump());
  AwaitThat("the call runs", [&] { return FileExists(files.File("started")); });
  arbiter.Break();
  EXPECT_TRUE(ExitedWith(arbiter.WaitForExit(), 1));
  EXPECT_THAT(arbiter.Stderr(), HasSubstr("dirtyd is gone and what runs here did not end in time"));
}

TEST(LostLink, EndsAWorkerWhoseInitDoesNotEnd) {
  TemporaryDirectory files;
  FakeArbiter arbiter(Environment{{"DIRTY_TEST_INIT_FILE", files.File("never")}});
  arbiter.Load("SlowInit").Attach();
  arbiter.Next(v1::WorkerFrame::kAppStarting);
  arbiter.Break();
  EXPECT_TRUE(ExitedWith(arbiter.WaitForExit(), 1));
}

TEST(Crashes, EndTheProcessWithTheirOwnStatus) {
  struct {
    const char *action, *args;
    int signal, code;
  } cases[] = {{"kill", "[0]", SIGKILL, 0}, {"exit", "[3]", 0, 3}, {"exit_normally", "[4]", 0, 4}};
  for (const auto& each : cases) {
    FakeArbiter arbiter;
    arbiter.Load("Faulty").AttachAndWait();
    arbiter.Start("Faulty", each.action, each.args);
    int status = arbiter.WaitForExit();
    if (each.signal != 0) {
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == each.signal) << each.action << " " << status;
    } else {
      EXPECT_TRUE(ExitedWith(status, each.code)) << each.action << " " << status << arbiter.Stderr();
    }
  }
}

TEST(StackDump, ShowsWhatEveryThreadDoes) {
  TemporaryDirectory files;
  FakeArbiter arbiter;
  arbiter.Load("Slow").Load("Echo").AttachAndWait();
  uint64_t call = arbiter.Start("Slow", "wait_for_file", Json({files.File("go"), files.File("started")}).dump());
  AwaitThat("the call runs", [&] { return FileExists(files.File("started")); });
  v1::ArbiterFrame dump;
  dump.mutable_dump_stacks()->set_call(call);
  arbiter.Send(dump);
  arbiter.Ping(1);  // answered after the dump
  std::string stacks = arbiter.Stderr();
  EXPECT_THAT(stacks, HasSubstr(" dirty-io:"));
  ASSERT_THAT(stacks, HasSubstr(" dirty-slot-0:"));
  EXPECT_THAT(stacks.substr(stacks.find(" dirty-slot-0:")), HasSubstr("libfaults.so"));
  TouchFile(files.File("go"));
  EXPECT_TRUE(arbiter.Done(call).has_response());  // it did no harm
  EXPECT_TRUE(arbiter.Call("Echo", "counter").has_response());
}

// The program's output and exit code.
std::pair<std::string, int> RunProgram(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  std::string output;
  char buffer[4096];
  while (size_t count = fread(buffer, 1, sizeof(buffer), pipe)) output.append(buffer, count);
  return {output, WEXITSTATUS(pclose(pipe))};
}

TEST(CommandLine, HelpAndVersionGoToStandardOutput) {
  std::string program = DIRTY_WORKER_PROGRAM;
  auto [help, help_code] = RunProgram(program + " --help 2>/dev/null");
  EXPECT_EQ(help_code, 0);
  EXPECT_THAT(help, StartsWith("Usage: dirty-worker"));
  auto [version, version_code] = RunProgram(program + " --version 2>/dev/null");
  EXPECT_EQ(version_code, 0);
  EXPECT_THAT(version, StartsWith("dirty-worker "));
}

TEST(CommandLine, StartedByHandItSaysWhatToDo) {
  auto [output, code] = RunProgram(absl::StrCat("env -u DIRTY_WORKER_SOCKET ", DIRTY_WORKER_PROGRAM, " 2>&1"));
  EXPECT_EQ(code, 2);
  EXPECT_THAT(output, HasSubstr("dirty-worker is started by dirtyd"));
  std::tie(output, code) =
      RunProgram(absl::StrCat("DIRTY_WORKER_SOCKET=/", std::string(200, 'x'), " ", DIRTY_WORKER_PROGRAM, " 2>&1"));
  EXPECT_EQ(code, 1);
  EXPECT_THAT(output, HasSubstr("the socket's path has 201 bytes, at most 107 are possible"));
  std::tie(output, code) = RunProgram(absl::StrCat(DIRTY_WORKER_PROGRAM, " libx.so:X 2>&1"));
  EXPECT_EQ(code, 2);
}

}  // namespace
}  // namespace dirty::worker
