// The client's part of the extension `_dirty`: the C++ client, with Python's values in place of JSON text.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "client/python/fork_guard.h"
#include "client/python/inbox.h"
#include "dirty/client.h"
#include "worker/python/extension/json_reader.h"
#include "worker/python/extension/json_writer.h"

namespace py = pybind11;

namespace dirty {
namespace python {
namespace {

using std::chrono::nanoseconds;

// What a stack holds; dirtyd's limit is lower.
constexpr uint32_t kDeepest = 1000;
constexpr double kLongest = 1e9;  // seconds: for ever

double Seconds(nanoseconds time) { return std::chrono::duration<double>(time).count(); }

// The exception for `error`, not raised.
py::object ExceptionOf(client::Error error) {
  py::dict attributes;
  auto text = [&](const char* name, std::string& value) {
    if (!value.empty()) attributes[name] = py::reinterpret_steal<py::object>(Text(value).release());
  };
  text("app_path", error.app);
  text("action", error.action);
  text("call_id", error.call_id);
  text("traceback", error.traceback);
  text("exception_type", error.exception_type);
  text("signal", error.signal);
  if (error.worker_id != 0) attributes["worker_id"] = error.worker_id;
  if (error.retry_delay) attributes["retry_delay"] = Seconds(*error.retry_delay);
  if (error.timeout) attributes["timeout"] = Seconds(*error.timeout);
  if (error.exit_code) attributes["exit_code"] = *error.exit_code;
  if (error.reason == client::Reason::kWorkerLost) attributes["stderr_tail"] = std::move(error.stderr_tail);
  const std::string_view reason = client::ReasonName(error.reason);
  return py::module_::import("dirty._failures")
      .attr("make")(py::str(reason.data(), reason.size()), py::bytes(error.message).attr("decode")("utf-8", "replace"),
                    attributes);
}

[[noreturn]] void Raise(const py::object& exception) {
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw py::error_already_set();
}

[[noreturn]] void Raise(client::Error error) { Raise(ExceptionOf(std::move(error))); }

// The value of a result or chunk, which a foreign worker may have got wrong.
client::Outcome<py::object> ValueOf(const char* what, const std::string& text,
                                    const std::vector<std::string>& attachments) {
  std::vector<absl::string_view> views(attachments.begin(), attachments.end());
  absl::StatusOr<Object> value = ReadJson(what, text, views, what);
  if (value.ok()) return py::reinterpret_steal<py::object>(value->release());
  return client::Error{.message = std::string(value.status().message())};
}

// What a call sends.
struct Request {
  std::string app, action, args, kwargs;
  client::CallOptions options;
};

Request RequestOf(std::string app, std::string action, const py::tuple& args, const py::dict& kwargs,
                  const py::object& timeout, std::optional<std::string> traceparent) {
  Request request{.app = std::move(app), .action = std::move(action), .args = {}, .kwargs = {}, .options = {}};
  auto write = [&](const char* root, const py::object& value, std::string& text) {
    if (py::len(value) == 0) return;
    absl::StatusOr<JsonDocument> document =
        WriteJson(root, value.ptr(), kDeepest, std::move(request.options.attachments));
    if (!document.ok()) {
      Raise(client::Error{.reason = client::Reason::kInvalidRequest,
                          .message = std::string(document.status().message()),
                          .app = request.app,
                          .action = request.action});
    }
    text = std::move(document->text);
    request.options.attachments = std::move(document->attachments);
  };
  if (traceparent) request.options.traceparent = *std::move(traceparent);
  write("args", args, request.args);
  write("kwargs", kwargs, request.kwargs);
  if (!timeout.is_none()) {
    const double seconds = PyFloat_AsDouble(timeout.ptr());
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    if (std::isnan(seconds)) throw py::value_error("timeout is not a number");
    if (seconds < kLongest) request.options.timeout = nanoseconds(std::llround(std::max(seconds, -1.0) * 1e9));
  }
  if (ForkGuard::Broken()) {
    Raise(client::Error{.reason = client::Reason::kConnection,
                        .message =
                            "this process was forked while gRPC was in use, by an app's worker or by a call that "
                            "did not end, and gRPC does not survive that: start it with spawn instead of fork",
                        .app = std::move(request.app),
                        .action = std::move(request.action)});
  }
  return request;
}

// Signals interrupt Python's main thread only.
bool OnMainThread() { return gettid() == getpid(); }

// Whether a signal handler raised, as the one for Control-C does. The exception stays set, for when the call is over.
bool Interrupted() {
  if (!OnMainThread()) return false;
  const PyGILState_STATE gil = PyGILState_Ensure();
  const bool raised = PyErr_Occurred() != nullptr || PyErr_CheckSignals() != 0;
  PyGILState_Release(gil);
  return raised;
}

// Runs `step` without the GIL. No destructor takes it back: where the interpreter has ended, that ends the thread,
// which no destructor survives.
template <typename Step>
auto WithoutTheGil(Step step) {
  PyThreadState* thread = PyEval_SaveThread();
  auto result = step();
  PyEval_RestoreThread(thread);
  return result;
}

// A call that was started.
class Call {
 public:
  explicit Call(client::RawCall call) : call_(std::move(call)) {}
  void Cancel() const { call_.Cancel(); }

 private:
  client::RawCall call_;
};

// A stream for one reader.
class Stream {
 public:
  explicit Stream(client::Stream stream) : stream_(std::move(stream)) {}

  py::object Next() {
    std::optional<client::RawChunk> chunk = WithoutTheGil([this] { return stream_.NextRaw(); });
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    if (!chunk) {
      if (stream_.error()) Raise(*stream_.error());
      throw py::stop_iteration();
    }
    client::Outcome<py::object> value = ValueOf("chunk", chunk->value, chunk->attachments);
    if (!value.ok()) Raise(std::move(value).error());
    return *std::move(value);
  }

  bool Ready(std::shared_ptr<Inbox> inbox, uint64_t key) {
    return stream_.Ready([inbox = std::move(inbox), key] { inbox->Put({key, std::nullopt}); });
  }

  void Cancel() const { stream_.Cancel(); }

 private:
  client::Stream stream_;
};

// The client of one socket, for all threads and loops of the process.
class Client {
 public:
  Client(std::string socket, double connect_timeout, bool unary)
      : client_({.socket = std::move(socket),
                 .connect_timeout = nanoseconds(std::llround(connect_timeout * 1e9)),
                 .transport = unary ? client::Options::Transport::kUnary : client::Options::Transport::kAuto}) {
    py::gil_scoped_release without_gil;
    guard_ = std::make_unique<ForkGuard>(client_);
  }
  ~Client() {
    py::gil_scoped_release without_gil;
    guard_.reset();
    client_ = client::Client();
  }

  py::object Execute(std::string app, std::string action, const py::tuple& args, const py::dict& kwargs,
                     const py::object& timeout, std::optional<std::string> traceparent) {
    Request request = RequestOf(std::move(app), std::move(action), args, kwargs, timeout, std::move(traceparent));
    if (OnMainThread()) request.options.interrupted = &Interrupted;
    client::RawResult result = WithoutTheGil([&] {
      return client_.ExecuteRaw(std::move(request.app), std::move(request.action), std::move(request.args),
                                std::move(request.kwargs), std::move(request.options));
    });
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    if (!result.ok()) Raise(std::move(result).error());
    client::Outcome<py::object> value = ValueOf("result", result->result, result->attachments);
    if (!value.ok()) Raise(std::move(value).error());
    return *std::move(value);
  }

  Call Start(std::shared_ptr<Inbox> inbox, uint64_t key, std::string app, std::string action, const py::tuple& args,
             const py::dict& kwargs, const py::object& timeout, std::optional<std::string> traceparent) {
    Request request = RequestOf(std::move(app), std::move(action), args, kwargs, timeout, std::move(traceparent));
    auto done = [inbox = std::move(inbox), key](client::RawResult result) { inbox->Put({key, std::move(result)}); };
    return Call(WithoutTheGil([&] {
      return client_.ExecuteRawAsync(std::move(request.app), std::move(request.action), std::move(request.args),
                                     std::move(request.kwargs), std::move(request.options), std::move(done));
    }));
  }

  Stream Open(std::string app, std::string action, const py::tuple& args, const py::dict& kwargs,
              const py::object& timeout, std::optional<std::string> traceparent) {
    Request request = RequestOf(std::move(app), std::move(action), args, kwargs, timeout, std::move(traceparent));
    request.options.interrupted = &Interrupted;
    return Stream(WithoutTheGil([&] {
      return client_.ExecuteStreamRaw(std::move(request.app), std::move(request.action), std::move(request.args),
                                      std::move(request.kwargs), std::move(request.options));
    }));
  }

 private:
  client::Client client_;
  std::unique_ptr<ForkGuard> guard_;
};

// (key, succeeded, value or exception) for everything that has come.
py::list Take(Inbox& inbox) {
  py::list taken;
  for (Inbox::Letter& letter : inbox.Take()) {
    if (!letter.result) {
      taken.append(py::make_tuple(letter.key, true, py::none()));
      continue;
    }
    client::RawResult& result = *letter.result;
    client::Outcome<py::object> value =
        result.ok() ? ValueOf("result", result->result, result->attachments) : std::move(result).error();
    const bool ok = value.ok();
    taken.append(py::make_tuple(letter.key, ok, ok ? *std::move(value) : ExceptionOf(std::move(value).error())));
    letter.result.reset();  // large ones go now
  }
  return taken;
}

}  // namespace
}  // namespace python

void BindClient(py::module_& module) {
  using namespace py::literals;
  using python::Call, python::Client, python::Inbox, python::Stream;
  py::class_<Inbox, std::shared_ptr<Inbox>>(module, "Inbox")
      .def(py::init<>())
      .def("fileno", &Inbox::fd)
      .def("take", &python::Take);
  py::class_<Call>(module, "Call").def("cancel", &Call::Cancel);
  py::class_<Stream>(module, "Stream")
      .def("next", &Stream::Next)
      .def("ready", &Stream::Ready, "inbox"_a, "key"_a)
      .def("cancel", &Stream::Cancel);
  py::class_<Client>(module, "Client")
      .def(py::init<std::string, double, bool>(), "socket"_a = "", "connect_timeout"_a = 5.0, "unary"_a = false)
      .def("execute", &Client::Execute, "app"_a, "action"_a, "args"_a, "kwargs"_a, "timeout"_a,
           "traceparent"_a = py::none())
      .def("start", &Client::Start, "inbox"_a, "key"_a, "app"_a, "action"_a, "args"_a, "kwargs"_a, "timeout"_a,
           "traceparent"_a = py::none())
      .def("stream", &Client::Open, "app"_a, "action"_a, "args"_a, "kwargs"_a, "timeout"_a,
           "traceparent"_a = py::none());
}

}  // namespace dirty
