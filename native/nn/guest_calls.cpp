// The functions of wasi_ephemeral_nn, handed on to the node with the guest's memory: what they mean, and every check of
// what the guest gave, is in edgeagent/node/nn_guest.py, for both engines.
#include "guest_calls.hpp"

#include "../accel/window.hpp"
#include "../call.hpp"
#include "../host_functions.hpp"

#include <memory>
#include <new>
#include <string>
#include <utility>

namespace edgeagent {

namespace {

// wasi-nn's errors; those that this side knows. All are in edgeagent/accel/nn_layout.py.
constexpr std::int32_t kNnMissingMemory = 3;
constexpr std::int32_t kNnBusy = 4;
constexpr std::int32_t kNnRuntimeError = 5;
constexpr std::int32_t kNnUnsupported = 6;
// What the engine answers where nobody serves asks.
constexpr std::int32_t kOff = -12;

std::int32_t hand_on(Call &call, int function, const wasmtime_val_raw_t *values, int count) {
  if (!call.has_asked()) {
    return kNnUnsupported;
  }
  Ask wanted;
  wanted.kind = AskKind::NnCall;
  wanted.slot = function;
  wanted.extra.reserve(static_cast<std::size_t>(count) * 4);
  for (int i = 0; i < count; ++i) {
    const auto word = static_cast<std::uint32_t>(values[i].i32);
    for (int shift = 0; shift < 32; shift += 8) {
      wanted.extra.push_back(static_cast<char>((word >> shift) & 0xffU));
    }
  }
  const auto window = std::make_shared<Window>(call.guest_base(), call.guest_bytes());
  wanted.window = window;
  const std::shared_ptr<void> closing(nullptr, [&window](void *) { window->close(); });
  Answer answer;
  if (!call.ask(std::move(wanted), answer)) {
    return kNnRuntimeError;
  }
  if (answer.status >= 0) {
    return answer.status;
  }
  return answer.status == kOff ? kNnUnsupported : kNnBusy; // the engine's own: nobody serves it, or too many wait
}

template <int function, int count>
wasm_trap_t *call_body(void *, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, std::size_t) {
  Call &call = *static_cast<Call *>(wt.wasmtime_context_get_data(wt.wasmtime_caller_context(caller)));
  std::int32_t result = kNnMissingMemory;
  if (call.memory() != nullptr) { // else a start function is running, and there is nothing to work on yet
    try {
      result = hand_on(call, function, values, count);
    } catch (const std::bad_alloc &) {
      result = kNnBusy;
    }
  }
  values[0].i32 = result;
  return call.is_stopping() ? wt.wasmtime_trap_new("wasi_nn", 7) : nullptr;
}

template <int function, int count> void define(wasmtime_linker_t *linker, const char *name) {
  define_host_function(linker, "wasi_ephemeral_nn", name, std::string(count, 'i').c_str(), "i",
                       &call_body<function, count>, nullptr);
}

} // namespace

// Keep in step with NnFunction in edgeagent/accel/nn_layout.py.
void define_wasi_nn(wasmtime_linker_t *linker) {
  define<0, 5>(linker, "load");
  define<1, 3>(linker, "load_by_name");
  define<2, 2>(linker, "init_execution_context");
  define<3, 3>(linker, "set_input");
  define<4, 5>(linker, "get_output");
  define<5, 1>(linker, "compute");
}

} // namespace edgeagent
