// The part of wasmtime's C API that the engine calls, declared by us and resolved from the wheel's own library.
//
// The wheel ships no headers. Layouts were checked against the wheel's generated ctypes bindings for 50.x and are
// asserted below; WasmtimeApi::load refuses any other major version (see docs/decisions/0002).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace edgeagent {

struct wasm_engine_t;
struct wasm_functype_t;
struct wasm_trap_t;
struct wasm_valtype_t;
struct wasm_frame_t;
struct wasmtime_error_t;
struct wasmtime_store_t;
struct wasmtime_context_t;
struct wasmtime_module_t;
struct wasmtime_linker_t;
struct wasmtime_instance_pre_t;
struct wasmtime_caller_t;
struct wasmtime_call_future_t;

struct wasm_byte_vec_t {
  std::size_t size;
  char *data;
};
struct wasm_frame_vec_t {
  std::size_t size;
  wasm_frame_t **data;
};
struct wasm_valtype_vec_t {
  std::size_t size;
  wasm_valtype_t **data;
};
struct wasmtime_func_t {
  std::uint64_t store_id;
  void *priv;
};
struct wasmtime_memory_t {
  struct {
    std::uint64_t store_id;
    std::uint32_t priv1;
  } head;
  std::uint32_t priv2;
};
struct wasmtime_instance_t {
  std::uint64_t store_id;
  std::size_t priv;
};
union wasmtime_extern_union_t {
  wasmtime_func_t func;
  wasmtime_memory_t memory;
  std::uint64_t room[3];
};
struct wasmtime_extern_t {
  std::uint8_t kind;
  wasmtime_extern_union_t of;
};
union wasmtime_val_union_t {
  std::int32_t i32;
  std::int64_t i64;
  std::uint64_t room[3];
};
struct wasmtime_val_t {
  std::uint8_t kind;
  wasmtime_val_union_t of;
};
union wasmtime_val_raw_t {
  std::int32_t i32;
  std::int64_t i64;
  std::uint64_t room[2];
};

// Sizes of the 64-bit ABI, as the wheel's bindings declare them.
static_assert(sizeof(wasmtime_func_t) == 16 && sizeof(wasmtime_instance_t) == 16);
static_assert(sizeof(wasmtime_memory_t) == 24 && offsetof(wasmtime_memory_t, priv2) == 16);
static_assert(sizeof(wasmtime_extern_t) == 32 && offsetof(wasmtime_extern_t, of) == 8);
static_assert(sizeof(wasmtime_val_t) == 32 && offsetof(wasmtime_val_t, of) == 8);
static_assert(sizeof(wasmtime_val_raw_t) == 16);

inline constexpr std::uint8_t kExternFunc = 0;
inline constexpr std::uint8_t kExternMemory = 3;
inline constexpr std::uint8_t kValI32 = 0;
inline constexpr std::uint8_t kValI64 = 1;
inline constexpr std::uint8_t kEpochContinue = 0;
inline constexpr std::uint8_t kEpochYield = 1;
inline constexpr std::uint8_t kTrapStackOverflow = 0;
inline constexpr std::uint8_t kTrapInterrupt = 10;
inline constexpr std::uint8_t kTrapOutOfFuel = 11;

using HostFunction = wasm_trap_t *(*)(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *args_and_results,
                                      std::size_t count);
using EpochCallback = wasmtime_error_t *(*)(wasmtime_context_t *context, void *env, std::uint64_t *delta,
                                            std::uint8_t *kind);
using Finalizer = void (*)(void *env);

// name, result, parameters. One entry departs from the generated bindings on purpose: they declare
// wasmtime_context_epoch_deadline_async_yield_and_update as returning an error, and the register then holds a stray
// pointer; we do not use it at all.
#define EDGEAGENT_WASMTIME_FUNCTIONS(X)                                                                                \
  X(wasmtime_engine_clone, wasm_engine_t *, (wasm_engine_t *))                                                         \
  X(wasmtime_engine_increment_epoch, void, (wasm_engine_t *))                                                          \
  X(wasm_engine_delete, void, (wasm_engine_t *))                                                                       \
  X(wasmtime_module_deserialize_file, wasmtime_error_t *, (wasm_engine_t *, const char *, wasmtime_module_t **))       \
  X(wasmtime_module_delete, void, (wasmtime_module_t *))                                                               \
  X(wasmtime_store_new, wasmtime_store_t *, (wasm_engine_t *, void *, Finalizer))                                      \
  X(wasmtime_store_delete, void, (wasmtime_store_t *))                                                                 \
  X(wasmtime_store_context, wasmtime_context_t *, (wasmtime_store_t *))                                                \
  X(wasmtime_store_limiter, void,                                                                                      \
    (wasmtime_store_t *, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t))                        \
  X(wasmtime_store_epoch_deadline_callback, void, (wasmtime_store_t *, EpochCallback, void *, Finalizer))              \
  X(wasmtime_context_set_epoch_deadline, void, (wasmtime_context_t *, std::uint64_t))                                  \
  X(wasmtime_context_set_fuel, wasmtime_error_t *, (wasmtime_context_t *, std::uint64_t))                              \
  X(wasmtime_context_get_data, void *, (const wasmtime_context_t *))                                                   \
  X(wasmtime_linker_new, wasmtime_linker_t *, (wasm_engine_t *))                                                       \
  X(wasmtime_linker_delete, void, (wasmtime_linker_t *))                                                               \
  X(wasmtime_linker_define_func_unchecked, wasmtime_error_t *,                                                         \
    (wasmtime_linker_t *, const char *, std::size_t, const char *, std::size_t, const wasm_functype_t *,               \
     HostFunction, void *, Finalizer))                                                                                 \
  X(wasmtime_linker_instantiate_pre, wasmtime_error_t *,                                                               \
    (const wasmtime_linker_t *, const wasmtime_module_t *, wasmtime_instance_pre_t **))                                \
  X(wasmtime_instance_pre_instantiate, wasmtime_error_t *,                                                             \
    (const wasmtime_instance_pre_t *, wasmtime_context_t *, wasmtime_instance_t *, wasm_trap_t **))                    \
  X(wasmtime_instance_pre_delete, void, (wasmtime_instance_pre_t *))                                                   \
  X(wasmtime_instance_export_get, bool,                                                                                \
    (wasmtime_context_t *, const wasmtime_instance_t *, const char *, std::size_t, wasmtime_extern_t *))               \
  X(wasmtime_func_call_unchecked, wasmtime_error_t *,                                                                  \
    (wasmtime_context_t *, const wasmtime_func_t *, wasmtime_val_raw_t *, std::size_t, wasm_trap_t **))                \
  X(wasmtime_func_call_async, wasmtime_call_future_t *,                                                                \
    (wasmtime_context_t *, const wasmtime_func_t *, const wasmtime_val_t *, std::size_t, wasmtime_val_t *,             \
     std::size_t, wasm_trap_t **, wasmtime_error_t **))                                                                \
  X(wasmtime_call_future_poll, bool, (wasmtime_call_future_t *))                                                       \
  X(wasmtime_call_future_delete, void, (wasmtime_call_future_t *))                                                     \
  X(wasmtime_memory_data, std::uint8_t *, (const wasmtime_context_t *, const wasmtime_memory_t *))                     \
  X(wasmtime_memory_data_size, std::size_t, (const wasmtime_context_t *, const wasmtime_memory_t *))                   \
  X(wasmtime_caller_export_get, bool, (wasmtime_caller_t *, const char *, std::size_t, wasmtime_extern_t *))           \
  X(wasmtime_caller_context, wasmtime_context_t *, (wasmtime_caller_t *))                                              \
  X(wasmtime_trap_new, wasm_trap_t *, (const char *, std::size_t))                                                     \
  X(wasmtime_trap_code, bool, (const wasm_trap_t *, std::uint8_t *))                                                   \
  X(wasm_trap_message, void, (const wasm_trap_t *, wasm_byte_vec_t *))                                                 \
  X(wasm_trap_trace, void, (const wasm_trap_t *, wasm_frame_vec_t *))                                                  \
  X(wasm_trap_delete, void, (wasm_trap_t *))                                                                           \
  X(wasmtime_error_new, wasmtime_error_t *, (const char *))                                                            \
  X(wasmtime_error_delete, void, (wasmtime_error_t *))                                                                 \
  X(wasmtime_error_message, void, (const wasmtime_error_t *, wasm_byte_vec_t *))                                       \
  X(wasmtime_error_wasm_trace, void, (const wasmtime_error_t *, wasm_frame_vec_t *))                                   \
  X(wasm_frame_vec_delete, void, (wasm_frame_vec_t *))                                                                 \
  X(wasm_frame_func_index, std::uint32_t, (const wasm_frame_t *))                                                      \
  X(wasm_frame_module_offset, std::size_t, (const wasm_frame_t *))                                                     \
  X(wasmtime_frame_func_name, const wasm_byte_vec_t *, (const wasm_frame_t *))                                         \
  X(wasm_byte_vec_delete, void, (wasm_byte_vec_t *))                                                                   \
  X(wasm_valtype_new, wasm_valtype_t *, (std::uint8_t))                                                                \
  X(wasm_valtype_vec_new, void, (wasm_valtype_vec_t *, std::size_t, wasm_valtype_t *const *))                          \
  X(wasm_functype_new, wasm_functype_t *, (wasm_valtype_vec_t *, wasm_valtype_vec_t *))                                \
  X(wasm_functype_delete, void, (wasm_functype_t *))

struct WasmtimeApi {
#define EDGEAGENT_DECLARE(name, result, parameters) result(*name) parameters = nullptr;
  EDGEAGENT_WASMTIME_FUNCTIONS(EDGEAGENT_DECLARE)
#undef EDGEAGENT_DECLARE

  // Resolves every function from the library that Python has loaded already (same path, same handle).
  // Throws std::runtime_error naming the version or the first symbol that is missing.
  void load(const std::string &library_path, const std::string &version);
  bool loaded() const { return library_ != nullptr; }

private:
  void *library_ = nullptr;
};

// One table for the process; filled once, before the first engine, and never unloaded.
extern WasmtimeApi wt;

} // namespace edgeagent
