#include "csr.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace edgeagent::graph {

constexpr std::size_t kIdleMax = 8; // workspaces kept: as many threads may search without one of them allocating

// A workspace, taken from the pool and given back.
class Csr::Lease {
public:
  explicit Lease(const Csr &graph) : graph_(graph) {
    {
      const std::lock_guard lock(graph.mutex_);
      if (!graph.idle_.empty()) {
        space_ = std::move(graph.idle_.back());
        graph.idle_.pop_back();
      }
    }
    if (!space_) {
      space_ = std::make_unique<Workspace>(graph.nodes());
    }
    space_->begin();
  }
  Lease(const Lease &) = delete;
  Lease &operator=(const Lease &) = delete;
  ~Lease() {
    const std::lock_guard lock(graph_.mutex_);
    if (graph_.idle_.size() < kIdleMax) {
      graph_.idle_.push_back(std::move(space_)); // within the reserved capacity: cannot throw
    }
  }
  Workspace &operator*() const { return *space_; }

private:
  const Csr &graph_;
  std::unique_ptr<Workspace> space_;
};

Csr::Csr(std::span<const std::int32_t> offsets, std::span<const std::int32_t> targets,
         std::span<const double> weights, std::span<const std::uint8_t> relays)
    : offsets_(offsets.begin(), offsets.end()), relays_(relays.begin(), relays.end()) {
  const auto refuse = [](bool bad, const char *what) {
    if (bad) {
      throw std::invalid_argument(what);
    }
  };
  refuse(offsets_.empty() || offsets_.front() != 0, "indptr does not begin with 0");
  refuse(!std::is_sorted(offsets_.begin(), offsets_.end()), "indptr decreases");
  refuse(static_cast<std::size_t>(offsets_.back()) != targets.size(), "indptr does not end with the number of indices");
  refuse(weights.size() != targets.size(), "there are not as many weights as indices");
  refuse(!relays_.empty() && relays_.size() != offsets_.size() - 1, "there are not as many relays as nodes");
  refuse(std::any_of(targets.begin(), targets.end(), [&](std::int32_t i) { return i < 0 || i >= nodes(); }),
         "an index is not that of a node");
  refuse(std::any_of(weights.begin(), weights.end(), [](double w) { return !(w >= 0.0) || !std::isfinite(w); }),
         "a weight is negative or not finite");
  arcs_.reserve(targets.size());
  for (std::size_t i = 0; i < targets.size(); ++i) {
    arcs_.push_back({weights[i], targets[i]});
  }
  idle_.reserve(kIdleMax);
}

void Csr::check(std::int32_t node) const {
  if (node < 0 || node >= nodes()) {
    throw std::out_of_range("no such node in the graph");
  }
}

template <class Visit>
void Csr::search(Workspace &space, std::span<const std::int32_t> sources, double bound, const Visit &visit) const {
  for (const std::int32_t source : sources) {
    check(source);
  }
  for (const std::int32_t source : sources) {
    if (!space.touched(source) && bound >= 0.0) {
      space.reach(source, 0.0, -1);
    }
  }
  while (!space.empty()) {
    const auto [distance, node] = space.pop();
    if (space.settled(node)) {
      continue;
    }
    space.settle(node);
    if (!visit(node, distance)) {
      return;
    }
    const auto i = static_cast<std::size_t>(node);
    if (!relays_.empty() && relays_[i] == 0 && space.predecessor(node) >= 0) {
      continue; // an end, not a way
    }
    for (auto arc = static_cast<std::size_t>(offsets_[i]); arc < static_cast<std::size_t>(offsets_[i + 1]); ++arc) {
      const std::int32_t next = arcs_[arc].target;
      const double through = distance + arcs_[arc].weight;
      if (through > bound || space.settled(next)) {
        continue;
      }
      const double known = space.distance(next);
      if (through < known) {
        space.reach(next, through, node);
      } else if (through == known && node < space.predecessor(next)) {
        space.prefer(next, node);
      }
    }
  }
}

void Csr::tree(std::span<const std::int32_t> sources, double bound, double *distances,
               std::int32_t *predecessors) const {
  const Lease lease(*this);
  Workspace &space = *lease;
  search(space, sources, bound, [](std::int32_t, double) { return true; });
  for (std::int32_t i = 0; i < nodes(); ++i) {
    distances[i] = space.distance(i);
    if (predecessors != nullptr) {
      predecessors[i] = space.predecessor(i);
    }
  }
}

std::pair<double, std::vector<std::int32_t>> Csr::path(std::int32_t source, std::int32_t target, double bound) const {
  check(target);
  const Lease lease(*this);
  Workspace &space = *lease;
  search(space, {&source, 1}, bound, [target](std::int32_t node, double) { return node != target; });
  std::vector<std::int32_t> nodes;
  if (space.settled(target)) {
    for (std::int32_t i = target; i >= 0; i = space.predecessor(i)) {
      nodes.push_back(i);
    }
    std::reverse(nodes.begin(), nodes.end());
  }
  return {space.settled(target) ? space.distance(target) : std::numeric_limits<double>::infinity(), nodes};
}

std::vector<double> Csr::distances(std::int32_t source, std::span<const std::int32_t> targets, double bound) const {
  const Lease lease(*this);
  Workspace &space = *lease;
  std::size_t left = 0;
  for (const std::int32_t target : targets) {
    check(target);
    left += space.want(target) ? 1 : 0;
  }
  if (left > 0) {
    search(space, {&source, 1}, bound, [&](std::int32_t node, double) { return !space.wanted(node) || --left > 0; });
  } else {
    check(source);
  }
  std::vector<double> found;
  found.reserve(targets.size());
  for (const std::int32_t target : targets) {
    // What is touched and not settled has a way, but not yet its shortest one; it cannot be among those asked for.
    found.push_back(space.distance(target));
  }
  return found;
}

std::vector<Settled> Csr::within(std::int32_t source, double bound, std::size_t count_max,
                                 std::span<const std::uint8_t> among) const {
  if (!among.empty() && among.size() != static_cast<std::size_t>(nodes())) {
    throw std::invalid_argument("there are not as many flags as nodes");
  }
  const Lease lease(*this);
  std::vector<Settled> found;
  if (count_max == 0) {
    check(source);
    return found;
  }
  search(*lease, {&source, 1}, bound, [&](std::int32_t node, double distance) {
    if (node != source && (among.empty() || among[static_cast<std::size_t>(node)] != 0)) {
      found.push_back({distance, node});
    }
    return found.size() < count_max;
  });
  return found;
}

void Csr::offer(Workspace &space, std::int32_t node, double value, std::int32_t origin, double factor,
                double bound) const {
  const auto i = static_cast<std::size_t>(node);
  for (auto arc = static_cast<std::size_t>(offsets_[i]); arc < static_cast<std::size_t>(offsets_[i + 1]); ++arc) {
    const std::int32_t next = arcs_[arc].target;
    const double through = value + factor * arcs_[arc].weight;
    if (through > bound || space.settled(next)) {
      continue;
    }
    const double known = space.distance(next);
    if (through < known) {
      space.reach(next, through, origin);
    } else if (through == known && origin < space.predecessor(next)) {
      space.prefer(next, origin);
    }
  }
}

void Csr::spread(std::span<const double> starts, double factor, double bound, double *values,
                 std::int32_t *origins) const {
  if (starts.size() != static_cast<std::size_t>(nodes())) {
    throw std::invalid_argument("there are not as many starts as nodes");
  }
  if (!(factor >= 0.0) || !std::isfinite(factor) ||
      std::any_of(starts.begin(), starts.end(), [](double start) { return !(start >= 0.0); })) {
    throw std::invalid_argument("a start or the factor is negative or not a number");
  }
  const Lease lease(*this);
  Workspace &space = *lease; // its predecessors are origins here
  const auto begins = [&](std::int32_t i) {
    const double start = starts[static_cast<std::size_t>(i)];
    return start <= bound && std::isfinite(start);
  };
  for (std::int32_t i = 0; i < nodes(); ++i) {
    if (begins(i)) {
      space.reach(i, starts[static_cast<std::size_t>(i)] + 0.0, i); // no -0.0: the heap compares bits
    }
  }
  for (std::int32_t i = 0; i < nodes(); ++i) {
    if (begins(i) && !relays(i)) { // an end offers its own start and nobody else's
      offer(space, i, starts[static_cast<std::size_t>(i)] + 0.0, i, factor, bound);
    }
  }
  while (!space.empty()) {
    const auto [value, node] = space.pop();
    if (space.settled(node)) {
      continue;
    }
    space.settle(node);
    if (relays(node)) {
      offer(space, node, value, space.predecessor(node), factor, bound);
    }
  }
  for (std::int32_t i = 0; i < nodes(); ++i) {
    values[i] = space.distance(i);
    origins[i] = space.predecessor(i);
  }
}

} // namespace edgeagent::graph
