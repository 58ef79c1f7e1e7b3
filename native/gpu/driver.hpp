// The part of the CUDA driver API that the contexts need, declared by us and resolved with dlopen: no CUDA at build time.
//
// Symbols are asked for under their versioned names (cuStreamDestroy_v2, ...), which each stand for one ABI for ever; the
// plain name of some is an older one. Source of names, types and constants: NVIDIA's CUDA Driver API reference, sections
// "Data types", "Device", "Primary Context", "Memory", "Stream Ordered Memory Allocator", "Stream" and "Event Management".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <sys/types.h>

namespace edgeagent::gpu {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = std::uint64_t;
struct CUctx_st;
struct CUstream_st;
struct CUevent_st;
struct CUmemPoolHandle_st;
using CUcontext = CUctx_st *;
using CUstream = CUstream_st *;
using CUevent = CUevent_st *;
using CUmemoryPool = CUmemPoolHandle_st *;

struct CUuuid {
  unsigned char bytes[16];
};
struct CUmemPoolProps {
  int alloc_type;
  int handle_types;
  int location_type;
  int location_id;
  void *win32_security;
  unsigned char reserved[64]; // later versions name some of it (maxSize, usage): zero is their default
};
static_assert(sizeof(CUmemPoolProps) == 88);

inline constexpr CUresult kSuccess = 0;
inline constexpr CUresult kInvalidValue = 1;
inline constexpr CUresult kOutOfMemory = 2;
inline constexpr CUresult kNotReady = 600;
inline constexpr CUresult kPrimaryContextActive = 708;

inline constexpr int kMultiprocessors = 16; // CU_DEVICE_ATTRIBUTE_...
inline constexpr int kIntegrated = 18;
inline constexpr int kCanMapHost = 19;
inline constexpr int kUnifiedAddressing = 41;
inline constexpr int kCapabilityMajor = 75;
inline constexpr int kCapabilityMinor = 76;
inline constexpr int kConcurrentManaged = 89;
inline constexpr int kHostPointerIsDevicePointer = 91; // for registered memory
inline constexpr int kHostRegister = 99;
inline constexpr int kReadOnlyHostRegister = 113;
inline constexpr int kMemoryPools = 115;

inline constexpr unsigned kContextMapHost = 8;     // CU_CTX_MAP_HOST
inline constexpr unsigned kStreamNonBlocking = 1;  // CU_STREAM_NON_BLOCKING
inline constexpr unsigned kEventDisableTiming = 2; // CU_EVENT_DISABLE_TIMING
inline constexpr unsigned kHostPortable = 1;       // CU_MEMHOSTALLOC_PORTABLE, CU_MEMHOSTREGISTER_PORTABLE
inline constexpr unsigned kHostDeviceMap = 2;      // ..._DEVICEMAP
inline constexpr unsigned kRegisterReadOnly = 8;   // CU_MEMHOSTREGISTER_READ_ONLY
inline constexpr int kPinnedAllocation = 1;        // CU_MEM_ALLOCATION_TYPE_PINNED
inline constexpr int kLocationDevice = 1;          // CU_MEM_LOCATION_TYPE_DEVICE
inline constexpr int kPoolReleaseThreshold = 4;    // CU_MEMPOOL_ATTR_...
inline constexpr int kPoolReserved = 5;            // bytes that the pool has of the device, used or not

// member, symbol, parameters; all return CUresult.
#define EDGEAGENT_CUDA_REQUIRED(X)                                                                                     \
  X(init, cuInit, (unsigned))                                                                                          \
  X(driver_version, cuDriverGetVersion, (int *))                                                                       \
  X(error_name, cuGetErrorName, (CUresult, const char **))                                                             \
  X(error_string, cuGetErrorString, (CUresult, const char **))                                                         \
  X(device_count, cuDeviceGetCount, (int *))                                                                           \
  X(device_get, cuDeviceGet, (CUdevice *, int))                                                                        \
  X(device_name, cuDeviceGetName, (char *, int, CUdevice))                                                             \
  X(device_attribute, cuDeviceGetAttribute, (int *, int, CUdevice))                                                    \
  X(device_total_mem, cuDeviceTotalMem_v2, (std::size_t *, CUdevice))                                                  \
  X(primary_retain, cuDevicePrimaryCtxRetain, (CUcontext *, CUdevice))                                                 \
  X(primary_release, cuDevicePrimaryCtxRelease_v2, (CUdevice))                                                         \
  X(primary_reset, cuDevicePrimaryCtxReset_v2, (CUdevice))                                                             \
  X(primary_set_flags, cuDevicePrimaryCtxSetFlags_v2, (CUdevice, unsigned))                                            \
  X(set_current, cuCtxSetCurrent, (CUcontext))                                                                         \
  X(get_current, cuCtxGetCurrent, (CUcontext *))                                                                       \
  X(priority_range, cuCtxGetStreamPriorityRange, (int *, int *))                                                       \
  X(stream_create, cuStreamCreateWithPriority, (CUstream *, unsigned, int))                                            \
  X(stream_destroy, cuStreamDestroy_v2, (CUstream))                                                                    \
  X(stream_synchronize, cuStreamSynchronize, (CUstream))                                                               \
  X(stream_query, cuStreamQuery, (CUstream))                                                                           \
  X(event_create, cuEventCreate, (CUevent *, unsigned))                                                                \
  X(event_record, cuEventRecord, (CUevent, CUstream))                                                                  \
  X(event_query, cuEventQuery, (CUevent))                                                                              \
  X(event_elapsed, cuEventElapsedTime, (float *, CUevent, CUevent))                                                    \
  X(event_destroy, cuEventDestroy_v2, (CUevent))                                                                       \
  X(mem_info, cuMemGetInfo_v2, (std::size_t *, std::size_t *))                                                         \
  X(mem_alloc, cuMemAlloc_v2, (CUdeviceptr *, std::size_t))                                                            \
  X(mem_free, cuMemFree_v2, (CUdeviceptr))                                                                             \
  X(copy_in, cuMemcpyHtoDAsync_v2, (CUdeviceptr, const void *, std::size_t, CUstream))                                 \
  X(copy_out, cuMemcpyDtoHAsync_v2, (void *, CUdeviceptr, std::size_t, CUstream))                                      \
  X(host_alloc, cuMemHostAlloc, (void **, std::size_t, unsigned))                                                      \
  X(host_free, cuMemFreeHost, (void *))                                                                                \
  X(host_register, cuMemHostRegister_v2, (void *, std::size_t, unsigned))                                              \
  X(host_unregister, cuMemHostUnregister, (void *))                                                                    \
  X(host_device_pointer, cuMemHostGetDevicePointer_v2, (CUdeviceptr *, void *, unsigned))

// Null where the driver is older: pools came with CUDA 11.2, the second form of the UUID with 11.4.
#define EDGEAGENT_CUDA_OPTIONAL(X)                                                                                     \
  X(uuid_v2, cuDeviceGetUuid_v2, (CUuuid *, CUdevice))                                                                 \
  X(uuid_v1, cuDeviceGetUuid, (CUuuid *, CUdevice))                                                                    \
  X(pool_create, cuMemPoolCreate, (CUmemoryPool *, const CUmemPoolProps *))                                            \
  X(pool_destroy, cuMemPoolDestroy, (CUmemoryPool))                                                                    \
  X(pool_trim, cuMemPoolTrimTo, (CUmemoryPool, std::size_t))                                                           \
  X(pool_set, cuMemPoolSetAttribute, (CUmemoryPool, int, void *))                                                      \
  X(pool_get, cuMemPoolGetAttribute, (CUmemoryPool, int, void *))                                                      \
  X(pool_alloc, cuMemAllocFromPoolAsync, (CUdeviceptr *, std::size_t, CUmemoryPool, CUstream))                         \
  X(pool_free, cuMemFreeAsync, (CUdeviceptr, CUstream))

struct DeviceFacts {
  int ordinal = 0;
  std::string name;
  std::string uuid; // 32 hex digits, or empty
  int capability_major = 0;
  int capability_minor = 0;
  std::uint64_t total_bytes = 0;
  int multiprocessors = 0;
  int driver_version = 0; // 1000 * major + 10 * minor
  bool integrated = false;
  bool can_map_host = false;
  bool unified_addressing = false;
  bool concurrent_managed = false;
  bool host_pointer_is_device_pointer = false;
  bool host_register = false;
  bool read_only_register = false;
  bool memory_pools = false;
};

class Driver {
public:
#define EDGEAGENT_DECLARE(member, symbol, parameters) CUresult(*member) parameters = nullptr;
  EDGEAGENT_CUDA_REQUIRED(EDGEAGENT_DECLARE)
  EDGEAGENT_CUDA_OPTIONAL(EDGEAGENT_DECLARE)
#undef EDGEAGENT_DECLARE

  // Opens the library, resolves its functions and calls cuInit. Never closed again: libcuda keeps threads of its own.
  // Throws Fault: Absent without the library or with one that lacks a function, else what cuInit said.
  static std::shared_ptr<Driver> open(const std::string &path);

  void check(CUresult result, const char *function) const; // throws Fault
  int count() const;
  CUdevice device(int ordinal) const;
  DeviceFacts facts(int ordinal) const;
  // CUDA does not survive a fork.
  bool is_ours() const;

private:
  int attribute(CUdevice device, int which) const;
  std::string uuid_of(CUdevice device) const;
  pid_t pid_ = 0;
};

} // namespace edgeagent::gpu
