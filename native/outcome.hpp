// What one invocation came to, as plain data: nothing in it refers to wasmtime or to Python.
#pragma once

#include "hose/tier.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace edgeagent {

// Keep in step with _FAILURES in edgeagent/runtime/native_engine.py.
enum class Failure : std::uint8_t {
  None = 0,
  Trap = 1,
  StackOverflow = 2,
  OutOfFuel = 3,
  Exit = 4,
  BadOutput = 5,
  OutputTooLarge = 6,
  Deadline = 7,
  Cancelled = 8,
  Instantiation = 9,
  NoSlot = 10,
  Scratch = 11,
};

// Growing bytes that are never zeroed first; realloc moves large ones by remapping pages instead of copying.
class Buffer {
public:
  Buffer() = default;
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  Buffer(Buffer &&other) noexcept { swap(other); }
  Buffer &operator=(Buffer &&other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  const std::uint8_t *data() const { return data_; }
  std::uint8_t *data() { return data_; }
  std::size_t size() const { return size_; }

  void append(const std::uint8_t *from, std::size_t count) {
    if (count == 0) {
      return;
    }
    if (capacity_ - size_ < count) {
      grow(size_ + count);
    }
    std::memcpy(data_ + size_, from, count);
    size_ += count;
  }

private:
  void swap(Buffer &other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }
  void grow(std::size_t needed) {
    // The first append is exact (a `bytes` guest appends once); later ones double.
    const std::size_t wanted = capacity_ == 0 ? needed : (needed > 2 * capacity_ ? needed : 2 * capacity_);
    void *grown = std::realloc(data_, wanted);
    if (grown == nullptr) {
      throw std::bad_alloc();
    }
    data_ = static_cast<std::uint8_t *>(grown);
    capacity_ = wanted;
  }

  std::uint8_t *data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

struct Outcome {
  Buffer output;
  std::string stderr_tail;
  std::vector<std::pair<std::int32_t, std::string>> log;
  std::string message;
  std::vector<std::string> backtrace;
  std::int64_t duration_ns = 0;
  std::int64_t entered_ns = 0;  // when edge_handle or _start was called, on the engine's clock
  std::int64_t returned_ns = 0; // and when it was back
  std::uint32_t exit_code = 0;
  std::int32_t trap_code = -1; // wasmtime's code, -1 when there is none
  Failure failure = Failure::None;
  bool is_inline = false;
  HoseReport hose;
  std::uint64_t passed_bytes = 0; // of the output, where a next call of a chain got it

  void fail(Failure kind, std::string text) {
    failure = kind;
    message = std::move(text);
  }
};

} // namespace edgeagent
