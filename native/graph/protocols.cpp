#include "protocols.hpp"

#include "components.hpp"
#include "kdtree.hpp"

#include <queue>

namespace edgeagent::graph {
namespace {

std::size_t at(std::int32_t i) { return static_cast<std::size_t>(i); }

// Within the reach of both (the bound of the search is that of `from`), and in sight; the cheap test first.
bool linkable(const Points &points, std::int32_t from, std::int32_t to, double d2) {
  return to != from && d2 <= points.reach2_of(to) && in_sight(points, from, to);
}

void sort_by_ends(std::vector<Edge> &edges) {
  std::sort(edges.begin(), edges.end(),
            [](const Edge &x, const Edge &y) { return x.a != y.a ? x.a < y.a : x.b < y.b; });
}

struct Degrees {
  std::vector<int> of;
  std::vector<std::vector<std::int32_t>> peers;

  Degrees(std::int32_t count, const std::vector<Edge> &edges) : of(at(count)), peers(at(count)) {
    for (const Edge &edge : edges) {
      add(edge);
    }
  }
  void add(const Edge &edge) {
    ++of[at(edge.a)];
    ++of[at(edge.b)];
    peers[at(edge.a)].push_back(edge.b);
    peers[at(edge.b)].push_back(edge.a);
  }
  bool linked(std::int32_t i, std::int32_t j) const {
    return std::find(peers[at(i)].begin(), peers[at(i)].end(), j) != peers[at(i)].end();
  }
};

// What a point knows of its way out of its component, from round to round.
struct WayOut {
  Found nearest;       // good while it is in another component
  double at_least2 = 0; // every other way out is at least so long
};

} // namespace

std::vector<Edge> nearest_links(const Points &points, int neighbours) {
  const KdTree tree(points);
  std::vector<Edge> wanted;
  std::vector<Found> found;
  for (std::int32_t i = 0; i < points.count; ++i) {
    if (!points.present(i)) {
      continue;
    }
    tree.nearest_k(
        points.at(i), points.reach2_of(i), static_cast<std::size_t>(neighbours),
        [&](std::int32_t j, double d2) { return linkable(points, i, j, d2); }, found);
    for (const Found &one : found) {
      wanted.push_back(edge_of(one.d2, i, one.id));
    }
  }
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  std::vector<int> degree(at(points.count));
  std::vector<Edge> edges;
  for (const Edge &edge : wanted) {
    if (degree[at(edge.a)] < neighbours && degree[at(edge.b)] < neighbours) {
      ++degree[at(edge.a)];
      ++degree[at(edge.b)];
      edges.push_back(edge);
    }
  }
  sort_by_ends(edges);
  return edges;
}

// Each round, every component takes the shortest link that leaves it. A point's nearest way out only ever grows, so what
// the last rounds found is its offer as long as it still leads out, and a lower bound after that: a point searches only
// where it could beat its component's best offer so far. Exact, whatever the density (a tree over the k nearest is not).
std::vector<Edge> spanning_links(const Points &points) {
  const KdTree tree(points);
  const std::size_t count = at(points.count);
  Components components(points.count);
  std::vector<std::int32_t> component(count);
  std::vector<std::int32_t> box_component;
  std::vector<WayOut> ways(count);
  std::vector<Edge> best(count);
  std::vector<Edge> edges;
  for (bool grew = true; grew;) {
    for (std::int32_t i = 0; i < points.count; ++i) {
      component[at(i)] = components.find(i);
    }
    tree.label(component, box_component);
    std::fill(best.begin(), best.end(), Edge{});
    const auto leads_out = [&](std::int32_t i) {
      const Found &way = ways[at(i)].nearest;
      return way.id >= 0 && component[at(way.id)] != component[at(i)];
    };
    const auto offer = [&](std::int32_t i) {
      Edge &mine = best[at(component[at(i)])];
      mine = std::min(mine, edge_of(ways[at(i)].nearest.d2, i, ways[at(i)].nearest.id));
    };
    for (std::int32_t i = 0; i < points.count; ++i) {
      if (leads_out(i)) {
        offer(i);
      }
    }
    for (std::int32_t i = 0; i < points.count; ++i) {
      WayOut &way = ways[at(i)];
      const std::int32_t home = component[at(i)];
      const double bound2 = std::min(points.reach2_of(i), best[at(home)].length2);
      if (!points.present(i) || leads_out(i) || way.at_least2 > bound2 || way.at_least2 == kInfinity) {
        continue;
      }
      way.nearest = tree.nearest(
          points.at(i), bound2,
          [&](std::int32_t j, double d2) { return component[at(j)] != home && linkable(points, i, j, d2); },
          [&](std::size_t box) { return box_component[box] == home; });
      if (way.nearest.id >= 0) {
        way.at_least2 = way.nearest.d2;
        offer(i);
      } else {
        way.at_least2 = bound2 == points.reach2_of(i) ? kInfinity : std::nextafter(bound2, kInfinity);
      }
    }
    grew = false;
    for (std::int32_t i = 0; i < points.count; ++i) {
      const Edge &edge = best[at(i)];
      if (edge.a >= 0 && components.unite(edge.a, edge.b)) {
        edges.push_back(edge);
        grew = true;
      }
    }
  }
  sort_by_ends(edges);
  return edges;
}

std::vector<Edge> partial_links(const Points &points, int neighbours) {
  const KdTree tree(points);
  Components components(points.count);
  std::vector<int> degree(at(points.count));
  std::vector<Edge> edges;
  std::int32_t left = 0;
  for (std::int32_t i = 0; i < points.count; ++i) {
    left += points.present(i) ? 1 : 0;
  }
  for (std::int32_t i = 0; i < points.count && left > 1; ++i) {
    if (!points.present(i) || degree[at(i)] >= neighbours) {
      continue;
    }
    const std::int32_t home = components.find(i);
    const Found found = tree.nearest(points.at(i), points.reach2_of(i), [&](std::int32_t j, double d2) {
      return degree[at(j)] < neighbours && components.find(j) != home && linkable(points, i, j, d2);
    });
    if (found.id < 0) {
      continue;
    }
    components.unite(i, found.id);
    ++degree[at(i)];
    ++degree[at(found.id)];
    edges.push_back(edge_of(found.d2, i, found.id));
    --left;
  }
  sort_by_ends(edges);
  return edges;
}

void add_loops(const Points &points, int neighbours, bool leaves_only, std::vector<Edge> &edges) {
  const KdTree tree(points);
  Degrees degrees(points.count, edges);
  const auto wants = [&](std::int32_t i) {
    const int degree = degrees.of[at(i)];
    return leaves_only ? degree == 1 && neighbours > 1 : degree > 0 && degree < neighbours - 1;
  };
  using Wish = std::pair<Edge, std::int32_t>; // the link, and who asked for it
  std::priority_queue<Wish, std::vector<Wish>, std::greater<>> wishes;
  const auto wish = [&](std::int32_t i) {
    const Found found = tree.nearest(points.at(i), points.reach2_of(i), [&](std::int32_t j, double d2) {
      return degrees.of[at(j)] < neighbours && linkable(points, i, j, d2) && !degrees.linked(i, j);
    });
    if (found.id >= 0) {
      wishes.emplace(edge_of(found.d2, i, found.id), i);
    }
  };
  for (std::int32_t i = 0; i < points.count; ++i) {
    if (points.present(i) && wants(i)) {
      wish(i);
    }
  }
  // Shortest first. Degrees only grow, so a wish that has become impossible is replaced by a longer one.
  while (!wishes.empty()) {
    const auto [edge, asker] = wishes.top();
    wishes.pop();
    if (!wants(asker)) {
      continue;
    }
    const std::int32_t other = edge.a == asker ? edge.b : edge.a;
    if (degrees.of[at(other)] >= neighbours || degrees.linked(asker, other)) {
      wish(asker);
      continue;
    }
    degrees.add(edge);
    edges.push_back(edge);
  }
  sort_by_ends(edges);
}

} // namespace edgeagent::graph
