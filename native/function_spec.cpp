#include "function_spec.hpp"

#include "clock.hpp"

#include <pybind11/stl.h>

namespace py = pybind11;

namespace edgeagent {

FunctionSpec make_spec(const py::dict &d) {
  FunctionSpec spec;
  spec.name = d["name"].cast<std::string>();
  spec.abi = d["abi"].cast<std::string>() == "command" ? Abi::Command : Abi::Bytes;
  spec.memory_bytes = d["memory_bytes"].cast<std::int64_t>();
  spec.output_bytes = d["output_bytes"].cast<std::uint64_t>();
  spec.wall_ns = d["wall_ms"].cast<std::int64_t>() * kNsPerMs;
  spec.fuel = d["fuel"].cast<std::uint64_t>();
  spec.stack_bytes = d["stack_bytes"].cast<std::size_t>();
  spec.args = d["args"].cast<std::vector<std::string>>();
  spec.env = d["env"].cast<std::vector<std::string>>();
  spec.scratch_dir = d["scratch_dir"].cast<std::string>();
  spec.scratch_bytes_max = d["scratch_bytes_max"].cast<std::uint64_t>();
  spec.may_block = d["may_block"].cast<bool>();
  spec.has_start = d["has_start"].cast<bool>();
  spec.needs_wasi = d["needs_wasi"].cast<bool>();
  spec.has_initialize = d["has_initialize"].cast<bool>();
  spec.uses_hose = d["uses_hose"].cast<bool>();
  spec.has_alloc = d["has_alloc"].cast<bool>();
  spec.has_aligned_alloc = d["has_aligned_alloc"].cast<bool>();
  spec.data_end = d["data_end"].cast<std::uint64_t>();
  return spec;
}

} // namespace edgeagent
