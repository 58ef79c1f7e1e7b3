#include "call_hoses.hpp"

#include "../call.hpp"
#include "remap.hpp"

#include <algorithm>
#include <cstring>
#include <string>

namespace edgeagent {

namespace {

// Below this a flip moves too few whole pages to be worth a system call.
constexpr std::uint64_t kFlipWholeMin = 64 << 10;

// What the `small` pool keeps resident of a slot (SMALL_KEEP_BYTES in runtime/native_engine.py): a page that was taken
// away there would be touched again, to be cleared, when the slot is released.
constexpr std::uint64_t kResidentBytes = 256 << 10;

// What is exchanged begins and ends at multiples of this. The slots keep their pages for ever, and so does the kernel
// each seam between pages of different origin, as a mapping: without this there would be one a page in the end.
constexpr std::uint64_t kSeamBytes = 64 << 10;

std::uint64_t address(const std::uint8_t *p) { return reinterpret_cast<std::uintptr_t>(p); }

bool is_file(const HoseRange *range) { return range != nullptr && range->hose->has_file(); }

} // namespace

bool CallHoses::use_input(std::shared_ptr<Payload> input, bool may_move) {
  input->gate().enter();
  if (input->is_taken()) {
    input->gate().leave();
    return false;
  }
  input_ = std::move(input);
  input_hops_ = input_->hops;
  may_move_ = may_move;
  attachments_ = input_->attachments();
  return true;
}

void CallHoses::forget_input() {
  next_.clear();
  if (input_) {
    input_->gate().leave();
    input_.reset();
  }
}

bool CallHoses::in_memory(std::uint64_t start, std::uint64_t bytes) const {
  const std::uint64_t size = call_.guest_bytes();
  return start <= size && bytes <= size - start;
}

bool CallHoses::may_give(std::uint64_t start, std::uint64_t bytes) const {
  return in_memory(start, bytes) && start >= call_.spec().data_end && !ledger_.overlaps_view(start, bytes);
}

bool CallHoses::place_input(std::uint32_t &guest_ptr) {
  const std::uint64_t bytes = input_->size();
  if (bytes > UINT32_MAX) {
    call_.fail_from_host(Failure::BadOutput, "the input does not fit a 32-bit memory");
    return false;
  }
  HandOver over;
  over.bytes = bytes;
  over.in_hose = is_file(input_->range());
  over.may_move = may_move_ && input_->producer() != nullptr;
  over.both_resident = over.may_move && input_->producer()->keeps_resident(input_->producer_start() + bytes) &&
                       call_.keeps_resident(call_.guest_bytes() + bytes + 2 * kSeamBytes);
  const Tier wanted = choose_tier(at_, over);
  // A window must agree with its place in the file, not with where the host happens to see that.
  const std::uint64_t source = over.in_hose ? input_->range()->offset : address(input_->data());
  if (!ask_for_room(wanted, source, guest_ptr)) {
    return false;
  }
  const std::int64_t begun = now_ns();
  const bool moved = (wanted == Tier::Share && share_in(*input_->range(), guest_ptr, Held::Kind::Input, bytes)) ||
                     ((wanted == Tier::Flip || wanted == Tier::Exchange) && move_in(wanted, guest_ptr));
  if (moved) {
    report_.tier = wanted;
  } else if (call_.host_failed()) {
    return false;
  } else if (bytes > 0) {
    report_.tier = Tier::Copy;
    call_.expect_bulk(guest_ptr, bytes);
    copy_in(input_->data(), bytes, guest_ptr);
  }
  report_.handover_ns = now_ns() - begun;
  if (!call_.spec().uses_hose) {
    forget_input(); // its producer's memory is of no use any more
  }
  return true;
}

// Room for the input: with edge_alloc_aligned such that whole pages can be taken over (and, where the memory limit
// allows, whole 2 MiB page tables), else wherever edge_alloc says.
bool CallHoses::ask_for_room(Tier tier, std::uint64_t source_address, std::uint32_t &guest_ptr) {
  const std::uint64_t bytes = input_->size();
  if (tier != Tier::Copy && tier != Tier::None && call_.spec().has_aligned_alloc) {
    const std::uint64_t page = page_bytes();
    const std::uint64_t whole = round_up(bytes, page);
    const bool roomy = whole + 2 * kHugeBytes + call_.guest_bytes() <= static_cast<std::uint64_t>(call_.spec().memory_bytes);
    // A window goes above what stays resident; a flip leaves that alone, and copies it from and to the same place.
    const std::uint64_t small_unit =
        tier == Tier::Share ? kResidentBytes : (tier == Tier::Exchange ? std::max(kSeamBytes, page) : page);
    const std::uint64_t unit = bytes >= kHugeBytes && tier != Tier::Exchange ? kHugeBytes : small_unit;
    const std::uint64_t align = roomy ? unit : page;
    const std::uint64_t shift = (source_address - address(call_.guest_base())) % align;
    std::uint32_t at = 0;
    if (whole + shift <= UINT32_MAX) {
      if (!call_.allocate(static_cast<std::uint32_t>(whole + shift), static_cast<std::uint32_t>(align), at)) {
        return false;
      }
      if (!in_memory(at, whole + shift)) {
        call_.fail_from_host(Failure::BadOutput, "edge_alloc_aligned(" + std::to_string(whole + shift) + ", " +
                                                     std::to_string(align) + ") returned " + std::to_string(at) +
                                                     ", outside the memory");
        return false;
      }
      guest_ptr = at + static_cast<std::uint32_t>(shift); // unaligned where the guest lied: then it is a copy
      return true;
    }
  }
  if (!call_.allocate(static_cast<std::uint32_t>(bytes), 0, guest_ptr)) {
    return false;
  }
  if (!in_memory(guest_ptr, bytes)) {
    call_.fail_from_host(Failure::BadOutput, "edge_alloc(" + std::to_string(bytes) + ") returned " +
                                                 std::to_string(guest_ptr) + ", outside the memory of " +
                                                 std::to_string(call_.guest_bytes()) + " bytes");
    return false;
  }
  return true;
}

bool CallHoses::share_in(const HoseRange &range, std::uint32_t guest_ptr, Held::Kind kind, std::uint64_t extent) {
  const std::uint64_t page = page_bytes();
  // Whole pages only: what lies behind the message on its last page is the producer's.
  const std::uint64_t whole = round_down(range.bytes, page);
  std::uint8_t *at = call_.guest_base() + guest_ptr;
  if (whole == 0 || address(at) % page != 0 || range.offset % page != 0 || ledger_.is_full() ||
      !may_give(guest_ptr, range.bytes)) {
    return false;
  }
  if (!map_private(at, whole, range.hose->fd(), static_cast<off_t>(range.offset))) {
    return false;
  }
  touched_pages_ = true;
  had_views_ = true;
  ledger_.add({kind, guest_ptr, whole, extent, range.hose, range.offset, range.bytes});
  report_.mapped += whole;
  copy_in(range.data() + whole, range.bytes - whole, guest_ptr + static_cast<std::uint32_t>(whole));
  return true;
}

// A flip or an exchange. Where the source's slot keeps its pages resident, what is given for them is this call's own
// pages: its producer has ended, and nobody reads them before the slot is cleared.
bool CallHoses::move_in(Tier tier, std::uint32_t guest_ptr) {
  const std::uint64_t page = tier == Tier::Exchange ? std::max<std::uint64_t>(kSeamBytes, page_bytes()) : page_bytes();
  Call &producer = *input_->producer();
  std::uint8_t *from = producer.guest_base() + input_->producer_start();
  std::uint8_t *to = call_.guest_base() + guest_ptr;
  const std::uint64_t bytes = input_->size();
  if ((address(from) - address(to)) % page != 0) {
    return false;
  }
  const std::uint64_t lower = std::min<std::uint64_t>(input_->producer_start(), guest_ptr);
  const bool leaves_alone = tier == Tier::Flip && bytes < kHugeBytes && lower < kResidentBytes;
  const std::uint64_t resident = leaves_alone ? kResidentBytes - lower : 0;
  const std::uint64_t head = round_up(address(from) + resident, page) - address(from);
  if (bytes < head + kFlipWholeMin) {
    return false;
  }
  const std::uint64_t whole = round_down(bytes - head, page);
  if (whole < kFlipWholeMin || !producer.may_give(input_->producer_start() + head, whole) ||
      !may_give(guest_ptr + head, whole)) {
    return false;
  }
  if (tier == Tier::Exchange && !(producer.may_exchange() && call_.may_exchange())) {
    return false;
  }
  if (!input_->gate().become_taker()) {
    return false; // others still read it
  }
  const Moved moved = (tier == Tier::Exchange ? swap_pages : move_pages)(from + head, to + head, whole);
  if (moved != Moved::All) {
    if (moved == Moved::Some) {
      input_->set_taken();
      call_.fail_from_host(Failure::NoSlot, "the system has no mappings left for the input's pages");
    }
    input_->gate().become_reader();
    return false;
  }
  touched_pages_ = true;
  copy_in(from, head, guest_ptr);
  const std::uint64_t tail = bytes - head - whole;
  copy_in(from + head + whole, tail, guest_ptr + static_cast<std::uint32_t>(head + whole));
  report_.mapped += whole;
  input_->set_taken();
  input_->gate().become_reader();
  return true;
}

void CallHoses::copy_in(const std::uint8_t *from, std::uint64_t bytes, std::uint32_t guest_ptr) {
  if (bytes > 0) {
    std::memcpy(call_.guest_base() + guest_ptr, from, bytes);
    report_.copied += bytes;
  }
}

std::shared_ptr<Payload> CallHoses::value_of(std::uint32_t ptr, std::uint32_t bytes) {
  if (bytes >= at_.window_bytes_min) {
    if (HoseRange range = published(ptr, bytes); range.hose) {
      return std::make_shared<Payload>(std::move(range), nullptr, Attachments());
    }
  }
  Buffer copy;
  copy.append(call_.guest_base() + ptr, bytes);
  report_.copied += bytes;
  return std::make_shared<Payload>(std::move(copy), Attachments());
}

void CallHoses::place_value(const Payload &value, std::uint32_t ptr) {
  HandOver over;
  over.bytes = value.size();
  over.in_hose = is_file(value.range());
  if (const Held *held = ledger_.starting_at(ptr); held != nullptr && held->kind == Held::Kind::Value) {
    ledger_.release(call_.guest_base(), ptr);
  }
  if (over.in_hose && choose_tier(at_, over) == Tier::Share &&
      share_in(*value.range(), ptr, Held::Kind::Value, round_down(over.bytes, page_bytes()))) {
    report_.tier = Tier::Share;
    return;
  }
  copy_in(value.data(), over.bytes, ptr);
  if (over.bytes > 0 && report_.tier == Tier::None) {
    report_.tier = Tier::Copy;
  }
}

std::optional<HoseRange> CallHoses::in_loan(std::uint64_t start, std::uint64_t bytes) const {
  const Held *held = bytes > 0 ? ledger_.containing(start, bytes) : nullptr;
  if (held == nullptr || held->kind != Held::Kind::Loan) {
    return std::nullopt;
  }
  return HoseRange{held->hose, held->hose_offset + (start - held->start), bytes};
}

bool CallHoses::restore() { return ledger_.empty() || ledger_.release_all(call_.guest_base()); }

} // namespace edgeagent
