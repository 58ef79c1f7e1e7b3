#include "wasmtime_api.hpp"

#include <dlfcn.h>

#include <stdexcept>

namespace edgeagent {

WasmtimeApi wt;

namespace {

constexpr const char *kMajor = "50.";

template <typename F> void resolve(void *library, const char *name, F &slot) {
  void *symbol = dlsym(library, name);
  if (symbol == nullptr) {
    throw std::runtime_error(std::string("libwasmtime lacks ") + name + "; install wasmtime>=50,<51");
  }
  slot = reinterpret_cast<F>(symbol);
}

} // namespace

void WasmtimeApi::load(const std::string &library_path, const std::string &version) {
  if (loaded()) {
    return;
  }
  if (version.rfind(kMajor, 0) != 0) {
    throw std::runtime_error("wasmtime " + version + " is not supported; install wasmtime>=50,<51");
  }
  void *library = dlopen(library_path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) {
    throw std::runtime_error("libwasmtime is not loaded: import wasmtime first (" + library_path + ")");
  }
#define EDGEAGENT_RESOLVE(name, result, parameters) resolve(library, #name, name);
  EDGEAGENT_WASMTIME_FUNCTIONS(EDGEAGENT_RESOLVE)
#undef EDGEAGENT_RESOLVE
  library_ = library;
}

} // namespace edgeagent
