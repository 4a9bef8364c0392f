// The app of the conformance suite, in C++. README.md says what each action does; conformance_app.py does the same.

#include <dirty/app.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

using dirty::Context;
using dirty::Json;

void Pause() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

std::string Variable(const char* name) {
  const char* value = getenv(name);
  if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set");
  return value;
}

bool IsReference(const Json& value) { return value.is_object() && value.size() == 1 && value.contains("$attachment"); }

// The document with every reference replaced by one to an attachment of the result with the same bytes.
Json Reattach(const Json& value, Context& context) {
  if (IsReference(value)) return context.Attach(std::string(context.Bytes(value)));
  if (!value.is_structured()) return value;
  Json copy = value.is_array() ? Json::array() : Json::object();
  for (const auto& [key, member] : value.items()) {
    if (value.is_array()) {
      copy.push_back(Reattach(member, context));
    } else {
      copy[key] = Reattach(member, context);
    }
  }
  return copy;
}

std::string KindOf(const Json& value) {
  if (IsReference(value)) return "bytes";
  if (value.is_number()) return value.is_number_float() ? "float" : "integer";
  return value.type_name();  // null, boolean, string, array, object
}

// What `command` prints.
std::string OutputOf(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "re");
  if (pipe == nullptr) throw std::runtime_error("popen");
  std::string output;
  char block[4096];
  while (size_t got = fread(block, 1, sizeof(block), pipe)) output.append(block, got);
  if (pclose(pipe) != 0) throw std::runtime_error(command + " failed");
  return output;
}

// What was noted is in files, which the app in Python and every worker share.
class Notes {
 public:
  void Add(const std::string& name, const std::string& what) { std::ofstream(Path(name, what)).flush(); }
  void Remove(const std::string& name, const std::string& what) { unlink(Path(name, what).c_str()); }
  bool Has(const std::string& name, const std::string& what) const {
    struct stat status;
    return stat(Path(name, what).c_str(), &status) == 0;
  }

 private:
  std::string Path(const std::string& name, const std::string& what) const { return folder_ + "/" + name + "." + what; }

  const std::string folder_ = Variable("CONFORMANCE_FOLDER");
};

// One call's arguments, by place or by name.
class Arguments {
 public:
  Arguments(const Json& args, const Json& kwargs) : args_(args), kwargs_(kwargs) {}

  const Json& at(size_t place, const char* name) const {
    if (place < args_.size()) return args_[place];
    if (!kwargs_.contains(name)) throw dirty::Error("TypeError", std::string("argument '") + name + "' is missing");
    return kwargs_[name];
  }
  std::string Text(size_t place, const char* name) const { return at(place, name).get<std::string>(); }
  size_t Number(size_t place, const char* name) const { return at(place, name).get<size_t>(); }

 private:
  const Json& args_;
  const Json& kwargs_;
};

class Conformance : public dirty::App {
 public:
  Json Call(std::string_view action, const Json& args, const Json& kwargs, Context& context) override {
    if (action == "everything") return {{"args", Reattach(args, context)}, {"kwargs", Reattach(kwargs, context)}};
    auto found = actions_.find(action);
    if (found == actions_.end()) throw dirty::Error("ValueError", "no action '" + std::string(action) + "'");
    return found->second(Arguments(args, kwargs), context);
  }

 private:
  static Json Deep(size_t levels) {
    Json value = 1;
    for (size_t i = 0; i < levels; ++i) value = Json::array({std::move(value)});
    return value;
  }

  static void Count(size_t n, Context& context) {
    for (size_t i = 0; i < n; ++i) context.Emit(i);
  }

  static Json Blobs(size_t n, size_t size, Context& context) {
    for (size_t i = 0; i < n; ++i) {
      context.Emit({{"i", i}, {"data", context.Attach(std::string(size, static_cast<char>(i % 256)))}});
    }
    return nullptr;
  }

  // Runs `step`, and notes that the call was cancelled if that ends it.
  template <typename Step>
  Json Noting(const std::string& name, Step step) {
    try {
      return step();
    } catch (const dirty::Cancelled&) {
      notes_.Add(name, "cancelled");
      throw;
    }
  }

  Json Hold(const std::string& name, Context& context) {
    notes_.Add(name, "running");
    for (; !notes_.Has(name, "released"); Pause()) context.ThrowIfCancelled();
    return "released";
  }

  Json CountForever(const std::string& name, Context& context) {
    notes_.Add(name, "running");
    for (size_t i = 0;; ++i) context.Emit(i);
  }

  Json Forget(const std::string& name) {
    for (const char* what : {"running", "cancelled", "released"}) notes_.Remove(name, what);
    return nullptr;
  }

  Json Noted(const std::string& name) {
    Json noted = Json::array();
    for (const char* what : {"cancelled", "running"}) {
      if (notes_.Has(name, what)) noted.push_back(what);
    }
    return noted;
  }

  Json AwaitNoted(const std::string& name, const std::string& what, Context& context) {
    for (; !notes_.Has(name, what); Pause()) context.ThrowIfCancelled();
    return nullptr;
  }

  static Json AwaitQueued(size_t n, Context& context) {
    std::string command;
    const Json words = Json::parse(Variable("CONFORMANCE_STATUS"));
    for (const Json& word : words) command += "'" + word.get<std::string>() + "' ";
    for (;; Pause()) {
      context.ThrowIfCancelled();
      size_t queued = 0;
      const Json status = Json::parse(OutputOf(command));
      for (const Json& app : status["apps"]) queued += app["queued"].get<size_t>();
      if (queued == n) return nullptr;
    }
  }

  [[noreturn]] static void Die() {
    fprintf(stderr, "conformance dies\n");
    kill(getpid(), SIGKILL);
    abort();
  }

  using Action = std::function<Json(const Arguments&, Context&)>;

  Notes notes_;
  const std::map<std::string, Action, std::less<>> actions_ = {
      {"echo", [](const Arguments& a, Context& c) { return Reattach(a.at(0, "value"), c); }},
      {"nothing", [](const Arguments&, Context&) { return nullptr; }},
      {"kind", [](const Arguments& a, Context&) { return KindOf(a.at(0, "value")); }},
      {"size", [](const Arguments& a, Context& c) { return c.Bytes(a.at(0, "value")).size(); }},
      {"blob",
       [](const Arguments& a, Context& c) {
         return c.Attach(std::string(a.Number(0, "size"), static_cast<char>(a.Number(1, "byte"))));
       }},
      {"text", [](const Arguments& a, Context&) { return std::string(a.Number(0, "size"), 'a'); }},
      {"deep", [](const Arguments& a, Context&) { return Deep(a.Number(0, "levels")); }},
      {"fail", [](const Arguments& a, Context&) -> Json { throw dirty::Error("ValueError", a.Text(0, "message")); }},
      {"fail_deep",
       [](const Arguments& a, Context&) -> Json { throw dirty::Error("ValueError", a.Text(0, "message")); }},
      {"count",
       [](const Arguments& a, Context& c) {
         Count(a.Number(0, "n"), c);
         return nullptr;
       }},
      {"count_and_fail",
       [](const Arguments& a, Context& c) -> Json {
         Count(a.Number(0, "n"), c);
         throw dirty::Error("ValueError", a.Text(1, "message"));
       }},
      {"blobs", [](const Arguments& a, Context& c) { return Blobs(a.Number(0, "n"), a.Number(1, "size"), c); }},
      {"hold",
       [this](const Arguments& a, Context& c) {
         const std::string name = a.Text(0, "name");
         return Noting(name, [&] { return Hold(name, c); });
       }},
      {"count_and_hold",
       [this](const Arguments& a, Context& c) {
         const std::string name = a.Text(1, "name");
         return Noting(name, [&]() -> Json {
           Count(a.Number(0, "n"), c);
           Hold(name, c);
           return nullptr;
         });
       }},
      {"count_forever",
       [this](const Arguments& a, Context& c) {
         const std::string name = a.Text(0, "name");
         return Noting(name, [&] { return CountForever(name, c); });
       }},
      {"mark",
       [this](const Arguments& a, Context&) {
         notes_.Add(a.Text(0, "name"), "running");
         return nullptr;
       }},
      {"release",
       [this](const Arguments& a, Context&) {
         notes_.Add(a.Text(0, "name"), "released");
         return nullptr;
       }},
      {"forget", [this](const Arguments& a, Context&) { return Forget(a.Text(0, "name")); }},
      {"noted", [this](const Arguments& a, Context&) { return Noted(a.Text(0, "name")); }},
      {"await_noted",
       [this](const Arguments& a, Context& c) { return AwaitNoted(a.Text(0, "name"), a.Text(1, "what"), c); }},
      {"await_queued", [](const Arguments& a, Context& c) { return AwaitQueued(a.Number(0, "n"), c); }},
      {"die", [](const Arguments&, Context&) -> Json { Die(); }},
      {"leave", [](const Arguments& a, Context&) -> Json { _exit(static_cast<int>(a.Number(0, "code"))); }},
  };
};
DIRTY_APP(Conformance)

class Broken : public dirty::App {
  void Init() override { throw dirty::Error("ValueError", "Broken has no model"); }
  Json Call(std::string_view, const Json&, const Json&, Context&) override { return nullptr; }
};
DIRTY_APP(Broken)

}  // namespace
