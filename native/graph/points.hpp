// Satellites as points, and the rule of which pairs may be linked: both present, within the reach of both, in sight.
#pragma once

#include "exact.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace edgeagent::graph {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// In km, any one frame. The caller has set positions that do not count to NaN.
struct Points {
  const double *xyz = nullptr; // count * 3
  std::int32_t count = 0;
  std::vector<double> reach2;    // per point, squared
  double clear_km = -kInfinity; // the least distance of a link from the Earth's centre is above it; -inf: no test

  const double *at(std::int32_t i) const { return xyz + 3 * static_cast<std::size_t>(i); }
  double reach2_of(std::int32_t i) const { return reach2[static_cast<std::size_t>(i)]; }
  bool present(std::int32_t i) const { return !std::isnan(at(i)[0]); }
};

inline double distance2(const double *a, const double *b) {
  const double x = a[0] - b[0];
  const double y = a[1] - b[1];
  const double z = a[2] - b[2];
  return (x * x + y * y) + z * z;
}

// The least distance of the segment from the origin: the operations of edgeagent.orbit.sight, in their order.
inline double clearance_km(const double *a, const double *b) {
  const double along[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]};
  const double length2 = (along[0] * along[0] + along[1] * along[1]) + along[2] * along[2];
  const double dot = (a[0] * along[0] + a[1] * along[1]) + a[2] * along[2];
  double part = -dot / (length2 > 0.0 ? length2 : 1.0);
  part = part < 0.0 ? 0.0 : (part > 1.0 ? 1.0 : part);
  const double x = a[0] + part * along[0];
  const double y = a[1] + part * along[1];
  const double z = a[2] + part * along[2];
  return std::sqrt((x * x + y * y) + z * z);
}

// Sight of a pair that is known to be within reach; the lower number first, so that both ends agree to the bit.
inline bool in_sight(const Points &points, std::int32_t i, std::int32_t j) {
  if (points.clear_km == -kInfinity) {
    return true;
  }
  return i < j ? clearance_km(points.at(i), points.at(j)) > points.clear_km
               : clearance_km(points.at(j), points.at(i)) > points.clear_km;
}

// An undirected link, a < b. Links are ordered by length, then by their ends: a total order, so that every protocol has
// one answer.
struct Edge {
  double length2 = kInfinity;
  std::int32_t a = -1;
  std::int32_t b = -1;

  bool operator<(const Edge &other) const {
    return length2 != other.length2 ? length2 < other.length2 : (a != other.a ? a < other.a : b < other.b);
  }
  bool operator==(const Edge &other) const = default;
};

inline Edge edge_of(double length2, std::int32_t i, std::int32_t j) {
  return i < j ? Edge{length2, i, j} : Edge{length2, j, i};
}

} // namespace edgeagent::graph
