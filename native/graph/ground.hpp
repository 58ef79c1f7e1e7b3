// Which stations see which satellites.
#pragma once

#include "exact.hpp"

#include <cstdint>
#include <vector>

namespace edgeagent::graph {

struct Sighting {
  std::int32_t station;
  std::int32_t satellite;
  double range_km;
};

// In ECEF km; NaN: not there. `up` are unit verticals (count * 3); all other arrays are one number a station.
struct Stations {
  const double *xyz;
  const double *up;
  const double *sin_mask;
  const double *range_km_max;
  std::int32_t count;
};

// Pairs at or above the mask and within range, ordered by station, then satellite.
std::vector<Sighting> sightings(const Stations &stations, const double *satellites, std::int32_t count);

} // namespace edgeagent::graph
