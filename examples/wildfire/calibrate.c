/* calibrate: digital numbers of Landsat 7 ETM+ to top-of-atmosphere reflectance.
 *
 * Chander, Markham, Helder (2009), Remote Sensing of Environment 113, 893-903: radiance from the LMIN and LMAX of each
 * band's gain and the solar irradiance ESUN (table 4, products with QCALMIN = 1),
 * reflectance = pi * L * d^2 / (ESUN * sin(sun elevation)).
 * Gains are those of the usual land setting: high for all bands but the near infrared, which is low. 0 is "no data" and becomes -1.
 */
#include "frame.h"

EDGE_ALLOCATOR

struct band_constants {
  double lmin, lmax, esun; /* W/(m2 sr um), W/(m2 sr um), W/(m2 um) */
};
static const struct band_constants constants[BANDS] = {
    {-6.2, 191.6, 1997.0}, {-6.4, 196.5, 1812.0}, {-5.0, 152.9, 1533.0},
    {-5.1, 241.1, 1039.0}, {-1.0, 31.06, 230.8},  {-0.35, 10.80, 84.90},
};
#define PI 3.14159265358979323846

static double sine(double x) { /* |x| <= pi/2: Taylor to x^15, error below 1e-11 */
  double term = x, sum = x;
  for (int k = 1; k <= 7; ++k) {
    term *= -x * x / ((2 * k) * (2 * k + 1));
    sum += term;
  }
  return sum;
}

/* Earth-Sun distance in astronomical units, d = 1 - 0.01672 cos(0.9856 deg (day - 4)). */
static double distance_au(uint32_t day_of_year) {
  double angle = 0.9856 * PI / 180.0 * ((double)day_of_year - 4.0) + PI / 2; /* cos x = sin(x + pi/2) */
  while (angle > PI) {
    angle -= 2 * PI;
  }
  if (angle > PI / 2) {
    angle = PI - angle;
  } else if (angle < -PI / 2) {
    angle = -PI - angle;
  }
  return 1.0 - 0.01672 * sine(angle);
}

EDGE_HANDLER(input, length) {
  const struct frame *in = frame_read(input, length, FRAME_DN, BANDS, DTYPE_U8);
  if (!(in->sun_elevation_deg > 5.0 && in->sun_elevation_deg <= 90.0) || in->day_of_year < 1 || in->day_of_year > 366) {
    edge_fail("bad sun elevation or day of year");
  }
  struct frame *out = frame_new(in, FRAME_REFLECTANCE, BANDS, DTYPE_F32);
  double d = distance_au(in->day_of_year);
  double sun = sine(in->sun_elevation_deg * PI / 180.0);
  for (uint32_t b = 0; b < BANDS; ++b) {
    float table[256];
    const struct band_constants *c = &constants[b];
    for (int dn = 0; dn < 256; ++dn) {
      double radiance = (c->lmax - c->lmin) / 254.0 * (dn - 1) + c->lmin;
      double reflectance = PI * radiance * d * d / (c->esun * sun);
      table[dn] = dn == 0 ? -1.0f : reflectance > 0 ? (float)reflectance : 0.0f;
    }
    const uint8_t *from = frame_u8(in, b);
    float *to = frame_f32(out, b);
    for (size_t i = 0; i < frame_pixels(in); ++i) {
      to[i] = table[from[i]];
    }
  }
  return edge_reply(out, frame_bytes(out));
}
