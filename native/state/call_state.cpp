#include "call_state.hpp"

#include "../call.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

namespace edgeagent {

bool CallState::in_memory(std::uint64_t start, std::uint64_t bytes) const {
  const std::uint64_t size = call_.guest_bytes();
  return start <= size && bytes <= size - start;
}

std::int32_t CallState::text_at(std::uint32_t ptr, std::uint32_t bytes, std::string &text) const {
  if (bytes > kKeyMax) {
    return kStateBad;
  }
  if (!in_memory(ptr, bytes)) {
    return kStateRange;
  }
  text.assign(reinterpret_cast<const char *>(call_.guest_base() + ptr), bytes);
  return 0;
}

std::int32_t CallState::value_at(std::uint32_t ptr, std::uint32_t bytes, std::shared_ptr<Payload> &value) {
  if (!in_memory(ptr, bytes)) {
    return kStateRange;
  }
  if (bytes > INT32_MAX) {
    return kStateTooLarge;
  }
  value = call_.hoses().value_of(ptr, bytes);
  return 0;
}

std::int32_t CallState::ask(Ask ask, Answer &answer) {
  forget();
  if (!call_.has_asked()) {
    return kStateOff;
  }
  return call_.ask(std::move(ask), answer) ? answer.status : kStateFailed;
}

std::int32_t CallState::deliver(const std::shared_ptr<Payload> &value, std::uint32_t ptr, std::uint32_t cap) {
  const std::uint64_t bytes = value->size();
  if (bytes > INT32_MAX) {
    return kStateTooLarge;
  }
  if (bytes <= cap) {
    value->gate().enter();
    const std::shared_ptr<void> leaving(nullptr, [&value](void *) { value->gate().leave(); });
    if (value->is_taken()) { // nobody else should have had it
      return kStateFailed;
    }
    call_.hoses().place_value(*value, ptr);
  }
  return static_cast<std::int32_t>(bytes);
}

std::int32_t CallState::get(std::uint32_t key, std::uint32_t key_bytes, std::uint32_t ptr, std::uint32_t cap) {
  Ask wanted;
  wanted.kind = AskKind::StateGet;
  if (const std::int32_t wrong = text_at(key, key_bytes, wanted.name); wrong < 0) {
    return wrong;
  }
  if (!takes(ptr, cap)) {
    return kStateRange;
  }
  if (told_ && told_key_ == wanted.name && told_->size() <= cap) {
    const std::shared_ptr<Payload> value = std::move(told_);
    told_.reset();
    return deliver(value, ptr, cap);
  }
  std::string name = wanted.name;
  Answer answer;
  if (const std::int32_t status = ask(std::move(wanted), answer); status < 0 || !answer.payload) {
    return status < 0 ? status : kStateFailed;
  }
  const std::int32_t bytes = deliver(answer.payload, ptr, cap);
  if (bytes >= 0 && static_cast<std::uint32_t>(bytes) > cap) {
    told_key_ = std::move(name);
    told_ = std::move(answer.payload);
  }
  return bytes;
}

std::int32_t CallState::put(std::uint32_t key, std::uint32_t key_bytes, std::uint32_t ptr, std::uint32_t bytes,
                            std::int32_t flags) {
  Ask wanted;
  wanted.kind = AskKind::StatePut;
  wanted.slot = flags;
  std::int32_t wrong = text_at(key, key_bytes, wanted.name);
  if (wrong < 0 || (wrong = value_at(ptr, bytes, wanted.payload)) < 0) {
    return wrong;
  }
  Answer answer;
  return ask(std::move(wanted), answer);
}

std::int32_t CallState::remove(std::uint32_t key, std::uint32_t key_bytes) {
  Ask wanted;
  wanted.kind = AskKind::StateDelete;
  if (const std::int32_t wrong = text_at(key, key_bytes, wanted.name); wrong < 0) {
    return wrong;
  }
  Answer answer;
  return ask(std::move(wanted), answer);
}

std::int32_t CallState::list(std::uint32_t prefix, std::uint32_t prefix_bytes, std::uint32_t after,
                             std::uint32_t after_bytes, std::uint32_t ptr, std::uint32_t cap) {
  Ask wanted;
  wanted.kind = AskKind::StateList;
  std::int32_t wrong = text_at(prefix, prefix_bytes, wanted.name);
  if (wrong < 0 || (wrong = text_at(after, after_bytes, wanted.extra)) < 0) {
    return wrong;
  }
  if (!takes(ptr, cap)) {
    return kStateRange;
  }
  Answer answer;
  if (const std::int32_t status = ask(std::move(wanted), answer); status < 0 || !answer.payload) {
    return status < 0 ? status : kStateFailed;
  }
  return deliver(answer.payload, ptr, cap);
}

void CallState::write_version(const Payload *text, std::uint32_t ptr) {
  std::uint8_t *at = call_.guest_base() + ptr;
  std::memset(at, 0, kVersionBytes);
  if (text != nullptr && text->size() > 0) {
    std::memcpy(at, text->data(), std::min<std::uint64_t>(text->size(), kVersionBytes - 1));
  }
}

std::int32_t CallState::cas(std::uint32_t key, std::uint32_t key_bytes, std::uint32_t version, std::uint32_t ptr,
                            std::uint32_t bytes) {
  Ask wanted;
  wanted.kind = AskKind::StateCas;
  std::int32_t wrong = text_at(key, key_bytes, wanted.name);
  if (wrong < 0 || (wrong = text_at(version, kVersionBytes, wanted.extra)) < 0) {
    return wrong;
  }
  wanted.extra.resize(std::string_view(wanted.extra).substr(0, wanted.extra.find('\0')).size());
  if ((wrong = value_at(ptr, bytes, wanted.payload)) < 0) {
    return wrong;
  }
  Answer answer;
  const std::int32_t status = ask(std::move(wanted), answer);
  if (answer.payload) { // the version that the key has now
    write_version(answer.payload.get(), version);
  }
  return status;
}

std::int32_t CallState::take_reply(std::uint32_t out, std::uint32_t cap) {
  if (!reply_) {
    return kStateBad;
  }
  const std::int32_t bytes = deliver(reply_, out, cap);
  if (bytes < 0 || static_cast<std::uint32_t>(bytes) <= cap) {
    reply_.reset();
  }
  return bytes;
}

std::int32_t CallState::group(std::uint32_t ptr, std::uint32_t bytes, std::uint32_t out, std::uint32_t cap) {
  if (!takes(out, cap)) {
    return kStateRange;
  }
  if (bytes == 0) {
    return take_reply(out, cap);
  }
  Ask wanted;
  wanted.kind = AskKind::StateGroup;
  if (const std::int32_t wrong = value_at(ptr, bytes, wanted.payload); wrong < 0) {
    return wrong;
  }
  Answer answer;
  if (const std::int32_t status = ask(std::move(wanted), answer); status < 0 || !answer.payload) {
    return status < 0 ? status : kStateFailed;
  }
  reply_ = std::move(answer.payload); // it is done, and is not done again for a buffer that is too small
  return take_reply(out, cap);
}

std::int32_t CallState::version(std::uint32_t key, std::uint32_t key_bytes, std::uint32_t ptr, std::uint32_t cap) {
  Ask wanted;
  wanted.kind = AskKind::StateVersion;
  if (const std::int32_t wrong = text_at(key, key_bytes, wanted.name); wrong < 0) {
    return wrong;
  }
  if (!takes(ptr, cap)) {
    return kStateRange;
  }
  Answer answer;
  if (const std::int32_t status = ask(std::move(wanted), answer); status < 0 || !answer.payload) {
    return status < 0 ? status : kStateFailed;
  }
  const auto size = static_cast<std::int32_t>(answer.payload->size());
  if (cap >= kVersionBytes) {
    write_version(answer.payload.get(), ptr);
    return size;
  }
  return deliver(answer.payload, ptr, cap);
}

} // namespace edgeagent
