#include "bindings.hpp"

#include "remap.hpp"

#include <pybind11/stl.h>

namespace py = pybind11;

namespace edgeagent {

Crossovers crossovers_of(const py::dict &fields) {
  const auto bytes = [&fields](const char *name) { return fields[name].cast<std::uint64_t>(); };
  Crossovers at;
  at.flip_bytes_min = bytes("flip_bytes_min");
  at.exchange_bytes_min = bytes("exchange_bytes_min");
  at.resident_bytes_max = bytes("resident_bytes_max");
  at.window_bytes_min = bytes("window_bytes_min");
  at.share_bytes_min = bytes("share_bytes_min");
  at.loan_bytes_min = bytes("loan_bytes_min");
  at.huge_bytes_min = bytes("huge_bytes_min");
  return at;
}

void bind_hoses(py::module_ &module) {
  module.def("missing_features", &missing_features);
  module.def("break_for_tests", &break_for_tests);
  module.def(
      "choose_tier",
      [](const py::dict &at, std::uint64_t bytes, std::uint32_t consumers, bool in_hose, bool may_move,
         bool both_resident) {
        return static_cast<int>(choose_tier(crossovers_of(at), {bytes, consumers, in_hose, may_move, both_resident}));
      },
      py::arg("crossovers"), py::arg("bytes"), py::kw_only(), py::arg("consumers") = 1, py::arg("in_hose") = false,
      py::arg("may_move") = false, py::arg("both_resident") = false);
  module.def(
      "wants_resident",
      [](const py::dict &at, std::uint64_t payload_bytes, std::uint64_t memory_bytes, bool had_views,
         std::uint64_t resident_bytes) {
        return wants_resident(crossovers_of(at), {payload_bytes, memory_bytes, had_views}, resident_bytes);
      },
      py::arg("crossovers"), py::kw_only(), py::arg("payload_bytes"), py::arg("memory_bytes"), py::arg("had_views"),
      py::arg("resident_bytes"));
}

} // namespace edgeagent
