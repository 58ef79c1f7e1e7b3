#include "remap.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4 // Linux 5.7
#endif

namespace edgeagent {

namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;
std::atomic<unsigned> broken{0};

} // namespace

void break_for_tests(unsigned what) { broken.store(what, std::memory_order_relaxed); }
bool is_broken(unsigned what) { return (broken.load(std::memory_order_relaxed) & what) != 0; }

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

bool map_private(std::uint8_t *at, std::size_t bytes, int fd, off_t offset) {
  // Never MAP_POPULATE here: on a writable private view it copies every page at once.
  return !is_broken(2) && ::mmap(at, bytes, kReadWrite, MAP_PRIVATE | MAP_FIXED, fd, offset) == at;
}

bool map_shared(std::uint8_t *at, std::size_t bytes, int fd, off_t offset) {
  return !is_broken(2) && ::mmap(at, bytes, kReadWrite, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, offset) == at;
}

bool map_zeros(std::uint8_t *at, std::size_t bytes) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
  return !is_broken(16) && ::mmap(at, bytes, kReadWrite, flags, -1, 0) == at;
}

bool move_pages(std::uint8_t *from, std::uint8_t *to, std::size_t bytes) {
  const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
  return !is_broken(1) && ::mremap(from, bytes, bytes, flags, to) == to;
}

std::vector<std::string> missing_features() {
  std::vector<std::string> missing;
  const std::size_t page = page_bytes();
  void *room = ::mmap(nullptr, 2 * page, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) {
    return {"mmap"};
  }
  auto *at = static_cast<std::uint8_t *>(room);
  at[0] = 1;
  if (!move_pages(at, at + page, page) || at[page] != 1) {
    missing.emplace_back("mremap (MREMAP_DONTUNMAP, Linux 5.7)");
  }
  const int fd = is_broken(4) ? -1 : ::memfd_create("probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(page)) != 0) {
    missing.emplace_back("memfd_create");
  } else if (!map_private(at, page, fd, 0)) {
    missing.emplace_back("mmap of a memfd");
  } else if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    missing.emplace_back("seals of a memfd");
  }
  if (fd >= 0) {
    ::close(fd);
  }
  ::munmap(room, 2 * page);
  return missing;
}

void advise_huge(std::uint8_t *at, std::size_t bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  const std::uintptr_t start = round_up(address, kHugeBytes);
  const std::uintptr_t end = round_down(address + bytes, kHugeBytes);
  if (start < end) {
    ::madvise(at + (start - address), end - start, MADV_HUGEPAGE);
  }
}

} // namespace edgeagent
