// CRC-32 as zlib computes it, at the speed of the cache where the processor multiplies without carries.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgeagent {

// Goes on from `crc`, 0 at the beginning.
std::uint32_t crc32(std::uint32_t crc, const std::uint8_t *data, std::size_t bytes);
// Whether this machine has the instructions; without them it is no faster than zlib's.
bool crc32_is_fast();

} // namespace edgeagent
