#include "wasm_text.hpp"

#include <array>
#include <cstdint>
#include <cstdio>
#include <string_view>

namespace edgeagent {

namespace {

constexpr std::size_t kFramesMax = 20;
constexpr std::size_t kNameMax = 200;
constexpr std::size_t kMessageMax = 2000;

std::string take_text(wasm_byte_vec_t &vec) {
  std::string text(vec.data, vec.size);
  wt.wasm_byte_vec_delete(&vec);
  while (!text.empty() && text.back() == '\0') {
    text.pop_back();
  }
  if (text.size() > kMessageMax) {
    text.resize(kMessageMax);
  }
  return text;
}

std::vector<std::string> take_frames(wasm_frame_vec_t &frames) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < frames.size && i < kFramesMax; ++i) {
    const wasm_frame_t *frame = frames.data[i];
    const wasm_byte_vec_t *name = wt.wasmtime_frame_func_name(frame);
    std::string line = name != nullptr && name->size > 0
                           ? std::string(name->data, name->size < kNameMax ? name->size : kNameMax)
                           : "<wasm function " + std::to_string(wt.wasm_frame_func_index(frame)) + ">";
    if (const std::size_t at = wt.wasm_frame_module_offset(frame); at != SIZE_MAX) { // SIZE_MAX: not known
      std::array<char, 32> offset{};
      std::snprintf(offset.data(), offset.size(), " @ 0x%zx", at);
      line += offset.data();
    }
    lines.push_back(std::move(line));
  }
  wt.wasm_frame_vec_delete(&frames);
  return lines;
}

} // namespace

std::string take_message(wasmtime_error_t *error) {
  wasm_byte_vec_t message{};
  wt.wasmtime_error_message(error, &message);
  wt.wasmtime_error_delete(error);
  return take_text(message);
}

const char *trap_name(int code) {
  switch (code) {
  case 0:
    return "stack overflow";
  case 1:
    return "out of bounds memory access";
  case 2:
    return "misaligned memory access";
  case 3:
    return "out of bounds table access";
  case 4:
    return "indirect call to null";
  case 5:
    return "indirect call type mismatch";
  case 6:
    return "integer overflow";
  case 7:
    return "integer divide by zero";
  case 8:
    return "invalid conversion to integer";
  case 9:
    return "unreachable executed";
  case 10:
    return "interrupt";
  case 11:
    return "out of fuel";
  default:
    return "trap";
  }
}

void describe_failure(Outcome &out, wasm_trap_t *trap, wasmtime_error_t *error) {
  wasm_frame_vec_t frames{};
  if (trap != nullptr) {
    std::uint8_t code = 0;
    wt.wasm_trap_trace(trap, &frames);
    if (wt.wasmtime_trap_code(trap, &code)) {
      out.trap_code = code;
      out.message = std::string("wasm trap: ") + trap_name(code);
    } else {
      wasm_byte_vec_t message{};
      wt.wasm_trap_message(trap, &message);
      out.message = take_text(message);
    }
    out.backtrace = take_frames(frames);
  } else if (error != nullptr) {
    wt.wasmtime_error_wasm_trace(error, &frames);
    wasm_byte_vec_t message{};
    wt.wasmtime_error_message(error, &message);
    out.message = take_text(message);
    out.backtrace = take_frames(frames);
  }
  drop_failure(trap, error);
}

void drop_failure(wasm_trap_t *trap, wasmtime_error_t *error) {
  if (trap != nullptr) {
    wt.wasm_trap_delete(trap);
  }
  if (error != nullptr) {
    wt.wasmtime_error_delete(error);
  }
}

} // namespace edgeagent
