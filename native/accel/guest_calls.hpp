// edge_accel's functions for guests.
#pragma once

#include "../wasmtime_api.hpp"

namespace edgeagent {

void define_edge_accel(wasmtime_linker_t *linker);

} // namespace edgeagent
