// Texts out of wasmtime's error and trap objects; each take_* function frees what it is given.
#pragma once

#include "outcome.hpp"
#include "wasmtime_api.hpp"

#include <string>
#include <vector>

namespace edgeagent {

// The first line of the message: wasmtime appends the backtrace, which we keep as a list of its own.
std::string take_message(wasmtime_error_t *error);

// Name of a wasmtime trap code, as the specification calls it.
const char *trap_name(int code);

// Fills message, trap_code and backtrace of `out` and frees `trap` and `error` (either may be null).
void describe_failure(Outcome &out, wasm_trap_t *trap, wasmtime_error_t *error);

// Frees both without looking.
void drop_failure(wasm_trap_t *trap, wasmtime_error_t *error);

} // namespace edgeagent
