/* Input: how many sentences and a seed (u32 each). Judges sentences of 32 words: vectors of 128 numbers, one layer of
 * attention, a mean, and a dense layer of two classes; its weights come from a seed of their own. Returns the chance of
 * each sentence to be friendly as F32. */
#include "accel_work.h"

EDGE_ALLOCATOR

enum { EDGE_WORDS = 32, EDGE_WIDTH = 128 };

static struct edge_operand made3(uint32_t a, uint32_t b, uint32_t c) {
  return edge_array3(EDGE_F32, accel_floats((size_t)a * b * c), a, b, c);
}

static struct edge_operand batched(struct edge_operand a, struct edge_operand b, struct edge_operand to) {
  edge_begin(&work);
  edge_in(&work, a);
  edge_in(&work, b);
  edge_out(&work, to);
  accel_run("batched_matmul");
  return to;
}

static struct edge_operand projected(struct edge_operand words, uint32_t seed, uint32_t count) {
  const struct edge_operand weights =
      edge_array3(EDGE_F32, accel_numbers(seed, (size_t)EDGE_WIDTH * EDGE_WIDTH), 1, EDGE_WIDTH, EDGE_WIDTH);
  return batched(words, weights, made3(count, EDGE_WORDS, EDGE_WIDTH));
}

EDGE_HANDLER(input, length) {
  const uint32_t count = accel_u32(input, length, 0, 1), seed = accel_u32(input, length, 1, 1);
  if (count == 0 || count > 1024) {
    edge_fail("there are not 1 to 1024 sentences");
  }
  float *values = accel_numbers(seed, (size_t)count * EDGE_WORDS * EDGE_WIDTH);
  const struct edge_operand words = edge_array3(EDGE_F32, values, count, EDGE_WORDS, EDGE_WIDTH);
  const struct edge_operand query = projected(words, 3000, count), key = projected(words, 3001, count);
  const struct edge_operand value = projected(words, 3002, count);
  const struct edge_operand weight = batched(query, edge_transposed(key, 1, 2), made3(count, EDGE_WORDS, EDGE_WORDS));
  accel_map("elementwise", weight, weight, "a / 128");
  accel_map("softmax", weight, weight, "");
  const struct edge_operand seen = batched(weight, value, made3(count, EDGE_WORDS, EDGE_WIDTH));
  const struct edge_operand mean = edge_array2(EDGE_F32, accel_floats((size_t)count * EDGE_WIDTH), count, EDGE_WIDTH);
  edge_begin(&work);
  edge_in(&work, seen);
  edge_out(&work, mean);
  edge_number(&work, 2); /* the words */
  accel_run("mean");
  const struct edge_operand classes = edge_array2(EDGE_F32, accel_floats((size_t)count * 2), count, 2);
  accel_product(mean, edge_array2(EDGE_F32, accel_numbers(3003, EDGE_WIDTH * 2), EDGE_WIDTH, 2), classes);
  accel_map("softmax", classes, classes, "");
  float *friendly = accel_floats(count);
  for (uint32_t i = 0; i < count; ++i) {
    friendly[i] = ((const float *)(uintptr_t)classes.offset)[2 * (size_t)i];
  }
  return edge_reply(friendly, count * sizeof(float));
}
