#include "worker/python/extension/python_object.h"

#include "absl/strings/str_cat.h"

namespace dirty::python {
namespace {

// A thread's state, made once. Its end is the thread's.
class KeptState {
 public:
  KeptState() : gil_(PyGILState_Ensure()), state_(PyEval_SaveThread()) {}
  ~KeptState() {
    if (!Py_IsInitialized()) return;
    PyEval_RestoreThread(state_);
    PyGILState_Release(gil_);
  }
  void Restore() { PyEval_RestoreThread(state_); }
  KeptState(const KeptState&) = delete;
  KeptState& operator=(const KeptState&) = delete;

 private:
  PyGILState_STATE gil_;
  PyThreadState* state_;
};

}  // namespace

WithGil::WithGil() {
  thread_local KeptState state;
  state.Restore();
}

WithGil::~WithGil() { PyEval_SaveThread(); }

Object Text(absl::string_view text) {
  return Object::Steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr));
}

std::string Str(PyObject* object) {
  Object text = Object::Steal(PyObject_Str(object));
  Object bytes;
  if (text) bytes = Object::Steal(PyUnicode_AsEncodedString(text.get(), "utf-8", "replace"));
  if (!bytes) {
    PyErr_Clear();
    return absl::StrCat("<", Py_TYPE(object)->tp_name, " whose str() fails>");
  }
  return std::string(PyBytes_AS_STRING(bytes.get()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.get())));
}

Object TakeException() {
#if PY_VERSION_HEX >= 0x030C0000
  return Object::Steal(PyErr_GetRaisedException());
#else
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return Object::Steal(value);
#endif
}

std::string Describe(PyObject* exception) { return absl::StrCat(Py_TYPE(exception)->tp_name, ": ", Str(exception)); }

}  // namespace dirty::python
