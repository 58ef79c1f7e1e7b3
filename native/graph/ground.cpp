#include "ground.hpp"

#include <cmath>
#include <cstddef>

namespace edgeagent::graph {

std::vector<Sighting> sightings(const Stations &stations, const double *satellites, std::int32_t count) {
  std::vector<Sighting> seen;
  for (std::int32_t s = 0; s < stations.count; ++s) {
    const double *place = stations.xyz + 3 * static_cast<std::size_t>(s);
    const double *up = stations.up + 3 * static_cast<std::size_t>(s);
    const double sin_mask = stations.sin_mask[s];
    const double range_max = stations.range_km_max[s];
    for (std::int32_t i = 0; i < count; ++i) {
      const double *target = satellites + 3 * static_cast<std::size_t>(i);
      const double x = target[0] - place[0];
      const double y = target[1] - place[1];
      const double z = target[2] - place[2];
      const double height = (x * up[0] + y * up[1]) + z * up[2];
      // Most are below the horizon: no root for them. NaN fails every comparison.
      if (!(height >= 0.0 || sin_mask < 0.0)) {
        continue;
      }
      const double range = std::sqrt((x * x + y * y) + z * z);
      if (height >= sin_mask * range && range <= range_max) {
        seen.push_back({s, i, range});
      }
    }
  }
  return seen;
}

} // namespace edgeagent::graph
