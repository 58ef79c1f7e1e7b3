// Hoses: memfds of a fixed size whose pages guests see through windows; and the pool that recycles them.
//
// A hose is sealed against shrinking and growing when it is made (a truncated mapping would be a SIGBUS), populated, and
// of 2 MiB pages where the kernel can. Whoever holds a Lease may read it; its last holder gives it back. Before it is
// lent again every byte that was lent is zero: a scrubber thread does that behind the caller's back, and acquire() does
// it itself when no clean one is left.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace edgeagent {

class Hose {
public:
  // Null when the kernel or a limit refuses.
  static std::unique_ptr<Hose> make(std::size_t bytes);
  // Plain memory, where there are no memfds: nobody can map it, and who would have seen its pages gets a copy.
  static std::unique_ptr<Hose> make_plain(std::size_t bytes);
  // Another process's memfd, of which `bytes` from `offset` are to be read. Null, with `why`, unless it is sealed
  // against every change and large enough. The descriptor is duplicated.
  static std::unique_ptr<Hose> adopt(int fd, std::uint64_t offset, std::uint64_t bytes, std::string &why);
  Hose(const Hose &) = delete;
  Hose &operator=(const Hose &) = delete;
  ~Hose();

  int fd() const { return fd_; } // of plain memory -1
  bool has_file() const { return fd_ >= 0; }
  std::uint8_t *data() const { return data_; } // the host's own mapping
  std::size_t capacity() const { return capacity_; }
  bool is_huge() const { return is_huge_; }
  // For ever immutable, so that its descriptor may be given to a process that is not trusted; it is not recycled then.
  bool seal();
  bool is_sealed() const { return is_sealed_; }

  std::size_t dirty_bytes = 0; // what a scrub must clear
  std::chrono::steady_clock::time_point idle_since;

private:
  Hose() = default;
  bool populate();

  int fd_ = -1;
  std::uint8_t *data_ = nullptr;
  std::size_t capacity_ = 0;
  bool is_huge_ = false;
  bool is_sealed_ = false;
};

using Lease = std::shared_ptr<Hose>;

// A part of a guest's memory that is a private view of a hose, whose bytes nobody can change any more. Where the guest
// has written since, its pages are its own; what lies behind the last whole page was copied to it.
struct HoseMessage {
  std::uint64_t start = 0;       // in the guest's memory
  std::uint64_t mapped = 0;      // bytes of whole pages
  std::uint64_t bytes = 0;       // of the message
  std::uint64_t hose_offset = 0; // of its first byte
  Lease hose;
};

struct HosePoolStats {
  std::size_t bytes = 0;      // of all hoses, lent or not
  std::size_t idle_bytes = 0; // of those not lent
  std::size_t hoses = 0;
  std::size_t huge = 0;
  std::uint64_t made = 0;
  std::uint64_t refused = 0; // loans that could not be had
  std::uint64_t scrubbed_in_line = 0;
  std::uint64_t quarantined = 0; // stores that were set aside, for their windows could not be taken away
};

class HosePool : public std::enable_shared_from_this<HosePool> {
public:
  explicit HosePool(std::size_t bytes_max) : bytes_max_(bytes_max) {}
  HosePool(const HosePool &) = delete;
  HosePool &operator=(const HosePool &) = delete;
  ~HosePool();

  // A hose of at least `bytes` zeros, or null when the pool is at its bound or the kernel refuses. `may_be_plain`: for
  // who has only bytes to keep, it may be one that cannot be mapped.
  Lease acquire(std::size_t bytes, bool may_be_plain);
  HosePoolStats stats();
  // Counts a store whose windows could not be taken away. `try_again` is called now and then on the scrubber's thread
  // until it is true; false: nobody will call it, the pool has stopped. Throws std::bad_alloc.
  using TryAgain = std::function<bool()>;
  bool set_aside(TryAgain try_again);
  // What is set aside stays so; waits for a try that is under way. For the engine's end.
  void stop_trying();
  // What was not lent for `idle` is freed.
  void set_limits(std::size_t bytes_max, std::chrono::milliseconds idle);
  // Frees what is idle; hoses that are still lent are freed when they come back.
  void trim();
  // Waits until nothing is left to scrub (benchmarks and tests).
  void settle();

private:
  void give_back(std::unique_ptr<Hose> hose);
  std::unique_ptr<Hose> take_fitting(std::vector<std::unique_ptr<Hose>> &from, std::size_t bytes);
  std::unique_ptr<Hose> make_room_and_make(std::size_t bytes, bool may_be_plain, std::unique_lock<std::mutex> &lock);
  Lease lend(std::unique_ptr<Hose> hose);
  void scrub_forever();
  void wake_scrubber();
  void try_aside(std::unique_lock<std::mutex> &lock);
  void forget(const Hose &hose);
  void trim_older_than(std::chrono::steady_clock::time_point when);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable settled_;
  std::vector<std::unique_ptr<Hose>> clean_;
  std::vector<std::unique_ptr<Hose>> dirty_;
  std::size_t bytes_max_;
  std::chrono::milliseconds idle_{30'000};
  HosePoolStats stats_;
  std::vector<TryAgain> aside_;
  bool is_trying_ = false;
  bool may_try_ = true;
  bool stopping_ = false;
  bool scrubbing_ = false;
  std::thread scrubber_;
};

} // namespace edgeagent
