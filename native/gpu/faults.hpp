// What a CUresult means for whoever called: try again, free memory, end the process, do without a GPU, or mend the code.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace edgeagent::gpu {

// Keep in step with _KINDS in edgeagent/accel/gpu_errors.py.
enum class FaultKind : std::uint8_t {
  Ok = 0,
  Pending = 1,     // not an error: asynchronous work is not finished
  Retryable = 2,   // the same call may succeed later, in this process
  OutOfMemory = 3, // of the device, or pinned
  Poisoned = 4,    // nothing works on this context any more; only the end of the process clears it
  Absent = 5,      // no driver, no device, or none that can be used
  Unsupported = 6, // this device or driver does not do it: another way must be taken
  Misuse = 7,      // a fault of ours
  // Not the driver's:
  Quota = 8,   // a bound of ours: a function's memory, pinned memory
  Busy = 9,    // a bounded thing of ours is full now
  Timeout = 10,
  Closed = 11, // used after close, or in a forked child
};

struct FaultRow {
  int code;
  const char *name;
  FaultKind kind;
};

// Every code that the documentation names, ordered.
const std::vector<FaultRow> &fault_table();
// A code that is not in the table is taken for the worst: its context cannot be trusted.
FaultKind kind_of(int code);
std::string fault_name(int code);

class Fault : public std::exception {
public:
  Fault(FaultKind what_kind, int result, std::string where, std::string message)
      : kind(what_kind), code(result), function(std::move(where)), message_(std::move(message)) {}
  const char *what() const noexcept override { return message_.c_str(); }

  FaultKind kind;
  int code; // CUresult, or 0 where the driver was not asked
  std::string function;

private:
  std::string message_;
};

} // namespace edgeagent::gpu
