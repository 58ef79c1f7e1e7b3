#include "ring.hpp"

#include <cstring>
#include <optional>

namespace edgeagent::gpu {

std::shared_ptr<Ring> Ring::make(const std::shared_ptr<Context> &context, std::uint64_t bytes) {
  if (bytes < kAlignment) {
    throw Fault(FaultKind::Misuse, 0, "", "a pinned ring has at least " + std::to_string(kAlignment) + " bytes");
  }
  auto ring = std::make_shared<Ring>(context, bytes / kAlignment * kAlignment);
  const Context::Use use(*context);
  context->join(*ring);
  ring->make_all();
  return ring;
}

void Ring::make_all() {
  context().pin(bytes_);
  is_pinned_ = true;
  const Driver &api = context().api();
  const unsigned mapped = context().facts().can_map_host ? kHostDeviceMap : 0U;
  void *host = nullptr;
  context().check(api.host_alloc(&host, bytes_, kHostPortable | mapped), "cuMemHostAlloc");
  host_ = static_cast<std::uint8_t *>(host);
  if (mapped != 0) {
    context().check(api.host_device_pointer(&device_, host, 0), "cuMemHostGetDevicePointer");
  }
}

void Ring::reap() {
  while (!pieces_.empty() && pieces_.front().is_retired) {
    Piece &oldest = pieces_.front();
    if (oldest.event != nullptr) {
      if (!context().is_ready(context().api().event_query(oldest.event), "cuEventQuery")) {
        return;
      }
      spare_.push_back(oldest.event);
    }
    pieces_.pop_front();
  }
}

bool Ring::place(std::uint64_t bytes, std::uint64_t &offset) {
  if (pieces_.size() >= kSlotsMax) {
    return false;
  }
  std::uint64_t begin = 0;
  offset = 0;
  if (!pieces_.empty()) {
    const std::uint64_t head = pieces_.back().end;
    const std::uint64_t tail = pieces_.front().begin;
    begin = head;
    offset = head;
    if (head > tail) {
      if (bytes > bytes_ - head) { // not at the end: from the start, if that is free
        if (bytes > tail) {
          return false;
        }
        offset = 0;
      }
    } else if (bytes > tail - head) { // head == tail is a full ring
      return false;
    }
  }
  pieces_.push_back({next_id_++, begin, offset + bytes, nullptr, false});
  return true;
}

std::shared_ptr<Slot> Ring::reserve(std::uint64_t bytes, Seconds patience) {
  if (bytes == 0 || bytes > bytes_) {
    throw Fault(FaultKind::Misuse, 0, "",
                std::to_string(bytes) + " bytes do not fit a pinned ring of " + std::to_string(bytes_));
  }
  const std::uint64_t span = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  std::uint64_t offset = 0;
  std::uint64_t id = 0;
  const auto try_it = [&] {
    const Entry entry(*this);
    const std::lock_guard<std::mutex> held(mutex_);
    reap();
    if (!place(span, offset)) {
      return false;
    }
    id = pieces_.back().id;
    return true;
  };
  if (!wait_until(try_it, patience)) {
    throw Fault(FaultKind::Busy, 0, "", "the pinned ring of " + std::to_string(bytes_) + " bytes is full");
  }
  return std::make_shared<Slot>(shared_from_this(), id, offset, bytes);
}

std::uint64_t Ring::used() {
  const Entry entry(*this);
  const std::lock_guard<std::mutex> held(mutex_);
  reap();
  std::uint64_t bytes = 0;
  for (const Piece &piece : pieces_) {
    bytes += piece.end > piece.begin ? piece.end - piece.begin : bytes_ - piece.begin + piece.end;
  }
  return bytes;
}

void Ring::retire(std::uint64_t id, Tenant *tenant, CUstream stream) {
  const Entry entry(*this);
  std::optional<Gate> gate;
  if (stream == nullptr && tenant != nullptr) {
    gate.emplace(*tenant, std::nothrow);
    stream = gate->is_open() ? tenant->stream() : nullptr; // a tenant that has left had ended its work
  }
  const std::lock_guard<std::mutex> held(mutex_);
  const auto piece = std::find_if(pieces_.begin(), pieces_.end(), [id](const Piece &one) { return one.id == id; });
  if (piece == pieces_.end() || piece->is_retired) {
    return;
  }
  if (stream != nullptr) {
    const Driver &api = context().api();
    CUevent event = nullptr;
    if (spare_.empty()) {
      context().check(api.event_create(&event, kEventDisableTiming), "cuEventCreate");
    } else {
      event = spare_.back();
      spare_.pop_back();
    }
    if (const CUresult result = api.event_record(event, stream); result != kSuccess) {
      spare_.push_back(event); // the piece stays: nobody knows when the device is done with it
      context().check(result, "cuEventRecord");
    }
    piece->event = event;
  }
  piece->is_retired = true;
}

bool Ring::settle(Seconds patience) noexcept {
  const auto ended = [this] {
    const std::lock_guard<std::mutex> held(mutex_);
    return std::all_of(pieces_.begin(), pieces_.end(), [this](const Piece &piece) {
      return piece.event == nullptr || context().api().event_query(piece.event) != kNotReady;
    });
  };
  return wait_until(ended, patience);
}

void Ring::drop() noexcept {
  const Driver &api = context().api();
  // Alone it may be dropped while copies go on; a device that never ends them keeps the memory, and so do we.
  constexpr Seconds kPatience(5.0);
  const bool is_over = context().poison() != 0 || settle(kPatience);
  const std::lock_guard<std::mutex> held(mutex_);
  for (const Piece &piece : pieces_) {
    if (piece.event != nullptr) {
      context().note(api.event_destroy(piece.event), "cuEventDestroy");
    }
  }
  pieces_.clear();
  for (CUevent event : spare_) {
    context().note(api.event_destroy(event), "cuEventDestroy");
  }
  spare_.clear();
  if (void *host = std::exchange(host_, nullptr); host != nullptr) {
    context().note(is_over ? api.host_free(host) : kNotReady, "cuMemFreeHost");
  }
  if (std::exchange(is_pinned_, false) && is_over) {
    context().unpin(bytes_);
  }
}

Slot::~Slot() {
  try {
    retire(nullptr);
  } catch (const Fault &fault) { // then its bytes stay reserved until the ring goes
    ring_->context().note(fault.code, fault.function.c_str());
  }
}

void Slot::require(std::uint64_t bytes, std::uint64_t at) const {
  if (is_retired_) {
    throw Fault(FaultKind::Closed, 0, "", "the slot was retired");
  }
  if (at > bytes_ || bytes > bytes_ - at) {
    throw Fault(FaultKind::Misuse, 0, "",
                std::to_string(bytes) + " bytes at " + std::to_string(at) + " are outside a slot of " +
                    std::to_string(bytes_));
  }
}

void *Slot::host() const {
  require(0, 0);
  const Child::Entry entry(*ring_);
  return ring_->host_ + offset_;
}

CUdeviceptr Slot::device() const {
  require(0, 0);
  const Child::Entry entry(*ring_);
  return ring_->device_ == 0 ? 0 : ring_->device_ + offset_;
}

void Slot::write(const void *from, std::uint64_t bytes, std::uint64_t at) {
  require(bytes, at);
  const Child::Entry entry(*ring_);
  std::memcpy(ring_->host_ + offset_ + at, from, bytes);
}

void Slot::read(void *to, std::uint64_t bytes, std::uint64_t at) const {
  require(bytes, at);
  const Child::Entry entry(*ring_);
  std::memcpy(to, ring_->host_ + offset_ + at, bytes);
}

// Whoever copies on a second stream has no order between the two, so the first must be done.
void Slot::copied_by(Block &block) {
  ring_->require_same(block.tenant());
  const auto tenant = block.tenant().shared_from_this();
  if (last_ != nullptr && last_ != tenant) {
    try {
      last_->synchronize(nullptr);
    } catch (const Fault &fault) {
      if (fault.kind != FaultKind::Closed) { // a tenant that has left had ended its work
        throw;
      }
    }
  }
  last_ = tenant;
}

void Slot::upload(Block &block, std::uint64_t bytes, std::uint64_t block_offset) {
  require(bytes, 0);
  copied_by(block);
  const Child::Entry entry(*ring_);
  const Child::Gate gate(block.tenant());
  block.put(ring_->host_ + offset_, bytes, block_offset);
}

void Slot::download(Block &block, std::uint64_t bytes, std::uint64_t block_offset) {
  require(bytes, 0);
  copied_by(block);
  const Child::Entry entry(*ring_);
  const Child::Gate gate(block.tenant());
  block.get(ring_->host_ + offset_, bytes, block_offset);
}

void Slot::retire(CUstream stream) {
  if (is_retired_) {
    return;
  }
  ring_->retire(id_, last_.get(), stream);
  is_retired_ = true;
  last_.reset();
}

} // namespace edgeagent::gpu
