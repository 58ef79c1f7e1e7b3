/* Input: n and a seed (u32 each). The product of two n x n matrices of F32; returns its sum of absolute values as F32. */
#include "accel_work.h"

EDGE_ALLOCATOR

EDGE_HANDLER(input, length) {
  const uint32_t n = accel_u32(input, length, 0, 256), seed = accel_u32(input, length, 1, 1);
  if (n == 0 || n > 8192) {
    edge_fail("n is not from 1 to 8192");
  }
  const size_t count = (size_t)n * n;
  const struct edge_operand a = edge_array2(EDGE_F32, accel_numbers(seed, count), n, n);
  const struct edge_operand b = edge_array2(EDGE_F32, accel_numbers(seed + 1, count), n, n);
  const struct edge_operand product = edge_array2(EDGE_F32, accel_floats(count), n, n);
  float *sum = accel_floats(1);
  accel_product(a, b, product);
  accel_map("elementwise", product, product, "abs(a)");
  accel_map("sum", product, edge_scalar(EDGE_F32, sum), "");
  return edge_reply(sum, sizeof *sum);
}
