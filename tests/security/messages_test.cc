// Messages that are not what they say, that unpack to far more than was sent, or that come byte by byte; and clients
// that connect and say nothing. dirtyd refuses or waits, its memory stays bounded, and others are served.

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <signal.h>
#include <sys/resource.h>

#include <future>

#include "absl/strings/str_cat.h"
#include "tests/integration/harness.h"
#include "tests/integration/raw_session.h"
#include "tests/security/attacker.h"
#include "tests/unit/rpc_http2.h"

namespace dirty::security {
namespace {

using grpc::StatusCode;
using integration::Context;
using integration::Dirtyd;
using integration::kMeasured;
using integration::Repetitions;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr char kEcho[] = "libfaults.so:Echo";
constexpr char kExecute[] = "/dirty.v1.Arbiter/Execute";
constexpr char kSession[] = "/dirty.v1.Arbiter/Session";
constexpr size_t kInFlight = 64 * kMiB;

v1::ExecuteRequest EchoRequest() {
  v1::ExecuteRequest request;
  request.set_app(kEcho);
  request.set_action("echo");
  request.set_args("[1]");
  return request;
}

// The answer to a message that is any bytes.
grpc::Status Send(const Dirtyd& dirtyd, const std::string& method, const grpc::ByteBuffer& message,
                  grpc_compression_algorithm compression = GRPC_COMPRESS_NONE) {
  grpc::GenericStub stub(integration::ClientChannel(dirtyd.socket()));
  Context context;
  context.set_compression_algorithm(compression);
  grpc::ByteBuffer answer;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, method, grpc::StubOptions(), &message, &answer,
                 [&](grpc::Status status) { done.set_value(std::move(status)); });
  return done.get_future().get();
}

grpc::ByteBuffer Bytes(const std::string& text) {
  grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

// So many times the same megabyte.
grpc::ByteBuffer Zeros(int megabytes) {
  const std::vector<grpc::Slice> slices(static_cast<size_t>(megabytes), grpc::Slice(std::string(kMiB, '\0')));
  return grpc::ByteBuffer(slices.data(), slices.size());
}

// --- Compression ---

class Compressed : public testing::TestWithParam<grpc_compression_algorithm> {};

// A message of 1 MB that is 1 GB when it is unpacked, which gRPC 1.51 does before it looks at its size.
TEST_P(Compressed, ABombIsRefusedBeforeItIsUnpacked) {
  Dirtyd dirtyd({kEcho, "--max_memory_in_flight", absl::StrCat(kInFlight)});
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  const size_t before = PeakBytes(dirtyd.pid());
  for (const char* method : {kExecute, "/dirty.v1.Arbiter/ExecuteStream", kSession, "/dirty.v1.Admin/Status",
                             "/grpc.health.v1.Health/Check"}) {
    SCOPED_TRACE(method);
    const int megabytes = method == std::string(kExecute) ? Repetitions(256, 32) : 4;
    const grpc::Status status = Send(dirtyd, method, Zeros(megabytes), GetParam());
    EXPECT_EQ(status.error_code(), StatusCode::UNIMPLEMENTED) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("ompression"));
  }
  const size_t peak = PeakBytes(dirtyd.pid());
  printf("[ MEMORY   ] %zu MiB before, %zu MiB at most\n", before / kMiB, peak / kMiB);
  if (kMeasured) {
    EXPECT_LE(peak, before + 64 * kMiB);
  }
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  dirtyd.Stop(SIGTERM);
}

INSTANTIATE_TEST_SUITE_P(Algorithms, Compressed, testing::Values(GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE),
                         [](const auto& one) { return one.param == GRPC_COMPRESS_GZIP ? "Gzip" : "Deflate"; });

// --- Lengths ---

TEST(Lengths, AMessageThatClaimsGigabytesTakesOnlyWhatItSends) {
  Dirtyd dirtyd({kEcho});
  const size_t before = PeakBytes(dirtyd.pid());
  std::vector<std::unique_ptr<Attacker>> attackers;
  for (const uint32_t length : {0xffffffffu, 0x80000000u, 0x7fffffffu}) {
    for (int i = 0; i < 20; ++i) {
      attackers.push_back(std::make_unique<Attacker>(dirtyd.socket()));
      const std::string start = std::string(1, '\0') + http2::Number(length) + std::string(1000, 'x');
      ASSERT_TRUE(attackers.back()->Send(http2::Preface(65535) + http2::Call(kExecute) +
                                         http2::Frame(http2::kData, 0, 1, start)));
    }
  }
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  if (kMeasured) {
    EXPECT_LE(PeakBytes(dirtyd.pid()), before + 32 * kMiB);
  }
  dirtyd.Stop(SIGTERM);
}

TEST(Lengths, AFrameLongerThanAllowedEndsItsConnection) {
  Dirtyd dirtyd({kEcho});
  for (const http2::FrameType type : {http2::kData, http2::kHeaders, http2::kSettings, http2::kPing}) {
    Attacker attacker(dirtyd.socket());
    std::string frame = http2::Frame(type, 0, type == http2::kData || type == http2::kHeaders ? 1 : 0, "");
    frame.replace(0, 3, "\xff\xff\xff");
    ASSERT_TRUE(attacker.Send(http2::Preface(65535)));
    attacker.Send(frame + std::string(1000, 'x'));
    EXPECT_TRUE(attacker.WaitClosed()) << type;
  }
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  dirtyd.Stop(SIGTERM);
}

TEST(Lengths, WhatIsNotHttp2EndsItsConnection) {
  Dirtyd dirtyd({kEcho});
  for (const std::string& text :
       {std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), std::string(100, '\0'), std::string(100, '\xff'),
        std::string("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n") + std::string(100, 'x')}) {
    for (const std::string& path : {dirtyd.socket(), dirtyd.admin_socket()}) {
      Attacker attacker(path);
      attacker.Send(text);
      EXPECT_TRUE(attacker.WaitClosed()) << text.substr(0, 20);
    }
  }
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  dirtyd.Stop(SIGTERM);
}

TEST(Lengths, WhatIsNoMessageIsRefusedAndCostsNothing) {
  Dirtyd dirtyd({kEcho});
  const size_t before = PeakBytes(dirtyd.pid());
  const std::string whole = EchoRequest().SerializeAsString();
  std::vector<std::string> messages = {
      std::string("\x0a\xff\xff\xff\xff\x0f", 6) + "app",               // app: 4 GiB - 1 long
      std::string("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11),  // app: 2^64 - 1 long
      std::string("\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", 11),  // a length that does not end
      std::string(1000, '\x0b'),                                        // groups in groups
      std::string("\x0a\x02\xc3\x28", 4),                               // app: not UTF-8
      std::string(1, '\xff'),
  };
  for (size_t size = 1; size < whole.size(); ++size) messages.push_back(whole.substr(0, size));
  for (const std::string& message : messages) {
    const grpc::Status status = Send(dirtyd, kExecute, Bytes(message));
    // A message that was cut between two fields is one, of an app that has no name or no such action.
    EXPECT_THAT(status.error_code(), AnyOf(StatusCode::INTERNAL, StatusCode::INVALID_ARGUMENT, StatusCode::NOT_FOUND,
                                           StatusCode::UNKNOWN, StatusCode::OK))
        << message.size();
  }
  if (kMeasured) {
    EXPECT_LE(PeakBytes(dirtyd.pid()), before + 32 * kMiB);
  }
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  dirtyd.Stop(SIGTERM);
}

// --- Many parts ---

// Two bytes on the wire are a string in memory, which no limit of gRPC's counts: docs/security.md has the factor.
TEST(ManyParts, EmptyAttachmentsByTheMillionAreNoMoreThanAKnownFactor) {
  Dirtyd dirtyd({kEcho, "--max_memory_in_flight", absl::StrCat(kInFlight)});
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  const size_t before = PeakBytes(dirtyd.pid());
  v1::ExecuteRequest request = EchoRequest();
  const int count = Repetitions(8'000'000, 500'000);
  for (int i = 0; i < count; ++i) request.add_attachments();
  const std::string message = request.SerializeAsString();
  const grpc::Status status = Send(dirtyd, kExecute, Bytes(message));
  const size_t peak = PeakBytes(dirtyd.pid());
  printf("[ MEMORY   ] %d attachments in %zu MiB: %d %s; %zu MiB before, %zu MiB at most\n", count,
         message.size() / kMiB, status.error_code(), status.error_message().c_str(), before / kMiB, peak / kMiB);
  if (kMeasured) {
    EXPECT_LE(peak, before + 40 * message.size());
  }
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  dirtyd.Stop(SIGTERM);
}

// --- Slow senders ---

TEST(SlowSenders, HoldUpNobodyAndAreServedOnceTheyAreDone) {
  Dirtyd dirtyd({kEcho});
  const std::string call =
      http2::Preface(65535) + http2::Call(kExecute) + http2::Message(EchoRequest().SerializeAsString(), true);
  // One for each byte: whatever they have not sent yet is waited for.
  std::vector<std::unique_ptr<Attacker>> attackers;
  for (size_t size = 0; size < call.size(); ++size) {
    attackers.push_back(std::make_unique<Attacker>(dirtyd.socket()));
    for (char byte : call.substr(0, size)) ASSERT_TRUE(attackers.back()->Send(absl::string_view(&byte, 1)));
  }
  ExpectOthersAreServed(dirtyd, kEcho);
  const uint64_t served = dirtyd.App(kEcho).counters().ok();
  for (size_t size = 0; size < call.size(); ++size) ASSERT_TRUE(attackers[size]->Send(call.substr(size))) << size;
  EXPECT_TRUE(integration::WaitUntil([&] { return dirtyd.App(kEcho).counters().ok() == served + call.size(); }))
      << dirtyd.App(kEcho).counters().ok();
  dirtyd.Stop(SIGTERM);
}

TEST(SlowSenders, DoNotHoldUpTheEnd) {
  Dirtyd dirtyd({kEcho, "--graceful_timeout", "1s"});
  Attacker silent(dirtyd.socket()), preface(dirtyd.socket()), call(dirtyd.socket()), message(dirtyd.socket());
  ASSERT_TRUE(preface.Send("PRI * HT"));
  ASSERT_TRUE(call.Send(http2::Preface(65535) + http2::Frame(http2::kHeaders, 0, 1, http2::CallHeaders(kExecute))));
  ASSERT_TRUE(message.Send(http2::Preface(65535) + http2::Call(kExecute) +
                           http2::Frame(http2::kData, 0, 1, std::string("\0\0\0\1\0half", 9))));
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  const absl::Time start = absl::Now();
  dirtyd.Stop(SIGTERM);
  if (kMeasured) {
    EXPECT_LE(absl::Now() - start, absl::Seconds(4));
  }
}

// --- Ten thousand connections ---

TEST(TenThousandConnections, AreIdleAndOthersAreServed) {
  // Two descriptors for each in dirtyd, one here.
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  const size_t wanted = static_cast<size_t>(Repetitions(10'000, 500));
  const size_t possible = std::min(wanted, (limit.rlim_max - 500) / 2);
  if (possible < wanted) {
    printf("[ REPEATS  ] %zu instead of %zu connections: the limit of open files is %zu\n", possible, wanted,
           static_cast<size_t>(limit.rlim_max));
  }
  Dirtyd dirtyd({kEcho});
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  const size_t descriptors = integration::DescriptorsAtRest(dirtyd.pid());
  const size_t memory = integration::ResidentBytes(dirtyd.pid());
  {
    // Each has said who it is, and its settings were answered: it is a connection as a client has it.
    std::vector<std::unique_ptr<Attacker>> idle;
    for (size_t i = 0; i < possible; ++i) {
      idle.push_back(std::make_unique<Attacker>(dirtyd.socket()));
      ASSERT_TRUE(idle.back()->connected()) << i;
      ASSERT_TRUE(idle.back()->Send(http2::Preface(65535))) << i;
    }
    for (const auto& one : idle) {
      ASSERT_TRUE(one->HearUntil([](absl::string_view heard) { return heard.size() >= 9; }));
    }
    const size_t grown = integration::ResidentBytes(dirtyd.pid()) - memory;
    printf("[ MEMORY   ] %zu idle connections: %.1f KiB each\n", possible,
           static_cast<double>(grown) / 1024 / static_cast<double>(possible));
    if (kMeasured) {
      EXPECT_LE(grown / possible, size_t{48} << 10);
    }
    ExpectOthersAreServed(dirtyd, kEcho);
    EXPECT_GE(integration::Descriptors(dirtyd.pid()), 2 * possible);
  }
  EXPECT_TRUE(integration::WaitUntil([&] { return integration::Descriptors(dirtyd.pid()) <= descriptors; }))
      << descriptors << ", then " << integration::Descriptors(dirtyd.pid());
  ExpectOthersAreServed(dirtyd, kEcho, 10);
  dirtyd.Stop(SIGTERM);
}

}  // namespace
}  // namespace dirty::security
