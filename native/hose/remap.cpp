#include "remap.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

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

bool add_seals(int fd, int seals) { return !is_broken(128) && ::fcntl(fd, F_ADD_SEALS, seals) == 0; }

bool map_zeros(std::uint8_t *at, std::size_t bytes) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
  return !is_broken(16) && ::mmap(at, bytes, kReadWrite, flags, -1, 0) == at;
}

bool shows_file(const std::uint8_t *at, std::size_t bytes) {
  // Documentation/admin-guide/mm/pagemap.rst: bits 63 present, 62 swapped out, 61 of a file or shared.
  constexpr std::uint64_t kThere = std::uint64_t{3} << 62;
  constexpr std::uint64_t kOfFile = std::uint64_t{1} << 61;
  const int fd = is_broken(512) ? -1 : ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  std::uint64_t first = reinterpret_cast<std::uintptr_t>(at) / page_bytes();
  const std::uint64_t end = round_up(reinterpret_cast<std::uintptr_t>(at) + bytes, page_bytes()) / page_bytes();
  std::array<std::uint64_t, 1024> pages{};
  bool is_same = fd >= 0;
  while (is_same && first < end) {
    const std::size_t count = std::min<std::uint64_t>(end - first, pages.size());
    const auto wanted = static_cast<ssize_t>(count * sizeof(pages[0]));
    is_same = ::pread(fd, pages.data(), static_cast<std::size_t>(wanted), static_cast<off_t>(first * sizeof(pages[0]))) ==
                  wanted &&
              std::none_of(pages.begin(), pages.begin() + static_cast<std::ptrdiff_t>(count), [](std::uint64_t page) {
                return (page & kThere) != 0 && (page & kOfFile) == 0;
              });
    first += count;
  }
  if (fd >= 0) {
    ::close(fd);
  }
  return is_same;
}

Moved move_pages(std::uint8_t *from, std::uint8_t *to, std::size_t bytes) {
  constexpr int kFlags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
  if (is_broken(1)) {
    return Moved::None;
  }
  // Resident for certain, so that it can be seen afterwards whether it is still there: the kernel begins with it.
  *static_cast<volatile std::uint8_t *>(from) = *static_cast<volatile std::uint8_t *>(from);
  const std::size_t moving = is_broken(256) ? round_up(bytes / 2, page_bytes()) : bytes;
  if (::mremap(from, moving, moving, kFlags, to) == to && moving == bytes) {
    return Moved::All;
  }
  unsigned char is_here = 0;
  const bool none = ::mincore(from, page_bytes(), &is_here) == 0 && (is_here & 1U) != 0;
  return none ? Moved::None : Moved::Some;
}

namespace {

// A range of addresses that only this thread uses, for pages on their way.
class Scratch {
public:
  Scratch() = default;
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;
  ~Scratch() { unmap(); }

  // Room that agrees with `like` modulo 2 MiB, so that whole page tables move; null where there is none.
  std::uint8_t *room(const std::uint8_t *like, std::size_t bytes) {
    const std::size_t wanted = bytes + kHugeBytes;
    if (bytes_ < wanted && losses_ < kLossesMax) {
      unmap();
      void *at = ::mmap(nullptr, wanted, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (at != MAP_FAILED) {
        at_ = static_cast<std::uint8_t *>(at);
        bytes_ = wanted;
      }
    }
    if (bytes_ < wanted) {
      return nullptr;
    }
    return at_ + (reinterpret_cast<std::uintptr_t>(like) - reinterpret_cast<std::uintptr_t>(at_)) % kHugeBytes;
  }
  // The kernel refused in the middle, and nobody knows whether the range is still ours: it is never touched again.
  void lose() {
    bytes_ = 0;
    ++losses_;
  }

private:
  static constexpr int kLossesMax = 16;

  void unmap() {
    if (bytes_ > 0) {
      ::munmap(at_, bytes_);
      bytes_ = 0;
    }
  }

  std::uint8_t *at_ = nullptr;
  std::size_t bytes_ = 0;
  int losses_ = 0;
};

thread_local Scratch scratch;

// The pages at `aside` go to `to`; where the kernel does not move them they are copied. False: they are lost.
bool put(std::uint8_t *aside, std::uint8_t *to, std::size_t bytes) {
  const Moved moved = is_broken(64) ? Moved::None : move_pages(aside, to, bytes);
  if (moved == Moved::All) {
    return true;
  }
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
  const bool mapped = ::mmap(to, bytes, kReadWrite, flags, -1, 0) == to; // it may be a hole
  if (mapped && moved == Moved::None) {
    std::memcpy(to, aside, bytes);
  }
  ::madvise(aside, bytes, MADV_DONTNEED); // nobody's bytes stay behind
  scratch.lose();
  return mapped && moved == Moved::None;
}

} // namespace

Moved swap_pages(std::uint8_t *one, std::uint8_t *other, std::size_t bytes) {
  std::uint8_t *aside = scratch.room(one, bytes);
  if (aside == nullptr) {
    return Moved::None;
  }
  if (const Moved moved = move_pages(one, aside, bytes); moved != Moved::All) {
    scratch.lose();
    return moved;
  }
  const Moved given = is_broken(32) ? Moved::None : move_pages(other, one, bytes);
  if (given == Moved::None) {
    return put(aside, one, bytes) ? Moved::None : Moved::Some;
  }
  return put(aside, other, bytes) ? Moved::All : Moved::Some;
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
  if (move_pages(at, at + page, page) != Moved::All || at[page] != 1) {
    missing.emplace_back("mremap (MREMAP_DONTUNMAP, Linux 5.7)");
  }
  const int fd = is_broken(4) ? -1 : ::memfd_create("probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(page)) != 0) {
    missing.emplace_back("memfd_create");
  } else if (!map_private(at, page, fd, 0)) {
    missing.emplace_back("mmap of a memfd");
  } else if (!add_seals(fd, F_SEAL_SHRINK | F_SEAL_GROW)) {
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
