/* detect: which pixels burn. The daytime test of Schroeder et al. (2016), Remote Sensing of Environment 185, 210-220
 * (Landsat 8), on the matching bands of ETM+, with a SWIR2/SWIR1 test as in HOTMAP, Murphy et al. (2016), Remote
 * Sensing of Environment 177, 78-88 (which covers ETM+):
 *
 *   candidate   SWIR2 / NIR > 1.8  and  SWIR2 - NIR > 0.17
 *   confirmed   SWIR2 / NIR > mean + max(3 sigma, 0.8)  and  SWIR2 > mean + max(3 sigma, 0.08)
 *               over the 61 x 61 pixels around it that are land and no candidates
 *   hot         SWIR2 / SWIR1 >= 1.4  and  SWIR2 >= 0.15
 *
 * SWIR2 / NIR > 1.8 is the same as NBR < -0.286. Water is left out of the background: SWIR2 < 0.04 and NDVI < 0.2.
 * Output: one band, 0 where nothing burns, else the SWIR2 reflectance.
 */
#include "frame.h"

EDGE_ALLOCATOR

#define RADIUS 30
#define CANDIDATE_NBR (-0.8f / 2.8f)
#define BACKGROUND_MIN 25

/* Sums over all pixels above and left of (x, y); five of them make any window's statistics in constant time. */
struct sums {
  double ratio, ratio2, swir, swir2;
  double count;
};

static int is_candidate(float swir, float nir, float nbr) { return nbr > -1.5f && nbr < CANDIDATE_NBR && swir - nir > 0.17f; }

/* Also false for what no calibrated scene holds, such as a NaN, so that it cannot spoil the sums of a whole scene. */
static int is_background(float swir, float nbr, float ndvi) {
  return nbr > -1.5f && swir >= 0 && swir < 10 && !(swir < 0.04f && ndvi < 0.2f);
}

static double square_root(double x) { return x > 0 ? __builtin_sqrt(x) : 0; }

static struct sums *integrate(const struct frame *in) {
  uint32_t w = in->width + 1;
  struct sums *s = edge_take_array((size_t)w * (in->height + 1), sizeof *s);
  const float *nir = frame_f32(in, NIR), *swir = frame_f32(in, SWIR2);
  const float *nbr = frame_f32(in, NBR), *ndvi = frame_f32(in, NDVI);
  for (uint32_t y = 0; y < in->height; ++y) {
    struct sums row = {0, 0, 0, 0, 0};
    for (uint32_t x = 0; x < in->width; ++x) {
      size_t i = (size_t)y * in->width + x;
      if (is_background(swir[i], nbr[i], ndvi[i]) && !is_candidate(swir[i], nir[i], nbr[i])) {
        double ratio = swir[i] / (nir[i] > 0.01f ? nir[i] : 0.01f);
        row.ratio += ratio;
        row.ratio2 += ratio * ratio;
        row.swir += swir[i];
        row.swir2 += (double)swir[i] * swir[i];
        row.count += 1;
      }
      const struct sums *up = &s[(size_t)y * w + x + 1];
      struct sums *here = &s[(size_t)(y + 1) * w + x + 1];
      here->ratio = up->ratio + row.ratio;
      here->ratio2 = up->ratio2 + row.ratio2;
      here->swir = up->swir + row.swir;
      here->swir2 = up->swir2 + row.swir2;
      here->count = up->count + row.count;
    }
  }
  return s;
}

static struct sums window(const struct frame *in, const struct sums *s, uint32_t x, uint32_t y) {
  uint32_t w = in->width + 1;
  uint32_t left = x > RADIUS ? x - RADIUS : 0, top = y > RADIUS ? y - RADIUS : 0;
  uint32_t right = x + RADIUS + 1 < in->width ? x + RADIUS + 1 : in->width;
  uint32_t bottom = y + RADIUS + 1 < in->height ? y + RADIUS + 1 : in->height;
  const struct sums *a = &s[(size_t)top * w + left], *b = &s[(size_t)top * w + right];
  const struct sums *c = &s[(size_t)bottom * w + left], *d = &s[(size_t)bottom * w + right];
  struct sums out = {d->ratio - b->ratio - c->ratio + a->ratio, d->ratio2 - b->ratio2 - c->ratio2 + a->ratio2,
                     d->swir - b->swir - c->swir + a->swir, d->swir2 - b->swir2 - c->swir2 + a->swir2,
                     d->count - b->count - c->count + a->count};
  return out;
}

static int above(double value, double sum, double sum2, double count, double least) {
  double mean = sum / count;
  double margin = 3 * square_root(sum2 / count - mean * mean);
  return value > mean + (margin > least ? margin : least);
}

EDGE_HANDLER(input, length) {
  const struct frame *in = frame_read(input, length, FRAME_INDEX, INDEX_BANDS, DTYPE_F32);
  struct frame *out = frame_new(in, FRAME_FIRE, 1, DTYPE_F32);
  const struct sums *s = integrate(in);
  const float *nir = frame_f32(in, NIR), *swir1 = frame_f32(in, SWIR1), *swir = frame_f32(in, SWIR2);
  const float *nbr = frame_f32(in, NBR);
  float *fire = frame_f32(out, 0);
  for (uint32_t y = 0; y < in->height; ++y) {
    for (uint32_t x = 0; x < in->width; ++x) {
      size_t i = (size_t)y * in->width + x;
      if (!is_candidate(swir[i], nir[i], nbr[i]) || swir[i] < 0.15f || swir[i] < 1.4f * swir1[i]) {
        continue;
      }
      struct sums around = window(in, s, x, y);
      double ratio = swir[i] / (nir[i] > 0.01f ? nir[i] : 0.01f);
      if (around.count >= BACKGROUND_MIN && above(ratio, around.ratio, around.ratio2, around.count, 0.8) &&
          above(swir[i], around.swir, around.swir2, around.count, 0.08)) {
        fire[i] = swir[i];
      }
    }
  }
  return edge_reply(out, frame_bytes(out));
}
