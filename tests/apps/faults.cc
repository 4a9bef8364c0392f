// Apps for tests: each misbehaves in one way, or waits for something that the test decides, never for a time.
// Built into the tests' tree only.

#include <dirty/app.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using dirty::Context;
using dirty::Json;
using std::chrono::steady_clock;

[[noreturn]] void Unknown(std::string_view action) {
  throw dirty::Error("UnknownAction", "no action '" + std::string(action) + "'");
}

// Dies of SIGSEGV, also where a sanitizer would take the signal for a finding.
void Crash() {
  signal(SIGSEGV, SIG_DFL);
  raise(SIGSEGV);
}

bool Exists(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0;
}

// An environment variable that the test must set.
std::string Variable(const char* name) {
  const char* value = getenv(name);
  if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set");
  return value;
}

void Poll() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

// Makes a file: how an app tells a test that it got somewhere.
void Touch(const std::string& path) { std::ofstream(path).flush(); }

// The document with every reference replaced by one to an attachment of the result with the same bytes.
Json Reattach(const Json& value, Context& context) {
  if (value.is_object() && value.size() == 1 && value.contains("$attachment")) {
    return context.Attach(std::string(context.Bytes(value)));
  }
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

// Answers, in simple ways.
class Echo : public dirty::App {
 public:
  Json Call(std::string_view action, const Json& args, const Json& kwargs, Context& context) override {
    if (action == "echo") return Reattach(args.at(0), context);
    if (action == "add") return args.at(0).get<double>() + args.at(1).get<double>();
    if (action == "sum_kwargs") return SumOf(kwargs);
    if (action == "size") return context.Bytes(args.at(0)).size();
    if (action == "bytes") return context.Attach(std::string(args.at(0).get<size_t>(), 'x'));  // (size)
    if (action == "text") return std::string(args.at(0).get<size_t>(), 'x');                   // (size)
    if (action == "deep") return Deep(args.at(0));                                             // (levels)
    if (action == "not_utf8") return "\xff";
    if (action == "dangling") return {{"$attachment", 7}};
    if (action == "pid") return getpid();
    if (action == "cwd") return WorkingDirectory();
    if (action == "env") return Variable(args.at(0).get<std::string>().c_str());  // (name)
    if (action == "context") return Describe(context);
    if (action == "trace") return Trace(context);
    if (action == "counter") return ++count_;
    Unknown(action);
  }

 private:
  static Json SumOf(const Json& kwargs) {
    double sum = 0;
    for (const Json& value : kwargs) sum += value.get<double>();
    return sum;
  }

  static Json Deep(size_t levels) {
    Json value = 1;
    for (size_t i = 0; i < levels; ++i) value = Json::array({std::move(value)});
    return value;
  }

  // What the app is told, and what a client in it would find.
  static Json Trace(Context& context) {
    using Current = const char*();
    auto* current = reinterpret_cast<Current*>(dlsym(RTLD_DEFAULT, "dirty_current_traceparent"));
    if (current == nullptr) throw std::runtime_error("dirty-worker does not export it");
    return {context.traceparent(), current()};
  }

  static std::string WorkingDirectory() {
    char path[4096];
    if (getcwd(path, sizeof(path)) == nullptr) throw std::runtime_error("getcwd");
    return path;
  }

  static Json Describe(const Context& context) {
    Json description = {{"call_id", context.call_id()}, {"cancelled", context.cancelled()}, {"seconds_left", nullptr}};
    if (context.deadline() != steady_clock::time_point::max()) {
      description["seconds_left"] = std::chrono::duration<double>(context.deadline() - steady_clock::now()).count();
    }
    return description;
  }

  std::atomic<int> count_{0};
};
DIRTY_APP(Echo)

// Takes as long as it is told. A second argument is a file to make once it runs.
class Slow : public dirty::App {
 public:
  Json Call(std::string_view action, const Json& args, const Json&, Context& context) override {
    if (args.size() > 1) Touch(args[1]);
    if (action == "sleep") return Sleep(args.at(0), context);       // (seconds), until cancelled
    if (action == "wait_for_cancel") return Sleep(1e6, context);    // (anything), until cancelled
    if (action == "sleep_hard") return SleepHard(args.at(0));       // (seconds), whatever happens
    if (action == "wait_for_file") return WaitForFile(args.at(0));  // (path), whatever happens
    if (action == "spin") return Spin(args.at(0));                  // (seconds) of the processor's time
    Unknown(action);
  }

 private:
  static steady_clock::time_point In(double seconds) {
    return steady_clock::now() +
           std::chrono::duration_cast<steady_clock::duration>(std::chrono::duration<double>(seconds));
  }

  static Json Sleep(double seconds, Context& context) {
    for (auto end = In(seconds); steady_clock::now() < end; Poll()) context.ThrowIfCancelled();
    return seconds;
  }

  static Json SleepHard(double seconds) {
    std::this_thread::sleep_until(In(seconds));
    return seconds;
  }

  static Json WaitForFile(const std::string& path) {
    while (!Exists(path)) Poll();
    return path;
  }

  static Json Spin(double seconds) {
    volatile uint64_t turns = 0;
    for (auto end = In(seconds); steady_clock::now() < end;) turns = turns + 1;
    return seconds;
  }
};
DIRTY_APP(Slow)

// Fails in every way. `nested::Faulty` is not its name: the loader knows classes without their namespaces.
namespace nested {

class Faulty : public dirty::App {
 public:
  Json Call(std::string_view action, const Json& args, const Json&, Context&) override {
    if (action == "throw_runtime") throw std::runtime_error(args.at(0).get<std::string>());
    if (action == "throw_int") throw 42;
    if (action == "throw_dirty_error") throw dirty::Error(args.at(0), args.at(1));  // (type, message)
    if (action == "throw_cancelled") throw dirty::Cancelled();
    if (action == "throw_not_utf8") throw std::runtime_error("bad \xff byte");
    if (action == "segv") Crash();
    if (action == "abort") abort();
    if (action == "kill") kill(getpid(), SIGKILL);
    if (action == "exit") _exit(args.at(0));          // (code), at once
    if (action == "exit_normally") exit(args.at(0));  // (code), through destructors
    if (action == "stderr") return Complain(args);    // (line ...)
    if (action == "stdout") return puts(args.at(0).get<std::string>().c_str()), fflush(stdout);
    if (action == "leak") return Leak(args.at(0));    // (bytes), kept until the process ends
    if (action == "hold_descriptors") return Hold();  // a grandchild that keeps everything open
    Unknown(action);
  }

 private:
  static Json Complain(const Json& lines) {
    for (const Json& line : lines) fprintf(stderr, "%s\n", line.get<std::string>().c_str());
    return lines.size();
  }

  Json Leak(size_t bytes) {
    kept_.emplace_back(bytes, 'x');
    return kept_.size();
  }

  static Json Hold() {
    pid_t child = fork();
    if (child == 0) {
      execl("/bin/sleep", "sleep", "1000", static_cast<char*>(nullptr));
      _exit(127);
    }
    return child;
  }

  std::vector<std::string> kept_;
};
DIRTY_APP(nested::Faulty)

}  // namespace nested

class BadInit : public dirty::App {
  void Init() override { throw std::invalid_argument("BadInit has no model"); }
  Json Call(std::string_view, const Json&, const Json&, Context&) override { return nullptr; }
};
DIRTY_APP(BadInit)

class CrashInit : public dirty::App {
  void Init() override {
    fprintf(stderr, "CrashInit is about to crash\n");
    Crash();
  }
  Json Call(std::string_view, const Json&, const Json&, Context&) override { return nullptr; }
};
DIRTY_APP(CrashInit)

// Its Init lasts until the file $DIRTY_TEST_INIT_FILE exists.
class SlowInit : public dirty::App {
  void Init() override {
    for (std::string path = Variable("DIRTY_TEST_INIT_FILE"); !Exists(path);) Poll();
  }
  Json Call(std::string_view, const Json& args, const Json&, Context&) override { return args; }
};
DIRTY_APP(SlowInit)

// Its Init fails unless the file $DIRTY_TEST_OK_FILE exists.
class FlakyInit : public dirty::App {
  void Init() override {
    if (std::string path = Variable("DIRTY_TEST_OK_FILE"); !Exists(path)) throw std::runtime_error("no file " + path);
  }
  Json Call(std::string_view, const Json& args, const Json&, Context&) override { return args; }
};
DIRTY_APP(FlakyInit)

// Its Close appends its name and pid to the file $DIRTY_TEST_CLOSE_LOG.
template <char name>
class CloserNamed : public dirty::App {
  Json Call(std::string_view, const Json& args, const Json&, Context&) override { return args; }
  void Close() override {
    std::string line = std::string("Closer") + name + " " + std::to_string(getpid()) + "\n";
    int file = open(Variable("DIRTY_TEST_CLOSE_LOG").c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0 || write(file, line.data(), line.size()) < 0) abort();
    close(file);
  }
};
class Closer : public CloserNamed<'1'> {};
class Closer2 : public CloserNamed<'2'> {};
DIRTY_APP(Closer)
DIRTY_APP(Closer2)

class CloseThrows : public dirty::App {
  Json Call(std::string_view, const Json& args, const Json&, Context&) override { return args; }
  void Close() override { throw std::runtime_error("CloseThrows does not close"); }
};
DIRTY_APP(CloseThrows)

class Emitter : public dirty::App {
  Json Call(std::string_view action, const Json& args, const Json&, Context& context) override {
    if (action == "count") {  // (n): 0 to n - 1
      for (int i = 0; i < args.at(0); ++i) context.Emit(i);
      return nullptr;
    }
    if (action == "count_and_return") {  // (n): the same, then "end"
      for (int i = 0; i < args.at(0); ++i) context.Emit(i);
      return "end";
    }
    if (action == "count_and_throw") {  // (n)
      for (int i = 0; i < args.at(0); ++i) context.Emit(i);
      throw std::runtime_error("after the chunks");
    }
    if (action == "blocks") {  // (n, size): n chunks, each {"i": i, "block": bytes}
      for (int i = 0; i < args.at(0); ++i) {
        context.Emit({{"i", i}, {"block", context.Attach(std::string(args.at(1).get<size_t>(), char('a' + i % 26)))}});
      }
      return nullptr;
    }
    if (action == "count_then_blocks") {  // (n, path, m, size): waits for the file between n numbers and m blocks
      for (int i = 0; i < args.at(0); ++i) context.Emit(i);
      for (; !Exists(args.at(1)); Poll()) context.ThrowIfCancelled();
      for (int i = 0; i < args.at(2); ++i) context.Emit(context.Attach(std::string(args.at(3).get<size_t>(), 'a')));
      return nullptr;
    }
    if (action == "count_and_wait") {  // (n, path): the same, then waits for the file
      for (int i = 0; i < args.at(0); ++i) context.Emit(i);
      for (; !Exists(args.at(1)); Poll()) context.ThrowIfCancelled();
      return nullptr;
    }
    if (action == "forever") {  // (path): until the reader leaves; then makes the file
      try {
        for (int i = 0;; ++i) context.Emit(i);
      } catch (const dirty::Cancelled&) {
        Touch(args.at(0));
        throw;
      }
    }
    Unknown(action);
  }
};
DIRTY_APP(Emitter)

}  // namespace
