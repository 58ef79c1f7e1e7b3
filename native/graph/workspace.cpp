#include "csr.hpp"

#include <algorithm>

namespace edgeagent::graph {

Workspace::Workspace(std::int32_t nodes)
    : distance_(index(nodes)), predecessor_(index(nodes)), touched_(index(nodes)), settled_(index(nodes)),
      wanted_(index(nodes)) {}

void Workspace::begin() {
  heap_.clear();
  if (++stamp_ == 0) { // after 2^32 searches
    for (auto *marks : {&touched_, &settled_, &wanted_}) {
      std::fill(marks->begin(), marks->end(), 0);
    }
    stamp_ = 1;
  }
}

bool Workspace::want(std::int32_t i) {
  const bool first = !wanted(i);
  wanted_[index(i)] = stamp_;
  return first;
}

void Workspace::reach(std::int32_t i, double distance, std::int32_t from) {
  touched_[index(i)] = stamp_;
  distance_[index(i)] = distance;
  predecessor_[index(i)] = from;
  push({distance, i}); // entries of longer ways stay in the heap and are passed over when they come up
}

void Workspace::push(Settled entry) {
  heap_.push_back(entry);
  std::size_t at = heap_.size() - 1;
  while (at > 0) {
    const std::size_t parent = (at - 1) / 4;
    if (!(entry < heap_[parent])) {
      break;
    }
    heap_[at] = heap_[parent];
    at = parent;
  }
  heap_[at] = entry;
}

Settled Workspace::pop() {
  const Settled top = heap_.front();
  const Settled last = heap_.back();
  heap_.pop_back();
  const std::size_t size = heap_.size();
  if (size == 0) {
    return top;
  }
  std::size_t at = 0;
  for (;;) {
    const std::size_t first = 4 * at + 1;
    if (first >= size) {
      break;
    }
    std::size_t least = first;
    for (std::size_t child = first + 1; child < std::min(first + 4, size); ++child) {
      if (heap_[child] < heap_[least]) {
        least = child;
      }
    }
    if (!(heap_[least] < last)) {
      break;
    }
    heap_[at] = heap_[least];
    at = least;
  }
  heap_[at] = last;
  return top;
}

} // namespace edgeagent::graph
