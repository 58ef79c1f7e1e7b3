#include "payload.hpp"

#include "../call.hpp"

#include <cstring>

namespace edgeagent {

void Gate::enter() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return !is_being_taken_; });
  ++readers_;
}

void Gate::leave() {
  const std::lock_guard<std::mutex> lock(mutex_);
  --readers_;
  changed_.notify_all();
}

bool Gate::become_taker() {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_being_taken_ = readers_ == 1;
  readers_ -= is_being_taken_ ? 1 : 0;
  return is_being_taken_;
}

void Gate::become_reader() {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_being_taken_ = false;
  ++readers_;
  changed_.notify_all();
}

void Gate::enter_as_taker() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return !is_being_taken_ && readers_ == 0; });
  is_being_taken_ = true;
}

void Gate::leave_as_taker() {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_being_taken_ = false;
  changed_.notify_all();
}

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
  gate_.enter_as_taker();
  const bool shared = share_alone(pool);
  gate_.leave_as_taker();
  return shared;
}

bool Payload::share_alone(HosePool &pool) {
  if (is_taken_ || range_.hose) {
    holder_.reset();
    return !is_taken_;
  }
  if (producer_) {
    producer_->function()->published(); // its next loan is a hose, and this copy not needed
  }
  Lease hose = pool.acquire(bytes_, false);
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
