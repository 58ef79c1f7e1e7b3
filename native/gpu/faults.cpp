// The table follows NVIDIA's "CUDA Driver API", section "Data types used by CUDA driver", enum CUresult (up to CUDA 13.5).
//
// Poisoned: where that text says that the process "must be terminated and relaunched" (226, 700, 702, 714-719, 721, 810,
// 911), that the context "cannot be used anymore" (710), memory or a link lost data (214, 220), or nobody can say what
// state the context is in (709, 806, 916, 999). Absent: nothing that this process can do brings a device. Unsupported: the
// text names a device, a system or a driver that lacks the feature. Retryable: the text says "at the current time", "not
// yet ready", "not ready to accept", "exhausted" for clients, or an operating system call failed.
#include "faults.hpp"

#include <algorithm>

namespace edgeagent::gpu {

const std::vector<FaultRow> &fault_table() {
  using enum FaultKind;
  static const std::vector<FaultRow> rows = {
      {0, "CUDA_SUCCESS", Ok},
      {1, "CUDA_ERROR_INVALID_VALUE", Misuse},
      {2, "CUDA_ERROR_OUT_OF_MEMORY", OutOfMemory},
      {3, "CUDA_ERROR_NOT_INITIALIZED", Absent},
      {4, "CUDA_ERROR_DEINITIALIZED", Absent},
      {5, "CUDA_ERROR_PROFILER_DISABLED", Misuse},
      {6, "CUDA_ERROR_PROFILER_NOT_INITIALIZED", Misuse},
      {7, "CUDA_ERROR_PROFILER_ALREADY_STARTED", Misuse},
      {8, "CUDA_ERROR_PROFILER_ALREADY_STOPPED", Misuse},
      {34, "CUDA_ERROR_STUB_LIBRARY", Absent},
      {36, "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER", Absent},
      {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", Retryable},
      {47, "CUDA_ERROR_MULTICAST_RESOURCE_FULL", Misuse}, // nothing here asks for it
      {100, "CUDA_ERROR_NO_DEVICE", Absent},
      {101, "CUDA_ERROR_INVALID_DEVICE", Absent},
      {102, "CUDA_ERROR_DEVICE_NOT_LICENSED", Absent},
      {200, "CUDA_ERROR_INVALID_IMAGE", Misuse},
      {201, "CUDA_ERROR_INVALID_CONTEXT", Misuse},
      {202, "CUDA_ERROR_CONTEXT_ALREADY_CURRENT", Misuse},
      {205, "CUDA_ERROR_MAP_FAILED", Unsupported}, // also of a registration: staging does without
      {206, "CUDA_ERROR_UNMAP_FAILED", Misuse},
      {207, "CUDA_ERROR_ARRAY_IS_MAPPED", Misuse},
      {208, "CUDA_ERROR_ALREADY_MAPPED", Misuse},
      {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", Unsupported},
      {210, "CUDA_ERROR_ALREADY_ACQUIRED", Misuse},
      {211, "CUDA_ERROR_NOT_MAPPED", Misuse},
      {212, "CUDA_ERROR_NOT_MAPPED_AS_ARRAY", Misuse},
      {213, "CUDA_ERROR_NOT_MAPPED_AS_POINTER", Misuse},
      {214, "CUDA_ERROR_ECC_UNCORRECTABLE", Poisoned},
      {215, "CUDA_ERROR_UNSUPPORTED_LIMIT", Unsupported},
      {216, "CUDA_ERROR_CONTEXT_ALREADY_IN_USE", Misuse},
      {217, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED", Unsupported},
      {218, "CUDA_ERROR_INVALID_PTX", Misuse},
      {219, "CUDA_ERROR_INVALID_GRAPHICS_CONTEXT", Misuse},
      {220, "CUDA_ERROR_NVLINK_UNCORRECTABLE", Poisoned},
      {221, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", Absent},
      {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", Unsupported},
      {223, "CUDA_ERROR_JIT_COMPILATION_DISABLED", Unsupported},
      {224, "CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY", Unsupported},
      {225, "CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC", Unsupported},
      {226, "CUDA_ERROR_CONTAINED", Poisoned},
      {227, "CUDA_ERROR_INSUFFICIENT_LOADER_VERSION", Unsupported},
      {300, "CUDA_ERROR_INVALID_SOURCE", Misuse},
      {301, "CUDA_ERROR_FILE_NOT_FOUND", Misuse},
      {302, "CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND", Absent},
      {303, "CUDA_ERROR_SHARED_OBJECT_INIT_FAILED", Absent},
      {304, "CUDA_ERROR_OPERATING_SYSTEM", Retryable},
      {400, "CUDA_ERROR_INVALID_HANDLE", Misuse},
      {401, "CUDA_ERROR_ILLEGAL_STATE", Misuse},
      {402, "CUDA_ERROR_LOSSY_QUERY", Misuse},
      {500, "CUDA_ERROR_NOT_FOUND", Misuse},
      {600, "CUDA_ERROR_NOT_READY", Pending},
      {700, "CUDA_ERROR_ILLEGAL_ADDRESS", Poisoned},
      {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", Misuse}, // too many arguments or threads, not too little memory
      {702, "CUDA_ERROR_LAUNCH_TIMEOUT", Poisoned},
      {703, "CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING", Misuse},
      {704, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", Misuse},
      {705, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", Misuse},
      {708, "CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE", Misuse},
      {709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", Poisoned},
      {710, "CUDA_ERROR_ASSERT", Poisoned},
      {711, "CUDA_ERROR_TOO_MANY_PEERS", Unsupported},
      {712, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", Misuse},
      {713, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", Misuse},
      {714, "CUDA_ERROR_HARDWARE_STACK_ERROR", Poisoned},
      {715, "CUDA_ERROR_ILLEGAL_INSTRUCTION", Poisoned},
      {716, "CUDA_ERROR_MISALIGNED_ADDRESS", Poisoned},
      {717, "CUDA_ERROR_INVALID_ADDRESS_SPACE", Poisoned},
      {718, "CUDA_ERROR_INVALID_PC", Poisoned},
      {719, "CUDA_ERROR_LAUNCH_FAILED", Poisoned},
      {720, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE", Misuse},
      {721, "CUDA_ERROR_TENSOR_MEMORY_LEAK", Poisoned},
      {800, "CUDA_ERROR_NOT_PERMITTED", Unsupported},
      {801, "CUDA_ERROR_NOT_SUPPORTED", Unsupported},
      {802, "CUDA_ERROR_SYSTEM_NOT_READY", Retryable},
      {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", Absent},
      {804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", Absent},
      {805, "CUDA_ERROR_MPS_CONNECTION_FAILED", Retryable},
      {806, "CUDA_ERROR_MPS_RPC_FAILURE", Poisoned},
      {807, "CUDA_ERROR_MPS_SERVER_NOT_READY", Retryable},
      {808, "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED", Retryable},
      {809, "CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED", Retryable},
      {810, "CUDA_ERROR_MPS_CLIENT_TERMINATED", Poisoned},
      {811, "CUDA_ERROR_CDP_NOT_SUPPORTED", Unsupported},
      {812, "CUDA_ERROR_CDP_VERSION_MISMATCH", Unsupported},
      {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", Misuse},
      {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", Misuse},
      {902, "CUDA_ERROR_STREAM_CAPTURE_MERGE", Misuse},
      {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", Misuse},
      {904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", Misuse},
      {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", Misuse},
      {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", Misuse},
      {907, "CUDA_ERROR_CAPTURED_EVENT", Misuse},
      {908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", Misuse},
      {909, "CUDA_ERROR_TIMEOUT", Retryable},
      {910, "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE", Misuse},
      {911, "CUDA_ERROR_EXTERNAL_DEVICE", Poisoned},
      {912, "CUDA_ERROR_INVALID_CLUSTER_SIZE", Misuse},
      {913, "CUDA_ERROR_FUNCTION_NOT_LOADED", Misuse},
      {914, "CUDA_ERROR_INVALID_RESOURCE_TYPE", Misuse},
      {915, "CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION", Misuse},
      {916, "CUDA_ERROR_KEY_ROTATION", Poisoned},
      {917, "CUDA_ERROR_STREAM_DETACHED", Misuse},
      {918, "CUDA_ERROR_GRAPH_RECAPTURE_FAILURE", Misuse},
      {919, "CUDA_ERROR_FABRIC_NOT_READY", Retryable},
      {999, "CUDA_ERROR_UNKNOWN", Poisoned},
  };
  return rows;
}

namespace {

const FaultRow *row_of(int code) {
  const auto &rows = fault_table();
  const auto found =
      std::lower_bound(rows.begin(), rows.end(), code, [](const FaultRow &row, int wanted) { return row.code < wanted; });
  return found != rows.end() && found->code == code ? &*found : nullptr;
}

} // namespace

FaultKind kind_of(int code) {
  const FaultRow *row = row_of(code);
  return row != nullptr ? row->kind : FaultKind::Poisoned;
}

std::string fault_name(int code) {
  const FaultRow *row = row_of(code);
  return row != nullptr ? row->name : "CUresult " + std::to_string(code);
}

} // namespace edgeagent::gpu
