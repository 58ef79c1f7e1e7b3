// poll_oneoff: sleeps that end at the call's deadline or cancellation, and descriptors that are always ready.
#include "wasi.hpp"

#include <algorithm>
#include <ctime>

namespace edgeagent {

namespace {

constexpr std::uint32_t kSubscriptionsMax = 4096;
constexpr std::uint64_t kSubscriptionBytes = 48;
constexpr std::uint64_t kEventBytes = 32;
constexpr std::uint8_t kClock = 0;
constexpr std::uint8_t kFdRead = 1;
constexpr std::uint8_t kFdWrite = 2;
constexpr std::uint16_t kAbsolute = 1;
constexpr std::int64_t kForeverNs = INT64_MAX / 4;

struct Subscription {
  std::uint64_t userdata = 0;
  std::uint8_t tag = 0;
  std::uint32_t id = 0; // clock or descriptor
  std::uint64_t timeout = 0;
  std::uint16_t flags = 0;
};

bool load(const GuestMemory &memory, std::uint64_t at, Subscription &out) {
  return memory.at(at, kSubscriptionBytes) != nullptr && memory.load(at, out.userdata) && memory.load(at + 8, out.tag) &&
         memory.load(at + 16, out.id) && memory.load(at + 24, out.timeout) && memory.load(at + 40, out.flags);
}

// When a clock subscription fires, on the engine's monotonic clock.
Errno due_ns(const Subscription &s, std::int64_t now, std::int64_t &due) {
  if (s.id > 1) {
    return Errno::Notsup;
  }
  std::int64_t timeout = static_cast<std::int64_t>(std::min<std::uint64_t>(s.timeout, kForeverNs));
  if ((s.flags & kAbsolute) != 0) {
    timespec clock{};
    clock_gettime(s.id == 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC, &clock);
    timeout -= static_cast<std::int64_t>(clock.tv_sec) * 1'000'000'000 + clock.tv_nsec;
  }
  due = now + std::max<std::int64_t>(timeout, 0);
  return Errno::Success;
}

struct Events {
  const GuestMemory &memory;
  std::uint64_t out;
  std::uint32_t count = 0;

  bool add(const Subscription &s, Errno error, std::uint64_t bytes) {
    const std::uint64_t at = out + count * kEventBytes;
    std::uint8_t *to = memory.at(at, kEventBytes);
    if (to == nullptr) {
      return false;
    }
    std::memset(to, 0, kEventBytes);
    ++count;
    return memory.store(at, s.userdata) && memory.store(at + 8, static_cast<std::uint16_t>(error)) &&
           memory.store(at + 10, s.tag) && memory.store(at + 16, bytes);
  }
};

Errno poll_oneoff(WasiCall &c) {
  const std::uint64_t in = c.u32(0);
  const std::uint32_t n = c.u32(2);
  if (n == 0 || n > kSubscriptionsMax) {
    return Errno::Inval;
  }
  // Both arrays have one entry for each subscription.
  if (c.memory.at(in, std::uint64_t{n} * kSubscriptionBytes) == nullptr ||
      c.memory.at(c.u32(1), std::uint64_t{n} * kEventBytes) == nullptr) {
    return Errno::Fault;
  }
  Events events{c.memory, c.u32(1)};
  const std::int64_t now = now_ns();
  std::int64_t earliest = INT64_MAX;
  std::vector<std::pair<std::int64_t, Subscription>> timers;
  for (std::uint32_t i = 0; i < n; ++i) {
    Subscription s;
    if (!load(c.memory, in + i * kSubscriptionBytes, s)) {
      return Errno::Fault;
    }
    bool added = true;
    if (s.tag == kClock) {
      std::int64_t due = 0;
      if (Errno error = due_ns(s, now, due); error != Errno::Success) {
        added = events.add(s, error, 0);
      } else {
        timers.emplace_back(due, s);
        earliest = std::min(earliest, due);
      }
    } else if (s.tag == kFdRead || s.tag == kFdWrite) {
      const Descriptor *d = c.wasi.files().get(s.id);
      const std::uint64_t ready = d != nullptr && d->kind == Kind::Stdin ? c.wasi.stdin_left() : 1;
      added = events.add(s, d == nullptr ? Errno::Badf : Errno::Success, ready);
    } else {
      return Errno::Inval;
    }
    if (!added) {
      return Errno::Fault;
    }
  }
  if (events.count == 0 && !timers.empty() && !c.wasi.call().sleep_until(earliest)) {
    c.end_guest = true; // must_stop() has said why
    return Errno::Io;
  }
  const std::int64_t after = now_ns();
  for (const auto &[due, subscription] : timers) {
    if (due <= after && !events.add(subscription, Errno::Success, 0)) {
      return Errno::Fault;
    }
  }
  return c.memory.store(c.u32(3), events.count) ? Errno::Success : Errno::Fault;
}

} // namespace

const WasiEntry kWasiPoll[] = {
    {"poll_oneoff", "iiii", poll_oneoff},
    {nullptr, nullptr, nullptr},
};

} // namespace edgeagent
