// The filestat record of preview 1, written from a host stat.
#pragma once

#include "errno.hpp"
#include "guest_memory.hpp"

#include <sys/stat.h>

#include <ctime>

namespace edgeagent {

FileType file_type(mode_t mode);
Errno store_stat(const GuestMemory &memory, std::uint64_t at, const struct stat &inode);

// The two timestamps that preview 1's fst_flags ask for; Inval for contradictory flags.
Errno file_times(std::uint64_t atime_ns, std::uint64_t mtime_ns, std::uint32_t flags, timespec out[2]);

} // namespace edgeagent
