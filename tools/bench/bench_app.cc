// The native app that dirty-bench and compare call: it answers with what it got. The same as dirty_bench_app.py.

#include <dirty/app.h>

#include <chrono>
#include <thread>

namespace {

class Echo : public dirty::App {
 public:
  dirty::Json Call(std::string_view action, const dirty::Json& args, const dirty::Json&,
                   dirty::Context& context) override {
    if (action == "echo") return Return(args.at(0), context);
    if (action == "count") return Count(args.at(0), context);
    if (action == "sleep") return Sleep(args.at(0));
    throw dirty::Error("UnknownAction", "no action '" + std::string(action) + "'; there are echo, count, sleep");
  }

 private:
  // A binary value comes back as one.
  static dirty::Json Return(const dirty::Json& value, dirty::Context& context) {
    const bool binary = value.is_object() && value.size() == 1 && value.contains("$attachment");
    return binary ? context.Attach(std::string(context.Bytes(value))) : value;
  }

  // Streams the numbers below `end`.
  static dirty::Json Count(int64_t end, dirty::Context& context) {
    for (int64_t i = 0; i < end; ++i) context.Emit(i);
    return nullptr;
  }

  // Sleeps for `seconds`, as a long call that needs no processor.
  static dirty::Json Sleep(double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    return seconds;
  }
};
DIRTY_APP(Echo)

}  // namespace
