// Sends wrong HTTP/2 to both sockets of a real dirtyd: recorded conversations, changed at random. After every few
// hundred it must be alive, answer a proper call and a proper question, and have counters that add up; in the end its
// descriptors and calls must be back where they were.
//
//   fuzz_http2 [--seed N] [--first N] [--inputs N] [--seconds N] [--keep FOLDER]
//   fuzz_http2 --record FOLDER
//
// --seed N         of the changes, 1 by default. Input number I of a seed is always the same bytes
// --first N        number of the first input, 0 by default: what a failure tells, to see it again
// --inputs N       how many, 2000 by default
// --seconds N      as many as go into this time instead
// --keep FOLDER    writes each input there before it is sent: client-I or admin-I
// --record FOLDER  records proper conversations of our clients instead: what tests/fuzz/corpus/http2 has
//
// Exit code: 0, 1 if something was wrong, 2 for a usage error.

#include "tests/fuzz/http2.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "dirty/v1/admin.grpc.pb.h"
#include "dirty/v1/arbiter.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/loop/unique_fd.h"
#include "tests/integration/harness.h"

namespace dirty::fuzz {
namespace {

using integration::Context;
using integration::Dirtyd;
using integration::kBound;

constexpr uint64_t kBetweenChecks = 250;
constexpr char kApp[] = "libfaults.so:Echo";

struct Flags {
  uint64_t seed = 1, first = 0, inputs = 2000, seconds = 0;
  std::string keep, record;
};
Flags flags;

UniqueFd Connect(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  memcpy(address.sun_path, path.data(), path.size());
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return UniqueFd();
  return fd;
}

// Sends and reads at once, in pieces as the socket takes them, half-closes, and reads until the server has closed.
// False: it does not.
bool Converse(const std::string& socket, const std::string& bytes) {
  UniqueFd fd = Connect(socket);
  if (!fd.ok()) return false;
  fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  if (bytes.empty()) shutdown(fd.get(), SHUT_WR);
  const absl::Time end = absl::Now() + kBound;
  for (size_t sent = 0; absl::Now() < end;) {
    pollfd event = {.fd = fd.get(), .events = POLLIN, .revents = 0};
    if (sent < bytes.size()) event.events |= POLLOUT;
    poll(&event, 1, static_cast<int>(absl::ToInt64Milliseconds(end - absl::Now())));
    if ((event.revents & POLLOUT) != 0) {
      const ssize_t size = send(fd.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (size > 0) sent += static_cast<size_t>(size);
      if (size < 0 && errno != EAGAIN) return true;  // it has closed
      if (sent == bytes.size()) shutdown(fd.get(), SHUT_WR);
    }
    if ((event.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
      char buffer[65536];
      const ssize_t size = read(fd.get(), buffer, sizeof buffer);
      if (size == 0 || (size < 0 && errno != EAGAIN)) return true;
    }
  }
  return false;
}

// --- The conversations ---

// Passes a client's connection on to a socket and keeps what the client says.
class Recorder {
 public:
  Recorder(const std::string& path, const std::string& target)
      : listener_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << path;
    listen(listener_.get(), 1);
    thread_ = std::thread([this, target] { Run(target); });
  }
  // What it said; after the client has gone.
  std::string Bytes() {
    thread_.join();
    return bytes_;
  }

 private:
  void Run(const std::string& target) {
    UniqueFd client(accept(listener_.get(), nullptr, nullptr)), server = Connect(target);
    pollfd events[] = {{.fd = client.get(), .events = POLLIN, .revents = 0},
                       {.fd = server.get(), .events = POLLIN, .revents = 0}};
    for (char buffer[65536];;) {
      poll(events, 2, -1);
      for (int from : {0, 1}) {
        if (events[from].revents == 0) continue;
        const ssize_t size = read(events[from].fd, buffer, sizeof buffer);
        if (size <= 0) return;
        if (from == 0) bytes_.append(buffer, static_cast<size_t>(size));
        send(events[1 - from].fd, buffer, static_cast<size_t>(size), MSG_NOSIGNAL);
      }
    }
  }

  UniqueFd listener_;
  std::string bytes_;
  std::thread thread_;
};

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& path, bool admin) {
  return admin ? integration::AdminChannel(path) : integration::ClientChannel(path);
}

v1::ExecuteRequest Request(const std::string& action, const std::string& args) {
  v1::ExecuteRequest request;
  request.set_app(kApp);
  request.set_action(action);
  request.set_args(args);
  return request;
}

template <typename Service>
auto Stub(const std::shared_ptr<grpc::Channel>& channel) {
  return Service::NewStub(channel);
}

void Execute(const std::shared_ptr<grpc::Channel>& channel) {
  Context context;
  v1::ExecuteRequest request = Request("echo", R"([{"a": [1, {"$attachment": 0}]}])");
  request.add_attachments("bytes");
  v1::ExecuteResponse response;
  EXPECT_TRUE(Stub<v1::Arbiter>(channel)->Execute(&context, request, &response).ok());
}

void ExecuteWrong(const std::shared_ptr<grpc::Channel>& channel) {
  Context context;
  v1::ExecuteResponse response;
  EXPECT_FALSE(Stub<v1::Arbiter>(channel)->Execute(&context, Request("none", "[1"), &response).ok());
}

void ExecuteStream(const std::shared_ptr<grpc::Channel>& channel) {
  Context context;
  const v1::ExecuteRequest request = Request("echo", "[\"last\"]");
  auto stub = Stub<v1::Arbiter>(channel);
  auto reader = stub->ExecuteStream(&context, request);
  for (v1::Chunk chunk; reader->Read(&chunk);) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

void Session(const std::shared_ptr<grpc::Channel>& channel) {
  Context context;
  auto stub = Stub<v1::Arbiter>(channel);
  auto stream = stub->Session(&context);
  v1::SessionRequest hello, execute, cancel, credit;
  hello.mutable_hello()->set_protocol_version(1);
  stream->Write(hello);
  for (uint64_t id = 1; id <= 3; ++id) {
    execute.mutable_execute()->set_id(id);
    execute.mutable_execute()->set_stream(id == 2);
    *execute.mutable_execute()->mutable_request() = Request("echo", absl::StrCat("[", id, "]"));
    stream->Write(execute);
  }
  credit.mutable_credit()->set_id(2);
  credit.mutable_credit()->set_chunks(5);
  stream->Write(credit);
  cancel.mutable_cancel()->set_id(3);
  stream->Write(cancel);
  stream->WritesDone();
  for (v1::SessionResponse response; stream->Read(&response);) {
  }
  EXPECT_TRUE(stream->Finish().ok());
}

void Status(const std::shared_ptr<grpc::Channel>& channel) {
  Context context;
  v1::StatusResponse response;
  (void)Stub<v1::Admin>(channel)->Status(&context, {}, &response);  // on the clients' socket it is refused
}

void Operators(const std::shared_ptr<grpc::Channel>& channel) {
  auto stub = Stub<v1::Admin>(channel);
  {
    Context context;
    v1::MetricsResponse response;
    EXPECT_TRUE(stub->Metrics(&context, {}, &response).ok());
  }
  {
    Context context;
    v1::CancelRequest request;
    v1::CancelResponse response;
    request.set_call_id("none");
    EXPECT_FALSE(stub->Cancel(&context, request, &response).ok());
  }
  Context context;
  v1::SetLogLevelRequest request;
  v1::SetLogLevelResponse response;
  request.set_level("error");
  EXPECT_TRUE(stub->SetLogLevel(&context, request, &response).ok());
}

void Watch(const std::shared_ptr<grpc::Channel>& channel) {
  Context context;
  auto stub = Stub<v1::Admin>(channel);
  auto reader = stub->Watch(&context, {});
  reader->WaitForInitialMetadata();
  context.TryCancel();
  (void)reader->Finish();
}

void Health(const std::shared_ptr<grpc::Channel>& channel) {
  auto stub = Stub<grpc::health::v1::Health>(channel);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("dirty.v1.Arbiter");
  Context checking, watching;
  grpc::health::v1::HealthCheckResponse response;
  EXPECT_TRUE(stub->Check(&checking, request, &response).ok());
  auto reader = stub->Watch(&watching, request);
  EXPECT_TRUE(reader->Read(&response));
  watching.TryCancel();
  (void)reader->Finish();
}

void Reflection(const std::shared_ptr<grpc::Channel>& channel) {
  Context context;
  auto stub = Stub<grpc::reflection::v1alpha::ServerReflection>(channel);
  auto stream = stub->ServerReflectionInfo(&context);
  grpc::reflection::v1alpha::ServerReflectionRequest list, symbol;
  list.set_list_services("");
  symbol.set_file_containing_symbol("dirty.v1.Arbiter");
  stream->Write(list);
  stream->Write(symbol);
  stream->WritesDone();
  for (grpc::reflection::v1alpha::ServerReflectionResponse response; stream->Read(&response);) {
  }
  EXPECT_TRUE(stream->Finish().ok());
}

void Record(Dirtyd& dirtyd, const std::string& folder) {
  struct Kind {
    const char* name;  // what is before the "-" is the socket
    void (*converse)(const std::shared_ptr<grpc::Channel>&);
  };
  static constexpr Kind kKinds[] = {
      {"client-execute", Execute},
      {"client-execute-wrong", ExecuteWrong},
      {"client-execute-stream", ExecuteStream},
      {"client-session", Session},
      {"client-status", Status},
      {"client-health", Health},
      {"client-reflection", Reflection},
      {"admin-status", Status},
      {"admin-operators", Operators},
      {"admin-watch", Watch},
      {"admin-health", Health},
      {"admin-reflection", Reflection},
  };
  std::filesystem::create_directories(folder);
  for (const Kind& kind : kKinds) {
    const bool admin = absl::StartsWith(kind.name, "admin");
    const std::string path = dirtyd.folder() / kind.name;
    Recorder recorder(path, admin ? dirtyd.admin_socket() : dirtyd.socket());
    kind.converse(ChannelTo(path, admin));
    std::ofstream(folder + "/" + kind.name, std::ios::binary) << recorder.Bytes();
  }
}

// --- The test ---

struct Corpus {
  std::vector<Conversation> client, admin;
};

Corpus ReadCorpus() {
  std::map<std::string, Conversation> sorted;
  for (const auto& entry : std::filesystem::directory_iterator(DIRTY_FUZZ_CORPUS)) {
    sorted[entry.path().filename()] = Conversation::Parse(integration::ReadText(entry.path()));
  }
  Corpus corpus;
  for (auto& [name, conversation] : sorted) {
    (absl::StartsWith(name, "admin") ? corpus.admin : corpus.client).push_back(std::move(conversation));
  }
  return corpus;
}

void ExpectItServes(Dirtyd& dirtyd) {
  ASSERT_TRUE(dirtyd.process().running()) << "dirtyd has ended";
  Context context;
  v1::ExecuteResponse response;
  const grpc::Status status =
      dirtyd.NewArbiterStub()->Execute(&context, Request("echo", "[\"still here\"]"), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.result(), "\"still here\"");
  dirtyd.ExpectCountersAddUp();
}

TEST(Http2, WrongBytesHurtNobodyElse) {
  Dirtyd dirtyd({kApp, "--workers", "2"});
  if (!flags.record.empty()) return Record(dirtyd, flags.record);
  const Corpus corpus = ReadCorpus();
  ASSERT_FALSE(corpus.client.empty() || corpus.admin.empty());

  // What stays after the first connection of each kind, stays.
  for (const Conversation& proper : corpus.client) ASSERT_TRUE(Converse(dirtyd.socket(), proper.Bytes()));
  for (const Conversation& proper : corpus.admin) ASSERT_TRUE(Converse(dirtyd.admin_socket(), proper.Bytes()));
  ExpectItServes(dirtyd);
  auto back = [&](size_t descriptors) { return integration::Descriptors(dirtyd.pid()) <= descriptors; };
  const size_t before = integration::DescriptorsAtRest(dirtyd.pid());
  const size_t resident = integration::ResidentBytes(dirtyd.pid());

  const absl::Time end = flags.seconds == 0 ? absl::InfiniteFuture() : absl::Now() + absl::Seconds(flags.seconds);
  uint64_t bytes_sent = 0, checked = flags.first, i = flags.first;
  for (bool more = true; more && !testing::Test::HasFailure(); ++i) {
    std::seed_seq numbers{flags.seed, i};
    std::mt19937_64 random(numbers);
    const bool admin = random() % 3 == 0;
    const std::vector<Conversation>& all = admin ? corpus.admin : corpus.client;
    const std::string bytes = Mutate(all[random() % all.size()], all, random);
    bytes_sent += bytes.size();
    if (!flags.keep.empty()) {
      std::ofstream(absl::StrCat(flags.keep, "/", admin ? "admin-" : "client-", i), std::ios::binary) << bytes;
    }
    EXPECT_TRUE(Converse(admin ? dirtyd.admin_socket() : dirtyd.socket(), bytes))
        << "input " << i << ": its connection is not closed";
    more = flags.seconds == 0 ? i + 1 < flags.first + flags.inputs : absl::Now() < end;
    if (more && (i + 1) % kBetweenChecks != 0) continue;
    ExpectItServes(dirtyd);
    if (!testing::Test::HasFailure()) checked = i + 1;
  }
  if (testing::Test::HasFailure()) {
    printf("to see it again: --seed %llu --first %llu --inputs %llu\n", static_cast<unsigned long long>(flags.seed),
           static_cast<unsigned long long>(checked), static_cast<unsigned long long>(i - checked));
    return;
  }
  EXPECT_TRUE(integration::WaitUntil([&] { return back(before); }))
      << integration::Descriptors(dirtyd.pid()) << " descriptors, and " << before << " before";
  const v1::StatusResponse status = dirtyd.Status();
  for (const v1::AppStatus& app : status.apps()) EXPECT_EQ(app.queued() + app.running(), 0u) << app.ShortDebugString();
  EXPECT_EQ(status.exits_size(), 0) << status.exits(0).ShortDebugString();
  printf("seed %llu: %llu inputs, %llu bytes, resident %zu -> %zu KiB\n", static_cast<unsigned long long>(flags.seed),
         static_cast<unsigned long long>(i - flags.first), static_cast<unsigned long long>(bytes_sent), resident >> 10,
         integration::ResidentBytes(dirtyd.pid()) >> 10);
}

bool ReadFlags(int argc, char** argv) {
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) return false;
    const absl::string_view name = argv[i];
    if (name == "--keep" || name == "--record") {
      (name == "--keep" ? flags.keep : flags.record) = argv[i + 1];
      continue;
    }
    uint64_t* number = name == "--seed"      ? &flags.seed
                       : name == "--first"   ? &flags.first
                       : name == "--inputs"  ? &flags.inputs
                       : name == "--seconds" ? &flags.seconds
                                             : nullptr;
    if (number == nullptr || !absl::SimpleAtoi(argv[i + 1], number)) return false;
  }
  return true;
}

}  // namespace
}  // namespace dirty::fuzz

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!dirty::fuzz::ReadFlags(argc, argv)) {
    fprintf(stderr,
            "usage: fuzz_http2 [--seed N] [--first N] [--inputs N] [--seconds N] [--keep FOLDER] | --record FOLDER\n");
    return 2;
  }
  return RUN_ALL_TESTS();
}
