#include "worker/native/native_host.h"

#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <typeinfo>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/native/arguments.h"
#include "worker/native/shared_library.h"
#include "worker/runtime/failure.h"
#include "worker/runtime/json_text.h"
#include "worker/runtime/mutex.h"

namespace dirty::worker {
namespace {

// The reader of a chunk wants less, or this call has no reader: what Emit throws, told from what apps throw by its
// status.
std::string Demangle(const std::type_info& type) {
  int status;
  char* name = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string demangled = name == nullptr ? type.name() : name;
  free(name);
  return demangled;
}

// The exception that is being handled, whatever it is, as an error. `call` is null during Init and Close.
v1::Error CurrentError(const Call* call) {
  try {
    throw;
  } catch (const Cancelled&) {
    if (call != nullptr) return CancelledError(call->cancel_reason());
    return AppError("dirty::Cancelled", "thrown outside of a call");
  } catch (const Error& error) {
    return AppError(error.type(), error.what());
  } catch (const std::exception& error) {
    return AppError(Demangle(typeid(error)), error.what());
  } catch (...) {
    std::string type = Demangle(*abi::__cxa_current_exception_type());
    return AppError(type, absl::StrCat("the app threw a value of type ", type, ", which says nothing more"));
  }
}

// What an app sees of its call.
class NativeContext final : public Context {
 public:
  explicit NativeContext(Call& call) : call_(call) {}

  const std::string& call_id() const override { return call_.call_id(); }
  const std::string& traceparent() const override { return call_.traceparent(); }
  std::chrono::steady_clock::time_point deadline() const override { return call_.deadline(); }
  bool cancelled() const override { return call_.cancelled(); }

  std::string_view Bytes(const Json& reference) const override {
    absl::StatusOr<int> number = AttachmentNumber(reference, "call", call_.request().attachments_size());
    if (!number.ok()) {
      throw Error("dirty::BadReference", absl::StrCat("the reference given to Bytes ", number.status().message()));
    }
    return call_.request().attachments(*number);
  }

  Json Attach(std::string bytes) override {
    MutexLock lock(mutex_);
    attachments_.Add(std::move(bytes));
    return {{"$attachment", attachments_.size() - 1}};
  }

  void Emit(Json value) override {
    v1::Chunk chunk;
    *chunk.mutable_attachments() = Take();
    *chunk.mutable_value() = Write("chunk", value, chunk.attachments_size());
    absl::Status status = call_.Emit(std::move(chunk));
    if (absl::IsCancelled(status)) throw Cancelled();
    if (!status.ok()) throw Error("dirty::Error", std::string(status.message()));
  }

  // The text of `value`; throws Error.
  std::string Write(absl::string_view what, const Json& value, int attachments) const {
    absl::StatusOr<std::string> text = WriteJson(what, value, attachments, DepthLimit(call_.limits().max_json_depth));
    if (!text.ok()) throw Error("dirty::BadResult", std::string(text.status().message()));
    return *std::move(text);
  }

  // What was attached and not emitted.
  google::protobuf::RepeatedPtrField<std::string> Take() {
    MutexLock lock(mutex_);
    return std::exchange(attachments_, {});
  }

 private:
  Call& call_;
  mutable Mutex mutex_;
  google::protobuf::RepeatedPtrField<std::string> attachments_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::string NativeHost::Describe() const { return "native/" DIRTY_VERSION; }

LoadResult NativeHost::Load(const v1::AppSpec& spec) {
  try {
    std::vector<std::string> searched(spec.searched().begin(), spec.searched().end());
    absl::StatusOr<std::unique_ptr<App>> app = MakeApp(spec.path(), searched);
    if (!app.ok()) return {.error = AppError("dirty::LoadError", app.status().message())};
    (*app)->Init();
    apps_[spec.name()] = app->get();
    loaded_.push_back({spec.name(), *std::move(app)});
    return {};
  } catch (...) {
    return {.error = CurrentError(nullptr)};
  }
}

void NativeHost::Execute(Call& call, v1::CallDone& done) {
  auto app = apps_.find(call.request().app());
  if (app == apps_.end()) {
    *done.mutable_error() =
        AppError("dirty::NotLoaded", absl::StrCat("this worker did not load ", call.request().app()));
    return;
  }
  absl::StatusOr<Arguments> arguments = ParseArguments(call.request());
  if (!arguments.ok()) {
    *done.mutable_error() = InvalidRequestError(arguments.status().message());
    return;
  }
  try {
    NativeContext context(call);
    Json result = app->second->Call(call.request().action(), arguments->args, arguments->kwargs, context);
    v1::ExecuteResponse& response = *done.mutable_response();
    if (call.streams() && result.is_null()) return;  // all of it was emitted
    *response.mutable_attachments() = context.Take();
    *response.mutable_result() = context.Write("result", result, response.attachments_size());
  } catch (...) {
    *done.mutable_error() = CurrentError(&call);
  }
}

void NativeHost::CloseAll() {
  for (; !loaded_.empty(); loaded_.pop_back()) {
    LoadedApp& last = loaded_.back();
    try {
      last.app->Close();
      last.app.reset();
    } catch (...) {
      v1::Error error = CurrentError(nullptr);
      fprintf(stderr, "dirty-worker: Close of %s threw %s: %s\n", last.name.c_str(), error.exception_type().c_str(),
              error.message().c_str());
    }
  }
}

}  // namespace dirty::worker
