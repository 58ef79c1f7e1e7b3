/* Hoses: large outputs and messages that reach other functions without being copied. Beside edge.h.
 *
 *   EDGE_HANDLER(input, length) {
 *     struct pixel *out = edge_hose_loan(bytes);   // a lent buffer: zeros, resident, of large pages where possible
 *     ...fill it...
 *     return edge_reply(out, bytes);               // the next function of the chain gets these very pages
 *   }
 *
 * The same code works whatever carries the bytes: the host copies where it must. What it lends or maps is memory of this
 * guest, from its own edge_alloc_aligned, and can be written like any other; nobody else sees what is written after the
 * handler has returned, or after edge_hose_publish.
 */
#ifndef EDGE_HOSE_H
#define EDGE_HOSE_H

#include "edge.h"

/* What the raw functions return instead of a length, an id or a pointer. */
enum edge_hose_error {
  EDGE_HOSE_BAD = -1,     /* an argument names nothing that this guest may use, or its allocator asks for a loan */
  EDGE_HOSE_RANGE = -2,   /* pointer and length are not inside the memory */
  EDGE_HOSE_SMALL = -3,   /* the buffer is smaller than the message */
  EDGE_HOSE_MEMORY = -4,  /* no memory for it */
  EDGE_HOSE_FULL = -5,    /* 64 loans and mapped messages at once, 64 messages of a run */
  EDGE_HOSE_OVERLAP = -6, /* the range overlaps a loan or a message */
};

/* recv_info(slot): bytes of the input, slot 0. */
EDGE_IMPORT("edge_hose", "recv_info") int32_t edge_hose_recv_info(int32_t slot);
/* recv(ptr, cap, flags): the input once more, at ptr; flags are 0. Returns its length. */
EDGE_IMPORT("edge_hose", "recv") int32_t edge_hose_recv(void *to, int32_t capacity, int32_t flags);
EDGE_IMPORT("edge_hose", "loan") int32_t edge_hose_loan_raw(int32_t length);
/* publish(ptr, len): an immutable message that every later function of the run can map. Returns its id, from 1 on. From
 * here on what this guest writes to a lent buffer is its own. */
EDGE_IMPORT("edge_hose", "publish") int32_t edge_hose_publish(const void *from, int32_t length);
/* map(id, ptr, cap): a private copy of the message appears at ptr; cap 0 only asks for its length. Whole pages (ptr on a
 * multiple of 65536) are mapped, not copied. */
EDGE_IMPORT("edge_hose", "map") int32_t edge_hose_map(int32_t id, void *to, int32_t capacity);
/* release(ptr): a loan or a mapped message is given back; the range reads zeros. */
EDGE_IMPORT("edge_hose", "release") int32_t edge_hose_release(void *at);

/* A lent output buffer of zeros; ends the call when there is no memory. */
static inline void *edge_hose_loan(size_t bytes) {
  int32_t at = bytes > INT32_MAX ? EDGE_HOSE_MEMORY : edge_hose_loan_raw((int32_t)bytes);
  if (at < 0) {
    edge_fail("no memory for a loan");
  }
  return (void *)(uintptr_t)(uint32_t)at;
}

/* Maps a message of the run into memory of its own; its length goes to *length. Null when there is none of this id. */
static inline void *edge_hose_take(int32_t id, size_t *length) {
  int32_t size = edge_hose_map(id, 0, 0);
  if (size < 0) {
    return 0;
  }
  void *at = edge_take_aligned((size_t)size + 1, 65536);
  if (edge_hose_map(id, at, size == 0 ? 1 : size) < 0) {
    return 0;
  }
  *length = (size_t)size;
  return at;
}

#endif
