// A function's limits and abilities, as runtime/native_engine.py says them.
#pragma once

#include "function.hpp"

#include <pybind11/pybind11.h>

namespace edgeagent {

// Raises KeyError where a field is missing, and pybind11's error where one has another type.
FunctionSpec make_spec(const pybind11::dict &d);

} // namespace edgeagent
