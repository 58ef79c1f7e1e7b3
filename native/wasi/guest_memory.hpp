// Bounds-checked access to a guest's linear memory during one host call. All arithmetic is in 64 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace edgeagent {

class GuestMemory {
public:
  GuestMemory(std::uint8_t *base, std::uint64_t size) : base_(base), size_(size) {}

  bool holds(std::uint64_t ptr, std::uint64_t count) const { return ptr <= size_ && count <= size_ - ptr; }
  // The bytes [ptr, ptr + count), or null when they are not all inside. An empty range inside is not null.
  std::uint8_t *at(std::uint64_t ptr, std::uint64_t count) const {
    return ptr <= size_ && count <= size_ - ptr ? base_ + ptr : nullptr;
  }
  template <typename T> bool load(std::uint64_t ptr, T &out) const {
    const std::uint8_t *from = at(ptr, sizeof(T));
    if (from != nullptr) {
      std::memcpy(&out, from, sizeof(T));
    }
    return from != nullptr;
  }
  template <typename T> bool store(std::uint64_t ptr, const T &value) const {
    std::uint8_t *to = at(ptr, sizeof(T));
    if (to != nullptr) {
      std::memcpy(to, &value, sizeof(T));
    }
    return to != nullptr;
  }
  bool text(std::uint64_t ptr, std::uint64_t count, std::string_view &out) const {
    const std::uint8_t *from = at(ptr, count);
    if (from != nullptr) {
      out = std::string_view(reinterpret_cast<const char *>(from), count);
    }
    return from != nullptr;
  }

private:
  std::uint8_t *base_;
  std::uint64_t size_;
};

} // namespace edgeagent
