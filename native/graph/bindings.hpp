#pragma once

#include <pybind11/pybind11.h>

namespace edgeagent {

// edgeagent.native._core.graph: what edgeagent/topology computes natively.
void bind_graph(pybind11::module_ &module);

} // namespace edgeagent
