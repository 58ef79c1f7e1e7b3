#include "function.hpp"

#include "wasm_text.hpp"

namespace edgeagent {

Function::~Function() {
  for (const Source &source : sources_) {
    wt.wasmtime_instance_pre_delete(source.pre);
  }
}

std::string Function::add_source(Pool &pool, const std::string &path) {
  wasmtime_module_t *module = nullptr;
  if (wasmtime_error_t *error = wt.wasmtime_module_deserialize_file(pool.engine, path.c_str(), &module)) {
    return take_message(error);
  }
  wasmtime_instance_pre_t *pre = nullptr;
  wasmtime_error_t *error = wt.wasmtime_linker_instantiate_pre(pool.linker, module, &pre);
  wt.wasmtime_module_delete(module);
  if (error != nullptr) {
    return take_message(error);
  }
  sources_.push_back({&pool, pre});
  return "";
}

const Source *Function::acquire(bool pages_move) {
  const bool large = !pages_move && prefers_large_.load(std::memory_order_relaxed);
  for (const Source &source : sources_) {
    if (source.pool->is_large == large && source.pool->acquire()) {
      return &source;
    }
  }
  for (const Source &source : sources_) {
    if (source.pool->is_large != large && source.pool->acquire()) {
      return &source;
    }
  }
  return nullptr;
}

} // namespace edgeagent
