// dirty-worker: runs native apps for dirtyd, which starts it.

#include <absl/synchronization/mutex.h>

#include <cstdio>
#include <string>

#include "absl/strings/string_view.h"
#include "worker/native/native_host.h"
#include "worker/runtime/process_title.h"
#include "worker/runtime/worker.h"

namespace {

constexpr char kHelp[] =
    "Usage: dirty-worker [--help | --version]\n"
    "\n"
    "Loads native apps (shared libraries, see dirty/app.h) and runs their calls. dirtyd starts it, tells it over a\n"
    "socket what to load, and ends it; there is nothing to run by hand. To serve an app: dirtyd libgreeter.so:Greeter\n"
    "\n"
    "Environment, set by dirtyd:\n"
    "  DIRTY_WORKER_SOCKET  path to serve dirty.v1.Worker on\n"
    "  DIRTY_READY_FD       descriptor that gets a newline once the worker listens\n";

}  // namespace

int main(int argc, char** argv) {
  dirty::worker::ProcessTitle title = dirty::worker::ProcessTitle::Prepare();
  if (argc > 1) {
    absl::string_view flag = argv[1];
    if (flag == "--help" || flag == "-h") {
      fputs(kHelp, stdout);
      return 0;
    }
    if (flag == "--version") {
      puts("dirty-worker " DIRTY_VERSION);
      return 0;
    }
    fprintf(stderr, "dirty-worker: unknown argument '%s'; see dirty-worker --help\n", argv[1]);
    return 2;
  }
  absl::StatusOr<dirty::worker::WorkerEnvironment> environment = dirty::worker::WorkerEnvironment::Read();
  if (!environment.ok()) {
    fprintf(stderr, "dirty-worker is started by dirtyd (try: dirtyd libgreeter.so:Greeter), not by hand: %s\n",
            std::string(environment.status().message()).c_str());
    return 2;
  }
  // Debian's abseil has the detector on; it costs microseconds a call.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  dirty::worker::NativeHost host;
  return dirty::worker::Worker(host, title).Run(*environment);
}
