// Shortest paths over one graph in compressed rows (CSR), Dijkstra's algorithm with a heap of four children a node.
//
// Determinism: nodes settle in the order of (distance, number); of predecessors at equal distance the lowest that has
// settled before wins. Any correct heap gives the same answers, and edgeagent/topology/pure_graph.py is one.
//
// A graph never changes, and any number of threads may search it: each takes a workspace from the graph's pool, whose
// arrays are stamped instead of cleared, so that a search costs what it visits.
#pragma once

#include "exact.hpp"

#include <bit>
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

// A search's memory. A node's entries are valid where its mark is that of the current search: `stamp_` once it has been
// reached, `stamp_ + 1` once it is settled. They lie together, since a relaxation needs them all.
class Workspace {
public:
  explicit Workspace(std::int32_t nodes);

  void begin();
  bool touched(std::int32_t i) const { return (states_[index(i)].mark | 1U) == (stamp_ | 1U); }
  bool settled(std::int32_t i) const { return states_[index(i)].mark == (stamp_ | 1U); }
  bool wanted(std::int32_t i) const { return wanted_[index(i)] == stamp_; }
  double distance(std::int32_t i) const {
    return touched(i) ? states_[index(i)].distance : std::numeric_limits<double>::infinity();
  }
  std::int32_t predecessor(std::int32_t i) const { return touched(i) ? states_[index(i)].predecessor : -1; }
  void settle(std::int32_t i) { states_[index(i)].mark = stamp_ | 1U; }
  bool want(std::int32_t i); // whether it was not wanted before
  void reach(std::int32_t i, double distance, std::int32_t from);
  void prefer(std::int32_t i, std::int32_t from) { states_[index(i)].predecessor = from; }

  bool empty() const { return heap_.empty(); }
  Settled pop();

private:
  struct State {
    double distance;
    std::int32_t predecessor;
    std::uint32_t mark;
  };

  // A heap entry as one number: distances are at least 0, where the order of doubles is that of their bits. It compares
  // without a branch, which is what a search spends most of its time on.
  __extension__ using Key = unsigned __int128;

  static std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }
  void push(Key entry);
  void rise(std::size_t at, Key entry);

  std::uint32_t stamp_ = 0; // even
  std::vector<State> states_;
  std::vector<std::uint32_t> wanted_;
  std::vector<Key> heap_;
};

class Csr {
public:
  // Throws std::invalid_argument unless the arrays are a graph with finite weights of at least 0. `relays` is one flag a
  // node: whether paths may lead through it; empty: through all.
  Csr(std::span<const std::int32_t> offsets, std::span<const std::int32_t> targets, std::span<const double> weights,
      std::span<const std::uint8_t> relays);

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

  // What each node is reached for, starting from any of them: the least of `starts[u] + factor * distance(u, v)` and the
  // u that gives it (the lowest of several), infinity and -1 where it is over `bound`. An infinite start is none.
  void spread(std::span<const double> starts, double factor, double bound, double *values, std::int32_t *origins) const;

private:
  class Lease;

  // Settles nodes in order until `visit(node, distance)` says false.
  template <class Visit>
  void search(Workspace &space, std::span<const std::int32_t> sources, double bound, const Visit &visit) const;
  void check(std::int32_t node) const;
  bool relays(std::int32_t node) const { return relays_.empty() || relays_[static_cast<std::size_t>(node)] != 0; }
  // Offers the neighbours of a node what they can be reached for through it.
  void offer(Workspace &space, std::int32_t node, double value, std::int32_t origin, double factor, double bound) const;

  struct Arc {
    double weight;
    std::int32_t target;
  };

  std::vector<std::int32_t> offsets_;
  std::vector<Arc> arcs_;
  std::vector<std::uint8_t> relays_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;
};

} // namespace edgeagent::graph
