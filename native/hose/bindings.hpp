#pragma once

#include "tier.hpp"

#include <pybind11/pybind11.h>

namespace edgeagent {

// edgeagent.hose.settings.Crossovers, as a dict.
Crossovers crossovers_of(const pybind11::dict &fields);
// What of the hoses needs no engine: the policy, what the kernel lacks, and how tests break it.
void bind_hoses(pybind11::module_ &module);

} // namespace edgeagent
