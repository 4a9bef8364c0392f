#include "worker/python/extension/json_reader.h"

#include <charconv>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace dirty::python {
namespace {

// Integers of so many digits fit 64 bits.
constexpr size_t kSafeDigits = 18;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

void AppendUtf8(uint32_t code, std::string& text) {
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
  } else if (code < 0x10000) {
    text += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3F)),
             static_cast<char>(0x80 | (code & 0x3F))};
  } else {
    text += {static_cast<char>(0xF0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 0x3F)),
             static_cast<char>(0x80 | (code >> 6 & 0x3F)), static_cast<char>(0x80 | (code & 0x3F))};
  }
}

// One document. Containers that are not complete are on a stack, so that depth costs no stack of ours.
class Reader {
 public:
  Reader(absl::string_view field, absl::string_view text, absl::Span<const absl::string_view> attachments,
         absl::string_view owner)
      : field_(field), text_(text), attachments_(attachments), owner_(owner) {}

  absl::StatusOr<Object> Read() {
    Object result;
    while (true) {
      // Here a value starts.
      Object value;
      SkipSpace();
      if (Take('[') || Take('{')) {
        bool object = text_[at_ - 1] == '{';
        levels_.push_back({Object::Steal(object ? PyDict_New() : PyList_New(0)), {}, object});
        if (!levels_.back().container) return OutOfMemory();
        SkipSpace();
        if (!Take(object ? '}' : ']')) {
          if (object && !ReadKey()) return Fault();
          continue;
        }
        value = Close();
      } else {
        value = Scalar();
      }
      // Here one ended, and with it perhaps the containers around it.
      while (true) {
        if (!value) return Fault();
        if (levels_.empty()) {
          SkipSpace();
          if (at_ != text_.size()) return Wrong("more follows after the value"), Fault();
          return value;
        }
        if (!Put(std::move(value))) return OutOfMemory();
        SkipSpace();
        bool object = levels_.back().object;
        if (Take(',')) {
          if (object && !ReadKey()) return Fault();
          break;
        }
        if (!Take(object ? '}' : ']')) {
          return Wrong(object ? "expected ',' or '}'" : "expected ',' or ']'"), Fault();
        }
        value = Close();
      }
    }
  }

 private:
  struct Level {
    Object container;
    Object key;  // of the value that comes next, in an object
    bool object;
  };

  void SkipSpace() {
    while (at_ < text_.size() && absl::StrContains(" \t\r\n", text_[at_])) ++at_;
  }

  bool Take(char expected) {
    if (at_ >= text_.size() || text_[at_] != expected) return false;
    ++at_;
    return true;
  }

  // Remembers what is wrong, here. False.
  bool Wrong(absl::string_view what) {
    if (fault_.empty()) {
      fault_ = absl::StrCat(field_, " is not JSON: ", at_ >= text_.size() ? "unexpected end of input" : what,
                            " at byte ", at_ + 1);
    }
    return false;
  }

  absl::Status Fault() {
    if (fault_.empty() && PyErr_Occurred() != nullptr) {
      fault_ = absl::StrCat(field_, " cannot be read at byte ", at_ + 1, ": ", Describe(TakeException().get()));
    }
    PyErr_Clear();
    return absl::InvalidArgumentError(fault_);
  }

  absl::Status OutOfMemory() {
    PyErr_Clear();
    return absl::ResourceExhaustedError(absl::StrCat("not enough memory for ", field_));
  }

  bool ReadKey() {
    SkipSpace();
    if (!Take('"')) return Wrong("expected a key in quotes");
    levels_.back().key = String();
    if (!levels_.back().key) return false;
    SkipSpace();
    return Take(':') || Wrong("expected ':'");
  }

  bool Put(Object value) {
    Level& level = levels_.back();
    return (level.object ? PyDict_SetItem(level.container.get(), level.key.get(), value.get())
                         : PyList_Append(level.container.get(), value.get())) == 0;
  }

  // The innermost container, complete; the bytes that it stands for, if it is a reference.
  Object Close() {
    Object done = std::move(levels_.back().container);
    bool single = levels_.back().object && PyDict_GET_SIZE(done.get()) == 1;
    levels_.pop_back();
    if (!single) return done;
    PyObject* number = PyDict_GetItemString(done.get(), "$attachment");
    return number == nullptr ? done : Attachment(number);
  }

  Object Attachment(PyObject* number) {
    int overflow = 0;
    long long index = PyLong_CheckExact(number) ? PyLong_AsLongLongAndOverflow(number, &overflow) : -1;
    if (overflow == 0 && index < 0) {
      fault_ = absl::StrCat(Path(), " has an $attachment that is not a number from 0");
    } else if (overflow != 0 || static_cast<size_t>(index) >= attachments_.size()) {
      fault_ =
          absl::StrCat(Path(), " references attachment ", Str(number), "; the ", owner_, " has ", attachments_.size());
    } else {
      absl::string_view bytes = attachments_[static_cast<size_t>(index)];
      return Object::Steal(PyBytes_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
    }
    return {};
  }

  std::string Path() const {
    std::string path(field_);
    for (const Level& level : levels_) {
      if (level.object) {
        absl::StrAppend(&path, ".", Str(level.key.get()));
      } else {
        absl::StrAppend(&path, "[", PyList_GET_SIZE(level.container.get()), "]");
      }
    }
    return path;
  }

  Object Scalar() {
    if (Take('"')) return String();
    if (at_ < text_.size() && (text_[at_] == '-' || IsDigit(text_[at_]))) return Number();
    if (TakeWord("null")) return Object::Borrow(Py_None);
    if (TakeWord("true")) return Object::Borrow(Py_True);
    if (TakeWord("false")) return Object::Borrow(Py_False);
    Wrong("invalid literal");
    return {};
  }

  bool TakeWord(absl::string_view word) {
    if (!absl::StartsWith(text_.substr(at_), word)) return false;
    at_ += word.size();
    return true;
  }

  Object Number() {
    size_t start = at_;
    Take('-');
    size_t digits = at_;
    if (!TakeDigits()) return {};
    if (text_[digits] == '0' && at_ - digits > 1) {
      at_ = digits + 1;
      Wrong("invalid number (leading zero)");
      return {};
    }
    bool integer = true;
    if (Take('.')) {
      integer = false;
      if (!TakeDigits()) return {};
    }
    if (Take('e') || Take('E')) {
      integer = false;
      Take('+') || Take('-');
      if (!TakeDigits()) return {};
    }
    absl::string_view token = text_.substr(start, at_ - start);
    if (!integer) return Float(token);
    if (at_ - digits <= kSafeDigits) {
      long long value = 0;
      std::from_chars(token.data(), token.data() + token.size(), value);
      return Object::Steal(PyLong_FromLongLong(value));
    }
    return Object::Steal(PyLong_FromString(std::string(token).c_str(), nullptr, 10));
  }

  bool TakeDigits() {
    size_t start = at_;
    while (at_ < text_.size() && IsDigit(text_[at_])) ++at_;
    return at_ > start || Wrong("invalid number");
  }

  Object Float(absl::string_view token) {
    double value = 0;
    auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
    if (error == std::errc::result_out_of_range) {
      // Too large, or too small, which is zero: from_chars does not tell.
      value = strtod(std::string(token).c_str(), nullptr);
      if (value > 1 || value < -1) {
        fault_ = absl::StrCat(field_, " has a number that is too large for a double");
        return {};
      }
    }
    return Object::Steal(PyFloat_FromDouble(value));
  }

  // What follows an opening quote.
  Object String() {
    size_t start = at_;
    std::string unescaped;
    bool escapes = false;
    while (true) {
      size_t plain = at_;
      while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
             static_cast<unsigned char>(text_[at_]) >= 0x20) {
        ++at_;
      }
      if (at_ >= text_.size() || static_cast<unsigned char>(text_[at_]) < 0x20) {
        Wrong("a control character in a string");
        return {};
      }
      if (text_[at_] == '"' && !escapes) return Text(text_.substr(start, at_++ - start));
      absl::StrAppend(&unescaped, text_.substr(plain, at_ - plain));
      if (text_[at_++] == '"') return Text(unescaped);
      escapes = true;
      if (!Escape(unescaped)) return {};
    }
  }

  // What follows a backslash.
  bool Escape(std::string& text) {
    if (at_ >= text_.size()) return Wrong("");
    constexpr absl::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    char name = text_[at_++];
    if (size_t i = kNames.find(name); i != absl::string_view::npos) {
      text += kMeanings[i];
      return true;
    }
    uint32_t code = 0, low = 0;
    if (name != 'u') return --at_, Wrong("invalid escape");
    if (!Hex(code)) return false;
    if (code >= 0xD800 && code < 0xDC00) {
      if (!TakeWord("\\u")) return Wrong("a surrogate without its second half");
      if (!Hex(low)) return false;
      if (low < 0xDC00 || low > 0xDFFF) return Wrong("a surrogate without its second half");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xDC00 && code <= 0xDFFF) {
      return Wrong("a surrogate without its first half");
    }
    AppendUtf8(code, text);
    return true;
  }

  bool Hex(uint32_t& code) {
    absl::string_view digits = text_.substr(at_, 4);
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    if (digits.size() != 4 || end != digits.data() + 4) return Wrong("invalid \\u escape");
    at_ += 4;
    return true;
  }

  const absl::string_view field_, text_;
  const absl::Span<const absl::string_view> attachments_;
  const absl::string_view owner_;
  size_t at_ = 0;
  std::vector<Level> levels_;
  std::string fault_;
};

}  // namespace

absl::StatusOr<Object> ReadJson(absl::string_view field, absl::string_view text,
                                absl::Span<const absl::string_view> attachments, absl::string_view owner) {
  return Reader(field, text, attachments, owner).Read();
}

}  // namespace dirty::python
