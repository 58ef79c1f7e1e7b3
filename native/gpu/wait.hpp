// Waiting for the device with a deadline: the driver's own waits have none.
#pragma once

#include <algorithm>
#include <chrono>
#include <thread>

namespace edgeagent::gpu {

// Spins a little, then sleeps a little, until `done` or the time is over; what `done` throws comes through.
template <typename Done> bool wait_until(Done done, std::chrono::duration<double> patience) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kSpin = std::chrono::microseconds(200); // most kernels that are worth a wait end in it
  constexpr auto kLongest = std::chrono::microseconds(1000);
  const auto start = Clock::now();
  auto pause = std::chrono::microseconds(20);
  while (!done()) {
    const auto waited = Clock::now() - start;
    if (waited >= patience) {
      return false;
    }
    if (waited > kSpin) {
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 2, std::chrono::microseconds(kLongest));
    }
  }
  return true;
}

} // namespace edgeagent::gpu
