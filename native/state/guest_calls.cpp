// The functions of edge_state that a guest calls, and their definition in a linker. Every argument is hostile.
#include "guest_calls.hpp"

#include "../call.hpp"
#include "../host_functions.hpp"
#include "call_state.hpp"

#include <new>

namespace edgeagent {

namespace {

// What a host function of this module does, given the call's state and its i32 arguments.
using Body = std::int32_t (*)(CallState &state, const wasmtime_val_raw_t *values);

std::uint32_t u32(const wasmtime_val_raw_t &value) { return static_cast<std::uint32_t>(value.i32); }

template <Body body> wasm_trap_t *call_body(void *, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, std::size_t) {
  Call &call = *static_cast<Call *>(wt.wasmtime_context_get_data(wt.wasmtime_caller_context(caller)));
  std::int32_t result = kStateBad;
  if (call.memory() != nullptr) { // else a start function is running, and there is nothing to work on yet
    try {
      result = body(call.state(), values);
    } catch (const std::bad_alloc &) {
      result = kStateMemory;
    }
  }
  values[0].i32 = result;
  return call.host_failed() || call.is_stopping() ? wt.wasmtime_trap_new("edge_state", 10) : nullptr;
}

std::int32_t get(CallState &s, const wasmtime_val_raw_t *v) { return s.get(u32(v[0]), u32(v[1]), u32(v[2]), u32(v[3])); }
std::int32_t put(CallState &s, const wasmtime_val_raw_t *v) {
  return s.put(u32(v[0]), u32(v[1]), u32(v[2]), u32(v[3]), v[4].i32);
}
std::int32_t remove(CallState &s, const wasmtime_val_raw_t *v) { return s.remove(u32(v[0]), u32(v[1])); }
std::int32_t list(CallState &s, const wasmtime_val_raw_t *v) {
  return s.list(u32(v[0]), u32(v[1]), 0, 0, u32(v[2]), u32(v[3]));
}
std::int32_t list_after(CallState &s, const wasmtime_val_raw_t *v) {
  return s.list(u32(v[0]), u32(v[1]), u32(v[2]), u32(v[3]), u32(v[4]), u32(v[5]));
}
std::int32_t cas(CallState &s, const wasmtime_val_raw_t *v) {
  return s.cas(u32(v[0]), u32(v[1]), u32(v[2]), u32(v[3]), u32(v[4]));
}
std::int32_t group(CallState &s, const wasmtime_val_raw_t *v) {
  return s.group(u32(v[0]), u32(v[1]), u32(v[2]), u32(v[3]));
}
std::int32_t version(CallState &s, const wasmtime_val_raw_t *v) {
  return s.version(u32(v[0]), u32(v[1]), u32(v[2]), u32(v[3]));
}

} // namespace

void define_edge_state(wasmtime_linker_t *linker) {
  define_host_function(linker, "edge_state", "get", "iiii", "i", &call_body<get>, nullptr);
  define_host_function(linker, "edge_state", "put", "iiiii", "i", &call_body<put>, nullptr);
  define_host_function(linker, "edge_state", "delete", "ii", "i", &call_body<remove>, nullptr);
  define_host_function(linker, "edge_state", "list", "iiii", "i", &call_body<list>, nullptr);
  define_host_function(linker, "edge_state", "list_after", "iiiiii", "i", &call_body<list_after>, nullptr);
  define_host_function(linker, "edge_state", "cas", "iiiii", "i", &call_body<cas>, nullptr);
  define_host_function(linker, "edge_state", "group", "iiii", "i", &call_body<group>, nullptr);
  define_host_function(linker, "edge_state", "version", "iiii", "i", &call_body<version>, nullptr);
}

} // namespace edgeagent
