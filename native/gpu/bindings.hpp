// What Python sees of a GPU: edgeagent.native.core.gpu, wrapped by edgeagent/accel/gpu_context.py.
#pragma once

#include <pybind11/pybind11.h>

namespace edgeagent {

void bind_gpu(pybind11::module_ &module);

} // namespace edgeagent
