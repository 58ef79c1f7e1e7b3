/* What the measured guests of edge_accel share: numbers from a seed, layers of small models, a reply of one sum. */
#ifndef ACCEL_WORK_H
#define ACCEL_WORK_H

#include "edge_accel.h"

static struct edge_work work;

static inline void accel_run(const char *kernel) {
  if (edge_accel_run(&work, kernel) < 0) {
    edge_fail(kernel);
  }
}

/* Floats in [-1, 1): xorshift32 (Marsaglia 2003), the same on every machine. */
static inline float *accel_numbers(uint32_t seed, size_t count) {
  float *made = (float *)edge_take_array(count, sizeof(float));
  uint32_t state = seed * 2654435761u | 1;
  for (size_t i = 0; i < count; ++i) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    made[i] = (float)(int32_t)state / 2147483648.0f;
  }
  return made;
}

static inline float *accel_floats(size_t count) { return (float *)edge_take_array(count, sizeof(float)); }

/* u32 from the input, or what is usual where it is shorter. */
static inline uint32_t accel_u32(const unsigned char *input, size_t length, uint32_t index, uint32_t usual) {
  return length < 4 * ((size_t)index + 1) ? usual : edge_accel_u32(input + 4 * (size_t)index);
}

/* One kernel of one input and one output. */
static inline void accel_map(const char *kernel, struct edge_operand from, struct edge_operand to, const char *text) {
  edge_begin(&work);
  edge_in(&work, from);
  edge_out(&work, to);
  edge_text(&work, text);
  accel_run(kernel);
}

static inline void accel_product(struct edge_operand a, struct edge_operand b, struct edge_operand to) {
  edge_begin(&work);
  edge_in(&work, a);
  edge_in(&work, b);
  edge_out(&work, to);
  accel_run("matmul");
}

#endif
