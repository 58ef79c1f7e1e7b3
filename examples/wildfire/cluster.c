/* cluster: burning pixels that touch (also at corners) are one fire. Output: its centre of mass weighted by SWIR2,
 * its size and its hottest pixel, in the order in which a scan meets them. */
#include "frame.h"

EDGE_ALLOCATOR

#define CLUSTERS_MAX 100000u

EDGE_HANDLER(input, length) {
  const struct frame *in = frame_read(input, length, FRAME_FIRE, 1, DTYPE_F32);
  size_t n = frame_pixels(in);
  float *fire = frame_f32(in, 0); /* visited pixels are cleared: the input is ours */
  size_t burning = 0;
  for (size_t i = 0; i < n; ++i) {
    burning += fire[i] > 0;
  }
  uint32_t *stack = edge_take_array(burning, sizeof *stack);
  struct frame *out = edge_take(sizeof *out + (burning < CLUSTERS_MAX ? burning : CLUSTERS_MAX) * sizeof(struct cluster));
  *out = *in;
  out->kind = FRAME_CLUSTERS;
  out->count = 0;
  struct cluster *found = (struct cluster *)(out + 1);
  for (size_t start = 0; start < n; ++start) {
    if (!(fire[start] > 0)) {
      continue;
    }
    if (out->count == CLUSTERS_MAX) {
      edge_fail("too many fires");
    }
    double weight = 0, sum_x = 0, sum_y = 0;
    struct cluster c = {0, 0, 0, 0};
    size_t depth = 0;
    float heat = fire[start];
    fire[start] = -heat; /* negative: on the stack */
    stack[depth++] = (uint32_t)start;
    while (depth > 0) {
      uint32_t at = stack[--depth];
      uint32_t x = at % in->width, y = at / in->width;
      heat = -fire[at];
      fire[at] = 0;
      weight += heat;
      sum_x += heat * (x + 0.5);
      sum_y += heat * (y + 0.5);
      c.pixels += 1;
      c.swir2_max = heat > c.swir2_max ? heat : c.swir2_max;
      for (int dy = -1; dy <= 1; ++dy) {
        for (int dx = -1; dx <= 1; ++dx) {
          uint32_t nx = x + (uint32_t)dx, ny = y + (uint32_t)dy; /* wraps to a huge number at the edges */
          if (nx < in->width && ny < in->height && fire[(size_t)ny * in->width + nx] > 0) {
            fire[(size_t)ny * in->width + nx] *= -1;
            stack[depth++] = ny * in->width + nx;
          }
        }
      }
    }
    c.x = sum_x / weight;
    c.y = sum_y / weight;
    found[out->count++] = c;
  }
  return edge_reply(out, sizeof *out + out->count * sizeof(struct cluster));
}
