/* index: adds the normalized burn ratio NBR = (NIR - SWIR2) / (NIR + SWIR2) and the vegetation index
 * NDVI = (NIR - RED) / (NIR + RED) as two more bands. Pixels without data get -2, outside the range of both. */
#include "frame.h"

EDGE_ALLOCATOR

static float ratio(float a, float b) { return a + b > 1e-6f ? (a - b) / (a + b) : 0.0f; }

EDGE_HANDLER(input, length) {
  const struct frame *in = frame_read(input, length, FRAME_REFLECTANCE, BANDS, DTYPE_F32);
  struct frame *out = frame_new(in, FRAME_INDEX, INDEX_BANDS, DTYPE_F32);
  size_t n = frame_pixels(in);
  __builtin_memcpy(out + 1, in + 1, n * BANDS * sizeof(float));
  const float *red = frame_f32(in, RED), *nir = frame_f32(in, NIR), *swir = frame_f32(in, SWIR2);
  float *nbr = frame_f32(out, NBR), *ndvi = frame_f32(out, NDVI);
  for (size_t i = 0; i < n; ++i) {
    int has_data = red[i] > -0.5f && nir[i] > -0.5f && swir[i] > -0.5f;
    nbr[i] = has_data ? ratio(nir[i], swir[i]) : -2.0f;
    ndvi[i] = has_data ? ratio(nir[i], red[i]) : -2.0f;
  }
  return edge_reply(out, frame_bytes(out));
}
