#pragma once

#include "../wasmtime_api.hpp"

namespace edgeagent {

// edge_hose: recv_info, recv, loan, publish, map, release.
void define_edge_hose(wasmtime_linker_t *linker);

} // namespace edgeagent
