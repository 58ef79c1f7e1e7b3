// Arguments, environment, clocks, randomness, exit, and the sockets that guests do not have.
#include "wasi.hpp"

#include <sys/random.h>

#include <cerrno>
#include <ctime>

namespace edgeagent {

namespace {

// Guests get no clock finer than this: it blunts timing attacks on neighbours.
constexpr std::uint64_t kClockGrainNs = 1'000'000;

Errno sizes(WasiCall &c, const std::vector<std::string> &items) {
  std::uint64_t bytes = 0;
  for (const std::string &item : items) {
    bytes += item.size() + 1;
  }
  const bool stored = c.memory.store(c.u32(0), static_cast<std::uint32_t>(items.size())) &&
                      c.memory.store(c.u32(1), static_cast<std::uint32_t>(bytes));
  return stored ? Errno::Success : Errno::Fault;
}

Errno copy_all(WasiCall &c, const std::vector<std::string> &items) {
  std::uint64_t pointers = c.u32(0);
  std::uint64_t text = c.u32(1);
  for (const std::string &item : items) {
    std::uint8_t *to = c.memory.at(text, item.size() + 1);
    if (to == nullptr || !c.memory.store(pointers, static_cast<std::uint32_t>(text))) {
      return Errno::Fault;
    }
    std::memcpy(to, item.c_str(), item.size() + 1);
    text += item.size() + 1;
    pointers += 4;
  }
  return Errno::Success;
}

Errno args_sizes_get(WasiCall &c) { return sizes(c, c.wasi.argv()); }
Errno args_get(WasiCall &c) { return copy_all(c, c.wasi.argv()); }
Errno environ_sizes_get(WasiCall &c) { return sizes(c, c.wasi.env()); }
Errno environ_get(WasiCall &c) { return copy_all(c, c.wasi.env()); }

bool host_clock(std::uint32_t id, clockid_t &out) {
  switch (id) {
  case 0:
    out = CLOCK_REALTIME;
    return true;
  case 1:
    out = CLOCK_MONOTONIC;
    return true;
  case 2:
  case 3: // process and thread CPU time: one guest, one thread; the monotonic clock serves
    out = CLOCK_MONOTONIC;
    return true;
  default:
    return false;
  }
}

Errno clock_res_get(WasiCall &c) {
  clockid_t id{};
  if (!host_clock(c.u32(0), id)) {
    return Errno::Inval;
  }
  return c.memory.store(c.u32(1), kClockGrainNs) ? Errno::Success : Errno::Fault;
}

Errno clock_time_get(WasiCall &c) {
  clockid_t id{};
  if (!host_clock(c.u32(0), id)) {
    return Errno::Inval;
  }
  timespec now{};
  clock_gettime(id, &now);
  const std::uint64_t ns =
      static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
  return c.memory.store(c.u32(2), ns - ns % kClockGrainNs) ? Errno::Success : Errno::Fault;
}

Errno random_get(WasiCall &c) {
  const std::uint32_t count = c.u32(1);
  std::uint8_t *to = c.memory.at(c.u32(0), count);
  if (to == nullptr) {
    return Errno::Fault;
  }
  constexpr std::size_t kPiece = 1 << 20; // keeps the deadline near for a guest that asks for gigabytes
  for (std::size_t done = 0; done < count;) {
    const std::size_t piece = count - done < kPiece ? count - done : kPiece;
    const ssize_t got = getrandom(to + done, piece, 0);
    if (got < 0 && errno != EINTR) {
      return from_host(errno);
    }
    done += got > 0 ? static_cast<std::size_t>(got) : 0;
    if (count > kPiece && c.wasi.call().must_stop()) {
      c.end_guest = true;
      return Errno::Io;
    }
  }
  return Errno::Success;
}

Errno proc_exit(WasiCall &c) {
  c.wasi.exit(c.u32(0));
  c.end_guest = true;
  return Errno::Success;
}

Errno proc_raise(WasiCall &c) {
  c.wasi.call().fail_from_host(Failure::Trap, "the guest raised signal " + std::to_string(c.u32(0)));
  c.end_guest = true;
  return Errno::Success;
}

Errno sched_yield(WasiCall &) { return Errno::Success; }

Errno no_sockets(WasiCall &) { return Errno::Notsup; }

} // namespace

const WasiEntry kWasiProcess[] = {
    {"args_get", "ii", args_get},
    {"args_sizes_get", "ii", args_sizes_get},
    {"environ_get", "ii", environ_get},
    {"environ_sizes_get", "ii", environ_sizes_get},
    {"clock_res_get", "ii", clock_res_get},
    {"clock_time_get", "iIi", clock_time_get},
    {"random_get", "ii", random_get},
    {"proc_exit", "i", proc_exit},
    {"proc_raise", "i", proc_raise},
    {"sched_yield", "", sched_yield},
    {nullptr, nullptr, nullptr},
};

const WasiEntry kWasiSockets[] = {
    {"sock_accept", "iii", no_sockets},
    {"sock_recv", "iiiiii", no_sockets},
    {"sock_send", "iiiii", no_sockets},
    {"sock_shutdown", "ii", no_sockets},
    {nullptr, nullptr, nullptr},
};

} // namespace edgeagent
