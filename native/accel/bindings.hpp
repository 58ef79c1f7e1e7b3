// What Python sees of edge_accel.
#pragma once

#include "window.hpp"

#include <pybind11/pybind11.h>

namespace edgeagent {

void bind_accel(pybind11::module_ &module);

} // namespace edgeagent
