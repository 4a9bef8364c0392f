// A session as the wire has it, without our client: frames that a test writes and reads one by one.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dirty/v1/arbiter.grpc.pb.h"
#include "tests/integration/harness.h"

namespace dirty::integration {

// Thread-compatible, but that one thread may write while another one reads.
class RawSession {
 public:
  using Stream = grpc::ClientReaderWriter<v1::SessionRequest, v1::SessionResponse>;

  // A connection of its own. `greet`: exchange hellos.
  explicit RawSession(const Dirtyd& dirtyd, bool greet = true)
      : stub_(v1::Arbiter::NewStub(ClientChannel(dirtyd.socket()))), stream_(stub_->Session(&context_)) {
    if (!greet) return;
    v1::SessionRequest request;
    request.mutable_hello()->set_protocol_version(1);
    EXPECT_TRUE(Write(request));
    hello_ = *Read().mutable_hello();
    EXPECT_EQ(hello_.protocol_version(), 1u);
  }
  ~RawSession() {
    if (finished_) return;
    context_.TryCancel();
    (void)stream_->Finish();
  }

  const v1::SessionHello& hello() const { return hello_; }

  bool Write(const v1::SessionRequest& request) { return stream_->Write(request); }

  // A call, to be completed and written. `args`: a JSON array.
  static v1::SessionRequest Call(uint64_t id, const std::string& app, const std::string& action,
                                 const std::string& args = "") {
    v1::SessionRequest request;
    v1::SessionExecute* execute = request.mutable_execute();
    execute->set_id(id);
    execute->mutable_request()->set_app(app);
    execute->mutable_request()->set_action(action);
    execute->mutable_request()->set_args(args);
    return request;
  }
  bool Execute(uint64_t id, const std::string& app, const std::string& action, const std::string& args = "") {
    return Write(Call(id, app, action, args));
  }
  // A call of libfaults.so's Slow that runs until there is a file `release`, whatever happens.
  bool ExecuteHeld(uint64_t id, const std::string& release) {
    return Execute(id, "libfaults.so:Slow", "wait_for_file",
                   absl::StrCat("[\"", release, "\",\"", release, ".started\"]"));
  }
  static bool WaitUntilItRuns(const std::string& release) {
    return WaitUntil([&] { return Exists(release + ".started"); });
  }
  bool ExecuteStream(uint64_t id, const std::string& app, const std::string& action, const std::string& args,
                     uint32_t credits = 0) {
    v1::SessionRequest request = Call(id, app, action, args);
    request.mutable_execute()->set_stream(true);
    request.mutable_execute()->set_credits(credits);
    return Write(request);
  }
  bool Cancel(uint64_t id) {
    v1::SessionRequest request;
    request.mutable_cancel()->set_id(id);
    return Write(request);
  }
  bool Credit(uint64_t id, uint32_t chunks) {
    v1::SessionRequest request;
    request.mutable_credit()->set_id(id);
    request.mutable_credit()->set_chunks(chunks);
    return Write(request);
  }

  // The next frame. One that is not set: the stream has ended.
  v1::SessionResponse Read() {
    v1::SessionResponse response;
    if (!stream_->Read(&response)) response.Clear();
    return response;
  }
  // The next frame, which is the end of a call.
  v1::SessionDone ReadDone() {
    v1::SessionResponse response = Read();
    EXPECT_TRUE(response.has_done()) << response.ShortDebugString().substr(0, 1000);
    return std::move(*response.mutable_done());
  }
  // The next frame, which is a chunk of this call.
  v1::Chunk ReadChunk(uint64_t id) {
    v1::SessionResponse response = Read();
    EXPECT_TRUE(response.has_chunk()) << response.ShortDebugString().substr(0, 1000);
    EXPECT_EQ(response.chunk().id(), id);
    return std::move(*response.mutable_chunk()->mutable_chunk());
  }

  // No more frames from us.
  void HalfClose() { stream_->WritesDone(); }
  // Breaks the stream.
  void Break() { context_.TryCancel(); }
  // What the stream ended with, after its last frame.
  grpc::Status Finish() {
    EXPECT_EQ(Read().frame_case(), v1::SessionResponse::FRAME_NOT_SET) << "there are frames left";
    finished_ = true;
    return stream_->Finish();
  }

 private:
  Context context_;
  std::unique_ptr<v1::Arbiter::Stub> stub_;
  std::unique_ptr<Stream> stream_;
  v1::SessionHello hello_;
  bool finished_ = false;
};

}  // namespace dirty::integration
