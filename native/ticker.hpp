// The epoch ticker: one thread that increments every engine's epoch each millisecond while guests run, and sleeps
// (no timer, no CPU) when none has run for a while.
//
// A tick is not a clock: under load it comes milliseconds late. It only makes running guests call back into
// on_epoch (call.cpp), which reads the real clock.
#pragma once

#include "wasmtime_api.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>

namespace edgeagent {

class Ticker {
public:
  Ticker() = default;
  Ticker(const Ticker &) = delete;
  Ticker &operator=(const Ticker &) = delete;
  ~Ticker() { stop(); }

  void start();
  void stop(); // joins; idempotent
  bool add_engine(wasm_engine_t *engine); // false when the table is full
  // Makes every store at its deadline call back now, whatever the timer does.
  void tick();

  void arm() {
    running_.fetch_add(1, std::memory_order_seq_cst);
    if (state_.load(std::memory_order_seq_cst) == kAsleep) {
      wake();
    }
  }
  void disarm() { running_.fetch_sub(1, std::memory_order_release); }

private:
  static constexpr std::uint32_t kAwake = 0;
  static constexpr std::uint32_t kAsleep = 1;
  static constexpr int kIdleTicksBeforeSleep = 20;
  static constexpr std::size_t kEnginesMax = 32;

  void run();
  void wake();

  std::array<std::atomic<wasm_engine_t *>, kEnginesMax> engines_{};
  std::atomic<std::size_t> engine_count_{0};
  std::atomic<int> running_{0};
  std::atomic<std::uint32_t> state_{kAwake};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

// Counts one guest as running for as long as it lives.
class Armed {
public:
  explicit Armed(Ticker &ticker) : ticker_(ticker) { ticker_.arm(); }
  Armed(const Armed &) = delete;
  Armed &operator=(const Armed &) = delete;
  ~Armed() { ticker_.disarm(); }

private:
  Ticker &ticker_;
};

} // namespace edgeagent
