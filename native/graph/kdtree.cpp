#include "kdtree.hpp"

namespace edgeagent::graph {

KdTree::KdTree(const Points &points) {
  for (std::int32_t i = 0; i < points.count; ++i) {
    if (points.present(i)) {
      ids_.push_back(i);
    }
  }
  if (ids_.empty()) {
    return;
  }
  boxes_.reserve(2 * (ids_.size() / (kLeaf / 2) + 1));
  build(points, 0, static_cast<std::int32_t>(ids_.size()));
  places_.resize(3 * ids_.size());
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    std::copy_n(points.at(ids_[i]), 3, &places_[3 * i]);
  }
}

// NOLINTNEXTLINE(misc-no-recursion)
std::int32_t KdTree::build(const Points &points, std::int32_t begin, std::int32_t end) {
  Box box{{kInfinity, kInfinity, kInfinity}, {-kInfinity, -kInfinity, -kInfinity}, begin, end, -1, -1};
  for (std::int32_t i = begin; i < end; ++i) {
    const double *place = points.at(ids_[static_cast<std::size_t>(i)]);
    for (int axis = 0; axis < 3; ++axis) {
      box.low[axis] = std::min(box.low[axis], place[axis]);
      box.high[axis] = std::max(box.high[axis], place[axis]);
    }
  }
  const auto index = static_cast<std::int32_t>(boxes_.size());
  boxes_.push_back(box);
  if (end - begin <= kLeaf) {
    return index;
  }
  int widest = 0;
  for (int axis = 1; axis < 3; ++axis) {
    if (box.high[axis] - box.low[axis] > box.high[widest] - box.low[widest]) {
      widest = axis;
    }
  }
  const std::int32_t middle = begin + (end - begin) / 2;
  std::nth_element(ids_.begin() + begin, ids_.begin() + middle, ids_.begin() + end,
                   [&](std::int32_t a, std::int32_t b) {
                     const double left = points.at(a)[widest];
                     const double right = points.at(b)[widest];
                     return left != right ? left < right : a < b;
                   });
  const std::int32_t left = build(points, begin, middle);
  const std::int32_t right = build(points, middle, end);
  boxes_[static_cast<std::size_t>(index)].left = left;
  boxes_[static_cast<std::size_t>(index)].right = right;
  return index;
}

void KdTree::label(const std::vector<std::int32_t> &labels, std::vector<std::int32_t> &box_labels) const {
  box_labels.assign(boxes_.size(), -1);
  for (std::size_t index = boxes_.size(); index-- > 0;) {
    const Box &box = boxes_[index];
    if (box.left >= 0) {
      const std::int32_t left = box_labels[static_cast<std::size_t>(box.left)];
      box_labels[index] = left == box_labels[static_cast<std::size_t>(box.right)] ? left : -1;
      continue;
    }
    const auto label_at = [&](std::int32_t i) {
      return labels[static_cast<std::size_t>(ids_[static_cast<std::size_t>(i)])];
    };
    std::int32_t same = label_at(box.begin);
    for (std::int32_t i = box.begin + 1; i < box.end && same >= 0; ++i) {
      same = label_at(i) == same ? same : -1;
    }
    box_labels[index] = same;
  }
}

} // namespace edgeagent::graph
