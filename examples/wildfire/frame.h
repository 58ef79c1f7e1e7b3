/* What travels between the steps: a header and planes of pixels. edgeagent/demo/frame.py is the other end.
 *
 * All little endian. Version 1: 160 bytes of header, then `bands` planes of width * height values of `dtype`.
 */
#ifndef WILDFIRE_FRAME_H
#define WILDFIRE_FRAME_H

#include "edge_hose.h"

#define FRAME_MAGIC 0x4d524645u /* "EFRM" */
#define FRAME_VERSION 1

enum frame_kind { FRAME_DN = 1, FRAME_REFLECTANCE = 2, FRAME_INDEX = 3, FRAME_FIRE = 4, FRAME_CLUSTERS = 5 };
enum frame_dtype { DTYPE_U8 = 0, DTYPE_F32 = 1 };
enum band { BLUE, GREEN, RED, NIR, SWIR1, SWIR2, BANDS, NBR = BANDS, NDVI, INDEX_BANDS };

struct frame {
  uint32_t magic;
  uint16_t version;
  uint16_t kind;
  uint32_t width;
  uint32_t height;
  uint32_t bands;
  uint32_t dtype;
  uint32_t count; /* clusters, in FRAME_CLUSTERS */
  uint32_t day_of_year;
  double sun_elevation_deg;
  double origin_x_m; /* outer corner of the first pixel, map coordinates */
  double origin_y_m;
  double pixel_m;
  /* Lambert conformal conic, two standard parallels (EPSG method 9802), degrees and metres */
  double latitude_0_deg;
  double longitude_0_deg;
  double parallel_1_deg;
  double parallel_2_deg;
  double easting_0_m;
  double northing_0_m;
  double semi_major_m;
  double inverse_flattening;
  double reserved[4];
};
_Static_assert(sizeof(struct frame) == 160, "the header is part of the format");

/* One cluster of burning pixels; coordinates are in pixels, of the centre of mass. */
struct cluster {
  double x;
  double y;
  uint32_t pixels;
  float swir2_max;
};
_Static_assert(sizeof(struct cluster) == 24, "part of the format");

#define FRAME_SIDE_MAX 20000u

static inline size_t frame_pixels(const struct frame *f) { return (size_t)f->width * f->height; }
static inline size_t frame_value_bytes(const struct frame *f) { return f->dtype == DTYPE_F32 ? 4 : 1; }

/* The frame in the input, checked: what a step does not expect ends it with a clear line in the log. */
static inline const struct frame *frame_read(const uint8_t *input, size_t length, enum frame_kind kind,
                                             uint32_t bands, enum frame_dtype dtype) {
  const struct frame *f = (const struct frame *)input;
  if (length < sizeof *f || f->magic != FRAME_MAGIC) {
    edge_fail("the input is not a frame");
  }
  if (f->version != FRAME_VERSION) {
    edge_fail("unknown frame version");
  }
  if (f->kind != kind || f->bands != bands || f->dtype != dtype) {
    edge_fail("this step expects another kind of frame");
  }
  if (f->width == 0 || f->height == 0 || f->width > FRAME_SIDE_MAX || f->height > FRAME_SIDE_MAX) {
    edge_fail("bad frame size");
  }
  if ((uint64_t)frame_pixels(f) * bands * frame_value_bytes(f) != (uint64_t)length - sizeof *f) {
    edge_fail("the frame is cut off or too long");
  }
  return f;
}

static inline size_t frame_bytes(const struct frame *f) {
  return sizeof *f + frame_pixels(f) * f->bands * frame_value_bytes(f);
}

/* A new frame with the georeference of `from`. */
static inline struct frame *frame_new(const struct frame *from, enum frame_kind kind, uint32_t bands,
                                      enum frame_dtype dtype) {
  uint64_t bytes = (uint64_t)from->width * from->height * bands * (dtype == DTYPE_F32 ? 4 : 1) + sizeof *from;
  if (bytes > 0xffffffffu) {
    edge_fail("the frame does not fit the memory");
  }
  struct frame *f = edge_hose_loan((size_t)bytes); /* the next step gets these pages */
  *f = *from;
  f->kind = (uint16_t)kind;
  f->bands = bands;
  f->dtype = dtype;
  return f;
}

static inline const uint8_t *frame_u8(const struct frame *f, uint32_t band) {
  return (const uint8_t *)(f + 1) + (size_t)band * frame_pixels(f);
}
static inline float *frame_f32(const struct frame *f, uint32_t band) {
  return (float *)(f + 1) + (size_t)band * frame_pixels(f);
}

#endif
