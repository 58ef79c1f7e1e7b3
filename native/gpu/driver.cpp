#include "driver.hpp"

#include "faults.hpp"

#include <dlfcn.h>
#include <unistd.h>

namespace edgeagent::gpu {

namespace {

template <typename F> bool resolve(void *library, const char *symbol, F &slot) {
  slot = reinterpret_cast<F>(dlsym(library, symbol));
  return slot != nullptr;
}

} // namespace

std::shared_ptr<Driver> Driver::open(const std::string &path) {
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char *why = dlerror();
    throw Fault(FaultKind::Absent, 0, "dlopen", "no CUDA driver: " + std::string(why != nullptr ? why : path));
  }
  auto driver = std::make_shared<Driver>();
#define EDGEAGENT_REQUIRE(member, symbol, parameters)                                                                  \
  if (!resolve(library, #symbol, driver->member)) {                                                                    \
    throw Fault(FaultKind::Absent, 0, #symbol, "the CUDA driver " + path + " is too old: it lacks " #symbol);          \
  }
  EDGEAGENT_CUDA_REQUIRED(EDGEAGENT_REQUIRE)
#undef EDGEAGENT_REQUIRE
#define EDGEAGENT_TRY(member, symbol, parameters) resolve(library, #symbol, driver->member);
  EDGEAGENT_CUDA_OPTIONAL(EDGEAGENT_TRY)
#undef EDGEAGENT_TRY
  driver->check(driver->init(0), "cuInit");
  driver->pid_ = getpid();
  return driver;
}

void Driver::check(CUresult result, const char *function) const {
  if (result == kSuccess) {
    return;
  }
  const char *text = nullptr;
  if (error_string == nullptr || error_string(result, &text) != kSuccess || text == nullptr) {
    text = "the driver has no text for it"; // an older driver does not know all codes
  }
  const std::string name = fault_name(result);
  throw Fault(kind_of(result), result, function, std::string(function) + ": " + name + ": " + text);
}

bool Driver::is_ours() const { return getpid() == pid_; }

int Driver::count() const {
  int devices = 0;
  check(device_count(&devices), "cuDeviceGetCount");
  return devices;
}

CUdevice Driver::device(int ordinal) const {
  CUdevice found = 0;
  check(device_get(&found, ordinal), "cuDeviceGet");
  return found;
}

// An attribute that the driver is too old to know (CUDA_ERROR_INVALID_VALUE) is a feature that it does not have.
int Driver::attribute(CUdevice device, int which) const {
  int value = 0;
  const CUresult result = device_attribute(&value, which, device);
  if (result == kInvalidValue) {
    return 0;
  }
  check(result, "cuDeviceGetAttribute");
  return value;
}

std::string Driver::uuid_of(CUdevice device) const {
  const auto ask = uuid_v2 != nullptr ? uuid_v2 : uuid_v1;
  if (ask == nullptr) {
    return {};
  }
  CUuuid uuid{};
  check(ask(&uuid, device), "cuDeviceGetUuid");
  std::string text;
  for (const unsigned char byte : uuid.bytes) {
    text += "0123456789abcdef"[byte >> 4U];
    text += "0123456789abcdef"[byte & 15U];
  }
  return text;
}

DeviceFacts Driver::facts(int ordinal) const {
  const CUdevice it = device(ordinal);
  DeviceFacts facts;
  facts.ordinal = ordinal;
  char name[128] = {};
  check(device_name(name, sizeof name - 1, it), "cuDeviceGetName");
  facts.name = name;
  facts.uuid = uuid_of(it);
  std::size_t bytes = 0;
  check(device_total_mem(&bytes, it), "cuDeviceTotalMem");
  facts.total_bytes = bytes;
  check(driver_version(&facts.driver_version), "cuDriverGetVersion");
  facts.capability_major = attribute(it, kCapabilityMajor);
  facts.capability_minor = attribute(it, kCapabilityMinor);
  facts.multiprocessors = attribute(it, kMultiprocessors);
  facts.integrated = attribute(it, kIntegrated) != 0;
  facts.can_map_host = attribute(it, kCanMapHost) != 0;
  facts.unified_addressing = attribute(it, kUnifiedAddressing) != 0;
  facts.concurrent_managed = attribute(it, kConcurrentManaged) != 0;
  facts.host_pointer_is_device_pointer = attribute(it, kHostPointerIsDevicePointer) != 0;
  facts.host_register = attribute(it, kHostRegister) != 0;
  facts.read_only_register = attribute(it, kReadOnlyHostRegister) != 0;
  const bool has_functions = pool_create != nullptr && pool_destroy != nullptr && pool_trim != nullptr &&
                             pool_set != nullptr && pool_get != nullptr && pool_alloc != nullptr &&
                             pool_free != nullptr;
  facts.memory_pools = has_functions && attribute(it, kMemoryPools) != 0;
  return facts;
}

} // namespace edgeagent::gpu
