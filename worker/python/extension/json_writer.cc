#include "worker/python/extension/json_writer.h"

#include <charconv>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace dirty::python {
namespace {

constexpr char kAttachment[] = "$attachment";

// As repr() has it: from there on with an exponent.
constexpr double kLargestPlain = 1e16, kSmallestPlain = 1e-4;

// `datetime`, also where CPython says `datetime.datetime`.
absl::string_view TypeName(PyObject* value) {
  absl::string_view name = Py_TYPE(value)->tp_name;
  return name.substr(name.rfind('.') + 1);
}

// Whether a class of NumPy's is among the bases of the type of `value`.
bool IsNumpy(PyObject* value) {
  PyObject* bases = Py_TYPE(value)->tp_mro;
  for (Py_ssize_t i = 0; bases != nullptr && i < PyTuple_GET_SIZE(bases); ++i) {
    if (absl::StartsWith(reinterpret_cast<PyTypeObject*>(PyTuple_GET_ITEM(bases, i))->tp_name, "numpy.")) return true;
  }
  return false;
}

// What to do about a value that JSON has nothing for.
absl::string_view Advice(absl::string_view type) {
  if (type == "datetime" || type == "date" || type == "time") return "use its isoformat()";
  if (type == "timedelta") return "use its total_seconds()";
  if (type == "Decimal") return "use str() of it, or float() if that is exact enough";
  if (type == "UUID" || absl::EndsWith(type, "Path")) return "use str() of it";
  if (type == "generator" || type == "async_generator") return "a stream can only be the whole result";
  if (type == "coroutine") return "await it";
  if (type == "ndarray" || type == "Tensor") return "use .tolist() for numbers, or .tobytes() for bytes";
  return "convert it first";
}

// Writes one document. False: `fault_` says why, and paths are put before it on the way back.
class Writer {
 public:
  Writer(uint32_t max_depth, std::vector<std::string> attachments)
      : max_depth_(max_depth), document_{{}, std::move(attachments)} {}

  bool Write(PyObject* value) {
    if (PyUnicode_Check(value)) return WriteText(value);
    if (value == Py_None) return Append("null");
    if (PyBool_Check(value)) return Append(value == Py_True ? "true" : "false");
    if (PyLong_Check(value)) return WriteInteger(value);
    if (PyFloat_Check(value)) return WriteFloat(PyFloat_AS_DOUBLE(value));
    if (PyDict_Check(value)) return Nested([&] { return WriteDict(value); });
    if (PyList_Check(value) || PyTuple_Check(value)) return Nested([&] { return WriteSequence(value); });
    if (PyBytes_Check(value) || PyByteArray_Check(value)) return WriteBytes(value);
    if (PyAnySet_Check(value)) {
      Object items = Object::Steal(PySequence_List(value));
      return items ? Nested([&] { return WriteSequence(items.get()); }) : Raised();
    }
    if (IsNumpy(value)) return WriteNumpy(value);
    if (PyObject_CheckBuffer(value)) return WriteBytes(value);
    if (!PyType_Check(value) && PyObject_HasAttrString(value, "__dataclass_fields__")) {
      return Nested([&] { return WriteDataclass(value); });
    }
    return Refused(value);
  }

  JsonDocument& document() { return document_; }
  const std::string& path() const { return path_; }
  const std::string& fault() const { return fault_; }

 private:
  bool Append(absl::string_view text) {
    absl::StrAppend(&document_.text, text);
    return true;
  }

  bool Wrong(std::string what) {
    PyErr_Clear();
    fault_ = std::move(what);
    return false;
  }

  // A Python exception ended it.
  bool Raised() { return Wrong(Describe(TakeException().get())); }

  bool Refused(PyObject* value) {
    absl::string_view type = TypeName(value);
    return Wrong(absl::StrCat(type, " is nothing that JSON can hold: ", Advice(type)));
  }

  template <typename Step>
  bool Nested(Step step) {
    if (depth_ == max_depth_) {
      return Wrong(absl::StrCat("more than ", max_depth_, " levels deep (max_json_depth), or contains itself"));
    }
    ++depth_;
    bool written = step();
    --depth_;
    return written;
  }

  // Writes a value that is at `place` (`.key`, `[3]`) of the current one.
  template <typename Place>
  bool WriteAt(PyObject* value, Place place) {
    if (Write(value)) return true;
    path_.insert(0, place());
    return false;
  }

  bool WriteText(PyObject* value) {
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text == nullptr) return Wrong("a str with surrogates, which no encoding can hold");
    Quote({text, static_cast<size_t>(size)});
    return true;
  }

  void Quote(absl::string_view text) {
    static constexpr char kHex[] = "0123456789abcdef";
    std::string& out = document_.text;
    out += '"';
    size_t plain = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      auto byte = static_cast<unsigned char>(text[i]);
      if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
      out.append(text.data() + plain, i - plain);
      plain = i + 1;
      out += '\\';
      if (byte >= 0x20) {
        out += text[i];
      } else if (byte == '\n' || byte == '\r' || byte == '\t') {
        out += byte == '\n' ? 'n' : byte == '\r' ? 'r' : 't';
      } else {
        absl::StrAppend(&out, byte < 0x10 ? "u000" : "u001", absl::string_view(kHex + byte % 16, 1));
      }
    }
    out.append(text.data() + plain, text.size() - plain);
    out += '"';
  }

  bool WriteInteger(PyObject* value) {
    int overflow = 0;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow == 0) {
      absl::StrAppend(&document_.text, number);
      return true;
    }
    Object digits = Object::Steal(PyNumber_ToBase(value, 10));
    return digits ? Append(Str(digits.get())) : Raised();
  }

  bool WriteFloat(double value) {
    if (!std::isfinite(value)) return Append("null");
    double size = std::fabs(value);
    bool plain = size == 0 || (size >= kSmallestPlain && size < kLargestPlain);
    char digits[32];
    auto end = std::to_chars(digits, digits + sizeof digits, value,
                             plain ? std::chars_format::fixed : std::chars_format::scientific);
    absl::string_view text(digits, static_cast<size_t>(end.ptr - digits));
    Append(text);
    return !plain || absl::StrContains(text, '.') || Append(".0");
  }

  bool WriteSequence(PyObject* value) {
    document_.text += '[';
    // Other threads may change a list meanwhile.
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(value); ++i) {
      if (i > 0) document_.text += ',';
      Object item = Object::Borrow(PySequence_Fast_GET_ITEM(value, i));
      if (!WriteAt(item.get(), [i] { return absl::StrCat("[", i, "]"); })) return false;
    }
    document_.text += ']';
    return true;
  }

  bool WriteDict(PyObject* value) {
    if (PyDict_GET_SIZE(value) == 1 && PyDict_GetItemString(value, kAttachment) != nullptr) {
      return Wrong("a dict whose only key is $attachment stands for bytes and cannot be data");
    }
    document_.text += '{';
    bool first = true;
    if (PyDict_CheckExact(value)) {
      Py_ssize_t position = 0;
      PyObject *key, *item;
      while (PyDict_Next(value, &position, &key, &item)) {
        Object held_key = Object::Borrow(key), held_item = Object::Borrow(item);
        if (!WriteMember(key, item, first)) return false;
      }
    } else {
      Object items = Object::Steal(PyMapping_Items(value));
      if (!items) return Raised();
      for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items.get()); ++i) {
        PyObject* pair = PyList_GET_ITEM(items.get(), i);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) return Wrong("its items() are no pairs");
        if (!WriteMember(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1), first)) return false;
      }
    }
    document_.text += '}';
    return true;
  }

  bool WriteMember(PyObject* key, PyObject* item, bool& first) {
    if (!first) document_.text += ',';
    first = false;
    if (!WriteKey(key)) return false;
    document_.text += ':';
    return WriteAt(item, [key] { return absl::StrCat(".", Str(key)); });
  }

  // As json.dumps does: numbers, booleans and None as their JSON, in quotes.
  bool WriteKey(PyObject* key) {
    if (PyUnicode_Check(key)) return WriteText(key);
    if (key != Py_None && !PyLong_Check(key) && !PyFloat_Check(key)) {
      return Wrong(absl::StrCat("a key of type ", TypeName(key), " (", Str(key).substr(0, 100),
                                "): keys are str, int, float, bool or None"));
    }
    document_.text += '"';
    if (!Write(key)) return false;
    document_.text += '"';
    return true;
  }

  bool WriteBytes(PyObject* value) {
    Py_buffer view;
    if (PyObject_GetBuffer(value, &view, PyBUF_FULL_RO) != 0) return Raised();
    std::string bytes(static_cast<size_t>(view.len), '\0');
    bool copied = PyBuffer_ToContiguous(bytes.data(), &view, view.len, 'C') == 0;
    PyBuffer_Release(&view);
    if (!copied) return Raised();
    absl::StrAppend(&document_.text, "{\"", kAttachment, "\":", document_.attachments.size(), "}");
    document_.attachments.push_back(std::move(bytes));
    return true;
  }

  // Scalars have an item(), which is Python's own type; arrays do not pass: numbers or bytes, who knows?
  bool WriteNumpy(PyObject* value) {
    if (!PyObject_HasAttrString(value, "item") || TypeName(value) == "ndarray" ||
        PyObject_HasAttrString(value, "__len__")) {
      return Refused(value);
    }
    Object item = Object::Steal(PyObject_CallMethod(value, "item", nullptr));
    if (!item) return Raised();
    if (!IsNumpy(item.get())) return Write(item.get());
    Object number = Object::Steal(PyNumber_Float(item.get()));  // longdouble
    return number ? Write(number.get()) : Raised();
  }

  bool WriteDataclass(PyObject* value) {
    Object module = Object::Steal(PyImport_ImportModule("dataclasses"));
    Object fields = module ? Object::Steal(PyObject_CallMethod(module.get(), "fields", "O", value)) : Object();
    if (!fields || !PyTuple_Check(fields.get())) return Raised();
    document_.text += '{';
    bool first = true;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(fields.get()); ++i) {
      Object name = Object::Steal(PyObject_GetAttrString(PyTuple_GET_ITEM(fields.get(), i), "name"));
      Object item = name ? Object::Steal(PyObject_GetAttr(value, name.get())) : Object();
      if (!item) return Raised();
      if (!WriteMember(name.get(), item.get(), first)) return false;
    }
    document_.text += '}';
    return true;
  }

  const uint32_t max_depth_;
  uint32_t depth_ = 0;
  JsonDocument document_;
  std::string path_, fault_;
};

}  // namespace

absl::StatusOr<JsonDocument> WriteJson(absl::string_view root, PyObject* value, uint32_t max_depth,
                                       std::vector<std::string> attachments) {
  Writer writer(max_depth, std::move(attachments));
  if (writer.Write(value)) return std::move(writer.document());
  return absl::InvalidArgumentError(absl::StrCat(root, writer.path(), ": ", writer.fault()));
}

}  // namespace dirty::python
