// Shortest paths over one graph in compressed rows (CSR), Dijkstra's algorithm with a heap of four children a node.
//
// Determinism: nodes settle in the order of (distance, number); of predecessors at equal distance the lowest that has
// settled before wins. Any correct heap gives the same answers, and edgeagent/topology/pure_graph.py is one.
//
// A graph never changes, and any number of threads may search it: each takes a workspace from the graph's pool, whose
// arrays are stamped instead of cleared, so that a search costs what it visits.
#pragma once

#include "exact.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace edgeagent::graph {

struct Settled {
  double distance;
  std::int32_t node;

  bool operator<(const Settled &other) const {
    return distance != other.distance ? distance < other.distance : node < other.node;
  }
};

// A search's memory. `stamp` says which entries belong to the current search.
class Workspace {
public:
  explicit Workspace(std::int32_t nodes);

  void begin();
  bool touched(std::int32_t i) const { return touched_[index(i)] == stamp_; }
  bool settled(std::int32_t i) const { return settled_[index(i)] == stamp_; }
  bool wanted(std::int32_t i) const { return wanted_[index(i)] == stamp_; }
  double distance(std::int32_t i) const {
    return touched(i) ? distance_[index(i)] : std::numeric_limits<double>::infinity();
  }
  std::int32_t predecessor(std::int32_t i) const { return touched(i) ? predecessor_[index(i)] : -1; }
  void settle(std::int32_t i) { settled_[index(i)] = stamp_; }
  bool want(std::int32_t i); // whether it was not wanted before
  void reach(std::int32_t i, double distance, std::int32_t from);
  void prefer(std::int32_t i, std::int32_t from) { predecessor_[index(i)] = from; }

  bool empty() const { return heap_.empty(); }
  Settled pop();

private:
  static std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }
  void push(Settled entry);

  std::uint32_t stamp_ = 0;
  std::vector<double> distance_;
  std::vector<std::int32_t> predecessor_;
  std::vector<std::uint32_t> touched_;
  std::vector<std::uint32_t> settled_;
  std::vector<std::uint32_t> wanted_;
  std::vector<Settled> heap_;
};

class Csr {
public:
  // Throws std::invalid_argument unless the arrays are a graph with finite weights of at least 0. `relays` is one flag a
  // node: whether paths may lead through it; empty: through all.
  Csr(std::vector<std::int32_t> offsets, std::vector<std::int32_t> targets, std::vector<double> weights,
      std::vector<std::uint8_t> relays);

  std::int32_t nodes() const { return static_cast<std::int32_t>(offsets_.size()) - 1; }

  // Distances and predecessors of all nodes, to arrays of nodes() entries; `predecessors` may be null.
  void tree(std::span<const std::int32_t> sources, double bound, double *distances, std::int32_t *predecessors) const;

  // The distance and the nodes from `source` to `target`, both included; infinity and none where there is no path.
  std::pair<double, std::vector<std::int32_t>> path(std::int32_t source, std::int32_t target, double bound) const;

  // Distances to some nodes; stops when the last of them is settled.
  std::vector<double> distances(std::int32_t source, std::span<const std::int32_t> targets, double bound) const;

  // The nearest nodes within `bound`, the source itself left out; of `among` (one flag a node) unless empty.
  std::vector<Settled> within(std::int32_t source, double bound, std::size_t count_max,
                              std::span<const std::uint8_t> among) const;

private:
  class Lease;

  // Settles nodes in order until `visit(node, distance)` says false.
  template <class Visit>
  void search(Workspace &space, std::span<const std::int32_t> sources, double bound, const Visit &visit) const;
  void check(std::int32_t node) const;

  std::vector<std::int32_t> offsets_;
  std::vector<std::int32_t> targets_;
  std::vector<double> weights_;
  std::vector<std::uint8_t> relays_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;
};

} // namespace edgeagent::graph
