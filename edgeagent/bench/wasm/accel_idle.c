/* Input: how many milliseconds (u32). Looks at the least of 16 numbers with a kernel, then waits: a function that no
 * device makes faster. Returns how many milliseconds it was told to wait as U32. */
#include "accel_work.h"

EDGE_ALLOCATOR

/* A subscription of WASI preview 1 to a clock: the monotonic one, from now on. */
struct edge_clock {
  uint64_t userdata;
  uint64_t tag; /* 0 */
  uint64_t clock;
  uint64_t timeout_ns;
  uint64_t precision_ns;
  uint64_t flags; /* 0: relative */
};

EDGE_IMPORT("wasi_snapshot_preview1", "poll_oneoff")
int32_t edge_wasi_poll(const struct edge_clock *asked, void *events, int32_t count, uint32_t *happened);

EDGE_HANDLER(input, length) {
  const uint32_t wait_ms = accel_u32(input, length, 0, 50);
  const struct edge_clock asked = {.clock = 1, .timeout_ns = (uint64_t)wait_ms * 1000000};
  float *least = accel_floats(1);
  accel_map("min", edge_array1(EDGE_F32, accel_numbers(1, 16), 16), edge_scalar(EDGE_F32, least), "");
  uint32_t *happened = (uint32_t *)edge_take(4), *waited = (uint32_t *)edge_take(4);
  if (edge_wasi_poll(&asked, edge_take(32), 1, happened) != 0) {
    edge_fail("there is no clock to wait for");
  }
  *waited = wait_ms;
  return edge_reply(waited, 4);
}
