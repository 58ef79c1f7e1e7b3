/* alert: clusters to GeoJSON (RFC 7946), pixel coordinates to longitude and latitude.
 *
 * Lambert conformal conic with two standard parallels, inverse, on an ellipsoid: Snyder (1987), Map Projections - a
 * working manual, USGS Professional Paper 1395, equations 14-15, 15-1 to 15-11, 7-9. The latitude series is iterated
 * to 1e-12 rad.
 */
#include <math.h>

#include "frame.h"

EDGE_ALLOCATOR

static const double pi = 3.14159265358979323846;

struct text {
  char *at;
};

static void put(struct text *t, const char *s) {
  while (*s != 0) {
    *t->at++ = *s++;
  }
}

static void put_unsigned(struct text *t, uint64_t value, int digits) {
  char buffer[24];
  int n = 0;
  do {
    buffer[n++] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0 || n < digits);
  while (n > 0) {
    *t->at++ = buffer[--n];
  }
}

/* Fixed point with `places` decimals, rounded to nearest. */
static void put_fixed(struct text *t, double value, int places) {
  uint64_t scale = 1;
  for (int i = 0; i < places; ++i) {
    scale *= 10;
  }
  if (value < 0) {
    put(t, "-");
    value = -value;
  }
  uint64_t whole = (uint64_t)(value * (double)scale + 0.5);
  put_unsigned(t, whole / scale, 1);
  put(t, ".");
  put_unsigned(t, whole % scale, places);
}

struct projection {
  double e, n, aF, rho0, longitude_0, easting_0, northing_0;
};

static double small_m(double phi, double e) { return cos(phi) / sqrt(1 - e * e * sin(phi) * sin(phi)); }

static double small_t(double phi, double e) {
  double s = e * sin(phi);
  return tan(pi / 4 - phi / 2) / pow((1 - s) / (1 + s), e / 2);
}

static struct projection prepare(const struct frame *f) {
  struct projection p;
  double degrees = pi / 180, flattening = 1 / f->inverse_flattening;
  double phi1 = f->parallel_1_deg * degrees, phi2 = f->parallel_2_deg * degrees, phi0 = f->latitude_0_deg * degrees;
  p.e = sqrt(flattening * (2 - flattening));
  double m1 = small_m(phi1, p.e), t1 = small_t(phi1, p.e);
  p.n = phi1 == phi2 ? sin(phi1) : (log(m1) - log(small_m(phi2, p.e))) / (log(t1) - log(small_t(phi2, p.e)));
  p.aF = f->semi_major_m * m1 / (p.n * pow(t1, p.n));
  p.rho0 = p.aF * pow(small_t(phi0, p.e), p.n);
  p.longitude_0 = f->longitude_0_deg * degrees;
  p.easting_0 = f->easting_0_m;
  p.northing_0 = f->northing_0_m;
  return p;
}

static void inverse(const struct projection *p, double x_m, double y_m, double *longitude_deg, double *latitude_deg) {
  double x = x_m - p->easting_0, y = p->rho0 - (y_m - p->northing_0);
  double sign = p->n < 0 ? -1 : 1;
  double rho = sign * sqrt(x * x + y * y), theta = atan2(sign * x, sign * y);
  double t = pow(rho / p->aF, 1 / p->n), phi = pi / 2 - 2 * atan(t);
  for (int i = 0; i < 20; ++i) {
    double s = p->e * sin(phi), next = pi / 2 - 2 * atan(t * pow((1 - s) / (1 + s), p->e / 2));
    double change = next - phi;
    phi = next;
    if (fabs(change) < 1e-12) {
      break;
    }
  }
  *longitude_deg = (theta / p->n + p->longitude_0) * 180 / pi;
  *latitude_deg = phi * 180 / pi;
}

EDGE_HANDLER(input, length) {
  const struct frame *in = (const struct frame *)input;
  if (length < sizeof *in || in->magic != FRAME_MAGIC || in->version != FRAME_VERSION || in->kind != FRAME_CLUSTERS) {
    edge_fail("this step expects clusters");
  }
  if ((uint64_t)in->count * sizeof(struct cluster) != (uint64_t)length - sizeof *in) {
    edge_fail("the clusters are cut off or too many");
  }
  if (!(in->inverse_flattening > 1) || !(in->semi_major_m > 0) || !(in->pixel_m > 0)) {
    edge_fail("the frame has no usable georeference");
  }
  const struct cluster *clusters = (const struct cluster *)(in + 1);
  struct projection p = prepare(in);
  char *out = edge_take_array((size_t)in->count + 1, 320); /* no number is longer than 30 characters */
  struct text t = {out};
  put(&t, "{\"type\":\"FeatureCollection\",\"features\":[");
  for (uint32_t i = 0; i < in->count; ++i) {
    const struct cluster *c = &clusters[i];
    double longitude = 0, latitude = 0;
    if (!(c->x >= 0 && c->x <= in->width && c->y >= 0 && c->y <= in->height && c->swir2_max >= 0 && c->swir2_max < 10)) {
      edge_fail("a cluster lies outside the scene");
    }
    inverse(&p, in->origin_x_m + c->x * in->pixel_m, in->origin_y_m - c->y * in->pixel_m, &longitude, &latitude);
    if (!isfinite(longitude) || !isfinite(latitude)) {
      edge_fail("a fire lies outside the map projection");
    }
    put(&t, i == 0 ? "" : ",");
    put(&t, "{\"type\":\"Feature\",\"geometry\":{\"type\":\"Point\",\"coordinates\":[");
    put_fixed(&t, longitude, 6);
    put(&t, ",");
    put_fixed(&t, latitude, 6);
    put(&t, "]},\"properties\":{\"x_px\":");
    put_fixed(&t, c->x, 2);
    put(&t, ",\"y_px\":");
    put_fixed(&t, c->y, 2);
    put(&t, ",\"pixels\":");
    put_unsigned(&t, c->pixels, 1);
    put(&t, ",\"area_m2\":");
    put_fixed(&t, c->pixels * in->pixel_m * in->pixel_m, 1);
    put(&t, ",\"swir2_max\":");
    put_fixed(&t, c->swir2_max, 3);
    put(&t, "}}");
  }
  put(&t, "]}\n");
  return edge_reply(out, (size_t)(t.at - out));
}
