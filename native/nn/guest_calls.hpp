// wasi-nn's functions for guests.
#pragma once

#include "../wasmtime_api.hpp"

namespace edgeagent {

void define_wasi_nn(wasmtime_linker_t *linker);

} // namespace edgeagent
