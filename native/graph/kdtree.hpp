// A KD-tree over points, split at the median of the widest side: balanced whatever the shells, trains and duplicates are.
// Boxes are tight. Rounding is monotone, so a box's computed distance is never above that of a point inside it, and
// pruning by "farther than" keeps ties.
#pragma once

#include "points.hpp"

#include <algorithm>
#include <utility>

namespace edgeagent::graph {

// A point and its squared distance from where was asked, ordered by distance, then number. Among links of one point
// that is also the order of Edge.
struct Found {
  double d2 = kInfinity;
  std::int32_t id = -1;

  bool operator<(const Found &other) const { return d2 != other.d2 ? d2 < other.d2 : id < other.id; }
};

class KdTree {
public:
  explicit KdTree(const Points &points);

  // The nearest point within `bound2` that `accept(id, d2)` takes, else id -1. `skip(box)` says that a whole box holds
  // none.
  template <class Accept, class Skip>
  Found nearest(const double *from, double bound2, const Accept &accept, const Skip &skip) const {
    Found best{bound2, std::numeric_limits<std::int32_t>::max()};
    if (!boxes_.empty()) {
      nearest_in(0, from, best, accept, skip);
    }
    return best.id == std::numeric_limits<std::int32_t>::max() ? Found{} : best;
  }
  template <class Accept> Found nearest(const double *from, double bound2, const Accept &accept) const {
    return nearest(from, bound2, accept, [](std::size_t) { return false; });
  }

  // The `k` nearest accepted points within `bound2`, in order.
  template <class Accept>
  void nearest_k(const double *from, double bound2, std::size_t k, const Accept &accept,
                 std::vector<Found> &out) const {
    out.clear();
    if (!boxes_.empty() && k > 0) {
      nearest_k_in(0, from, bound2, k, accept, out);
    }
  }

  // One label per box: that of its points where all have the same one, else -1. `labels` is per point.
  void label(const std::vector<std::int32_t> &labels, std::vector<std::int32_t> &box_labels) const;

private:
  struct Box {
    double low[3];
    double high[3];
    std::int32_t begin; // into ids_ and places_
    std::int32_t end;
    std::int32_t left; // -1: a leaf
    std::int32_t right;
  };
  static constexpr std::int32_t kLeaf = 8;

  std::int32_t build(const Points &points, std::int32_t begin, std::int32_t end);
  double distance2_to(std::size_t box, const double *from) const {
    const Box &b = boxes_[box];
    double sides[3];
    for (int axis = 0; axis < 3; ++axis) {
      sides[axis] = std::max(0.0, std::max(b.low[axis] - from[axis], from[axis] - b.high[axis]));
    }
    return (sides[0] * sides[0] + sides[1] * sides[1]) + sides[2] * sides[2];
  }

  template <class Accept, class Skip>
  // NOLINTNEXTLINE(misc-no-recursion): as deep as the tree, which is balanced
  void nearest_in(std::size_t index, const double *from, Found &best, const Accept &accept, const Skip &skip) const {
    const Box &box = boxes_[index];
    if (skip(index)) {
      return;
    }
    if (box.left < 0) {
      for (std::int32_t i = box.begin; i < box.end; ++i) {
        const Found found{distance2(from, &places_[3 * static_cast<std::size_t>(i)]), ids_[static_cast<std::size_t>(i)]};
        if (found < best && accept(found.id, found.d2)) {
          best = found;
        }
      }
      return;
    }
    auto near = static_cast<std::size_t>(box.left);
    auto far = static_cast<std::size_t>(box.right);
    double near2 = distance2_to(near, from);
    double far2 = distance2_to(far, from);
    if (far2 < near2) {
      std::swap(near, far);
      std::swap(near2, far2);
    }
    if (near2 <= best.d2) {
      nearest_in(near, from, best, accept, skip);
    }
    if (far2 <= best.d2) {
      nearest_in(far, from, best, accept, skip);
    }
  }

  template <class Accept>
  // NOLINTNEXTLINE(misc-no-recursion)
  void nearest_k_in(std::size_t index, const double *from, double bound2, std::size_t k, const Accept &accept,
                    std::vector<Found> &out) const {
    const Box &box = boxes_[index];
    if (box.left < 0) {
      for (std::int32_t i = box.begin; i < box.end; ++i) {
        const Found found{distance2(from, &places_[3 * static_cast<std::size_t>(i)]), ids_[static_cast<std::size_t>(i)]};
        if (found.d2 > bound2 || (out.size() == k && !(found < out.back())) || !accept(found.id, found.d2)) {
          continue;
        }
        if (out.size() == k) {
          out.pop_back();
        }
        out.insert(std::upper_bound(out.begin(), out.end(), found), found);
      }
      return;
    }
    auto near = static_cast<std::size_t>(box.left);
    auto far = static_cast<std::size_t>(box.right);
    double near2 = distance2_to(near, from);
    double far2 = distance2_to(far, from);
    if (far2 < near2) {
      std::swap(near, far);
      std::swap(near2, far2);
    }
    const auto worth = [&](double d2) { return d2 <= bound2 && (out.size() < k || d2 <= out.back().d2); };
    if (worth(near2)) {
      nearest_k_in(near, from, bound2, k, accept, out);
    }
    if (worth(far2)) {
      nearest_k_in(far, from, bound2, k, accept, out);
    }
  }

  std::vector<Box> boxes_; // children after their parent
  std::vector<std::int32_t> ids_;
  std::vector<double> places_; // in the order of ids_
};

} // namespace edgeagent::graph
