// The only file that changes what guest addresses are backed by.
//
// The kernel does not protect us from a wrong remap: mremap happily moves windows, data images and guard pages. Callers
// prove beforehand, by their ledger, that a range is whole pages of plain anonymous memory that the guest allocated,
// inside memory.size, of a store that is not executing. Guest pages are always left readable and writable: a 1-byte
// memory.fill on a read-only page kills the process.
//
// Every function returns false (or None) and changes nothing that a guest can see when the kernel refuses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <sys/types.h>
#include <vector>

namespace edgeagent {

// The system's page size (4, 16 or 64 KiB), at least 4 KiB.
std::size_t page_bytes();
constexpr std::size_t kHugeBytes = 2 << 20;

inline std::uint64_t round_up(std::uint64_t n, std::uint64_t unit) { return (n + unit - 1) / unit * unit; }
inline std::uint64_t round_down(std::uint64_t n, std::uint64_t unit) { return n / unit * unit; }

// A copy-on-write view of a memfd: stores stay private to this guest.
bool map_private(std::uint8_t *at, std::size_t bytes, int fd, off_t offset);
// A writable shared view, populated: for the one guest that fills the memfd.
bool map_shared(std::uint8_t *at, std::size_t bytes, int fd, off_t offset);
// F_ADD_SEALS of a memfd.
bool add_seals(int fd, int seals);
// Anonymous zeros again.
bool map_zeros(std::uint8_t *at, std::size_t bytes);
// What became of pages that were to move. A range of pages of different origin is several mappings, and the kernel may
// stop between them: then some are here and some there, and nobody knows which.
enum class Moved : std::uint8_t { All, None, Some };

// The pages of `from` appear at `to`; `from` reads zeros. Both whole pages, not overlapping.
Moved move_pages(std::uint8_t *from, std::uint8_t *to, std::size_t bytes);

// The pages of both ranges swap, which may cost those of `other` when it is All, and `one` has zeros instead. Where the
// kernel refuses, the steps that were done are undone. Both whole pages, not overlapping.
Moved swap_pages(std::uint8_t *one, std::uint8_t *other, std::size_t bytes);

// Whether every page of a private view of a file still shows it: none was written, which gives a page of one's own.
// False also where the system does not say.
bool shows_file(const std::uint8_t *at, std::size_t bytes);

// Asks for 2 MiB pages where the range holds some; a hint, and a page fault for 2 MiB instead of 512.
void advise_huge(std::uint8_t *at, std::size_t bytes);

// What the kernel does not offer here, by names of system calls; empty where there is everything. Tries it out.
std::vector<std::string> missing_features();

// For tests: the named system call fails from now on as if the kernel lacked it. 0 none, 1 mremap, 2 mmap of a memfd,
// 4 memfd_create, 8 MADV_COLLAPSE, 16 taking a window away, 32 the second step of an exchange, 64 its last one, 128 the
// seals of a memfd, 256 the second half of a move, 512 the list of pages; a bit set.
void break_for_tests(unsigned what);
bool is_broken(unsigned what);

} // namespace edgeagent
