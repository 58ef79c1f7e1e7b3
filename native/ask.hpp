// What a running guest asks of the node, and waits for: messages to and from other functions, processes and
// hosts, state, and work on arrays.
//
// The node answers on its event loop's thread. A call that waits keeps its thread; the engine starts another one for as
// long, so that those it waits for can run (Engine::about_to_wait).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace edgeagent {

class Payload;
class Window;

// Keep in step with AskKind in edgeagent/runtime/port.py.
enum class AskKind : std::uint8_t {
  Open = 0,
  Close = 1,
  Accept = 2,
  Send = 3,
  Next = 4,
  StateGet = 5,
  StatePut = 6,
  StateDelete = 7,
  StateList = 8,
  StateCas = 9,
  StateGroup = 10,
  StateVersion = 11,
  AccelCall = 12,
  AccelQuery = 13,
  NnCall = 14,
};

struct Ask {
  AskKind kind = AskKind::Open;
  bool may_wait = true;
  std::int32_t slot = 0;            // Next; of StatePut its flags; NnCall: the function
  std::string name;                 // the others: a name, or a key; AccelCall: the kernel
  std::string extra;                // StateCas: the version; StateList: the key to go on after; AccelCall: its description;
                                    // NnCall: its arguments
  std::shared_ptr<Payload> payload; // Send, StatePut, StateCas, StateGroup
  std::shared_ptr<Window> window;   // AccelCall, NnCall: the guest's memory
  std::uint64_t call_id = 0;
  std::string function;
};

struct Answer {
  std::int32_t status = 0; // negative: HoseError, of state StateError, of work AccelError; NnCall: wasi-nn's
  std::shared_ptr<Payload> payload;
};

class Asked {
public:
  Asked() = default;
  Asked(const Asked &) = delete;
  Asked &operator=(const Asked &) = delete;
  virtual ~Asked() = default;
  // False: too many wait already. True: done_waiting() must follow.
  virtual bool about_to_wait() = 0;
  virtual void done_waiting() = 0;
  virtual void post(Ask ask) = 0;
};

} // namespace edgeagent
