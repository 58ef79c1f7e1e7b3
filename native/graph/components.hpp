// Disjoint sets with path halving; the lower root wins, so that a set is named after its lowest member.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace edgeagent::graph {

class Components {
public:
  explicit Components(std::int32_t count) : parent_(static_cast<std::size_t>(count)) {
    std::iota(parent_.begin(), parent_.end(), 0);
  }

  std::int32_t find(std::int32_t i) {
    while (parent(i) != i) {
      parent(i) = parent(parent(i));
      i = parent(i);
    }
    return i;
  }

  bool unite(std::int32_t i, std::int32_t j) {
    i = find(i);
    j = find(j);
    if (i == j) {
      return false;
    }
    if (j < i) {
      std::swap(i, j);
    }
    parent(j) = i;
    return true;
  }

private:
  std::int32_t &parent(std::int32_t i) { return parent_[static_cast<std::size_t>(i)]; }

  std::vector<std::int32_t> parent_;
};

} // namespace edgeagent::graph
