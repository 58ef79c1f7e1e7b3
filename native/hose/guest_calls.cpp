// The functions of edge_hose that a guest calls, and their definition in a linker. Every argument is hostile.
#include "../host_functions.hpp"
#include "call_hoses.hpp"
#include "guest_calls.hpp"
#include "remap.hpp"

#include <algorithm>
#include <cstring>
#include <new>

namespace edgeagent {

std::int32_t CallHoses::recv_info(std::int32_t slot) {
  if (const std::int32_t stream = slot & ~kHoseNoWait; stream != 0) {
    return stream < 0 || stream > kSlotMax ? kHoseBad : next(stream, (slot & kHoseNoWait) == 0);
  }
  const std::uint64_t bytes = input_ ? input_->size() : call_.body_bytes();
  return bytes > INT32_MAX ? kHoseRange : static_cast<std::int32_t>(bytes);
}

std::int32_t CallHoses::deliver(const HoseRange *range, const std::uint8_t *from, std::uint64_t bytes, std::uint32_t ptr,
                                std::uint32_t cap) {
  if (bytes > cap) {
    return kHoseSmall;
  }
  if (!in_memory(ptr, cap)) {
    return kHoseRange;
  }
  if (ledger_.overlaps(ptr, cap)) {
    return kHoseOverlap;
  }
  if (ledger_.is_full()) {
    return kHoseFull;
  }
  HandOver over;
  over.bytes = bytes;
  over.in_hose = range != nullptr;
  const bool fits_whole = round_up(bytes, page_bytes()) <= cap;
  if (range != nullptr && fits_whole && choose_tier(at_, over) == Tier::Share &&
      share_in(*range, ptr, Held::Kind::Window, cap)) {
    report_.tier = Tier::Share;
    return static_cast<std::int32_t>(bytes);
  }
  copy_in(from, bytes, ptr);
  ledger_.add({Held::Kind::Plain, ptr, 0, cap, nullptr, 0});
  if (bytes > 0 && report_.tier == Tier::None) {
    report_.tier = Tier::Copy;
  }
  return static_cast<std::int32_t>(bytes);
}

std::int32_t CallHoses::recv(std::uint32_t ptr, std::uint32_t cap, std::int32_t flags) {
  if (const std::int32_t stream = flags & ~kHoseNoWait; stream != 0) {
    return stream < 0 || stream > kSlotMax ? kHoseBad : recv_next(stream, (flags & kHoseNoWait) == 0, ptr, cap);
  }
  if (input_) {
    return input_->is_taken() ? kHoseBad : deliver(input_->range(), input_->data(), input_->size(), ptr, cap);
  }
  return deliver(nullptr, call_.body(), call_.body_bytes(), ptr, cap);
}

std::int32_t CallHoses::loan(std::uint32_t bytes) {
  const std::uint64_t page = page_bytes();
  const std::uint64_t whole = round_up(bytes, page);
  const std::uint64_t size = call_.guest_bytes();
  const auto limit = static_cast<std::uint64_t>(call_.spec().memory_bytes);
  if (bytes == 0 || whole > INT32_MAX) {
    return bytes == 0 ? kHoseBad : kHoseMemory;
  }
  if (is_lending_) {
    return kHoseBad; // its allocator must not ask for what it is being asked for
  }
  if (ledger_.is_full()) {
    return kHoseFull;
  }
  if (!call_.spec().has_alloc && !call_.spec().has_aligned_alloc) {
    return kHoseMemory; // memory always comes from the guest
  }
  std::uint32_t at = 0;
  Lease hose;
  const bool worth_it = bytes >= loan_bytes_min() && call_.spec().has_aligned_alloc;
  if (worth_it && size + whole + 2 * kHugeBytes <= limit) {
    hose = pool_->acquire(whole, false);
  }
  // A hose's mapping is 2 MiB-aligned; the guest's view must agree with it modulo 2 MiB to have large pages.
  const std::uint64_t align = hose ? kHugeBytes : page;
  const std::uint64_t shift = (0 - address_of_base()) % align;
  const bool aligned = call_.spec().has_aligned_alloc;
  const auto wanted = static_cast<std::uint32_t>(aligned ? whole + shift : bytes);
  is_lending_ = true;
  const bool allocated = call_.allocate(wanted, aligned ? static_cast<std::uint32_t>(align) : 0, at);
  is_lending_ = false;
  if (!allocated) {
    return kHoseMemory;
  }
  if (!in_memory(at, wanted) || std::uint64_t{at} + wanted > INT32_MAX) {
    return kHoseMemory;
  }
  if (ledger_.is_full()) {
    return kHoseFull; // the guest's allocator mapped messages meanwhile
  }
  const std::uint32_t ptr = aligned ? at + static_cast<std::uint32_t>(shift) : at;
  std::uint8_t *view = call_.guest_base() + ptr;
  if (hose && (address_of_base() + ptr) % page == 0 && may_give(ptr, whole) && !ledger_.overlaps(ptr, whole)) {
    hose->dirty_bytes = whole; // before anybody can write it
    if (map_shared(view, whole, hose->fd(), 0)) {
      touched_pages_ = true;
      had_views_ = true;
      ledger_.add({Held::Kind::Loan, ptr, whole, whole, std::move(hose), 0});
      return static_cast<std::int32_t>(ptr);
    }
  }
  if (ledger_.overlaps(ptr, bytes)) {
    return kHoseMemory; // its allocator gave out the same memory twice
  }
  if (ptr < size) { // what has grown just now is zeros, what the allocator had before need not be
    std::memset(view, 0, std::min<std::uint64_t>(bytes, size - ptr));
  }
  ledger_.add({Held::Kind::Plain, ptr, 0, bytes, nullptr, 0});
  return static_cast<std::int32_t>(ptr);
}

// Below the crossover a chain is better off with guest memory, but who publishes pays for a new hose and a copy then.
std::uint64_t CallHoses::loan_bytes_min() const {
  const bool at_all = at_.loan_bytes_min < kNoLoans;
  return at_all && call_.function()->publishes() ? std::min(at_.loan_bytes_min, kPublishedLoanMin) : at_.loan_bytes_min;
}

std::int32_t CallHoses::publish(std::uint32_t ptr, std::uint32_t bytes) {
  if (bytes == 0 || !in_memory(ptr, bytes)) {
    return kHoseRange;
  }
  if (attachments_.size() >= kAttachmentsMax) {
    return kHoseFull;
  }
  call_.function()->published();
  HoseRange range = published(ptr, bytes);
  if (!range.hose) {
    return kHoseMemory;
  }
  const std::int32_t id = attachments_.empty() ? 1 : attachments_.rbegin()->first + 1;
  attachments_.emplace(id, std::move(range));
  return id;
}

// The bytes where nobody can write them any more: the lent buffer that holds them, or a copy. Empty: no memory.
HoseRange CallHoses::published(std::uint32_t ptr, std::uint32_t bytes) {
  if (std::optional<HoseRange> lent = in_loan(ptr, bytes); lent && revoke_writing(ptr, bytes)) {
    return std::move(*lent);
  }
  Lease hose = pool_->acquire(bytes, true);
  if (!hose) {
    return {};
  }
  std::memcpy(hose->data(), call_.guest_base() + ptr, bytes);
  hose->dirty_bytes = bytes;
  report_.copied += bytes;
  return {std::move(hose), 0, bytes};
}

bool CallHoses::revoke_writing(std::uint64_t start, std::uint64_t bytes) {
  return ledger_.publish(call_.guest_base(), ledger_.containing(start, bytes)->start);
}

std::int32_t CallHoses::map(std::int32_t id, std::uint32_t ptr, std::uint32_t cap) {
  const auto found = attachments_.find(id);
  if (found == attachments_.end()) {
    return kHoseBad;
  }
  const HoseRange range = found->second;
  if (cap == 0) {
    return range.bytes > INT32_MAX ? kHoseRange : static_cast<std::int32_t>(range.bytes);
  }
  return deliver(&range, range.data(), range.bytes, ptr, cap);
}

std::int32_t CallHoses::release(std::uint32_t ptr) {
  const Held *held = ledger_.starting_at(ptr);
  if (held == nullptr || held->kind == Held::Kind::Input) {
    return kHoseBad;
  }
  return ledger_.release(call_.guest_base(), ptr) ? 0 : kHoseMemory;
}

std::uint64_t CallHoses::address_of_base() const { return reinterpret_cast<std::uintptr_t>(call_.guest_base()); }

namespace {

// What a host function of this module does, given the call's hoses and its i32 arguments.
using Body = std::int32_t (*)(CallHoses &hoses, const wasmtime_val_raw_t *values);

std::uint32_t u32(const wasmtime_val_raw_t &value) { return static_cast<std::uint32_t>(value.i32); }

template <Body body> wasm_trap_t *call_body(void *, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, std::size_t) {
  Call &call = *static_cast<Call *>(wt.wasmtime_context_get_data(wt.wasmtime_caller_context(caller)));
  std::int32_t result = kHoseBad;
  if (call.memory() != nullptr) { // else a start function is running, and there is nothing to work on yet
    try {
      result = body(call.hoses(), values);
    } catch (const std::bad_alloc &) {
      result = kHoseMemory;
    }
  }
  values[0].i32 = result;
  return call.host_failed() || call.is_stopping() ? wt.wasmtime_trap_new("edge_hose", 9) : nullptr;
}

std::int32_t recv_info(CallHoses &h, const wasmtime_val_raw_t *v) { return h.recv_info(v[0].i32); }
std::int32_t recv(CallHoses &h, const wasmtime_val_raw_t *v) { return h.recv(u32(v[0]), u32(v[1]), v[2].i32); }
std::int32_t loan(CallHoses &h, const wasmtime_val_raw_t *v) { return h.loan(u32(v[0])); }
std::int32_t publish(CallHoses &h, const wasmtime_val_raw_t *v) { return h.publish(u32(v[0]), u32(v[1])); }
std::int32_t map(CallHoses &h, const wasmtime_val_raw_t *v) { return h.map(v[0].i32, u32(v[1]), u32(v[2])); }
std::int32_t release(CallHoses &h, const wasmtime_val_raw_t *v) { return h.release(u32(v[0])); }
template <AskKind kind> std::int32_t about(CallHoses &h, const wasmtime_val_raw_t *v) {
  return h.ask_about(kind, u32(v[0]), u32(v[1]));
}
std::int32_t send(CallHoses &h, const wasmtime_val_raw_t *v) {
  return h.send(u32(v[0]), u32(v[1]), u32(v[2]), u32(v[3]), v[4].i32);
}

} // namespace

void define_edge_hose(wasmtime_linker_t *linker) {
  define_host_function(linker, "edge_hose", "recv_info", "i", "i", &call_body<recv_info>, nullptr);
  define_host_function(linker, "edge_hose", "recv", "iii", "i", &call_body<recv>, nullptr);
  define_host_function(linker, "edge_hose", "loan", "i", "i", &call_body<loan>, nullptr);
  define_host_function(linker, "edge_hose", "publish", "ii", "i", &call_body<publish>, nullptr);
  define_host_function(linker, "edge_hose", "map", "iii", "i", &call_body<map>, nullptr);
  define_host_function(linker, "edge_hose", "release", "i", "i", &call_body<release>, nullptr);
  define_host_function(linker, "edge_hose", "open", "ii", "i", &call_body<about<AskKind::Open>>, nullptr);
  define_host_function(linker, "edge_hose", "close", "ii", "i", &call_body<about<AskKind::Close>>, nullptr);
  define_host_function(linker, "edge_hose", "accept", "ii", "i", &call_body<about<AskKind::Accept>>, nullptr);
  define_host_function(linker, "edge_hose", "send", "iiiii", "i", &call_body<send>, nullptr);
}

} // namespace edgeagent
