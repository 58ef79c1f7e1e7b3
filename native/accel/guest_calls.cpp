// The functions of edge_accel that a guest calls, and their definition in a linker. Every argument is hostile.
//
// What kernels there are, and what they take, the node knows (edgeagent/node/accel_guest.py); here are ranges only.
#include "guest_calls.hpp"

#include "../call.hpp"
#include "../host_functions.hpp"
#include "window.hpp"

#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>

namespace edgeagent {

namespace {

// What edge_accel's functions return instead of 0 or a length; those that this side knows. All are listed in
// sdk/edge_accel.h, and in edgeagent/accel/guest_layout.py.
enum AccelError : std::int32_t {
  kAccelBad = -1,     // a name or a description that is none
  kAccelRange = -2,   // pointer and length are not inside the memory
  kAccelMemory = -4,  // no memory for it
  kAccelOff = -12,    // this node has no kernels
  kAccelFailed = -20, // the node could not do it; its log says why
};

constexpr std::uint32_t kNameMax = 64;
constexpr std::uint32_t kCallMax = 4096;

bool in_memory(const Call &call, std::uint64_t start, std::uint64_t bytes) {
  const std::uint64_t size = call.guest_bytes();
  return start <= size && bytes <= size - start;
}

std::string bytes_at(const Call &call, std::uint32_t ptr, std::uint32_t bytes) {
  return {reinterpret_cast<const char *>(call.guest_base() + ptr), bytes};
}

std::int32_t run_kernel(Call &call, std::uint32_t name, std::uint32_t name_bytes, std::uint32_t ptr,
                        std::uint32_t bytes) {
  if (name_bytes == 0 || name_bytes > kNameMax || bytes > kCallMax) {
    return kAccelBad;
  }
  if (!in_memory(call, name, name_bytes) || !in_memory(call, ptr, bytes)) {
    return kAccelRange;
  }
  if (!call.has_asked()) {
    return kAccelOff;
  }
  Ask wanted;
  wanted.kind = AskKind::AccelCall;
  wanted.name = bytes_at(call, name, name_bytes);
  wanted.extra = bytes_at(call, ptr, bytes);
  const auto window = std::make_shared<Window>(call.guest_base(), call.guest_bytes(), call.hose_views());
  wanted.window = window;
  const std::shared_ptr<void> closing(nullptr, [&window](void *) { window->close(); });
  Answer answer;
  return call.ask(std::move(wanted), answer) ? answer.status : kAccelFailed;
}

std::int32_t query(Call &call, std::uint32_t ptr, std::uint32_t cap) {
  if (cap != 0 && !in_memory(call, ptr, cap)) {
    return kAccelRange;
  }
  if (!call.has_asked()) {
    return kAccelOff;
  }
  Ask wanted;
  wanted.kind = AskKind::AccelQuery;
  Answer answer;
  if (!call.ask(std::move(wanted), answer)) {
    return kAccelFailed;
  }
  if (answer.status < 0 || !answer.payload) {
    return answer.status < 0 ? answer.status : kAccelFailed;
  }
  const std::uint64_t bytes = answer.payload->size();
  if (bytes > 0 && bytes <= cap) {
    std::memcpy(call.guest_base() + ptr, answer.payload->data(), bytes);
  }
  return static_cast<std::int32_t>(bytes);
}

// What a host function of this module does, given the call and its i32 arguments.
using Body = std::int32_t (*)(Call &call, const wasmtime_val_raw_t *values);

std::uint32_t u32(const wasmtime_val_raw_t &value) { return static_cast<std::uint32_t>(value.i32); }

template <Body body> wasm_trap_t *call_body(void *, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, std::size_t) {
  Call &call = *static_cast<Call *>(wt.wasmtime_context_get_data(wt.wasmtime_caller_context(caller)));
  std::int32_t result = kAccelBad;
  if (call.memory() != nullptr) { // else a start function is running, and there is nothing to work on yet
    try {
      result = body(call, values);
    } catch (const std::bad_alloc &) {
      result = kAccelMemory;
    }
  }
  values[0].i32 = result;
  return call.is_stopping() ? wt.wasmtime_trap_new("edge_accel", 10) : nullptr;
}

std::int32_t call_kernel(Call &c, const wasmtime_val_raw_t *v) {
  return run_kernel(c, u32(v[0]), u32(v[1]), u32(v[2]), u32(v[3]));
}
std::int32_t call_query(Call &c, const wasmtime_val_raw_t *v) { return query(c, u32(v[0]), u32(v[1])); }

} // namespace

void define_edge_accel(wasmtime_linker_t *linker) {
  define_host_function(linker, "edge_accel", "call", "iiii", "i", &call_body<call_kernel>, nullptr);
  define_host_function(linker, "edge_accel", "query", "ii", "i", &call_body<call_query>, nullptr);
}

} // namespace edgeagent
