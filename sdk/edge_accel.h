/* Kernels: work on arrays that the node does, on a CPU or a GPU, in place in this guest's memory. Beside edge.h.
 *
 *   struct edge_operand a = edge_array2(EDGE_F32, pixels, rows, columns);
 *   static struct edge_work work;
 *   edge_begin(&work);
 *   edge_in(&work, a);
 *   edge_out(&work, edge_array2(EDGE_U8, mask, rows, columns));
 *   edge_number(&work, 0.5);
 *   if (edge_accel_run(&work, "threshold") < 0) ...
 *
 * An operand is where an array lies, what its elements are, how many there are by each index, and how many bytes lie
 * between two of them. So a transpose, a part, every second row, or one channel of many is an operand too, and nothing is
 * copied. Offsets and strides are multiples of the element's size (complex numbers: of a part's). A stride may be negative
 * and, in an input, 0: one element seen many times. No operand is empty. What an output covers, from its first byte to its
 * last, lies apart from all other operands; where a kernel works in place, an output may be an input, exactly.
 *
 * README.md lists the kernels, what they take, and in which order.
 */
#ifndef EDGE_ACCEL_H
#define EDGE_ACCEL_H

#include "edge.h"

/* What the raw functions return instead of 0 or a length. */
enum edge_accel_error {
  EDGE_ACCEL_BAD = -1,         /* a description, an operand or a number that is none, or that the kernel does not take */
  EDGE_ACCEL_RANGE = -2,       /* an operand, or what a call points to, is not inside the memory */
  EDGE_ACCEL_MEMORY = -4,      /* no memory for it */
  EDGE_ACCEL_FULL = -5,        /* too many guests wait */
  EDGE_ACCEL_NONE = -10,       /* this node has no such kernel */
  EDGE_ACCEL_OFF = -12,        /* this node has no kernels; or its GPU is not ready, and this function is pinned to it */
  EDGE_ACCEL_TOO_LARGE = -16,  /* more work, or more memory beside the guest's, than the node does for one call */
  EDGE_ACCEL_FAILED = -20,     /* the node could not do it; its log says why */
  EDGE_ACCEL_OVERLAP = -21,    /* an output overlaps another operand, or itself */
  EDGE_ACCEL_DTYPE = -22,      /* the kernel does not take elements of this type */
  EDGE_ACCEL_SHAPE = -23,      /* shapes that do not go together */
  EDGE_ACCEL_EXPRESSION = -24, /* the text is no expression, or names an input that is not there */
};

/* Types of elements. There is no bool: a mask is EDGE_U8, 0 or not. */
enum edge_dtype {
  EDGE_U8 = 1,
  EDGE_I8 = 2,
  EDGE_U16 = 3,
  EDGE_I16 = 4,
  EDGE_U32 = 5,
  EDGE_I32 = 6,
  EDGE_U64 = 7,
  EDGE_I64 = 8,
  EDGE_F16 = 9,
  EDGE_F32 = 10,
  EDGE_F64 = 11,
  EDGE_C64 = 12,  /* two F32: real, imaginary */
  EDGE_C128 = 13, /* two F64 */
};

enum edge_accel_limit {
  EDGE_RANK_MAX = 8,
  EDGE_OPERANDS_MAX = 16,
  EDGE_NUMBERS_MAX = 16,
  EDGE_TEXT_MAX = 1024,
};

/* call(name, name_len, description, description_len): 0, or an error; then outputs may be written in part. All little-
 * endian: the struct edge_call, then the operands (inputs first), f64 numbers, text. */
EDGE_IMPORT("edge_accel", "call")
int32_t edge_accel_call_raw(const char *name, int32_t name_len, const void *description, int32_t description_len);
/* query(ptr, cap): what this node has; its length. Where that is more than cap, nothing is written. Little-endian, not
 * aligned: u32 version (1), u32 backends (1: CPU, 2: GPU), u32 kernels, then for each u8 length and name. */
EDGE_IMPORT("edge_accel", "query") int32_t edge_accel_query_raw(void *to, int32_t cap);

/* `offset` is of the element whose indices are all 0; beyond `rank`, shape and strides are 0. */
struct edge_operand {
  uint64_t offset;
  uint32_t dtype, rank;
  uint64_t shape[EDGE_RANK_MAX];
  int64_t strides[EDGE_RANK_MAX]; /* in bytes */
};

struct edge_call {
  uint16_t version, flags, inputs, outputs, numbers, zero;
  uint32_t text_bytes;
};

_Static_assert(sizeof(struct edge_operand) == 144 && sizeof(struct edge_call) == 16, "the layout is what the node reads");

static inline int64_t edge_item_bytes(enum edge_dtype dtype) {
  static const uint8_t kBytes[] = {0, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8, 8, 16};
  return dtype >= EDGE_U8 && dtype <= EDGE_C128 ? kBytes[dtype] : 0;
}

/* An array without gaps, whose last index runs fastest. */
static inline struct edge_operand edge_array(enum edge_dtype dtype, const void *at, uint32_t rank, const uint64_t *shape) {
  struct edge_operand operand = {(uintptr_t)at, (uint32_t)dtype, rank, {0}, {0}};
  if (rank > EDGE_RANK_MAX) {
    edge_fail("an array has too many indices");
  }
  int64_t stride = edge_item_bytes(dtype);
  for (uint32_t i = rank; i-- > 0;) {
    operand.shape[i] = shape[i];
    operand.strides[i] = stride;
    stride = (int64_t)((uint64_t)stride * shape[i]); /* what does not fit is no array either, and the node says so */
  }
  return operand;
}

static inline struct edge_operand edge_scalar(enum edge_dtype dtype, const void *at) { return edge_array(dtype, at, 0, 0); }
static inline struct edge_operand edge_array1(enum edge_dtype dtype, const void *at, uint64_t size) {
  return edge_array(dtype, at, 1, &size);
}
static inline struct edge_operand edge_array2(enum edge_dtype dtype, const void *at, uint64_t rows, uint64_t columns) {
  const uint64_t shape[] = {rows, columns};
  return edge_array(dtype, at, 2, shape);
}
static inline struct edge_operand edge_array3(enum edge_dtype dtype, const void *at, uint64_t a, uint64_t b, uint64_t c) {
  const uint64_t shape[] = {a, b, c};
  return edge_array(dtype, at, 3, shape);
}
static inline struct edge_operand edge_array4(enum edge_dtype dtype, const void *at, uint64_t a, uint64_t b, uint64_t c,
                                              uint64_t d) {
  const uint64_t shape[] = {a, b, c, d};
  return edge_array(dtype, at, 4, shape);
}

static inline void edge_check_index(const struct edge_operand *operand, uint32_t index) {
  if (index >= operand->rank) {
    edge_fail("an array has no such index");
  }
}

/* The same elements with two indices exchanged. */
static inline struct edge_operand edge_transposed(struct edge_operand operand, uint32_t a, uint32_t b) {
  edge_check_index(&operand, a);
  edge_check_index(&operand, b);
  uint64_t size = operand.shape[a];
  int64_t stride = operand.strides[a];
  operand.shape[a] = operand.shape[b];
  operand.strides[a] = operand.strides[b];
  operand.shape[b] = size;
  operand.strides[b] = stride;
  return operand;
}

/* Of one index `count` elements from `start` on, each `step` further; a negative step goes backwards. */
static inline struct edge_operand edge_sliced(struct edge_operand operand, uint32_t index, uint64_t start, uint64_t count,
                                              int64_t step) {
  edge_check_index(&operand, index);
  operand.offset += (uint64_t)((int64_t)start * operand.strides[index]);
  operand.shape[index] = count;
  operand.strides[index] *= step;
  return operand;
}

/* What is left when one index stands still. */
static inline struct edge_operand edge_picked(struct edge_operand operand, uint32_t index, uint64_t at) {
  operand = edge_sliced(operand, index, at, 1, 1);
  for (uint32_t i = index; i + 1 < operand.rank; ++i) {
    operand.shape[i] = operand.shape[i + 1];
    operand.strides[i] = operand.strides[i + 1];
  }
  --operand.rank;
  operand.shape[operand.rank] = 0;
  operand.strides[operand.rank] = 0;
  return operand;
}

/* A call under construction: 2.5 KB, and edge_accel_run takes 3.5 KB of the stack. Inputs lie from the front on, outputs
 * from the back. */
struct edge_work {
  struct edge_operand operands[EDGE_OPERANDS_MAX];
  double numbers[EDGE_NUMBERS_MAX];
  const char *text;
  uint32_t in, out, count;
};

/* Nothing of another call is left in it. */
static inline void edge_begin(struct edge_work *work) {
  work->text = "";
  work->in = work->out = work->count = 0;
}

static inline void edge_in(struct edge_work *work, struct edge_operand operand) {
  if (work->in + work->out >= EDGE_OPERANDS_MAX) {
    edge_fail("a call has too many operands");
  }
  work->operands[work->in++] = operand;
}

static inline void edge_out(struct edge_work *work, struct edge_operand operand) {
  if (work->in + work->out >= EDGE_OPERANDS_MAX) {
    edge_fail("a call has too many operands");
  }
  work->operands[EDGE_OPERANDS_MAX - ++work->out] = operand;
}

static inline void edge_number(struct edge_work *work, double number) {
  if (work->count >= EDGE_NUMBERS_MAX) {
    edge_fail("a call has too many numbers");
  }
  work->numbers[work->count++] = number;
}

/* The expression of `elementwise`; it must stay until the call. */
static inline void edge_text(struct edge_work *work, const char *text) { work->text = text; }

static inline unsigned char *edge_accel_append(unsigned char *to, const void *from, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    to[i] = ((const unsigned char *)from)[i];
  }
  return to + bytes;
}

/* 0, or an error. The same call can run again. */
static inline int32_t edge_accel_run(const struct edge_work *work, const char *kernel) {
  unsigned char bytes[sizeof(struct edge_call) + EDGE_OPERANDS_MAX * sizeof(struct edge_operand) +
                      EDGE_NUMBERS_MAX * sizeof(double) + EDGE_TEXT_MAX];
  uint32_t text = 0;
  int32_t name = 0;
  while (work->text[text] != 0) {
    if (++text > EDGE_TEXT_MAX) {
      return EDGE_ACCEL_BAD;
    }
  }
  while (kernel[name] != 0) {
    ++name;
  }
  const struct edge_call head = {1, 0, (uint16_t)work->in, (uint16_t)work->out, (uint16_t)work->count, 0, text};
  unsigned char *at = edge_accel_append(bytes, &head, sizeof head);
  at = edge_accel_append(at, work->operands, work->in * sizeof(struct edge_operand));
  for (uint32_t i = 0; i < work->out; ++i) {
    at = edge_accel_append(at, &work->operands[EDGE_OPERANDS_MAX - 1 - i], sizeof(struct edge_operand));
  }
  at = edge_accel_append(at, work->numbers, work->count * sizeof(double));
  at = edge_accel_append(at, work->text, text);
  return edge_accel_call_raw(kernel, name, bytes, (int32_t)(at - bytes));
}

static inline uint32_t edge_accel_u32(const unsigned char *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Whether this node has a kernel now; `kernel` null: whether it has any. 1, 0, or an error. */
static inline int32_t edge_accel_has(const char *kernel) {
  int32_t size = edge_accel_query_raw(0, 0);
  if (size < 0) {
    return size;
  }
  unsigned char *told = (unsigned char *)edge_take((size_t)size);
  size = edge_accel_query_raw(told, size);
  if (size < 12) {
    return size < 0 ? size : EDGE_ACCEL_FAILED;
  }
  uint32_t left = edge_accel_u32(told + 8);
  if (kernel == 0) {
    return left > 0;
  }
  for (const unsigned char *at = told + 12; left > 0; --left, at += 1 + at[0]) {
    uint32_t i = 0;
    while (i < at[0] && kernel[i] != 0 && (unsigned char)kernel[i] == at[1 + i]) {
      ++i;
    }
    if (i == at[0] && kernel[i] == 0) {
      return 1;
    }
  }
  return 0;
}

#endif
