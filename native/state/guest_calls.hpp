// edge_state's functions for guests.
#pragma once

#include "../wasmtime_api.hpp"

namespace edgeagent {

void define_edge_state(wasmtime_linker_t *linker);

} // namespace edgeagent
