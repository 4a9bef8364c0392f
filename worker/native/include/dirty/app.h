// Write an app for dirty-worker: derive from dirty::App, register it, build a shared library.
//
//   #include <dirty/app.h>
//
//   class Greeter : public dirty::App {
//    public:
//     dirty::Json Call(std::string_view action, const dirty::Json& args, const dirty::Json&, dirty::Context&) override
//     {
//       if (action == "greet") return "hello " + args.at(0).get<std::string>();
//       throw dirty::Error("UnknownAction", "Greeter has no action '" + std::string(action) + "'");
//     }
//   };
//   DIRTY_APP(Greeter)
//
//   add_library(greeter MODULE greeter.cc)
//   target_link_libraries(greeter PRIVATE dirty::app)
//
// The app is then `libgreeter.so:Greeter`. This header needs C++17, the standard library and nlohmann::json only: an
// app shares no symbol of gRPC, Protocol Buffers or abseil with the program that loads it.
#pragma once

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Grows when the layout or meaning of anything here changes.
#define DIRTY_APP_VERSION 2

// These types cross the border between the app and its loader, whatever visibility the app is compiled with.
#define DIRTY_APP_API __attribute__((visibility("default")))

namespace dirty {

using Json = nlohmann::json;

// Throw it (or anything else) to fail a call: the caller gets APP_ERROR with this type and message.
struct DIRTY_APP_API Error : std::runtime_error {
  Error(std::string type, std::string message) : std::runtime_error(std::move(message)), type_(std::move(type)) {}
  const std::string& type() const { return type_; }

 private:
  std::string type_;
};

// Thrown by ThrowIfCancelled and Emit. Let it pass: the call then ends as CANCELLED.
struct DIRTY_APP_API Cancelled : std::exception {
  const char* what() const noexcept override { return "the call was cancelled"; }
};

// What a call may ask and say while it runs. Valid until App::Call returns. Thread-safe.
//
// Binary values travel beside the JSON: {"$attachment": N} in arguments and results stands for one.
class DIRTY_APP_API Context {
 public:
  virtual ~Context() = default;

  // The arbiter's id of this call: put it into what the app logs.
  virtual const std::string& call_id() const = 0;

  // The caller's W3C trace context, such as "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"; empty if it gave
  // none. dirty::client sends it by itself with what is called on the thread that runs App::Call.
  virtual const std::string& traceparent() const = 0;

  // When the arbiter stops waiting for this call; time_point::max() if it never does. The worker is killed some time
  // later if the call still runs.
  virtual std::chrono::steady_clock::time_point deadline() const = 0;

  // Whether nobody waits for this call any more: the client left, the deadline passed, an operator cancelled it.
  // Long work asks now and then.
  virtual bool cancelled() const = 0;
  void ThrowIfCancelled() const {
    if (cancelled()) throw Cancelled();
  }

  // The bytes that a reference in args or kwargs stands for, not copied; valid until App::Call returns. Throws Error
  // if `reference` is not one.
  virtual std::string_view Bytes(const Json& reference) const = 0;

  // Adds a binary value to the result, or to the chunk that the next Emit sends, and returns the reference to put
  // there.
  virtual Json Attach(std::string bytes) = 0;

  // Sends one value of a streamed result. Waits while the reader is behind; throws Cancelled when it left, and Error
  // when the caller did not ask for a stream.
  virtual void Emit(Json chunk) = 0;
};

// An app. One instance lives in each worker that loads it.
class DIRTY_APP_API App {
 public:
  virtual ~App() = default;

  // Once, before any call. What it throws is reported as the reason why this app cannot start.
  virtual void Init() {}

  // Runs one call; up to `threads` (of the configuration) at once, on different threads. `args` is an array, `kwargs`
  // an object. The return value is the result; for a streaming call it is one more chunk, unless it is null.
  virtual Json Call(std::string_view action, const Json& args, const Json& kwargs, Context& context) = 0;

  // Once, after the last call, if Init succeeded and the process is not killed.
  virtual void Close() {}
};

}  // namespace dirty

// Registers an app under its name without namespaces. At namespace scope, in one source file; a library may have many.
#define DIRTY_APP(Class)                                                                                       \
  namespace {                                                                                                  \
  [[maybe_unused]] const ::dirty::internal::Registration DIRTY_APP_JOIN(dirty_app_registration_, __COUNTER__){ \
      #Class, []() -> ::dirty::App* { return new Class(); }};                                                  \
  }

// What follows is between this header and its loader.

#define DIRTY_APP_JOIN_(a, b) a##b
#define DIRTY_APP_JOIN(a, b) DIRTY_APP_JOIN_(a, b)
#define DIRTY_APP_TEXT_(a) #a
#define DIRTY_APP_TEXT(a) DIRTY_APP_TEXT_(a)

#if defined(_LIBCPP_VERSION)
#define DIRTY_APP_LIBRARY "libc++"
#elif defined(_GLIBCXX_DEBUG)
#define DIRTY_APP_LIBRARY "libstdc++ debug cxx11=" DIRTY_APP_TEXT(_GLIBCXX_USE_CXX11_ABI)
#else
#define DIRTY_APP_LIBRARY "libstdc++ cxx11=" DIRTY_APP_TEXT(_GLIBCXX_USE_CXX11_ABI)
#endif
#if defined(JSON_DIAGNOSTICS) && JSON_DIAGNOSTICS
#define DIRTY_APP_JSON_DIAGNOSTICS " diagnostics"
#else
#define DIRTY_APP_JSON_DIAGNOSTICS ""
#endif

// The layout of everything that crosses the border. Compilers are not in it: GCC and clang agree.
#define DIRTY_APP_ABI                                                                                       \
  "dirty/app.h " DIRTY_APP_TEXT(                                                                            \
      DIRTY_APP_VERSION) ", " DIRTY_APP_LIBRARY                                                             \
                         ", nlohmann_json " DIRTY_APP_TEXT(NLOHMANN_JSON_VERSION_MAJOR) "." DIRTY_APP_TEXT( \
                             NLOHMANN_JSON_VERSION_MINOR) "." DIRTY_APP_TEXT(NLOHMANN_JSON_VERSION_PATCH)   \
                             DIRTY_APP_JSON_DIAGNOSTICS

namespace dirty::internal {

struct AppClass {
  const char* name;
  App* (*make)();
};

// Hidden: each library has its own, however many are loaded.
__attribute__((visibility("hidden"))) inline std::vector<AppClass>& AppClasses() {
  static std::vector<AppClass> classes;
  return classes;
}

struct __attribute__((visibility("hidden"))) Registration {
  Registration(std::string_view name, App* (*make)()) {
    if (std::size_t colon = name.rfind(':'); colon != std::string_view::npos) name.remove_prefix(colon + 1);
    AppClasses().push_back({name.data(), make});
  }
};

}  // namespace dirty::internal

extern "C" {

// Checked before anything else is called: plain C, the same in every version.
__attribute__((visibility("default"), used)) inline const char* dirty_app_abi() { return DIRTY_APP_ABI; }

__attribute__((visibility("default"), used)) inline const ::dirty::internal::AppClass* dirty_app_classes(
    std::size_t* count) {
  *count = ::dirty::internal::AppClasses().size();
  return ::dirty::internal::AppClasses().data();
}

}  // extern "C"
