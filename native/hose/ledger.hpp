// Which intervals of one guest's memory are not plain anonymous memory: the host's own bookkeeping, and the only guard
// there is against a wrong remap. Positions are offsets in the linear memory.
#pragma once

#include "hose.hpp"

#include <cstdint>
#include <vector>

namespace edgeagent {

struct Held {
  enum class Kind : std::uint8_t {
    Loan,   // writable shared view of `hose`: what this guest writes is the hose's content
    Window, // private view of `hose`
    Input,  // the same, of the call's input: not the guest's to release
    Value,  // the same, of a value of edge_state: replaced by the next one that is read to the same place
    Plain,  // lent or received by copy: guest memory as any other, noted so that it can be released alike
  };
  Kind kind;
  std::uint64_t start;
  std::uint64_t bytes;  // what is mapped: whole pages; nothing of plain memory
  std::uint64_t extent; // all that belongs to it, at least `bytes`
  Lease hose;
  std::uint64_t hose_offset;
  std::uint64_t message = 0; // bytes in the hose that nobody can change any more, from `hose_offset` on
};

class Ledger {
public:
  // More would let one guest use up the process's mappings (vm.max_map_count).
  static constexpr std::size_t kHeldMax = 64;

  Ledger() { held_.reserve(kHeldMax); } // nothing may fail between a remap and its entry

  bool is_full() const { return held_.size() >= kHeldMax; }
  bool empty() const { return held_.empty(); }
  void add(Held held) { held_.push_back(std::move(held)); }
  bool overlaps(std::uint64_t start, std::uint64_t bytes) const;
  // The same, of intervals that are not plain guest memory.
  bool overlaps_view(std::uint64_t start, std::uint64_t bytes) const;
  // The entry that holds all of the range, or null.
  const Held *containing(std::uint64_t start, std::uint64_t bytes) const;
  const Held *starting_at(std::uint64_t start) const;
  // Those that show a message which nobody can change.
  std::vector<HoseMessage> views() const;

  // Makes the interval zeros again and forgets it. False: the kernel refused, the entry stays.
  bool release(std::uint8_t *base, std::uint64_t start);
  // After it, what the guest wrote is the hose's content and nobody can change it: this guest's view becomes private.
  bool publish(std::uint8_t *base, std::uint64_t start);
  // Before the store is deleted. False: the store must never be deleted, its slot would show a hose to the next tenant.
  bool release_all(std::uint8_t *base);

private:
  std::vector<Held> held_;
};

} // namespace edgeagent
