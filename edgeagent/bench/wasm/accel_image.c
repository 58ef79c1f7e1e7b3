/* Input: how many pictures and a seed (u32 each). Classifies pictures of 3 x 96 x 96 with a small network of three
 * convolutions, each followed by ReLU and a halving, and one dense layer of 10 classes; its weights come from a seed of
 * their own. Returns the class of each picture as I64. */
#include "accel_work.h"

EDGE_ALLOCATOR

enum { EDGE_CLASSES = 10, EDGE_PIXELS = 96, EDGE_LAYERS = 3 };

EDGE_HANDLER(input, length) {
  const uint32_t pictures = accel_u32(input, length, 0, 1), seed = accel_u32(input, length, 1, 1);
  if (pictures == 0 || pictures > 256) {
    edge_fail("there are not 1 to 256 pictures");
  }
  static const uint32_t kChannels[EDGE_LAYERS + 1] = {3, 32, 64, 64};
  uint32_t side = EDGE_PIXELS;
  float *values = accel_numbers(seed, (size_t)pictures * 3 * side * side);
  struct edge_operand layer = edge_array4(EDGE_F32, values, pictures, 3, side, side);
  for (uint32_t i = 0; i < EDGE_LAYERS; ++i) {
    const uint32_t from = kChannels[i], to = kChannels[i + 1];
    const float *weights = accel_numbers(1000 + i, (size_t)to * from * 9);
    const struct edge_operand made =
        edge_array4(EDGE_F32, accel_floats((size_t)pictures * to * side * side), pictures, to, side, side);
    edge_begin(&work);
    edge_in(&work, layer);
    edge_in(&work, edge_array4(EDGE_F32, weights, to, from, 3, 3));
    edge_out(&work, made);
    edge_number(&work, 1);
    edge_number(&work, 1);
    edge_number(&work, 1);
    edge_number(&work, 1);
    accel_run("conv2d");
    accel_map("elementwise", made, made, "max(a, 0) / 16");
    side /= 2;
    layer = edge_array4(EDGE_F32, accel_floats((size_t)pictures * to * side * side), pictures, to, side, side);
    accel_map("resize", made, layer, "");
  }
  const uint64_t features = (uint64_t)kChannels[EDGE_LAYERS] * side * side;
  const struct edge_operand flat = edge_array2(EDGE_F32, (void *)(uintptr_t)layer.offset, pictures, features);
  const struct edge_operand dense = edge_array2(EDGE_F32, accel_numbers(2000, features * EDGE_CLASSES), features, EDGE_CLASSES);
  const struct edge_operand scores =
      edge_array2(EDGE_F32, accel_floats((size_t)pictures * EDGE_CLASSES), pictures, EDGE_CLASSES);
  int64_t *classes = (int64_t *)edge_take_array(pictures, sizeof(int64_t));
  accel_product(flat, dense, scores);
  edge_begin(&work);
  edge_in(&work, scores);
  edge_out(&work, edge_array1(EDGE_I64, classes, pictures));
  edge_number(&work, 2); /* the last index */
  accel_run("argmax");
  return edge_reply(classes, pictures * sizeof(int64_t));
}
