#include "worker/python/python_host.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/python/extension/json_reader.h"
#include "worker/python/extension/json_writer.h"
#include "worker/runtime/failure.h"
#include "worker/runtime/json_text.h"

namespace dirty::worker {
namespace {

using python::Describe;
using python::JsonDocument;
using python::ReadJson;
using python::Str;
using python::TakeException;
using python::Text;
using python::WithGil;
using python::WithoutGil;
using python::WriteJson;

// What a value is, if it is not a result yet.
bool IsAsyncIterator(PyObject* value) {
  PyAsyncMethods* methods = Py_TYPE(value)->tp_as_async;
  return methods != nullptr && methods->am_anext != nullptr;
}
bool IsAwaitable(PyObject* value) {
  PyAsyncMethods* methods = Py_TYPE(value)->tp_as_async;
  return methods != nullptr && methods->am_await != nullptr && !IsAsyncIterator(value);
}
bool IsIterator(PyObject* value) { return PyIter_Check(value) != 0; }

Object CallMethod(PyObject* object, const char* method) {
  return Object::Steal(PyObject_CallMethod(object, method, nullptr));
}

}  // namespace

// One call on its executor thread, with the GIL. User code runs in Interruptible only: an exception that is raised from
// another thread never reaches our own code, nor the next call.
class PythonHost::Attempt {
 public:
  Attempt(PythonHost& host, Call& call, v1::CallDone& done) : host_(host), call_(call), done_(done) {
    running_.thread = PyThread_get_thread_ident();
    host_.running_[call.number()] = &running_;
  }
  ~Attempt() { host_.running_.erase(call_.number()); }

  void Run() {
    const std::string& traceparent = call_.traceparent();
    if (traceparent.empty()) return RunAction();
    Object trace = Object::Steal(PyObject_CallMethod(host_.apps_.get(), "begin_trace", "s", traceparent.c_str()));
    if (!trace) PyErr_WriteUnraisable(host_.apps_.get());
    RunAction();
    if (!trace) return;
    Object ended = Object::Steal(PyObject_CallMethod(host_.apps_.get(), "end_trace", "(O)", trace.get()));
    if (!ended) PyErr_WriteUnraisable(host_.apps_.get());
  }

 private:
  void RunAction() {
    auto callable = host_.callables_.find(call_.request().app());
    if (callable == host_.callables_.end()) {
      Fail(AppError("LookupError", absl::StrCat("this worker did not load ", call_.request().app())));
      return;
    }
    Object app = callable->second, args, kwargs;
    if (!Parse(args, kwargs)) return;
    Object result = Interruptible([&] { return PyObject_Call(app.get(), args.get(), kwargs.get()); });
    args = kwargs = Object();  // large ones go now
    if (result) Finish(std::move(result));
  }

  void Fail(v1::Error error) { *done_.mutable_error() = std::move(error); }

  // The Python exception that is set becomes the call's error.
  void FailAsRaised() {
    Object exception = TakeException();
    if (call_.cancelled() && IsCancellation(exception.get())) return Fail(CancelledError(call_.cancel_reason()));
    Object told = Object::Steal(PyObject_CallMethod(host_.apps_.get(), "describe", "O", exception.get()));
    if (!told) {
      PyErr_Clear();
      return Fail(AppError(Py_TYPE(exception.get())->tp_name, Str(exception.get())));
    }
    auto text = [&](Py_ssize_t i) { return Str(PyTuple_GET_ITEM(told.get(), i)); };
    Fail(AppError(text(0), text(1), text(2)));
  }

  bool IsCancellation(PyObject* exception) {
    Object asynchronous = Object::Steal(PyObject_GetAttrString(host_.apps_.get(), "task_cancelled"));
    PyErr_Clear();
    return PyErr_GivenExceptionMatches(exception, host_.cancelled_.get()) != 0 ||
           (asynchronous && PyErr_GivenExceptionMatches(exception, asynchronous.get()) != 0);
  }

  bool Parse(Object& args, Object& kwargs) {
    const v1::ExecuteRequest& request = call_.request();
    std::vector<absl::string_view> attachments(request.attachments().begin(), request.attachments().end());
    auto read = [&](absl::string_view field, const std::string& text, Object& value) {
      if (text.empty()) return true;
      absl::StatusOr<Object> document = ReadJson(field, text, attachments, "call");
      if (document.ok()) {
        value = *std::move(document);
      } else {
        Fail(InvalidRequestError(document.status().message()));
      }
      return static_cast<bool>(value);
    };
    Object list;
    if (!read("args", request.args(), list) || !read("kwargs", request.kwargs(), kwargs)) return false;
    if (kwargs && !PyDict_Check(kwargs.get())) {
      Fail(InvalidRequestError("kwargs must be a JSON object, got a reference to an attachment"));
      return false;
    }
    Py_ssize_t count = list ? PyList_GET_SIZE(list.get()) : 0;
    args = Object::Steal(PyTuple_New(count + 1));
    Object action = Text(request.action());
    if (!args || !action) {
      FailAsRaised();
      return false;
    }
    PyTuple_SET_ITEM(args.get(), 0, action.release());
    for (Py_ssize_t i = 0; i < count; ++i) {
      PyTuple_SET_ITEM(args.get(), i + 1, Object::Borrow(PyList_GET_ITEM(list.get(), i)).release());
    }
    return true;
  }

  // Runs `step`, which runs user code on this thread and gives a new reference. Null: the call has failed, or (`ended`
  // given, and now true) nothing more comes.
  template <typename Step>
  Object Interruptible(Step step, bool* ended = nullptr) {
    if (StopIfCancelled()) return {};
    running_.interruptible = true;
    Object result = Object::Steal(step());
    running_.interruptible = false;
    // What was not delivered never is.
    if (running_.interrupted) PyThreadState_SetAsyncExc(running_.thread, nullptr);
    if (result) running_.interrupted = false;  // what comes next may still be
    if (!result && ended != nullptr && PyErr_Occurred() == nullptr) {
      *ended = true;
    } else if (!result) {
      FailAsRaised();
    }
    return result;
  }

  bool StopIfCancelled() {
    if (!call_.cancelled()) return false;
    Fail(CancelledError(call_.cancel_reason()));
    return true;
  }

  // Runs `start` of dirty_worker.Apps with `value`; the object that it gives stands for what the event loop now does.
  Object StartTask(const char* start, PyObject* value) {
    Object task = Object::Steal(PyObject_CallMethod(host_.apps_.get(), start, "O", value));
    if (!task) {
      FailAsRaised();
      return {};
    }
    running_.task = task;
    if (call_.cancelled()) host_.Interrupt(call_.number());  // it came before there was a task
    return task;
  }

  void Finish(Object result) {
    while (IsAwaitable(result.get())) {
      Object task = StartTask("start", result.get());
      if (!task) return;
      result = CallMethod(task.get(), "result");
      running_.task = Object();
      if (!result) return FailAsRaised();
    }
    if (!IsAsyncIterator(result.get()) && !IsIterator(result.get())) return Respond(result.get());
    if (!call_.streams()) {
      Fail(AppError("TypeError",
                    absl::StrCat("the action returned a stream (", Py_TYPE(result.get())->tp_name,
                                 "), and the caller did not ask for one: call it with client.stream or dirtyctl call"
                                 " --stream")));
      if (IsIterator(result.get())) CloseQuietly(result.get());
      return;
    }
    if (IsIterator(result.get())) {
      Stream(result.get(),
             [&](bool* ended) { return Interruptible([&] { return PyIter_Next(result.get()); }, ended); });
    } else if (Object task = StartTask("iterate", result.get())) {
      Stream(task.get(), [&](bool* ended) {
        Object next = Object::Steal(PyIter_Next(task.get()));
        if (!next && !(*ended = PyErr_Occurred() == nullptr)) FailAsRaised();
        return next;
      });
    }
  }

  void Respond(PyObject* result) {
    absl::StatusOr<JsonDocument> document = Write("result", result);
    if (!document.ok()) return;
    v1::ExecuteResponse& response = *done_.mutable_response();
    response.set_result(std::move(document->text));
    for (std::string& bytes : document->attachments) response.add_attachments(std::move(bytes));
  }

  absl::StatusOr<JsonDocument> Write(absl::string_view what, PyObject* value) {
    absl::StatusOr<JsonDocument> document = WriteJson(what, value, DepthLimit(call_.limits().max_json_depth));
    if (!document.ok()) Fail(AppError("TypeError", document.status().message()));
    return document;
  }

  // Emits what `next` gives until it ends. `source` is closed if that is before its end.
  template <typename Next>
  void Stream(PyObject* source, Next next) {
    while (true) {
      bool ended = false;
      Object value = next(&ended);
      if (ended) {
        done_.mutable_response();
        return;
      }
      if (!value || !EmitChunk(value.get())) break;
    }
    CloseQuietly(source);
    running_.task = Object();
  }

  bool EmitChunk(PyObject* value) {
    absl::StatusOr<JsonDocument> document = Write("chunk", value);
    if (!document.ok()) return false;
    v1::Chunk chunk;
    chunk.set_value(std::move(document->text));
    for (std::string& bytes : document->attachments) chunk.add_attachments(std::move(bytes));
    absl::Status status;
    {
      WithoutGil without;
      status = call_.Emit(std::move(chunk));
    }
    if (status.ok()) return true;
    if (!StopIfCancelled()) Fail(AppError("ValueError", status.message()));
    return false;
  }

  // Has a generator run its `finally` now. What that raises goes to standard error, as for those that nobody closes.
  void CloseQuietly(PyObject* source) {
    if (PyObject_HasAttrString(source, "close") == 0) return;
    if (!CallMethod(source, "close")) PyErr_WriteUnraisable(source);
  }

  PythonHost& host_;
  Call& call_;
  v1::CallDone& done_;
  Running running_;
};

PythonHost::PythonHost(Object apps, Object cancelled)
    : apps_(std::move(apps)), cancelled_(std::move(cancelled)), interrupter_([this] { RunInterruptions(); }) {}

PythonHost::~PythonHost() {
  {
    MutexLock lock(mutex_);
    ended_ = true;
  }
  changed_.NotifyAll();
  interrupter_.join();
  WithGil gil;
  callables_.clear();
  apps_ = cancelled_ = Object();
}

int PythonHost::StackDumpSignal() { return SIGRTMIN + 8; }

std::string PythonHost::Describe() const {
  absl::string_view version = Py_GetVersion();  // "3.11.2 (main, ...) [GCC ...]"
  return absl::StrCat("python/", version.substr(0, version.find(' ')));
}

void PythonHost::Configure(const v1::WorkerConfig& config) {
  WithGil gil;
  Object done = Object::Steal(PyObject_CallMethod(apps_.get(), "configure", "IIss", config.worker_id(), config.index(),
                                                  config.pool().c_str(), config.worker_init_hook().c_str()));
  if (!done) PyErr_WriteUnraisable(apps_.get());
}

LoadResult PythonHost::Load(const v1::AppSpec& spec) {
  WithGil gil;
  Object loaded = Object::Steal(PyObject_CallMethod(apps_.get(), "load", "ssN", spec.name().c_str(),
                                                    spec.path().c_str(), PyBool_FromLong(spec.may_skip() ? 1 : 0)));
  if (!loaded) {
    Object exception = TakeException();
    return {.error = AppError(Py_TYPE(exception.get())->tp_name, Str(exception.get()))};
  }
  auto item = [&](Py_ssize_t i) { return PyTuple_GET_ITEM(loaded.get(), i); };
  if (PyTuple_GET_SIZE(loaded.get()) == 3) return {.error = AppError(Str(item(0)), Str(item(1)), Str(item(2)))};
  LoadResult result;
  result.workers = static_cast<uint32_t>(PyLong_AsUnsignedLong(item(1)));
  result.skipped = item(0) == Py_None;
  if (!result.skipped) callables_[spec.name()] = Object::Borrow(item(0));
  return result;
}

absl::Status PythonHost::FinishLoading() {
  WithGil gil;
  if (CallMethod(apps_.get(), "finish_loading")) return absl::OkStatus();
  return absl::AbortedError(Str(TakeException().get()));
}

void PythonHost::Execute(Call& call, v1::CallDone& done) {
  WithGil gil;
  Attempt(*this, call, done).Run();
}

void PythonHost::CloseAll() {
  WithGil gil;
  callables_.clear();
  if (!CallMethod(apps_.get(), "close_all")) PyErr_WriteUnraisable(apps_.get());
}

void PythonHost::DumpStacks() {
  std::string title = absl::StrCat("stacks of pid ", getpid(), ":\n");
  if (write(STDERR_FILENO, title.data(), title.size()) < 0) return;
  pthread_kill(pthread_self(), StackDumpSignal());
}

void PythonHost::OnCancelled(const Call& call) {
  {
    MutexLock lock(mutex_);
    to_interrupt_.push_back(call.number());
  }
  changed_.NotifyAll();
}

void PythonHost::RunInterruptions() {
  pthread_setname_np(pthread_self(), "dirty-cancels");
  while (true) {
    std::vector<uint64_t> calls;
    {
      MutexLock lock(mutex_);
      while (to_interrupt_.empty() && !ended_) changed_.Wait(lock);
      if (ended_) return;
      calls.swap(to_interrupt_);
    }
    WithGil gil;
    for (uint64_t call : calls) Interrupt(call);
  }
}

void PythonHost::Interrupt(uint64_t call) {
  auto found = running_.find(call);
  if (found == running_.end()) return;
  Running& running = *found->second;
  if (running.interrupted || !(running.task || running.interruptible)) return;
  running.interrupted = true;
  if (running.task) {
    Object task = running.task;
    if (!CallMethod(task.get(), "cancel")) PyErr_WriteUnraisable(task.get());
  } else {
    PyThreadState_SetAsyncExc(running.thread, cancelled_.get());
  }
}

}  // namespace dirty::worker
