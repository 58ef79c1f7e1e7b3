// One call's side of edge_state: what a guest asks the node's state service through the ask mechanism.
//
// The node knows keys, prefixes, runs and versions (edgeagent/node/state_guest.py); here are ranges and buffers only.
#pragma once

#include "../ask.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace edgeagent {

class Call;

// What edge_state's functions return instead of a length; those that this side knows. All are listed in
// sdk/edge_state.h, and in edgeagent/state/guest_layout.py.
enum StateError : std::int32_t {
  kStateBad = -1,       // a key, a prefix, a version or a group that is none
  kStateRange = -2,     // pointer and length are not inside the memory
  kStateMemory = -4,    // no memory for it
  kStateOff = -12,      // this node keeps no state
  kStateTooLarge = -16, // a value over its limit
  kStateFailed = -20,   // the node could not do it; its log says why
};

class CallState {
public:
  explicit CallState(Call &call) : call_(call) {}
  CallState(const CallState &) = delete;
  CallState &operator=(const CallState &) = delete;

  // The guest does not run any more.
  void forget() {
    told_.reset();
    reply_.reset();
  }

  std::int32_t get(std::uint32_t key, std::uint32_t key_bytes, std::uint32_t ptr, std::uint32_t cap);
  std::int32_t put(std::uint32_t key, std::uint32_t key_bytes, std::uint32_t ptr, std::uint32_t bytes, std::int32_t flags);
  std::int32_t remove(std::uint32_t key, std::uint32_t key_bytes);
  std::int32_t list(std::uint32_t prefix, std::uint32_t prefix_bytes, std::uint32_t after, std::uint32_t after_bytes,
                    std::uint32_t ptr, std::uint32_t cap);
  std::int32_t cas(std::uint32_t key, std::uint32_t key_bytes, std::uint32_t version, std::uint32_t ptr,
                   std::uint32_t bytes);
  std::int32_t group(std::uint32_t ptr, std::uint32_t bytes, std::uint32_t out, std::uint32_t cap);
  std::int32_t version(std::uint32_t key, std::uint32_t key_bytes, std::uint32_t ptr, std::uint32_t cap);

private:
  static constexpr std::uint32_t kKeyMax = 512;
  static constexpr std::uint32_t kVersionBytes = 96; // a buffer of the guest's for a version: text, then zeros

  std::int32_t text_at(std::uint32_t ptr, std::uint32_t bytes, std::string &text) const;
  bool in_memory(std::uint64_t start, std::uint64_t bytes) const;
  bool takes(std::uint32_t ptr, std::uint32_t cap) const { return cap == 0 || in_memory(ptr, cap); }
  std::int32_t value_at(std::uint32_t ptr, std::uint32_t bytes, std::shared_ptr<Payload> &value);
  std::int32_t ask(Ask ask, Answer &answer);
  std::int32_t deliver(const std::shared_ptr<Payload> &value, std::uint32_t ptr, std::uint32_t cap);
  void write_version(const Payload *text, std::uint32_t ptr);
  std::int32_t take_reply(std::uint32_t out, std::uint32_t cap);

  Call &call_;
  // A value whose length the guest was told, for a buffer that was too small: the next get of its key is of this one.
  std::string told_key_;
  std::shared_ptr<Payload> told_;
  std::shared_ptr<Payload> reply_; // of a group, likewise
};

} // namespace edgeagent
