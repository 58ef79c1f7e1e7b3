// Compiled, never run: what native/gpu/driver.hpp says of the driver against NVIDIA's own cuda.h, where there is one.
#include <cuda.h>

#include "gpu/driver.hpp"

#include <cstddef>
#include <type_traits>

namespace {

namespace ours = edgeagent::gpu;

// Types may have other names, but each parameter has the size of theirs, and is a pointer where theirs is. On 64-bit
// machines a CUdeviceptr is an integer in both.
template <typename Ours, typename Theirs>
constexpr bool is_alike =
    sizeof(Ours) == sizeof(Theirs) && std::is_pointer_v<Ours> == std::is_pointer_v<Theirs>;
template <typename Ours, typename Theirs> constexpr bool is_same_call = false;
template <typename R, typename... Ours, typename S, typename... Theirs>
  requires(sizeof...(Ours) == sizeof...(Theirs))
constexpr bool is_same_call<R (*)(Ours...), S (*)(Theirs...)> =
    sizeof(R) == sizeof(S) && (is_alike<Ours, Theirs> && ...);

// Where the header gives a name to a newer version of a function, the old one keeps its parameters all the same: these
// are the plain names that we ask for.
#define CHECK_CALL(member, symbol, parameters)                                                                         \
  static_assert(is_same_call<decltype(ours::Driver::member), decltype(&symbol)>, #symbol);
EDGEAGENT_CUDA_REQUIRED(CHECK_CALL)
EDGEAGENT_CUDA_OPTIONAL(CHECK_CALL)

static_assert(sizeof(ours::CUuuid) == sizeof(::CUuuid));
static_assert(sizeof(ours::CUmemPoolProps) == sizeof(::CUmemPoolProps));
static_assert(alignof(ours::CUmemPoolProps) == alignof(::CUmemPoolProps));
static_assert(offsetof(ours::CUmemPoolProps, alloc_type) == offsetof(::CUmemPoolProps, allocType));
static_assert(offsetof(ours::CUmemPoolProps, handle_types) == offsetof(::CUmemPoolProps, handleTypes));
static_assert(offsetof(ours::CUmemPoolProps, location_type) == offsetof(::CUmemPoolProps, location.type));
static_assert(offsetof(ours::CUmemPoolProps, location_id) == offsetof(::CUmemPoolProps, location.id));
static_assert(offsetof(ours::CUmemPoolProps, win32_security) == offsetof(::CUmemPoolProps, win32SecurityAttributes));

#define CHECK_VALUE(mine, theirs) static_assert(static_cast<long>(ours::mine) == static_cast<long>(theirs), #theirs);
CHECK_VALUE(kSuccess, CUDA_SUCCESS)
CHECK_VALUE(kInvalidValue, CUDA_ERROR_INVALID_VALUE)
CHECK_VALUE(kOutOfMemory, CUDA_ERROR_OUT_OF_MEMORY)
CHECK_VALUE(kNotReady, CUDA_ERROR_NOT_READY)
CHECK_VALUE(kPrimaryContextActive, CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE)
CHECK_VALUE(kMultiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
CHECK_VALUE(kIntegrated, CU_DEVICE_ATTRIBUTE_INTEGRATED)
CHECK_VALUE(kCanMapHost, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY)
CHECK_VALUE(kUnifiedAddressing, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING)
CHECK_VALUE(kCapabilityMajor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
CHECK_VALUE(kCapabilityMinor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
CHECK_VALUE(kConcurrentManaged, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS)
CHECK_VALUE(kHostPointerIsDevicePointer, CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM)
CHECK_VALUE(kHostRegister, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED)
CHECK_VALUE(kReadOnlyHostRegister, CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED)
CHECK_VALUE(kMemoryPools, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)
CHECK_VALUE(kContextMapHost, CU_CTX_MAP_HOST)
CHECK_VALUE(kStreamNonBlocking, CU_STREAM_NON_BLOCKING)
CHECK_VALUE(kEventDisableTiming, CU_EVENT_DISABLE_TIMING)
CHECK_VALUE(kHostPortable, CU_MEMHOSTALLOC_PORTABLE)
CHECK_VALUE(kHostDeviceMap, CU_MEMHOSTALLOC_DEVICEMAP)
CHECK_VALUE(kHostPortable, CU_MEMHOSTREGISTER_PORTABLE)
CHECK_VALUE(kHostDeviceMap, CU_MEMHOSTREGISTER_DEVICEMAP)
CHECK_VALUE(kRegisterReadOnly, CU_MEMHOSTREGISTER_READ_ONLY)
CHECK_VALUE(kPinnedAllocation, CU_MEM_ALLOCATION_TYPE_PINNED)
CHECK_VALUE(kLocationDevice, CU_MEM_LOCATION_TYPE_DEVICE)
CHECK_VALUE(kPoolReleaseThreshold, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD)
CHECK_VALUE(kPoolReserved, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)

} // namespace
