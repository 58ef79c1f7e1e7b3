#include "function.hpp"

#include "wasm_text.hpp"

#include <algorithm>

namespace edgeagent {

bool Pool::may_exchange(const std::uint8_t *base) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (std::find(exchanging_.begin(), exchanging_.end(), base) != exchanging_.end()) {
    return true;
  }
  if (exchanging_.size() >= kExchangingMax) {
    return false;
  }
  exchanging_.push_back(base);
  return true;
}

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

void Function::passed(const Crossovers &at, const Passed &passed) {
  const bool wants = std::any_of(sources_.begin(), sources_.end(), [&at, &passed](const Source &source) {
    return source.pool->is_large && wants_resident(at, passed, source.pool->resident_bytes);
  });
  prefers_resident_.store(wants, std::memory_order_relaxed);
}

const Source *Function::acquire(bool in_chain, bool keeps) {
  const bool large = (in_chain ? prefers_resident_ : prefers_large_).load(std::memory_order_relaxed);
  for (const Source &source : sources_) {
    // An output that cannot wait there would be copied out.
    const bool fits = source.pool->is_large == large && (!large || !keeps || source.pool->may_keep());
    if (fits && source.pool->acquire()) {
      return &source;
    }
  }
  for (const Source &source : sources_) {
    if (source.pool->is_large != large && source.pool->acquire()) {
      return &source;
    }
  }
  for (const Source &source : sources_) { // also where its output cannot wait
    if (source.pool->is_large == large && source.pool->acquire()) {
      return &source;
    }
  }
  return nullptr;
}

} // namespace edgeagent
