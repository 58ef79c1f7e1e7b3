#include "wasi.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

#include "../host_functions.hpp"
#include "../wasm_text.hpp"

namespace edgeagent {

namespace {

constexpr const char *kModule = "wasi_snapshot_preview1";

wasm_trap_t *trap(const char *text) { return wt.wasmtime_trap_new(text, std::strlen(text)); }

// The one door through which a guest enters every WASI function.
wasm_trap_t *enter(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, std::size_t) {
  const auto *entry = static_cast<const WasiEntry *>(env);
  wasmtime_context_t *context = wt.wasmtime_caller_context(caller);
  Call &call = *static_cast<Call *>(wt.wasmtime_context_get_data(context));
  wasmtime_memory_t memory{};
  if (!guest_memory(call, caller, memory)) {
    call.fail_from_host(Failure::Trap, "a host function was called without an exported memory");
    return trap("no memory");
  }
  if (call.wasi() == nullptr) { // cannot happen while introspection is right; never a null dereference
    call.fail_from_host(Failure::Trap, std::string(entry->name) + " was called by a function that does not import it");
    return trap("no WASI");
  }
  try {
    WasiCall host{*call.wasi(),
                  GuestMemory(wt.wasmtime_memory_data(context, &memory), wt.wasmtime_memory_data_size(context, &memory)),
                  values};
    const Errno error = entry->function(host);
    if (host.end_guest) {
      return trap("ended by the node");
    }
    values[0].i32 = static_cast<std::int32_t>(error);
    return nullptr;
  } catch (const std::bad_alloc &) { // must not cross the library
    call.fail_from_host(Failure::Trap, "the node is out of memory");
    return trap("out of memory");
  }
}

void define(wasmtime_linker_t *linker, const WasiEntry *entries) {
  for (const WasiEntry *entry = entries; entry->name != nullptr; ++entry) {
    const bool returns = std::strcmp(entry->name, "proc_exit") != 0;
    define_host_function(linker, kModule, entry->name, entry->parameters, returns ? "i" : "", &enter,
                         const_cast<WasiEntry *>(entry));
  }
}

} // namespace

Wasi::Wasi(Call &call) : call_(call) {
  argv_.reserve(1 + call.args().size());
  argv_.push_back(call.spec().name);
  argv_.insert(argv_.end(), call.args().begin(), call.args().end());
}

std::size_t Wasi::read_stdin(std::uint8_t *to, std::size_t count) {
  const std::size_t n = std::min(count, stdin_left());
  if (n > 0) {
    std::memcpy(to, call_.body() + stdin_at_, n);
    stdin_at_ += n;
  }
  return n;
}

bool Wasi::write_stdout(const std::uint8_t *from, std::size_t count) {
  if (call_.spec().abi == Abi::Bytes) { // its output is what edge_handle returns; what it prints is for the log
    write_stderr(from, count);
    return true;
  }
  if (count > call_.spec().output_bytes - stdout_.size()) {
    call_.fail_from_host(Failure::OutputTooLarge,
                         "the output is over the limit of " + std::to_string(call_.spec().output_bytes) + " bytes");
    return false;
  }
  stdout_.append(from, count);
  return true;
}

void Wasi::write_stderr(const std::uint8_t *from, std::size_t count) {
  // The tail is what explains a failure: keep the last 64 KiB.
  if (count >= kStderrMax) {
    stderr_.assign(reinterpret_cast<const char *>(from) + (count - kStderrMax), kStderrMax);
    return;
  }
  if (stderr_.size() + count > 2 * kStderrMax) {
    stderr_.erase(0, stderr_.size() - kStderrMax);
  }
  stderr_.append(reinterpret_cast<const char *>(from), count);
}

void Wasi::take_results(Outcome &out) {
  if (call_.spec().abi == Abi::Command) {
    out.output = std::move(stdout_);
    out.hose.tier = stdin_at_ > 0 ? Tier::Copy : Tier::None;
    out.hose.copied = stdin_at_;
  }
  if (stderr_.size() > kStderrMax) {
    stderr_.erase(0, stderr_.size() - kStderrMax);
  }
  out.stderr_tail = std::move(stderr_);
}

void define_wasi(wasmtime_linker_t *linker) {
  define(linker, kWasiProcess);
  define(linker, kWasiStreams);
  define(linker, kWasiPoll);
  define(linker, kWasiDescriptors);
  define(linker, kWasiPaths);
  define(linker, kWasiSockets);
}

} // namespace edgeagent
