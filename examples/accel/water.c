/* How much water there is in a picture, and in how many pieces: two bands of it, green and near infrared, go in, a line
 * goes out. Input: u32 width, u32 height, then the bands as u16, row by row. All the work is the node's: its kernels, on
 * whatever it has. */
#include "edge_accel.h"

EDGE_ALLOCATOR

static struct edge_work work;

static void run(const char *kernel) {
  if (edge_accel_run(&work, kernel) < 0) {
    edge_fail(kernel);
  }
}

static char *decimal(uint64_t value, char *to) {
  char text[20];
  size_t at = sizeof text;
  do {
    text[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value > 0);
  return (char *)edge_accel_append((unsigned char *)to, text + at, sizeof text - at);
}

EDGE_HANDLER(input, length) {
  const uint64_t width = length < 8 ? 0 : edge_accel_u32(input), height = length < 8 ? 0 : edge_accel_u32(input + 4);
  const uint64_t pixels = width > 65536 || height > 65536 ? 0 : width * height;
  if (pixels == 0 || length != 8 + 4 * pixels) {
    edge_fail("the input is no picture of two bands");
  }
  const struct edge_operand green = edge_array2(EDGE_U16, input + 8, height, width);
  const struct edge_operand infrared = edge_array2(EDGE_U16, input + 8 + 2 * pixels, height, width);
  const struct edge_operand index = edge_array2(EDGE_F32, edge_take_array(pixels, 4), height, width);
  const struct edge_operand water = edge_array2(EDGE_U8, edge_take(pixels), height, width);
  const struct edge_operand labels = edge_array2(EDGE_I32, edge_take_array(pixels, 4), height, width);
  uint64_t *area = (uint64_t *)edge_take(8);
  int64_t *pieces = (int64_t *)edge_take(8);

  edge_begin(&work);
  edge_in(&work, green);
  edge_in(&work, infrared);
  edge_out(&work, index);
  run("normalized_difference");

  edge_begin(&work);
  edge_in(&work, index);
  edge_out(&work, water);
  edge_number(&work, 0.25);
  run("threshold");

  edge_begin(&work);
  edge_in(&work, water);
  edge_out(&work, edge_scalar(EDGE_U64, area));
  run("sum");

  edge_begin(&work);
  edge_in(&work, water);
  edge_out(&work, labels);
  edge_out(&work, edge_scalar(EDGE_I64, pieces));
  edge_number(&work, 8);
  run("connected_components");

  char *line = (char *)edge_take(64), *end = decimal(*area, line);
  end = (char *)edge_accel_append((unsigned char *)end, " pixels of water in ", 20);
  end = decimal((uint64_t)*pieces, end);
  end = (char *)edge_accel_append((unsigned char *)end, " pieces\n", 8);
  return edge_reply(line, (size_t)(end - line));
}
