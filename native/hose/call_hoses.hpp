// One call's side of the hoses: how its input gets in, what it has borrowed, published and mapped.
//
// Everything here runs on the thread that runs the call, while its guest is inside a host call or not running, which is
// what makes remapping its memory safe. Made only for calls that need it.
#pragma once

#include "../ask.hpp"
#include "../outcome.hpp"
#include "ledger.hpp"
#include "payload.hpp"
#include "tier.hpp"

#include <cstdint>
#include <memory>
#include <map>
#include <optional>
#include <string>

namespace edgeagent {

class Call;

// What edge_hose's functions return instead of a length, an id or a pointer; listed in sdk/edge_hose.h.
enum HoseError : std::int32_t {
  kHoseBad = -1,     // an argument names nothing that this guest may use
  kHoseRange = -2,   // pointer and length are not inside the memory
  kHoseSmall = -3,   // the buffer is smaller than the message
  kHoseMemory = -4,  // no memory for it
  kHoseFull = -5,    // a bound is reached: loans and windows at once, ids of a run
  kHoseOverlap = -6, // the range overlaps a loan or window
  kHoseEnd = -7,     // nobody who sends to this stream is left
  kHoseAgain = -8,   // it would have to wait, and must not
  kHosePeer = -9,    // another host could not be reached, or refused it
};

// Flags of send; kHoseNoWait is also added to a slot.
enum HoseFlag : std::int32_t {
  kHoseMove = 1,
  kHoseNoWait = 256,
};

class CallHoses {
public:
  CallHoses(Call &call, const std::shared_ptr<HosePool> &pool, const Crossovers &at) : call_(call), pool_(pool), at_(at) {}
  CallHoses(const CallHoses &) = delete;
  CallHoses &operator=(const CallHoses &) = delete;
  ~CallHoses() { forget_input(); }

  // The input is another function's output; `may_move` lets its pages be taken. False when somebody took them already.
  bool use_input(std::shared_ptr<Payload> input, bool may_move);
  const Payload *input() const { return input_.get(); }
  // Asks the guest for room and brings the input there, by the best tier. False: the call has failed, with its reason.
  bool place_input(std::uint32_t &guest_ptr);
  // The range as one of a hose, if the guest wrote it into a loan. It may still be written by this guest, if that runs on.
  std::optional<HoseRange> in_loan(std::uint64_t start, std::uint64_t bytes) const;
  // What this guest got by hoses and has mapped, for somebody who reads it elsewhere.
  std::vector<HoseMessage> views() const { return ledger_.views(); }
  // The input is not needed any more.
  void forget_input();

  // edge_hose, as CONTRACTS says; `results` are lengths, pointers or ids, negative ones are HoseError.
  std::int32_t recv_info(std::int32_t slot);
  std::int32_t recv(std::uint32_t ptr, std::uint32_t cap, std::int32_t flags);
  std::int32_t loan(std::uint32_t bytes);
  std::int32_t publish(std::uint32_t ptr, std::uint32_t bytes);
  std::int32_t map(std::int32_t id, std::uint32_t ptr, std::uint32_t cap);
  std::int32_t release(std::uint32_t ptr);
  std::int32_t ask_about(AskKind kind, std::uint32_t name_ptr, std::uint32_t name_bytes);
  std::int32_t send(std::uint32_t name_ptr, std::uint32_t name_bytes, std::uint32_t ptr, std::uint32_t bytes,
                    std::int32_t flags);

  // For edge_state: what lies there as a payload that nobody changes any more; a copy, unless it is large. Throws
  // std::bad_alloc.
  std::shared_ptr<Payload> value_of(std::uint32_t ptr, std::uint32_t bytes);
  // Brings a payload to `ptr`, inside the memory: large ones by mapping, where their pages and the guest's agree. Inside
  // the payload's gate.
  void place_value(const Payload &value, std::uint32_t ptr);

  Attachments take_attachments() { return std::move(attachments_); }
  const HoseReport &report() const { return report_; }
  bool touched_pages() const { return touched_pages_; }
  bool had_views() const { return had_views_; }
  // Before the store is deleted; false: it must not be.
  bool restore();
  // What restore() has left to do.
  Ledger take_ledger() { return std::move(ledger_); }
  // Whether [start, start + bytes) is plain guest memory above the data image: the producer's half of a flip.
  bool may_give(std::uint64_t start, std::uint64_t bytes) const;

private:
  static constexpr std::size_t kAttachmentsMax = 64;
  static constexpr std::uint64_t kPublishedLoanMin = 512 << 10; // loans of functions that publish
  static constexpr std::uint64_t kNoLoans = 1ULL << 40;         // a crossover from there on: never a hose
  static constexpr std::uint32_t kNameMax = 127; // NAME@PEER, each of at most 63 characters
  static constexpr std::int32_t kSlotMax = 2;
  static constexpr int kHopsMax = 32; // functions whose messages start each other for ever must come to an end

  bool ask_for_room(Tier tier, std::uint64_t source_address, std::uint32_t &guest_ptr);
  bool share_in(const HoseRange &range, std::uint32_t guest_ptr, Held::Kind kind, std::uint64_t extent);
  bool move_in(Tier tier, std::uint32_t guest_ptr);
  void copy_in(const std::uint8_t *from, std::uint64_t bytes, std::uint32_t guest_ptr);
  std::uint64_t loan_bytes_min() const;
  bool revoke_writing(std::uint64_t start, std::uint64_t bytes);
  bool in_memory(std::uint64_t start, std::uint64_t bytes) const;
  std::uint64_t address_of_base() const;
  HoseRange published(std::uint32_t ptr, std::uint32_t bytes);
  std::optional<std::string> name_at(std::uint32_t ptr, std::uint32_t bytes) const;
  std::shared_ptr<Payload> message(std::uint32_t ptr, std::uint32_t bytes);
  std::int32_t next(std::int32_t slot, bool may_wait);
  std::int32_t recv_next(std::int32_t slot, bool may_wait, std::uint32_t ptr, std::uint32_t cap);
  std::int32_t deliver(const HoseRange *range, const std::uint8_t *from, std::uint64_t bytes, std::uint32_t ptr,
                       std::uint32_t cap);

  Call &call_;
  std::shared_ptr<HosePool> pool_;
  Crossovers at_;
  std::shared_ptr<Payload> input_;
  int input_hops_ = 0;
  bool may_move_ = false;
  bool touched_pages_ = false;
  bool had_views_ = false;
  bool is_lending_ = false;
  Ledger ledger_;
  Attachments attachments_;
  std::map<std::int32_t, std::shared_ptr<Payload>> next_; // by slot: told to the guest, not taken yet
  HoseReport report_;
};

} // namespace edgeagent
