// The client's part of the extension `_dirty`.

#include <pybind11/pybind11.h>

namespace py = pybind11;

namespace dirty {

void BindClient(py::module_&) {}

}  // namespace dirty
