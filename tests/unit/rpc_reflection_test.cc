#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>

#include "dirty/v1/admin.pb.h"
#include "dirty/v1/arbiter.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "tests/unit/rpc_fixture.h"

namespace dirty {

const google::protobuf::DescriptorPool& RpcTest::Pool() {
  static const auto* pool = [] {
    // In a static library only what is used is linked, and known to the pool.
    EXPECT_NE(v1::SessionHello::descriptor(), nullptr);
    EXPECT_NE(v1::StatusRequest::descriptor(), nullptr);
    google::protobuf::FileDescriptorProto file;
    file.set_name("test/extensions.proto");
    file.set_package("test");
    auto* base = file.add_message_type();
    base->set_name("Base");
    auto* range = base->add_extension_range();
    range->set_start(100);
    range->set_end(200);
    for (int number : {150, 120}) {
      auto* extension = file.add_extension();
      extension->set_name(absl::StrCat("extra_", number));
      extension->set_number(number);
      extension->set_extendee(".test.Base");
      extension->set_type(google::protobuf::FieldDescriptorProto::TYPE_INT32);
      extension->set_label(google::protobuf::FieldDescriptorProto::LABEL_OPTIONAL);
    }
    auto* made = new google::protobuf::DescriptorPool(google::protobuf::DescriptorPool::generated_pool());
    EXPECT_NE(made->BuildFile(file), nullptr);
    return made;
  }();
  return *pool;
}

namespace {

using testing::ElementsAre;

template <typename Stub, typename Request_, typename Response_>
struct Version {
  using Request = Request_;
  using Response = Response_;
  static auto NewStub(std::shared_ptr<grpc::Channel> channel) { return Stub::NewStub(std::move(channel)); }
};
using V1 = Version<grpc::reflection::v1::ServerReflection, grpc::reflection::v1::ServerReflectionRequest,
                   grpc::reflection::v1::ServerReflectionResponse>;
using V1Alpha = Version<grpc::reflection::v1alpha::ServerReflection, grpc::reflection::v1alpha::ServerReflectionRequest,
                        grpc::reflection::v1alpha::ServerReflectionResponse>;

template <typename V>
class ReflectionTest : public RpcTest {
 protected:
  using Request = typename V::Request;
  using Response = typename V::Response;

  void SetUp() override {
    RpcTest::SetUp();
    channel_ = Connect(client_path_);
    stub_ = V::NewStub(channel_);
    SetDeadline(context_);
    stream_ = stub_->ServerReflectionInfo(&context_);
  }
  void TearDown() override {
    context_.TryCancel();
    stream_.reset();
    RpcTest::TearDown();
  }

  Response Ask(const Request& request) {
    Response response;
    EXPECT_TRUE(stream_->Write(request));
    EXPECT_TRUE(stream_->Read(&response));
    EXPECT_EQ(response.original_request().SerializeAsString(), request.SerializeAsString());
    EXPECT_EQ(response.valid_host(), request.host());
    return response;
  }

  Response AskSymbol(const std::string& symbol) {
    Request request;
    request.set_file_containing_symbol(symbol);
    return Ask(request);
  }

  // The names of the files of an answer, in their order.
  static std::vector<std::string> Files(const Response& response) {
    std::vector<std::string> names;
    for (const std::string& bytes : response.file_descriptor_response().file_descriptor_proto()) {
      google::protobuf::FileDescriptorProto file;
      EXPECT_TRUE(file.ParseFromString(bytes));
      names.push_back(file.name());
    }
    return names;
  }

  std::shared_ptr<grpc::Channel> channel_;
  decltype(V::NewStub(nullptr)) stub_;
  grpc::ClientContext context_;
  decltype(stub_->ServerReflectionInfo(&context_)) stream_;
};

using Versions = testing::Types<V1, V1Alpha>;
TYPED_TEST_SUITE(ReflectionTest, Versions);

TYPED_TEST(ReflectionTest, ListsTheServices) {
  typename TypeParam::Request request;
  request.set_host("here");
  request.set_list_services("*");
  std::vector<std::string> names;
  auto response = this->Ask(request);
  for (const auto& service : response.list_services_response().service()) names.push_back(service.name());
  EXPECT_THAT(names, ElementsAre("dirty.v1.Arbiter", "dirty.v1.Admin", "grpc.health.v1.Health"));
}

TYPED_TEST(ReflectionTest, FindsFilesWithTheirImports) {
  typename TypeParam::Request request;
  request.set_file_by_filename("dirty/v1/arbiter.proto");
  auto files = this->Files(this->Ask(request));
  EXPECT_EQ(files.at(0), "dirty/v1/arbiter.proto");
  EXPECT_THAT(files, testing::IsSupersetOf({"dirty/v1/call.proto", "google/protobuf/duration.proto"}));
  EXPECT_EQ(std::set(files.begin(), files.end()).size(), files.size()) << "one came twice";
}

TYPED_TEST(ReflectionTest, FindsEveryKindOfSymbol) {
  for (const char* symbol :
       {"dirty.v1.Admin", "dirty.v1.Admin.Status", "dirty.v1.WorkerStatus", "dirty.v1.WorkerStatus.State",
        "dirty.v1.WorkerStatus.DRAINING", "dirty.v1.WorkerStatus.pid"}) {
    auto files = this->Files(this->AskSymbol(symbol));
    ASSERT_FALSE(files.empty()) << symbol;
    EXPECT_EQ(files[0], "dirty/v1/admin.proto") << symbol;
  }
}

TYPED_TEST(ReflectionTest, FindsValuesOfATopLevelEnum) {
  const auto* reason = google::protobuf::DescriptorPool::generated_pool()->FindEnumTypeByName("dirty.v1.Reason");
  ASSERT_NE(reason, nullptr);
  EXPECT_THAT(this->Files(this->AskSymbol(reason->value(1)->full_name())), testing::Contains("dirty/v1/call.proto"));
}

TYPED_TEST(ReflectionTest, AClientCanBuildWhatItWasSent) {
  google::protobuf::DescriptorPool pool;
  auto response = this->AskSymbol("dirty.v1.Admin");
  const auto& files = response.file_descriptor_response().file_descriptor_proto();
  for (int i = files.size() - 1; i >= 0; --i) {
    google::protobuf::FileDescriptorProto file;
    ASSERT_TRUE(file.ParseFromString(files[i]));
    ASSERT_NE(pool.BuildFile(file), nullptr) << file.name();
  }
  ASSERT_NE(pool.FindServiceByName("dirty.v1.Admin"), nullptr);
  EXPECT_NE(pool.FindServiceByName("dirty.v1.Admin")->FindMethodByName("Status"), nullptr);
}

// Of the details of QUEUE_FULL, which no code of ours has by this name.
TYPED_TEST(ReflectionTest, FindsTheRetryDelayOfGoogle) {
  auto files = this->Files(this->AskSymbol("google.rpc.RetryInfo"));
  EXPECT_THAT(files, testing::ElementsAre("google/rpc/error_details.proto", "google/protobuf/duration.proto"));
}

TYPED_TEST(ReflectionTest, FindsExtensions) {
  typename TypeParam::Request request;
  request.mutable_file_containing_extension()->set_containing_type("test.Base");
  request.mutable_file_containing_extension()->set_extension_number(120);
  EXPECT_THAT(this->Files(this->Ask(request)), ElementsAre("test/extensions.proto"));
  request.set_all_extension_numbers_of_type("test.Base");
  auto response = this->Ask(request);
  EXPECT_EQ(response.all_extension_numbers_response().base_type_name(), "test.Base");
  EXPECT_THAT(response.all_extension_numbers_response().extension_number(), ElementsAre(120, 150));
}

TYPED_TEST(ReflectionTest, AnswersErrorsAndGoesOn) {
  typename TypeParam::Request file, symbol, extension, no_type, numbers, nothing, huge;
  file.set_file_by_filename("no/such.proto");
  symbol.set_file_containing_symbol("dirty.v1.Nobody");
  extension.mutable_file_containing_extension()->set_containing_type("test.Base");
  extension.mutable_file_containing_extension()->set_extension_number(199);
  no_type.mutable_file_containing_extension()->set_containing_type("test.Nobody");
  numbers.set_all_extension_numbers_of_type("test.Nobody");
  for (const auto& request : {file, symbol, extension, no_type, numbers}) {
    auto response = this->Ask(request);
    EXPECT_EQ(response.error_response().error_code(), grpc::StatusCode::NOT_FOUND) << request.ShortDebugString();
    EXPECT_NE(response.error_response().error_message(), "");
  }
  EXPECT_EQ(this->Ask(nothing).error_response().error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  huge.set_file_containing_symbol(std::string(1000000, 'x'));
  typename TypeParam::Response response;
  ASSERT_TRUE(this->stream_->Write(huge));
  ASSERT_TRUE(this->stream_->Read(&response));
  EXPECT_EQ(response.error_response().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_LT(response.ByteSizeLong(), 1000u);

  // And still serves.
  EXPECT_FALSE(this->Files(this->AskSymbol("dirty.v1.Arbiter")).empty());
}

TYPED_TEST(ReflectionTest, EndsWithTheClient) {
  this->AskSymbol("dirty.v1.Arbiter");
  ASSERT_TRUE(this->stream_->WritesDone());
  typename TypeParam::Response response;
  EXPECT_FALSE(this->stream_->Read(&response));
  EXPECT_TRUE(this->stream_->Finish().ok());
}

TYPED_TEST(ReflectionTest, ShutdownEndsStreams) {
  this->AskSymbol("dirty.v1.Arbiter");
  this->OnLoop([&] { this->reflection_->Shutdown(); });
  typename TypeParam::Response response;
  EXPECT_FALSE(this->stream_->Read(&response));
  EXPECT_EQ(this->stream_->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TYPED_TEST(ReflectionTest, StreamsDoNotWaitForEachOther) {
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<decltype(this->stub_->ServerReflectionInfo(nullptr))> streams;
  typename TypeParam::Request request;
  request.set_list_services("");
  for (int i = 0; i < 50; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    this->SetDeadline(*contexts.back());
    streams.push_back(this->stub_->ServerReflectionInfo(contexts.back().get()));
    ASSERT_TRUE(streams.back()->Write(request));
  }
  typename TypeParam::Response response;
  for (auto& stream : streams) ASSERT_TRUE(stream->Read(&response));
  for (auto& context : contexts) context->TryCancel();
}

}  // namespace
}  // namespace dirty
