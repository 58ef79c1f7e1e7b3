// Messages to and from a running guest: edge_hose's open, close, accept, send, and the slots from 1 on of recv.
//
// The node keeps the queues (edgeagent/hose/mailbox.py); a guest that must wait for room or for a message waits in ask().
#include "../call.hpp"
#include "call_hoses.hpp"

#include <cstring>
#include <utility>

namespace edgeagent {

namespace {

// A smaller message is copied: a hose has pages of its own, and one message would have a whole one.
constexpr std::uint64_t kMessageInHoseMin = 32 << 10;

} // namespace

std::optional<std::string> CallHoses::name_at(std::uint32_t ptr, std::uint32_t bytes) const {
  if (bytes > kNameMax || !in_memory(ptr, bytes)) {
    return std::nullopt;
  }
  return std::string(reinterpret_cast<const char *>(call_.guest_base() + ptr), bytes);
}

std::int32_t CallHoses::ask_about(AskKind kind, std::uint32_t name_ptr, std::uint32_t name_bytes) {
  std::optional<std::string> name = name_at(name_ptr, name_bytes);
  if (!name) {
    return kHoseRange;
  }
  Ask ask;
  ask.kind = kind;
  ask.name = std::move(*name);
  Answer answer;
  return call_.ask(std::move(ask), answer) ? answer.status : kHoseBad;
}

std::shared_ptr<Payload> CallHoses::message(std::uint32_t ptr, std::uint32_t bytes) {
  if (bytes >= kMessageInHoseMin) {
    call_.function()->published();
    if (HoseRange range = published(ptr, bytes); range.hose) {
      return std::make_shared<Payload>(std::move(range), nullptr, Attachments());
    }
  }
  Buffer copy;
  copy.append(call_.guest_base() + ptr, bytes);
  report_.copied += bytes;
  return std::make_shared<Payload>(std::move(copy), Attachments());
}

std::int32_t CallHoses::send(std::uint32_t name_ptr, std::uint32_t name_bytes, std::uint32_t ptr, std::uint32_t bytes,
                             std::int32_t flags) {
  std::optional<std::string> name = name_at(name_ptr, name_bytes);
  if (!name || !in_memory(ptr, bytes)) {
    return kHoseRange;
  }
  if ((flags & ~(kHoseMove | kHoseNoWait)) != 0) {
    return kHoseBad;
  }
  Ask ask;
  ask.kind = AskKind::Send;
  ask.may_wait = (flags & kHoseNoWait) == 0;
  ask.name = std::move(*name);
  const int hops = input_hops_ + 1;
  if (hops > kHopsMax) {
    return kHoseFull;
  }
  ask.payload = message(ptr, bytes);
  if (!ask.payload) {
    return kHoseMemory;
  }
  ask.payload->hops = hops;
  Answer answer;
  return call_.ask(std::move(ask), answer) ? answer.status : kHoseBad;
}

std::int32_t CallHoses::next(std::int32_t slot, bool may_wait) {
  std::shared_ptr<Payload> &waiting = next_[slot];
  if (!waiting) {
    Ask ask;
    ask.kind = AskKind::Next;
    ask.slot = slot;
    ask.may_wait = may_wait;
    Answer answer;
    if (!call_.ask(std::move(ask), answer)) {
      return kHoseBad;
    }
    if (answer.status < 0 || !answer.payload) {
      return answer.status < 0 ? answer.status : kHoseBad;
    }
    waiting = std::move(answer.payload);
  }
  return waiting->size() > INT32_MAX ? kHoseRange : static_cast<std::int32_t>(waiting->size());
}

std::int32_t CallHoses::recv_next(std::int32_t slot, bool may_wait, std::uint32_t ptr, std::uint32_t cap) {
  if (const std::int32_t bytes = next(slot, may_wait); bytes < 0) {
    return bytes;
  }
  const std::shared_ptr<Payload> payload = next_[slot];
  payload->gate().enter();
  const std::shared_ptr<void> leaving(nullptr, [&payload](void *) { payload->gate().leave(); });
  if (payload->is_taken()) { // nobody else should have had it
    next_.erase(slot);
    return kHoseBad;
  }
  const std::int32_t delivered = deliver(payload->range(), payload->data(), payload->size(), ptr, cap);
  if (delivered >= 0) {
    next_.erase(slot); // else it can still be had, with a larger buffer
  }
  return delivered;
}

} // namespace edgeagent
