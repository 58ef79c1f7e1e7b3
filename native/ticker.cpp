#include "ticker.hpp"

#include "clock.hpp"

#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace edgeagent {

namespace {

void futex(std::atomic<std::uint32_t> &word, int operation, std::uint32_t value) {
  static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));
  syscall(SYS_futex, reinterpret_cast<std::uint32_t *>(&word), operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr,
          0);
}

void sleep_until(std::int64_t at_ns) {
  timespec ts{};
  ts.tv_sec = static_cast<time_t>(at_ns / 1'000'000'000);
  ts.tv_nsec = static_cast<long>(at_ns % 1'000'000'000);
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, nullptr);
}

} // namespace

void Ticker::start() {
  if (!thread_.joinable()) {
    stopping_.store(false);
    thread_ = std::thread([this] { run(); });
  }
}

void Ticker::stop() {
  if (thread_.joinable()) {
    stopping_.store(true, std::memory_order_seq_cst);
    wake();
    thread_.join();
  }
}

bool Ticker::add_engine(wasm_engine_t *engine) {
  const std::size_t at = engine_count_.load(std::memory_order_relaxed);
  if (at == kEnginesMax) {
    return false;
  }
  engines_[at].store(engine, std::memory_order_relaxed);
  engine_count_.store(at + 1, std::memory_order_release);
  return true;
}

void Ticker::tick() {
  const std::size_t count = engine_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    wt.wasmtime_engine_increment_epoch(engines_[i].load(std::memory_order_relaxed));
  }
}

void Ticker::wake() {
  state_.store(kAwake, std::memory_order_seq_cst);
  futex(state_, FUTEX_WAKE, INT_MAX);
}

void Ticker::run() {
  prctl(PR_SET_NAME, "edge-ticker");
  prctl(PR_SET_TIMERSLACK, 1);
  int idle_ticks = 0;
  std::int64_t next = now_ns() + kNsPerMs;
  while (!stopping_.load(std::memory_order_seq_cst)) {
    if (running_.load(std::memory_order_seq_cst) > 0) {
      idle_ticks = 0;
    } else if (++idle_ticks > kIdleTicksBeforeSleep) {
      state_.store(kAsleep, std::memory_order_seq_cst);
      // arm() increments first and looks at state_ second, we do it the other way round: one of us sees the other.
      if (running_.load(std::memory_order_seq_cst) == 0 && !stopping_.load(std::memory_order_seq_cst)) {
        futex(state_, FUTEX_WAIT, kAsleep);
      }
      state_.store(kAwake, std::memory_order_seq_cst);
      idle_ticks = 0;
      next = now_ns();
    }
    next += kNsPerMs;
    const std::int64_t now = now_ns();
    if (next < now) {
      next = now + kNsPerMs; // late: skip the missed ticks instead of bunching them
    }
    sleep_until(next);
    tick();
  }
}

} // namespace edgeagent
