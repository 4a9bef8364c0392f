#include "server/rpc/reflection.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/loop/check.h"

namespace dirty {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FieldDescriptorProto;
using google::protobuf::FileDescriptor;
using google::protobuf::FileDescriptorProto;

// No name of a file or symbol is longer; answers repeat the question.
constexpr size_t kLongestRequest = 64 * 1024;

// The two versions differ in nothing but their package.
struct V1 {
  using Service = grpc::reflection::v1::ServerReflection::AsyncService;
  using Request = grpc::reflection::v1::ServerReflectionRequest;
  using Response = grpc::reflection::v1::ServerReflectionResponse;
};
struct V1Alpha {
  using Service = grpc::reflection::v1alpha::ServerReflection::AsyncService;
  using Request = grpc::reflection::v1alpha::ServerReflectionRequest;
  using Response = grpc::reflection::v1alpha::ServerReflectionResponse;
};

template <typename Response>
void SetError(Response& response, grpc::StatusCode code, std::string message) {
  response.mutable_error_response()->set_error_code(code);
  response.mutable_error_response()->set_error_message(std::move(message));
}

// Appends `file`, then what it imports, each once.
template <typename Response>
void AddFile(const FileDescriptor* file, absl::flat_hash_set<const FileDescriptor*>& seen, Response& response) {
  if (!seen.insert(file).second) return;
  FileDescriptorProto proto;
  file->CopyTo(&proto);
  proto.SerializeToString(response.mutable_file_descriptor_response()->add_file_descriptor_proto());
  for (int i = 0; i < file->dependency_count(); ++i) AddFile(file->dependency(i), seen, response);
}

template <typename Response>
void SetFile(const FileDescriptor* file, absl::string_view what, Response& response) {
  if (file == nullptr) {
    SetError(response, grpc::StatusCode::NOT_FOUND, absl::StrCat(what, " is not known here"));
    return;
  }
  absl::flat_hash_set<const FileDescriptor*> seen;
  AddFile(file, seen, response);
}

// Details of errors may hold a google.rpc.RetryInfo, of which we have a twin of our own package only (call.proto). Who
// shows details asks for it by the name that they have.
void AddRetryInfo(DescriptorPool& pool) {
  if (pool.FindMessageTypeByName("google.rpc.RetryInfo") != nullptr) return;  // somebody's library brings it
  FileDescriptorProto file;
  file.set_name("google/rpc/error_details.proto");
  file.set_package("google.rpc");
  file.set_syntax("proto3");
  file.add_dependency("google/protobuf/duration.proto");
  auto* message = file.add_message_type();
  message->set_name("RetryInfo");
  auto* field = message->add_field();
  field->set_name("retry_delay");
  field->set_number(1);
  field->set_label(FieldDescriptorProto::LABEL_OPTIONAL);
  field->set_type(FieldDescriptorProto::TYPE_MESSAGE);
  field->set_type_name(".google.protobuf.Duration");
  DIRTY_CHECK(pool.BuildFile(file) != nullptr, "google.rpc.RetryInfo cannot be described");
}

}  // namespace

struct ReflectionService::Catalogue {
  Catalogue(std::vector<std::string> services, const DescriptorPool* generated)
      : names(std::move(services)), pool(generated) {
    AddRetryInfo(pool);
  }

  const std::vector<std::string> names;
  DescriptorPool pool;  // the generated one, and what has no code here

  // Answers response.original_request().
  template <typename Response>
  void Answer(Response& response) const {
    const auto& request = response.original_request();
    using Request = std::decay_t<decltype(request)>;
    switch (request.message_request_case()) {
      case Request::kFileByFilename:
        SetFile(pool.FindFileByName(request.file_by_filename()), request.file_by_filename(), response);
        return;
      case Request::kFileContainingSymbol:
        SetFile(pool.FindFileContainingSymbol(request.file_containing_symbol()), request.file_containing_symbol(),
                response);
        return;
      case Request::kFileContainingExtension: {
        const auto& extension = request.file_containing_extension();
        const Descriptor* type = pool.FindMessageTypeByName(extension.containing_type());
        const FieldDescriptor* field =
            type == nullptr ? nullptr : pool.FindExtensionByNumber(type, extension.extension_number());
        SetFile(field == nullptr ? nullptr : field->file(),
                absl::StrCat("extension ", extension.extension_number(), " of ", extension.containing_type()),
                response);
        return;
      }
      case Request::kAllExtensionNumbersOfType: {
        const std::string& name = request.all_extension_numbers_of_type();
        const Descriptor* type = pool.FindMessageTypeByName(name);
        if (type == nullptr) {
          SetError(response, grpc::StatusCode::NOT_FOUND, absl::StrCat(name, " is not a message type known here"));
          return;
        }
        std::vector<const FieldDescriptor*> fields;
        pool.FindAllExtensions(type, &fields);
        auto* numbers = response.mutable_all_extension_numbers_response();
        numbers->set_base_type_name(name);
        for (const FieldDescriptor* field : fields) numbers->add_extension_number(field->number());
        std::sort(numbers->mutable_extension_number()->begin(), numbers->mutable_extension_number()->end());
        return;
      }
      case Request::kListServices:
        for (const std::string& name : names) response.mutable_list_services_response()->add_service()->set_name(name);
        return;
      case Request::MESSAGE_REQUEST_NOT_SET:
        SetError(response, grpc::StatusCode::INVALID_ARGUMENT, "the request asks for nothing that is known here");
        return;
    }
  }
};

class ReflectionService::Version {
 public:
  virtual ~Version() = default;
  virtual grpc::Service* service() = 0;
  virtual void Start(Loop& loop) = 0;
  virtual void Shutdown() = 0;
};

template <typename V>
class ReflectionService::VersionOf final : public Version {
 public:
  explicit VersionOf(const Catalogue& catalogue) : catalogue_(catalogue) {}
  ~VersionOf() override { DIRTY_CHECK(streams_.empty(), "reflection streams outlived the loop: ", streams_.size()); }

  grpc::Service* service() override { return &service_; }
  void Start(Loop& loop) override {
    loop_ = &loop;
    new Stream(this);
  }
  void Shutdown() override {
    if (std::exchange(stopping_, true)) return;
    for (Stream* stream : streams_) stream->End();
  }

 private:
  // One stream: reads a request, writes its answer, and so on; never more than one of either is under way. Deletes
  // itself when every operation came back.
  class Stream {
   public:
    explicit Stream(VersionOf* version) : version_(version), stream_(&context_) {
      version_->streams_.insert(this);
      auto* queue = version_->loop_->queue();
      version_->service_.RequestServerReflectionInfo(&context_, &stream_, queue, queue, &requested_);
    }
    ~Stream() { version_->streams_.erase(this); }

    // The server shuts down.
    void End() {
      ending_ = true;
      if (reading_) Finish();
    }

   private:
    void OnRequested(bool ok) {
      if (!ok) {
        delete this;
        return;
      }
      if (!version_->stopping_) new Stream(version_);
      Continue();
    }

    void OnRead(bool ok) {
      reading_ = false;
      if (finishing_) {
        MaybeDelete();
      } else if (!ok) {
        Finish();  // the client has said all it had to say, or has left
      } else {
        Answer();
      }
    }

    void OnWritten(bool ok) {
      if (ok) {
        Continue();
      } else {
        Finish();
      }
    }

    void OnFinished(bool) {
      finished_came_ = true;
      MaybeDelete();
    }

    void Continue() {
      if (ending_) {
        Finish();
        return;
      }
      reading_ = true;
      stream_.Read(&request_, &read_);
    }

    void Answer() {
      typename V::Response response;
      if (request_.ByteSizeLong() > kLongestRequest) {
        SetError(response, grpc::StatusCode::INVALID_ARGUMENT, "the request is too long");
      } else {
        response.set_valid_host(request_.host());
        response.mutable_original_request()->Swap(&request_);
        version_->catalogue_.Answer(response);
      }
      stream_.Write(response, &written_);
    }

    void Finish() {
      finishing_ = true;
      stream_.Finish(
          ending_ ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "dirtyd is shutting down") : grpc::Status::OK,
          &finished_);
    }

    void MaybeDelete() {
      if (!reading_ && finished_came_) delete this;
    }

    VersionOf* version_;
    grpc::ServerContext context_;
    typename V::Request request_;
    grpc::ServerAsyncReaderWriter<typename V::Response, typename V::Request> stream_;
    bool ending_ = false;
    bool reading_ = false;
    bool finishing_ = false;
    bool finished_came_ = false;
    MemberCompletion<Stream> requested_{this, &Stream::OnRequested};
    MemberCompletion<Stream> read_{this, &Stream::OnRead};
    MemberCompletion<Stream> written_{this, &Stream::OnWritten};
    MemberCompletion<Stream> finished_{this, &Stream::OnFinished};
  };

  const Catalogue& catalogue_;
  typename V::Service service_;
  Loop* loop_ = nullptr;
  bool stopping_ = false;
  absl::flat_hash_set<Stream*> streams_;
};

ReflectionService::ReflectionService(std::vector<std::string> names, const DescriptorPool* pool)
    : catalogue_(std::make_unique<Catalogue>(std::move(names), pool)) {
  // Loads the services' files: the pool finds values of a top-level enum only in files that are loaded.
  for (const std::string& name : catalogue_->names) {
    DIRTY_CHECK(pool->FindServiceByName(name) != nullptr, "no such service in the descriptor pool: ", name);
  }
  versions_.push_back(std::make_unique<VersionOf<V1>>(*catalogue_));
  versions_.push_back(std::make_unique<VersionOf<V1Alpha>>(*catalogue_));
}

ReflectionService::~ReflectionService() = default;

std::vector<grpc::Service*> ReflectionService::services() {
  std::vector<grpc::Service*> services;
  for (auto& version : versions_) services.push_back(version->service());
  return services;
}

void ReflectionService::Start(Loop& loop) {
  for (auto& version : versions_) version->Start(loop);
}

void ReflectionService::Shutdown() {
  for (auto& version : versions_) version->Shutdown();
}

}  // namespace dirty
