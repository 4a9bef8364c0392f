// Apps that can be deployed: what they are is in a file, read by Init. For tests of reloads and restarts.

#include <dirty/app.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using dirty::Context;
using dirty::Json;

std::string Variable(const char* name) {
  const char* value = getenv(name);
  if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set");
  return value;
}

bool Exists(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0;
}

void Poll() { std::this_thread::sleep_for(std::chrono::milliseconds(2)); }

// The file that `variable` names holds its version, or `raise` for an Init that throws, `wait` for one that lasts as
// long as the file says so, or `die` for one that ends the process. Each Init adds a byte to FILE.boots.
class Deployed : public dirty::App {
 protected:
  explicit Deployed(const char* variable) : path_(Variable(variable)) {}

 private:
  std::string Read() const {
    std::ifstream file(path_);
    std::string text(std::istreambuf_iterator<char>(file), {});
    if (!file) throw std::runtime_error("cannot read " + path_);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }

  void Init() override {
    std::ofstream(path_ + ".boots", std::ios::app).put('+').flush();
    while ((version_ = Read()) == "wait") Poll();
    if (version_ == "raise") throw std::runtime_error("version raise has no model");
    if (version_ == "die") _exit(3);
  }

  Json Call(std::string_view action, const Json& args, const Json&, Context& context) override {
    if (action == "version") return version_;
    if (action == "hold") return Hold(args.at(0), args.at(1));          // (release, started): files
    if (action == "work") return Work(args.at(0).get<int>(), context);  // (milliseconds), until cancelled
    if (action == "keep") return Keep(args.at(0).get<size_t>());        // (bytes), until the process ends
    throw dirty::Error("UnknownAction", "no action '" + std::string(action) + "'");
  }

  Json Hold(const std::string& release, const std::string& started) {
    std::ofstream{started}.flush();
    while (!Exists(release)) Poll();
    return version_;
  }

  Json Work(int milliseconds, Context& context) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
    for (; std::chrono::steady_clock::now() < end; Poll()) context.ThrowIfCancelled();
    return version_;
  }

  Json Keep(size_t bytes) {
    kept_.emplace_back(bytes, 'x');
    return version_;
  }

  const std::string path_;
  std::string version_;
  std::vector<std::string> kept_;
};

class Versioned : public Deployed {
 public:
  Versioned() : Deployed("DIRTY_TEST_VERSION_FILE") {}
};
DIRTY_APP(Versioned)

class Other : public Deployed {
 public:
  Other() : Deployed("DIRTY_TEST_OTHER_FILE") {}
};
DIRTY_APP(Other)

}  // namespace
