// The Python face of this room. Arrays are checked here, copied where a search outlives the call, and read in place
// otherwise; the GIL is released for all computing. edgeagent/topology gives the arguments their meaning.
#include "exact.hpp"

#include "bindings.hpp"
#include "components.hpp"
#include "csr.hpp"
#include "ground.hpp"
#include "protocols.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>

namespace py = pybind11;

namespace edgeagent {
namespace {

using namespace graph;

constexpr int kExact = py::array::c_style; // with another dtype or order: a TypeError, never a silent copy
using Doubles = py::array_t<double, kExact>;
using Integers = py::array_t<std::int32_t, kExact>;
using Flags = py::array_t<std::uint8_t, kExact>;

template <class Value> std::span<const Value> span_of(const py::array_t<Value, kExact> &array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

template <class Value> py::array_t<Value> array_of(const std::vector<Value> &values) {
  return py::array_t<Value>(static_cast<py::ssize_t>(values.size()), values.data());
}

std::int32_t rows_of(const Doubles &vectors) {
  if (vectors.ndim() != 2 || vectors.shape(1) != 3 || vectors.shape(0) > std::numeric_limits<std::int32_t>::max()) {
    throw py::value_error("positions must have the shape (n, 3)");
  }
  return static_cast<std::int32_t>(vectors.shape(0));
}

void require_length(const py::array &array, std::int32_t count) {
  if (array.ndim() != 1 || array.shape(0) != count) {
    throw py::value_error("there must be one number per position");
  }
}

Points points_of(const Doubles &positions, const Doubles &reach_km, double clear_km) {
  Points points{positions.data(), rows_of(positions), {}, clear_km};
  require_length(reach_km, points.count);
  for (const double reach : span_of(reach_km)) {
    points.reach2.push_back(reach * reach);
  }
  return points;
}

// (a, b, length_km)
py::tuple tuple_of(const std::vector<Edge> &edges) {
  std::vector<std::int32_t> a;
  std::vector<std::int32_t> b;
  std::vector<double> length;
  for (const Edge &edge : edges) {
    a.push_back(edge.a);
    b.push_back(edge.b);
    length.push_back(std::sqrt(edge.length2));
  }
  return py::make_tuple(array_of(a), array_of(b), array_of(length));
}

py::tuple links(const std::string &protocol, const Doubles &positions, const Doubles &reach_km, double clear_km,
                int neighbours) {
  const Points points = points_of(positions, reach_km, clear_km);
  if (neighbours < 1 || neighbours > 1024) {
    throw py::value_error("neighbours must be from 1 to 1024");
  }
  const bool spanning = protocol.starts_with("mst");
  const std::string loops = spanning || protocol.starts_with("pst") ? protocol.substr(3) : "";
  if (protocol != "nearest" && (protocol.size() < 3 || (!spanning && !protocol.starts_with("pst")) ||
                                (!loops.empty() && loops != "_loop" && loops != "_smart_loop"))) {
    throw py::value_error("no such protocol");
  }
  std::vector<Edge> edges;
  {
    const py::gil_scoped_release released;
    if (protocol == "nearest") {
      edges = nearest_links(points, neighbours);
    } else {
      edges = spanning ? spanning_links(points) : partial_links(points, neighbours);
    }
    if (!loops.empty()) {
      add_loops(points, neighbours, loops == "_smart_loop", edges);
    }
  }
  return tuple_of(edges);
}

py::tuple seen_from(const Doubles &stations, const Doubles &up, const Doubles &sin_mask, const Doubles &range_km_max,
                    const Doubles &satellites) {
  const std::int32_t count = rows_of(stations);
  const std::int32_t others = rows_of(satellites);
  if (rows_of(up) != count) {
    throw py::value_error("there must be one vertical per station");
  }
  require_length(sin_mask, count);
  require_length(range_km_max, count);
  std::vector<Sighting> seen;
  {
    const py::gil_scoped_release released;
    seen = sightings({stations.data(), up.data(), sin_mask.data(), range_km_max.data(), count}, satellites.data(), others);
  }
  std::vector<std::int32_t> from;
  std::vector<std::int32_t> to;
  std::vector<double> range;
  for (const Sighting &one : seen) {
    from.push_back(one.station);
    to.push_back(one.satellite);
    range.push_back(one.range_km);
  }
  return py::make_tuple(array_of(from), array_of(to), array_of(range));
}

// Numbered by their lowest member, from 0.
Integers component_labels(std::int32_t count, const Integers &a, const Integers &b) {
  if (count < 0 || a.ndim() != 1 || b.ndim() != 1 || a.size() != b.size()) {
    throw py::value_error("edges must be two arrays of one length");
  }
  Integers labels(count);
  Components components(count);
  for (py::ssize_t i = 0; i < a.size(); ++i) {
    const std::int32_t from = a.data()[i];
    const std::int32_t to = b.data()[i];
    if (from < 0 || to < 0 || from >= count || to >= count) {
      throw py::value_error("an edge ends at no node");
    }
    components.unite(from, to);
  }
  std::int32_t next = 0;
  std::int32_t *label = labels.mutable_data();
  for (std::int32_t i = 0; i < count; ++i) {
    const std::int32_t root = components.find(i); // the lowest member: labelled before
    label[i] = root == i ? next++ : label[root];
  }
  return labels;
}

py::tuple settled_tuple(const std::vector<Settled> &found) {
  std::vector<std::int32_t> nodes;
  std::vector<double> distances;
  for (const Settled &one : found) {
    nodes.push_back(one.node);
    distances.push_back(one.distance);
  }
  return py::make_tuple(array_of(nodes), array_of(distances));
}

void bind_csr(py::module_ &m) {
  py::class_<Csr>(m, "Csr")
      .def(py::init([](const Integers &indptr, const Integers &indices, const Doubles &weights, const Flags &relays) {
             return std::make_unique<Csr>(span_of(indptr), span_of(indices), span_of(weights), span_of(relays));
           }),
           py::arg("indptr").noconvert(), py::arg("indices").noconvert(), py::arg("weights").noconvert(),
           py::arg("relays").noconvert())
      .def("tree",
           [](const Csr &graph, const Integers &sources, double bound) {
             Doubles distances(graph.nodes());
             Integers predecessors(graph.nodes());
             double *distance = distances.mutable_data();
             std::int32_t *predecessor = predecessors.mutable_data();
             const auto from = span_of(sources);
             {
               const py::gil_scoped_release released;
               graph.tree(from, bound, distance, predecessor);
             }
             return py::make_tuple(distances, predecessors);
           })
      .def("many",
           [](const Csr &graph, const Integers &sources, double bound) {
             Doubles distances({static_cast<py::ssize_t>(sources.size()), static_cast<py::ssize_t>(graph.nodes())});
             double *row = distances.mutable_data();
             const auto from = span_of(sources);
             {
               const py::gil_scoped_release released;
               for (std::size_t i = 0; i < from.size(); ++i, row += graph.nodes()) {
                 graph.tree(from.subspan(i, 1), bound, row, nullptr);
               }
             }
             return distances;
           })
      .def("spread",
           [](const Csr &graph, const Doubles &starts, double factor, double bound) {
             Doubles values(graph.nodes());
             Integers origins(graph.nodes());
             double *value = values.mutable_data();
             std::int32_t *origin = origins.mutable_data();
             const auto from = span_of(starts);
             {
               const py::gil_scoped_release released;
               graph.spread(from, factor, bound, value, origin);
             }
             return py::make_tuple(values, origins);
           })
      .def("path",
           [](const Csr &graph, std::int32_t source, std::int32_t target, double bound) {
             std::pair<double, std::vector<std::int32_t>> found;
             {
               const py::gil_scoped_release released;
               found = graph.path(source, target, bound);
             }
             return py::make_tuple(found.first, array_of(found.second));
           })
      .def("distances",
           [](const Csr &graph, std::int32_t source, const Integers &targets, double bound) {
             const auto to = span_of(targets);
             std::vector<double> found;
             {
               const py::gil_scoped_release released;
               found = graph.distances(source, to, bound);
             }
             return array_of(found);
           })
      .def("within",
           [](const Csr &graph, std::int32_t source, double bound, std::size_t count_max, const Flags &among) {
             const auto flags = span_of(among);
             std::vector<Settled> found;
             {
               const py::gil_scoped_release released;
               found = graph.within(source, bound, count_max, flags);
             }
             return settled_tuple(found);
           });
}

} // namespace

void bind_graph(py::module_ &module) {
  py::module_ m = module.def_submodule("graph", "what edgeagent.topology computes natively");
  m.def("links", &links, py::arg("protocol"), py::arg("positions_km").noconvert(), py::arg("reach_km").noconvert(),
        py::arg("clear_km"), py::arg("neighbours"));
  m.def("sightings", &seen_from, py::arg("stations_km").noconvert(), py::arg("up").noconvert(),
        py::arg("sin_mask").noconvert(), py::arg("range_km_max").noconvert(), py::arg("satellites_km").noconvert());
  m.def("components", &component_labels, py::arg("count"), py::arg("a").noconvert(), py::arg("b").noconvert());
  bind_csr(m);
}

} // namespace edgeagent
