// The worker's part of the extension `_dirty`.

#include <pybind11/pybind11.h>

#include "worker/python/python_host.h"
#include "worker/runtime/process_title.h"
#include "worker/runtime/worker.h"

namespace py = pybind11;

namespace dirty::worker {
namespace {

// The worker's whole life on the main thread; its exit code.
int RunWorker(py::object apps, py::object cancelled) {
  absl::StatusOr<WorkerEnvironment> environment = WorkerEnvironment::Read();
  if (!environment.ok()) throw std::runtime_error(std::string(environment.status().message()));
  ProcessTitle title = ProcessTitle::Prepare();
  py::module_ faulthandler = py::module_::import("faulthandler");
  faulthandler.attr("enable")(py::arg("file") = 2);
  faulthandler.attr("register")(PythonHost::StackDumpSignal(), py::arg("file") = 2, py::arg("all_threads") = true);
  Object held_apps = Object::Borrow(apps.ptr()), held_cancelled = Object::Borrow(cancelled.ptr());
  py::gil_scoped_release without_gil;
  PythonHost host(std::move(held_apps), std::move(held_cancelled));
  return Worker(host, title).Run(*environment);
}

}  // namespace

void BindWorker(py::module_& module) {
  module.def("run_worker", &RunWorker, py::arg("apps"), py::arg("cancelled"),
             "Serves dirtyd until it ends this worker; returns the exit code. Raises RuntimeError where dirtyd's "
             "environment is missing.");
}

}  // namespace dirty::worker
