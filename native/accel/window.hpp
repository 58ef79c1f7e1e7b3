// The memory of a guest that waits, for somebody who works on it on another thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace edgeagent {

// The guest's thread makes and closes it; others enter and leave. What they work on is there for as long as they are
// inside, whatever becomes of the call: `close` waits for them, beyond a deadline if it must.
class Window {
public:
  Window(std::uint8_t *base, std::uint64_t bytes) : base_(base), bytes_(bytes) {}
  Window(const Window &) = delete;
  Window &operator=(const Window &) = delete;

  // Valid between enter() and leave().
  std::uint8_t *data() const { return base_; }
  std::uint64_t size() const { return bytes_; }
  bool enter(); // false: it is closed
  void leave();
  void close();

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint8_t *base_;
  std::uint64_t bytes_;
  int inside_ = 0;
  bool is_closed_ = false;
};

} // namespace edgeagent
