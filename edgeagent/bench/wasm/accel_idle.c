/* Input: how many turns (u32). Looks at the least of 16 numbers with a kernel, then counts: a function that a GPU only
 * hinders. Returns what it counted to as U32. */
#include "accel_work.h"

EDGE_ALLOCATOR

EDGE_HANDLER(input, length) {
  const uint32_t turns = accel_u32(input, length, 0, 1000000);
  float *least = accel_floats(1);
  accel_map("min", edge_array1(EDGE_F32, accel_numbers(1, 16), 16), edge_scalar(EDGE_F32, least), "");
  uint32_t *counted = (uint32_t *)edge_take(4);
  volatile uint32_t turn = 0;
  while (turn < turns) {
    turn = turn + 1;
  }
  *counted = turn;
  return edge_reply(counted, 4);
}
