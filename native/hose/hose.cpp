#include "hose.hpp"

#include "../guest_thread.hpp"
#include "remap.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <new>
#include <system_error>
#include <utility>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 // Linux 5.14
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 // Linux 6.1
#endif

namespace edgeagent {

namespace {

constexpr int kScrubberNice = 10;
constexpr std::chrono::milliseconds kTryAgain{200};

// A shared mapping of the memfd at a 2 MiB boundary, or null.
std::uint8_t *map_aligned(int fd, std::size_t bytes) {
  const std::size_t room = bytes + kHugeBytes;
  void *raw = ::mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) {
    return nullptr;
  }
  auto *start = static_cast<std::uint8_t *>(raw);
  const auto address = reinterpret_cast<std::uintptr_t>(raw);
  std::uint8_t *at = start + (round_up(address, kHugeBytes) - address);
  const bool mapped =
      ::mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == at && at + bytes <= start + room;
  if (!mapped) {
    ::munmap(raw, room);
    return nullptr;
  }
  if (at > start) {
    ::munmap(start, static_cast<std::size_t>(at - start));
  }
  ::munmap(at + bytes, static_cast<std::size_t>(start + room - (at + bytes)));
  return at;
}

// 2 MiB, then steps of a quarter of a power of two: few sizes, so that hoses are found again.
std::size_t size_class(std::size_t bytes) {
  std::size_t unit = kHugeBytes;
  while (unit * 8 < bytes) {
    unit *= 2;
  }
  return round_up(std::max(bytes, kHugeBytes), unit);
}

// The host's mapping forgets the pages that it has seen; they stay in the memfd. Whoever seals the hose then has none to
// take away, and who looks at 2 MiB pages has them back in 2 us each. Pages of 4 KiB would cost more than that saves.
void forget_pages(const Hose &hose) {
  if (hose.is_huge()) {
    ::madvise(hose.data(), hose.capacity(), MADV_DONTNEED);
  }
}

} // namespace

std::unique_ptr<Hose> Hose::make_plain(std::size_t bytes) {
  std::unique_ptr<Hose> hose(new Hose());
  void *at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    return nullptr;
  }
  hose->data_ = static_cast<std::uint8_t *>(at);
  hose->capacity_ = bytes;
  return hose->populate() ? std::move(hose) : nullptr;
}

// Populated when it is made, so that no page of it can fail later; before Linux 5.14 by touching it.
bool Hose::populate() {
  if (::madvise(data_, capacity_, MADV_POPULATE_WRITE) != 0) {
    if (errno != EINVAL) {
      return false;
    }
    std::memset(data_, 0, capacity_);
  }
  return true;
}

std::unique_ptr<Hose> Hose::make(std::size_t bytes) {
  std::unique_ptr<Hose> hose(new Hose());
  hose->fd_ = is_broken(4) ? -1 : ::memfd_create("edge-hose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (hose->fd_ < 0 || ::ftruncate(hose->fd_, static_cast<off_t>(bytes)) != 0 ||
      !add_seals(hose->fd_, F_SEAL_SHRINK | F_SEAL_GROW)) {
    return nullptr;
  }
  hose->data_ = map_aligned(hose->fd_, bytes);
  if (hose->data_ == nullptr) {
    return nullptr;
  }
  hose->capacity_ = bytes;
  if (!hose->populate()) {
    return nullptr;
  }
  hose->is_huge_ = !is_broken(8) && ::madvise(hose->data_, bytes, MADV_COLLAPSE) == 0;
  forget_pages(*hose);
  return hose;
}

std::unique_ptr<Hose> Hose::adopt(int fd, std::uint64_t offset, std::uint64_t bytes, std::string &why) {
  constexpr int kSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  struct stat inode {};
  struct statfs system {};
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    why = seals < 0 ? "it is no memfd that can be sealed" : "it is not sealed against every change";
    return nullptr;
  }
  if (::fstatfs(fd, &system) != 0 || system.f_type == HUGETLBFS_MAGIC) {
    why = "it is of reserved large pages: where none is left, reading it would end the process";
    return nullptr;
  }
  if (::fstat(fd, &inode) != 0 || inode.st_size <= 0 || bytes == 0 ||
      offset > static_cast<std::uint64_t>(inode.st_size) || bytes > static_cast<std::uint64_t>(inode.st_size) - offset) {
    why = "it is smaller than the message says";
    return nullptr;
  }
  std::unique_ptr<Hose> hose(new Hose());
  hose->fd_ = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  const auto size = static_cast<std::size_t>(offset + bytes);
  void *at = hose->fd_ < 0 ? MAP_FAILED : ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, hose->fd_, 0);
  if (at == MAP_FAILED) {
    why = std::string("it cannot be mapped: ") + std::strerror(errno);
    return nullptr;
  }
  hose->data_ = static_cast<std::uint8_t *>(at);
  hose->capacity_ = size;
  hose->is_sealed_ = true;
  return hose;
}

bool Hose::seal() {
  if (is_sealed_ || !has_file()) {
    return is_sealed_;
  }
  // Over the old mapping, at once: others may be reading there.
  if (::mmap(data_, capacity_, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd_, 0) != data_) {
    return false;
  }
  is_sealed_ = add_seals(fd_, F_SEAL_WRITE | F_SEAL_SEAL);
  if (!is_sealed_) { // a guest still has it on loan
    static_cast<void>(::mmap(data_, capacity_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_, 0));
  }
  return is_sealed_;
}

Hose::~Hose() {
  if (data_ != nullptr) {
    ::munmap(data_, capacity_);
  }
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

HosePool::~HosePool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (scrubber_.joinable()) {
    scrubber_.join();
  }
}

Lease HosePool::lend(std::unique_ptr<Hose> hose) {
  return {hose.release(), [pool = shared_from_this()](Hose *back) { pool->give_back(std::unique_ptr<Hose>(back)); }};
}

// Of those that fit best the one that came back last: the others may then become idle.
std::unique_ptr<Hose> HosePool::take_fitting(std::vector<std::unique_ptr<Hose>> &from, std::size_t bytes) {
  auto best = from.end();
  for (auto it = from.begin(); it != from.end(); ++it) {
    const std::size_t capacity = (*it)->capacity();
    if (capacity >= bytes && capacity <= 2 * size_class(bytes) &&
        (best == from.end() || capacity <= (*best)->capacity())) {
      best = it;
    }
  }
  if (best == from.end()) {
    return nullptr;
  }
  std::unique_ptr<Hose> found = std::move(*best);
  from.erase(best);
  stats_.idle_bytes -= found->capacity();
  return found;
}

Lease HosePool::acquire(std::size_t bytes, bool may_be_plain) {
  std::unique_lock<std::mutex> lock(mutex_);
  std::unique_ptr<Hose> hose = take_fitting(clean_, bytes);
  if (!hose) {
    hose = take_fitting(dirty_, bytes);
    if (hose) {
      ++stats_.scrubbed_in_line;
      lock.unlock();
      std::memset(hose->data(), 0, hose->dirty_bytes);
      hose->dirty_bytes = 0;
      lock.lock();
    }
  }
  if (!hose) {
    hose = make_room_and_make(size_class(bytes), may_be_plain, lock);
  }
  if (!hose) {
    ++stats_.refused;
    return nullptr;
  }
  lock.unlock();
  return lend(std::move(hose));
}

std::unique_ptr<Hose> HosePool::make_room_and_make(std::size_t bytes, bool may_be_plain,
                                                   std::unique_lock<std::mutex> &lock) {
  while (stats_.bytes + bytes > bytes_max_ && !(clean_.empty() && dirty_.empty())) {
    auto &from = clean_.empty() ? dirty_ : clean_;
    stats_.idle_bytes -= from.front()->capacity();
    forget(*from.front());
    from.erase(from.begin());
  }
  if (bytes > bytes_max_ || stats_.bytes > bytes_max_ - bytes) {
    return nullptr;
  }
  stats_.bytes += bytes; // before the lock is released: others must not take the same room
  lock.unlock();
  std::unique_ptr<Hose> hose = Hose::make(bytes);
  if (!hose && may_be_plain) {
    hose = Hose::make_plain(bytes);
  }
  lock.lock();
  try { // nothing may fail when hoses come back
    clean_.reserve(stats_.hoses + 1);
    dirty_.reserve(stats_.hoses + 1);
  } catch (const std::bad_alloc &) {
    hose.reset();
  }
  if (!hose) {
    stats_.bytes -= bytes;
    return nullptr;
  }
  ++stats_.hoses;
  ++stats_.made;
  stats_.huge += hose->is_huge() ? 1 : 0;
  wake_scrubber(); // while there is a thread to be had
  return hose;
}

void HosePool::give_back(std::unique_ptr<Hose> hose) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_ || hose->is_sealed() || !hose->has_file() || stats_.bytes > bytes_max_) {
    forget(*hose);
    return;
  }
  stats_.idle_bytes += hose->capacity();
  hose->idle_since = std::chrono::steady_clock::now();
  (hose->dirty_bytes == 0 ? clean_ : dirty_).push_back(std::move(hose));
  wake_scrubber();
}

void HosePool::wake_scrubber() {
  if (!scrubber_.joinable()) {
    try {
      scrubber_ = std::thread([this] { scrub_forever(); });
    } catch (const std::system_error &) {
      return; // no thread to be had: acquire() scrubs
    }
  }
  wake_.notify_one();
}

bool HosePool::set_aside(TryAgain try_again) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++stats_.quarantined;
  if (!may_try_) {
    return false;
  }
  aside_.push_back(std::move(try_again));
  wake_scrubber();
  return true;
}

void HosePool::try_aside(std::unique_lock<std::mutex> &lock) {
  std::vector<TryAgain> trying = std::move(aside_);
  aside_.clear();
  is_trying_ = true;
  lock.unlock(); // what succeeds gives its hoses back
  if (ready_for_guests()) {
    std::erase_if(trying, [](const TryAgain &try_again) { return try_again(); });
  }
  lock.lock();
  std::move(trying.begin(), trying.end(), std::back_inserter(aside_));
  is_trying_ = false;
  settled_.notify_all();
}

void HosePool::stop_trying() {
  std::vector<TryAgain> given_up;
  std::unique_lock<std::mutex> lock(mutex_);
  settled_.wait(lock, [this] { return !is_trying_; });
  may_try_ = false;
  given_up.swap(aside_);
  lock.unlock(); // they hold hoses, which come back here
}

void HosePool::scrub_forever() {
  prctl(PR_SET_NAME, "edge-scrubber");
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kScrubberNice);
  static_cast<void>(ready_for_guests()); // to drop some, if ever any are set aside
  std::unique_lock<std::mutex> lock(mutex_);
  std::chrono::steady_clock::time_point trimmed = std::chrono::steady_clock::now();
  while (!stopping_) {
    // However much there is to do: what is borrowed again and again keeps only itself.
    if (const auto now = std::chrono::steady_clock::now(); now - trimmed >= idle_) {
      trim_older_than(now - idle_);
      trimmed = now;
    }
    if (dirty_.empty()) {
      settled_.notify_all();
      const auto something = [this, known = aside_.size()] {
        return stopping_ || !dirty_.empty() || aside_.size() > known;
      };
      if (!aside_.empty()) {
        if (!wake_.wait_for(lock, kTryAgain, something)) {
          try_aside(lock);
        }
      } else if (clean_.empty()) { // one that was not written to comes back clean
        wake_.wait(lock, [&] { return something() || !clean_.empty(); });
      } else {
        wake_.wait_for(lock, idle_, something);
      }
      continue;
    }
    std::unique_ptr<Hose> hose = std::move(dirty_.front());
    dirty_.erase(dirty_.begin());
    scrubbing_ = true;
    lock.unlock();
    std::memset(hose->data(), 0, hose->dirty_bytes);
    hose->dirty_bytes = 0;
    forget_pages(*hose);
    lock.lock();
    scrubbing_ = false;
    clean_.push_back(std::move(hose));
  }
}

HosePoolStats HosePool::stats() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!aside_.empty()) {
    wake_scrubber(); // there may have been no thread to be had
  }
  return stats_;
}

void HosePool::set_limits(std::size_t bytes_max, std::chrono::milliseconds idle) {
  const std::lock_guard<std::mutex> lock(mutex_);
  bytes_max_ = bytes_max;
  idle_ = idle;
}

void HosePool::forget(const Hose &hose) {
  stats_.bytes -= hose.capacity();
  --stats_.hoses;
  stats_.huge -= hose.is_huge() ? 1 : 0;
}

void HosePool::trim() {
  const std::lock_guard<std::mutex> lock(mutex_);
  trim_older_than(std::chrono::steady_clock::time_point::max());
}

void HosePool::trim_older_than(std::chrono::steady_clock::time_point when) {
  const auto drop = [this, when](const std::unique_ptr<Hose> &hose) {
    const bool old = hose->idle_since <= when;
    if (old) {
      stats_.idle_bytes -= hose->capacity();
      forget(*hose);
    }
    return old;
  };
  std::erase_if(clean_, drop);
  std::erase_if(dirty_, drop);
}

void HosePool::settle() {
  std::unique_lock<std::mutex> lock(mutex_);
  settled_.wait(lock, [this] { return stopping_ || (dirty_.empty() && !scrubbing_) || !scrubber_.joinable(); });
}

} // namespace edgeagent
