// The native app under chaos: checks payloads and answers with transformed ones, and misbehaves on request.
// mixed_app.py is the same in Python.

#include <dirty/app.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/chaos/payload.h"

namespace {

using dirty::Context;
using dirty::Json;
using dirty::chaos::Checksum;
using dirty::chaos::Part;
using dirty::chaos::Reversed;
using dirty::chaos::Transformed;

class Mixed : public dirty::App {
 public:
  void Init() override {
    const char* executed = getenv("CHAOS_EXECUTED");
    const char* raise_file = getenv("CHAOS_RAISE");
    if (executed == nullptr || raise_file == nullptr) throw std::runtime_error("not started by chaos");
    if (std::filesystem::exists(raise_file)) throw std::runtime_error("told to raise");
    executed_ = open(executed, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (executed_ < 0) throw std::runtime_error("cannot open the ledger of executed calls");
  }

  Json Call(std::string_view action, const Json& args, const Json& kwargs, Context& context) override {
    Note(args.at(0));
    if (action == "work") return Work(args, kwargs, context);
    if (action == "parts") return Parts(args, context);
    if (action == "hang") return std::this_thread::sleep_for(std::chrono::seconds(60)), nullptr;  // cannot be cancelled
    if (action == "crash") return Crash();
    if (action == "leak") return leaked_.emplace_back(args.at(1).get<size_t>(), 'x'), nullptr;
    if (action == "spawn") return Spawn();
    if (action == "shout") return Shout(args.at(1));
    throw dirty::Error("UnknownAction", std::string(action));
  }

  void Close() override { close(executed_); }

 private:
  // One write: lines of several processes do not mix.
  void Note(const std::string& who) const {
    const std::string line = who + "\n";
    if (write(executed_, line.data(), line.size()) < 0) throw std::runtime_error("cannot write the ledger");
  }

  static void Check(const std::string& text, std::string_view blob, const Json& sum) {
    if (Checksum(text, blob) != sum) throw dirty::Error("WrongPayload", "the payload is not what its checksum is of");
  }

  // (who, text, blob, checksum; seconds)
  static Json Work(const Json& args, const Json& kwargs, Context& context) {
    const std::string text = args.at(1);
    const std::string_view blob = context.Bytes(args.at(2));
    Check(text, blob, args.at(3));
    std::this_thread::sleep_for(std::chrono::duration<double>(kwargs.at("seconds").get<double>()));
    const std::string answer = Transformed(text);
    std::string reversed = Reversed(blob);
    const uint32_t sum = Checksum(answer, reversed);
    return {{"who", args.at(0)}, {"text", answer}, {"blob", context.Attach(std::move(reversed))}, {"checksum", sum}};
  }

  // (who, text, blob, checksum, count)
  static Json Parts(const Json& args, Context& context) {
    const std::string text = args.at(1);
    const std::string_view blob = context.Bytes(args.at(2));
    Check(text, blob, args.at(3));
    const size_t count = args.at(4);
    for (size_t i = 0; i < count; ++i) {
      std::string part(Part(blob, i, count));
      const uint32_t sum = Checksum(text, part);
      context.Emit({{"who", args.at(0)}, {"index", i}, {"part", context.Attach(std::move(part))}, {"checksum", sum}});
    }
    return nullptr;
  }

  [[noreturn]] static Json Crash() {
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
    _exit(1);
  }

  // A grandchild that keeps everything open that is not close-on-exec.
  static Json Spawn() {
    const pid_t child = fork();
    if (child == 0) {
      execl("/bin/sleep", "sleep", "1000", static_cast<char*>(nullptr));
      _exit(127);
    }
    return nullptr;
  }

  static Json Shout(size_t lines) {
    std::string garbage;
    for (int i = 0; i < 512; ++i) garbage.push_back(static_cast<char>(rand()));
    for (size_t i = 0; i < lines; ++i)
      fprintf(stderr, "line %zu of a flood\n", i), fwrite(garbage.data(), 1, 512, stderr);
    return nullptr;
  }

  int executed_ = -1;
  std::vector<std::string> leaked_;
};
DIRTY_APP(Mixed)

}  // namespace
