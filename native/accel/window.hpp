// The memory of a guest that waits, for somebody who works on it on another thread.
#pragma once

#include "../hose/hose.hpp"

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace edgeagent {

// Bytes of a hose, for another process that may only read them. The hose is kept for as long.
class HoseSource {
public:
  HoseSource(Lease hose, int fd, std::uint64_t offset) : hose_(std::move(hose)), fd_(fd), offset_(offset) {}
  HoseSource(const HoseSource &) = delete;
  HoseSource &operator=(const HoseSource &) = delete;
  ~HoseSource();

  int fd() const { return fd_; }
  std::uint64_t offset() const { return offset_; }

private:
  Lease hose_;
  int fd_;
  std::uint64_t offset_;
};

// The guest's thread makes and closes it; others enter and leave. What they work on is there for as long as they are
// inside, whatever becomes of the call: `close` waits for them, beyond a deadline if it must.
class Window {
public:
  Window(std::uint8_t *base, std::uint64_t bytes, std::vector<HoseMessage> views = {})
      : base_(base), bytes_(bytes), views_(std::move(views)) {}
  Window(const Window &) = delete;
  Window &operator=(const Window &) = delete;

  // Valid between enter() and leave().
  std::uint8_t *data() const { return base_; }
  std::uint64_t size() const { return bytes_; }
  bool enter(); // false: it is closed
  void leave();
  void close();

  // Where the bytes of this range lie in a hose, and are still what the guest got. Null: nowhere, or somebody wrote
  // there, or the system does not say, or has no descriptor left; then they must be copied.
  std::unique_ptr<HoseSource> source(std::uint64_t start, std::uint64_t bytes);

private:
  bool is_as_received(const HoseMessage &view, std::uint64_t start, std::uint64_t bytes) const;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint8_t *base_;
  std::uint64_t bytes_;
  std::vector<HoseMessage> views_;
  int inside_ = 0;
  bool is_closed_ = false;
};

} // namespace edgeagent
