// Which way bytes take from one function to the next: pure, so that every choice can be tested without a guest.
//
// Mechanisms and crossovers: docs/hoses.md. The numbers in Crossovers are defaults for a node that has not been
// calibrated (`edgeagent bench hose --calibrate`).
#pragma once

#include <cstdint>

namespace edgeagent {

enum class Tier : std::uint8_t {
  None,     // nothing to hand over
  Copy,     // T0: one bounded memcpy, guest to guest
  Flip,     // T1: whole pages change owner, the producer is left with zeros
  Share,    // T2: private windows of one memfd
  Exchange, // T1x: the pages of two resident buffers swap, so that neither side pays a first touch again
};

// How one call's input reached it, and what else it moved.
struct HoseReport {
  Tier tier = Tier::None;
  std::uint64_t copied = 0; // bytes that the CPU copied
  std::uint64_t mapped = 0; // bytes whose pages were mapped or moved instead
  std::int64_t handover_ns = 0;
};

struct Crossovers {
  std::uint64_t flip_bytes_min = 256 << 10;
  std::uint64_t exchange_bytes_min = 1 << 20; // of bytes whose pages are resident on both sides
  std::uint64_t resident_bytes_max = 4 << 20; // payloads of calls for which a slot that stays resident pays
  std::uint64_t window_bytes_min = 512 << 10; // of bytes that lie in a hose already
  std::uint64_t share_bytes_min = 512 << 10;  // of bytes that must be copied into a hose first, for several consumers
  std::uint64_t loan_bytes_min = 1536 << 10;  // smaller loans are plain guest memory
  std::uint64_t huge_bytes_min = 4 << 20;     // buffers to be written, for which 2 MiB pages are asked
};

struct HandOver {
  std::uint64_t bytes = 0;
  std::uint32_t consumers = 1;
  bool in_hose = false;  // the producer filled a lent buffer
  bool may_move = false; // nobody needs the producer's bytes afterwards
  bool both_resident = false; // both sides' slots keep the pages of this range from one tenant to the next
};

inline Tier choose_tier(const Crossovers &at, const HandOver &over) {
  if (over.bytes == 0) {
    return Tier::None;
  }
  if (over.in_hose) {
    return over.bytes >= at.window_bytes_min ? Tier::Share : Tier::Copy;
  }
  if (over.consumers > 1) {
    return over.bytes >= at.share_bytes_min ? Tier::Share : Tier::Copy;
  }
  if (!over.may_move) {
    return Tier::Copy;
  }
  if (over.both_resident) { // a flip would cost the producer's slot its pages
    return over.bytes >= at.exchange_bytes_min ? Tier::Exchange : Tier::Copy;
  }
  return over.bytes >= at.flip_bytes_min ? Tier::Flip : Tier::Copy;
}

// What a call in a chain moved: the larger of its input and output, and how far its memory reached.
struct Passed {
  std::uint64_t payload_bytes = 0;
  std::uint64_t memory_bytes = 0;
  bool had_views = false; // of hoses: where they lay, nothing is resident afterwards
};

// Smaller payloads fit, beside a guest's own data, into what every slot keeps resident.
constexpr std::uint64_t kResidentPayloadMin = 192 << 10;

// Whether the next such call is better off in a slot that keeps `resident_bytes` of its memory.
inline bool wants_resident(const Crossovers &at, const Passed &passed, std::uint64_t resident_bytes) {
  return !passed.had_views && passed.payload_bytes >= kResidentPayloadMin &&
         passed.payload_bytes <= at.resident_bytes_max && passed.memory_bytes <= resident_bytes;
}

} // namespace edgeagent
