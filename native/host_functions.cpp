#include "host_functions.hpp"

#include "wasm_text.hpp"
#include "wasi/guest_memory.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

namespace edgeagent {

namespace {

constexpr std::size_t kLogLinesMax = 256;
constexpr std::size_t kLogLineBytesMax = 1024;

wasm_valtype_vec_t value_types(const char *letters) {
  std::vector<wasm_valtype_t *> types;
  for (const char *letter = letters; *letter != '\0'; ++letter) {
    types.push_back(wt.wasm_valtype_new(*letter == 'I' ? kValI64 : kValI32));
  }
  wasm_valtype_vec_t vec{};
  wt.wasm_valtype_vec_new(&vec, types.size(), types.data());
  return vec;
}

wasm_trap_t *edge_log(void *, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, std::size_t) {
  wasmtime_context_t *context = wt.wasmtime_caller_context(caller);
  Call &call = *static_cast<Call *>(wt.wasmtime_context_get_data(context));
  wasmtime_memory_t found{};
  std::string_view text;
  if (guest_memory(call, caller, found)) {
    const GuestMemory memory(wt.wasmtime_memory_data(context, &found), wt.wasmtime_memory_data_size(context, &found));
    if (memory.text(static_cast<std::uint32_t>(values[1].i32), static_cast<std::uint32_t>(values[2].i32), text)) {
      try {
        if (call.out().log.size() < kLogLinesMax) {
          call.out().log.emplace_back(values[0].i32, text.substr(0, kLogLineBytesMax));
        }
        return nullptr;
      } catch (const std::bad_alloc &) {
        return nullptr; // a lost log line is no reason to end the guest
      }
    }
  }
  call.fail_from_host(Failure::Trap, "edge_log was given a range outside the memory");
  return wt.wasmtime_trap_new("edge_log", 8);
}

} // namespace

void define_host_function(wasmtime_linker_t *linker, const char *module, const char *name, const char *parameters,
                          const char *results, HostFunction function, void *env) {
  wasm_valtype_vec_t in = value_types(parameters);
  wasm_valtype_vec_t out = value_types(results);
  wasm_functype_t *type = wt.wasm_functype_new(&in, &out);
  wasmtime_error_t *error = wt.wasmtime_linker_define_func_unchecked(
      linker, module, std::strlen(module), name, std::strlen(name), type, function, env, nullptr);
  wt.wasm_functype_delete(type);
  if (error != nullptr) {
    throw std::runtime_error(take_message(error));
  }
}

bool guest_memory(Call &call, wasmtime_caller_t *caller, wasmtime_memory_t &out) {
  if (call.memory() != nullptr) {
    out = *call.memory();
    return true;
  }
  wasmtime_extern_t item{};
  if (!wt.wasmtime_caller_export_get(caller, "memory", 6, &item) || item.kind != kExternMemory) {
    return false;
  }
  out = item.of.memory;
  return true;
}

void define_edge_log(wasmtime_linker_t *linker) {
  define_host_function(linker, "edge_log", "log", "iii", "", &edge_log, nullptr);
}

} // namespace edgeagent
