// The protocols that link satellites to satellites (docs/topology.md). Links come out sorted by their ends.
#pragma once

#include "points.hpp"

namespace edgeagent::graph {

// Each point's `neighbours` nearest linkable ones, shortest first while both ends have a free terminal.
std::vector<Edge> nearest_links(const Points &points, int neighbours);

// The minimum spanning forest of all linkable pairs, by Boruvka's rounds.
std::vector<Edge> spanning_links(const Points &points);

// A partial tree: each point in turn takes its shortest link into another component, both ends below `neighbours`.
std::vector<Edge> partial_links(const Points &points, int neighbours);

// Adds one link for each point that has few: from 1 to neighbours-2, or exactly 1 where `leaves_only`.
void add_loops(const Points &points, int neighbours, bool leaves_only, std::vector<Edge> &edges);

} // namespace edgeagent::graph
