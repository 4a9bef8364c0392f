// The worker's part of the extension `_dirty`.

#include <pybind11/pybind11.h>

namespace py = pybind11;

namespace dirty::worker {

void BindWorker(py::module_&) {}

}  // namespace dirty::worker
