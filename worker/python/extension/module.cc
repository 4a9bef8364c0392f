// `_dirty`, the extension behind the packages `dirty` (client) and `dirty_worker`. One for both: the generated code of
// dirty.v1 can exist once in a process.

#include <absl/synchronization/mutex.h>
#include <pybind11/pybind11.h>

namespace py = pybind11;

namespace dirty {
void BindClient(py::module_& module);  // client/python/client_bindings.cc
namespace worker {
void BindWorker(py::module_& module);  // worker/python/worker_bindings.cc
}
}  // namespace dirty

PYBIND11_MODULE(_dirty, module) {
  module.doc() = "The compiled part of the packages dirty and dirty_worker. Not for direct use.";
  module.attr("__version__") = DIRTY_VERSION;
  // Debian's abseil has the detector on; it costs microseconds a call.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  dirty::BindClient(module);
  dirty::worker::BindWorker(module);
}
