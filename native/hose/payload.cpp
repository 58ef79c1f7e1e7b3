#include "payload.hpp"

#include "../call.hpp"

#include <cstring>
#include <mutex>

namespace edgeagent {

Payload::Payload(std::shared_ptr<Call> producer, std::uint64_t start, std::uint64_t bytes, Attachments attachments)
    : producer_(std::move(producer)), start_(start), bytes_(bytes), attachments_(std::move(attachments)) {}

Payload::Payload(HoseRange range, std::shared_ptr<Call> holder, Attachments attachments)
    : holder_(std::move(holder)), bytes_(range.bytes), range_(std::move(range)), attachments_(std::move(attachments)) {}

Payload::Payload(Buffer bytes, Attachments attachments)
    : bytes_(bytes.size()), buffer_(std::move(bytes)), attachments_(std::move(attachments)) {}

const char *Payload::kind() const {
  if (is_taken_) {
    return "";
  }
  return range_.hose ? "hose" : (producer_ ? "guest" : "host");
}

const std::uint8_t *Payload::data() const {
  if (range_.hose) {
    return range_.data();
  }
  return producer_ ? producer_->guest_base() + start_ : buffer_.data();
}

bool Payload::share(HosePool &pool) {
  const std::unique_lock<std::shared_mutex> alone(lock_);
  if (is_taken_ || range_.hose) {
    holder_.reset();
    return !is_taken_;
  }
  Lease hose = pool.acquire(bytes_);
  if (!hose) {
    return false;
  }
  std::memcpy(hose->data(), data(), bytes_);
  hose->dirty_bytes = bytes_;
  range_ = {std::move(hose), 0, bytes_};
  producer_.reset();
  buffer_ = Buffer();
  return true;
}

} // namespace edgeagent
