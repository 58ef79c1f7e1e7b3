#include "csr.hpp"

#include <algorithm>

namespace edgeagent::graph {

Workspace::Workspace(std::int32_t nodes) : states_(index(nodes)), wanted_(index(nodes)) {}

void Workspace::begin() {
  heap_.clear();
  stamp_ += 2;
  if (stamp_ == 0) { // after 2^31 searches
    std::fill(states_.begin(), states_.end(), State{});
    std::fill(wanted_.begin(), wanted_.end(), 0);
    stamp_ = 2;
  }
}

bool Workspace::want(std::int32_t i) {
  const bool first = !wanted(i);
  wanted_[index(i)] = stamp_;
  return first;
}

void Workspace::reach(std::int32_t i, double distance, std::int32_t from) {
  states_[index(i)] = {distance, from, stamp_};
  // Entries of longer ways stay in the heap and are passed over when they come up.
  push(static_cast<Key>(std::bit_cast<std::uint64_t>(distance)) << 64U | static_cast<std::uint32_t>(i));
}

void Workspace::push(Key entry) {
  heap_.push_back(entry);
  rise(heap_.size() - 1, entry);
}

void Workspace::rise(std::size_t at, Key entry) {
  while (at > 0) {
    const std::size_t parent = (at - 1) / 4;
    if (entry >= heap_[parent]) {
      break;
    }
    heap_[at] = heap_[parent];
    at = parent;
  }
  heap_[at] = entry;
}

Settled Workspace::pop() {
  const Key top = heap_.front();
  const Key last = heap_.back();
  heap_.pop_back();
  const std::size_t size = heap_.size();
  if (size > 0) {
    // The gap sinks to a leaf without asking for `last`, which was one and most often belongs far down.
    std::size_t at = 0;
    std::size_t first = 1;
    for (; first + 4 <= size; first = 4 * at + 1) {
      const Key *child = &heap_[first];
      const std::size_t left = child[1] < child[0] ? 1 : 0;
      const std::size_t right = child[3] < child[2] ? 3 : 2;
      const std::size_t least = first + (child[right] < child[left] ? right : left);
      heap_[at] = heap_[least];
      at = least;
    }
    if (first < size) {
      std::size_t least = first;
      for (std::size_t child = first + 1; child < size; ++child) {
        least = heap_[child] < heap_[least] ? child : least;
      }
      heap_[at] = heap_[least];
      at = least;
    }
    rise(at, last);
  }
  return {std::bit_cast<double>(static_cast<std::uint64_t>(top >> 64U)),
          static_cast<std::int32_t>(static_cast<std::uint32_t>(top))};
}

} // namespace edgeagent::graph
