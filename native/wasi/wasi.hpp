// WASI preview 1 for one invocation, by our own host functions: all of a `command` guest's world, and the little that a
// `bytes` guest's C library asks for (no input; what it prints goes to the log).
//
// Why not the library's: measured 18 us against 106 us for 1 KiB, exit codes of all 32 bits, sleeps that end at the
// deadline, output bounds that end the guest, a scratch quota (docs/decisions/0004).
#pragma once

#include "../call.hpp"
#include "errno.hpp"
#include "files.hpp"
#include "guest_memory.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace edgeagent {

class Wasi {
public:
  static constexpr std::size_t kStderrMax = 64 << 10;

  explicit Wasi(Call &call);

  Call &call() { return call_; }
  Files &files() { return files_; }
  const std::vector<std::string> &argv() const { return argv_; }
  const std::vector<std::string> &env() const { return call_.spec().env; }

  // Makes the private directory where the manifest asks for one; returns why not, or "".
  std::string open_scratch() { return files_.open_scratch(call_.spec().scratch_dir, call_.spec().scratch_bytes_max); }

  std::size_t read_stdin(std::uint8_t *to, std::size_t count);
  std::size_t stdin_left() const { return call_.spec().abi == Abi::Command ? call_.body_bytes() - stdin_at_ : 0; }
  // False: over the limit, the guest must end.
  bool write_stdout(const std::uint8_t *from, std::size_t count);
  void write_stderr(const std::uint8_t *from, std::size_t count);

  void exit(std::uint32_t code) {
    exited_ = true;
    exit_code_ = code;
  }
  bool exited() const { return exited_; }
  std::uint32_t exit_code() const { return exit_code_; }

  void take_results(Outcome &out);

private:
  Call &call_;
  std::vector<std::string> argv_;
  std::size_t stdin_at_ = 0;
  Buffer stdout_;
  std::string stderr_;
  Files files_;
  bool exited_ = false;
  std::uint32_t exit_code_ = 0;
};

// What one host call works on.
struct WasiCall {
  Wasi &wasi;
  GuestMemory memory;
  const wasmtime_val_raw_t *args;
  bool end_guest = false; // set: the guest ends here, whatever the errno

  std::uint32_t u32(std::size_t i) const { return static_cast<std::uint32_t>(args[i].i32); }
  std::uint64_t u64(std::size_t i) const { return static_cast<std::uint64_t>(args[i].i64); }
};

using WasiFunction = Errno (*)(WasiCall &);

struct WasiEntry {
  const char *name;
  const char *parameters; // i = i32, I = i64
  WasiFunction function;
};

// The functions of preview 1, room by room; each list ends with a null name.
extern const WasiEntry kWasiProcess[];
extern const WasiEntry kWasiStreams[];
extern const WasiEntry kWasiPoll[];
extern const WasiEntry kWasiDescriptors[];
extern const WasiEntry kWasiPaths[];
extern const WasiEntry kWasiSockets[];

// Defines all of them under wasi_snapshot_preview1; throws std::runtime_error with wasmtime's text.
void define_wasi(wasmtime_linker_t *linker);

} // namespace edgeagent
