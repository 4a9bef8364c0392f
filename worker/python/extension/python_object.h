// Owning references to Python objects, and leave to run Python.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace dirty::python {

// A strong reference, or null. Holders of the GIL only.
class Object {
 public:
  Object() = default;
  // Takes over the reference that `object` is.
  static Object Steal(PyObject* object) { return Object(object); }
  // Makes a reference of its own.
  static Object Borrow(PyObject* object) {
    Py_XINCREF(object);
    return Object(object);
  }
  Object(const Object& other) : object_(other.object_) { Py_XINCREF(object_); }
  Object(Object&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Object& operator=(Object other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Object() { Py_XDECREF(object_); }

  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  explicit Object(PyObject* object) : object_(object) {}
  PyObject* object_ = nullptr;
};

// Lets go of the GIL while it lives.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() { PyEval_RestoreThread(state_); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

// Holds the GIL while it lives, on any thread. The thread keeps its thread state until it ends: to make one for each
// call would cost 50 us. A thread that ended before the interpreter did lets go of it by itself.
class WithGil {
 public:
  WithGil();
  ~WithGil();
  WithGil(const WithGil&) = delete;
  WithGil& operator=(const WithGil&) = delete;
};

// A new string; null and an exception if memory is out or `text` is not UTF-8.
Object Text(absl::string_view text);

// What str() gives, for messages; an object whose str() fails is told by its type.
std::string Str(PyObject* object);

// The exception that is set, cleared: the normalised instance with its traceback. Precondition: one is set.
Object TakeException();

// `ValueError: no such model` of an exception instance.
std::string Describe(PyObject* exception);

}  // namespace dirty::python
