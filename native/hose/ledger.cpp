#include "ledger.hpp"

#include "remap.hpp"

#include <algorithm>
#include <cstring>

namespace edgeagent {

bool Ledger::overlaps(std::uint64_t start, std::uint64_t bytes) const {
  return std::any_of(held_.begin(), held_.end(), [&](const Held &held) {
    return start < held.start + held.extent && held.start < start + bytes;
  });
}

bool Ledger::overlaps_view(std::uint64_t start, std::uint64_t bytes) const {
  return std::any_of(held_.begin(), held_.end(), [&](const Held &held) {
    return held.kind != Held::Kind::Plain && start < held.start + held.extent && held.start < start + bytes;
  });
}

const Held *Ledger::containing(std::uint64_t start, std::uint64_t bytes) const {
  for (const Held &held : held_) {
    if (start >= held.start && bytes <= held.bytes && start - held.start <= held.bytes - bytes) {
      return &held;
    }
  }
  return nullptr;
}

std::vector<HoseMessage> Ledger::views() const {
  std::vector<HoseMessage> found;
  for (const Held &held : held_) {
    if (held.message > 0) {
      found.push_back({held.start, held.bytes, held.message, held.hose_offset, held.hose});
    }
  }
  return found;
}

const Held *Ledger::starting_at(std::uint64_t start) const {
  const auto found = std::find_if(held_.begin(), held_.end(), [&](const Held &held) { return held.start == start; });
  return found == held_.end() ? nullptr : &*found;
}

bool Ledger::release(std::uint8_t *base, std::uint64_t start) {
  const auto found = std::find_if(held_.begin(), held_.end(), [&](const Held &held) { return held.start == start; });
  if (found == held_.end()) {
    return false;
  }
  if (found->bytes > 0 && !map_zeros(base + found->start, found->bytes)) {
    return false;
  }
  std::memset(base + found->start + found->bytes, 0, found->extent - found->bytes);
  held_.erase(found);
  return true;
}

bool Ledger::publish(std::uint8_t *base, std::uint64_t start) {
  for (Held &held : held_) {
    if (held.start == start && held.kind == Held::Kind::Loan) {
      if (!map_private(base + held.start, held.bytes, held.hose->fd(), static_cast<off_t>(held.hose_offset))) {
        return false;
      }
      held.kind = Held::Kind::Window;
      return true;
    }
  }
  return false;
}

bool Ledger::release_all(std::uint8_t *base) {
  while (!held_.empty()) {
    if (held_.back().bytes > 0 && !map_zeros(base + held_.back().start, held_.back().bytes)) {
      return false;
    }
    held_.pop_back();
  }
  return true;
}

} // namespace edgeagent
