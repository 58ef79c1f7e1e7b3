// Defining host functions in a linker, and what they share.
#pragma once

#include "call.hpp"

namespace edgeagent {

// `parameters` and `results`: one letter each, i = i32, I = i64. Throws std::runtime_error with wasmtime's text.
void define_host_function(wasmtime_linker_t *linker, const char *module, const char *name, const char *parameters,
                          const char *results, HostFunction function, void *env);

// The memory a host function works on: the call's, or, while a start function runs, the caller's export.
bool guest_memory(Call &call, wasmtime_caller_t *caller, wasmtime_memory_t &out);

// edge_log.log(level, ptr, len): lines are kept in the call, bounded, and logged when it has finished.
void define_edge_log(wasmtime_linker_t *linker);

} // namespace edgeagent
