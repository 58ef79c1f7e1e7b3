#include "bindings.hpp"

#include <memory>

namespace py = pybind11;

namespace edgeagent {

void bind_accel(py::module_ &module) {
  py::class_<Window, std::shared_ptr<Window>>(module, "Window")
      .def_property_readonly("size", &Window::size)
      .def("enter",
           [](Window &window) {
             if (!window.enter()) {
               throw py::value_error("the call is over");
             }
             return py::memoryview::from_memory(static_cast<void *>(window.data()),
                                                static_cast<py::ssize_t>(window.size()));
           })
      .def("leave", &Window::leave)
      .def("source", &Window::source, py::arg("start"), py::arg("count"), py::call_guard<py::gil_scoped_release>());
  py::class_<HoseSource>(module, "HoseSource")
      .def_property_readonly("fd", &HoseSource::fd)
      .def_property_readonly("offset", &HoseSource::offset);
}

} // namespace edgeagent
