// The bytes of a call that Python owns.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>

namespace edgeagent {

// Holds the caller's buffer for as long as the guest may read it.
class BodyOwner {
public:
  explicit BodyOwner(PyObject *object) {
    if (PyObject_GetBuffer(object, &view_, PyBUF_SIMPLE) != 0) {
      throw pybind11::error_already_set();
    }
  }
  BodyOwner(const BodyOwner &) = delete;
  BodyOwner &operator=(const BodyOwner &) = delete;
  ~BodyOwner() { PyBuffer_Release(&view_); } // every path that destroys one holds the GIL

  const std::uint8_t *data() const { return static_cast<const std::uint8_t *>(view_.buf); }
  std::size_t size() const { return static_cast<std::size_t>(view_.len); }

private:
  Py_buffer view_{};
};

} // namespace edgeagent
