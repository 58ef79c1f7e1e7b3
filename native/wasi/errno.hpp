// Error numbers and constants of WASI preview 1 (wasi_snapshot_preview1.witx).
#pragma once

#include <cstdint>

namespace edgeagent {

enum class Errno : std::uint16_t {
  Success = 0,
  TooBig = 1,
  Access = 2,
  Again = 6,
  Badf = 8,
  Busy = 10,
  Dquot = 19,
  Exist = 20,
  Fault = 21,
  Fbig = 22,
  Ilseq = 25,
  Inval = 28,
  Io = 29,
  Isdir = 31,
  Loop = 32,
  Mfile = 33,
  Mlink = 34,
  Nametoolong = 37,
  Nfile = 41,
  Noent = 44,
  Nomem = 48,
  Nospc = 51,
  Nosys = 52,
  Notdir = 54,
  Notempty = 55,
  Notsup = 58,
  Perm = 63,
  Pipe = 64,
  Rofs = 69,
  Spipe = 70,
  Xdev = 75,
  Notcapable = 76,
};

// The WASI number of a host errno; Io for those that have no counterpart.
Errno from_host(int host_errno);

enum class FileType : std::uint8_t {
  Unknown = 0,
  BlockDevice = 1,
  CharacterDevice = 2,
  Directory = 3,
  RegularFile = 4,
  SocketDgram = 5,
  SocketStream = 6,
  SymbolicLink = 7,
};

inline constexpr std::uint64_t kRightFdDatasync = 1U << 0U;
inline constexpr std::uint64_t kRightFdRead = 1U << 1U;
inline constexpr std::uint64_t kRightFdWrite = 1U << 6U;
inline constexpr std::uint64_t kRightFdAllocate = 1U << 8U;
inline constexpr std::uint64_t kRightFdReaddir = 1U << 14U;
inline constexpr std::uint64_t kRightFdFilestatSetSize = 1U << 22U;
inline constexpr std::uint64_t kRightPollFdReadwrite = 1U << 27U;
inline constexpr std::uint64_t kRightsAll = (1U << 30U) - 1;

inline constexpr std::uint16_t kOpenCreat = 1;
inline constexpr std::uint16_t kOpenDirectory = 2;
inline constexpr std::uint16_t kOpenExcl = 4;
inline constexpr std::uint16_t kOpenTrunc = 8;
inline constexpr std::uint16_t kFdAppend = 1;
inline constexpr std::uint32_t kLookupSymlinkFollow = 1;

} // namespace edgeagent
