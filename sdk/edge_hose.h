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
  EDGE_HOSE_FULL = -5,    /* 64 loans and mapped messages at once, 64 messages of a run; too many guests wait, or 32 runs
                             started each other by messages */
  EDGE_HOSE_OVERLAP = -6, /* the range overlaps a loan or a message */
  EDGE_HOSE_END = -7,     /* nobody who sends to this stream is left */
  EDGE_HOSE_AGAIN = -8,   /* it would have to wait, and EDGE_HOSE_NOWAIT forbids it */
  EDGE_HOSE_PEER = -9,    /* another host could not be reached, or refused it; the node's log says why */
};

/* Streams: messages between functions that run at the same time, between processes, and between hosts.
 *
 *   the sending side                                    the receiving side, the function `sum`
 *     edge_hose_open("sum");                              struct edge_inbox in = edge_hose_inbox("sum");
 *     while (...)                                         while ((row = edge_hose_next(&in, &length)) != 0)
 *       edge_hose_send("sum", row, length);                 ...work on it...
 *     edge_hose_close("sum");  // or simply return        if (in.status != EDGE_HOSE_END) edge_fail("...");
 *
 * A name is a function of this node, a hose (docs/hoses.md), or NAME@PEER. Who sends more than the receiver's queue holds
 * waits. A function that is sent a message while no run of it receives is started with the message as its input, which
 * is not received again; while it runs it may receive what follows. A stream ends when all who opened it or sent to it
 * have closed it or returned.
 */
/* open(name, len): the stream does not end before this run closes it. Sending opens it too. Returns 0. */
EDGE_IMPORT("edge_hose", "open") int32_t edge_hose_open_raw(const char *name, int32_t length);
EDGE_IMPORT("edge_hose", "close") int32_t edge_hose_close_raw(const char *name, int32_t length);
/* accept(name, len): from now on this run gets the messages of NAME, its own function's or its manifest's `[hose]
 * input`. Returns the slot to receive them at. */
EDGE_IMPORT("edge_hose", "accept") int32_t edge_hose_accept_raw(const char *name, int32_t length);
/* send(name, len, ptr, len, flags): waits for room. What lies in a lent buffer is not copied, and from here on what this
 * guest writes there is its own. */
enum edge_hose_flags {
  EDGE_HOSE_MOVE = 1,      /* for send: this guest does not read the bytes again */
  EDGE_HOSE_NOWAIT = 256,  /* for send, and added to a slot: EDGE_HOSE_AGAIN instead of waiting */
};
EDGE_IMPORT("edge_hose", "send")
int32_t edge_hose_send_raw(const char *name, int32_t name_length, const void *from, int32_t length, int32_t flags);

/* recv_info(slot): bytes of the input, slot 0; of the next message of a stream, slots 1 (this function's name) and 2 (its
 * `[hose] input`), for which it waits. */
EDGE_IMPORT("edge_hose", "recv_info") int32_t edge_hose_recv_info(int32_t slot);
/* recv(ptr, cap, flags): flags are a slot: the input once more, or the next message of a stream, at ptr. Returns its
 * length. After EDGE_HOSE_SMALL it can be asked for again. */
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

/* A lent output buffer of zeros, also for none at all: an output may turn out to be empty. Ends the call when there is no
 * memory. */
static inline void *edge_hose_loan(size_t bytes) {
  int32_t wanted = bytes == 0 ? 1 : (int32_t)bytes;
  int32_t at = bytes > INT32_MAX ? EDGE_HOSE_MEMORY : edge_hose_loan_raw(wanted);
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

static inline int32_t edge_hose_length(const char *name) {
  int32_t length = 0;
  while (name[length] != 0) {
    ++length;
  }
  return length;
}

static inline int32_t edge_hose_open(const char *name) { return edge_hose_open_raw(name, edge_hose_length(name)); }
static inline int32_t edge_hose_close(const char *name) { return edge_hose_close_raw(name, edge_hose_length(name)); }
static inline int32_t edge_hose_send(const char *name, const void *from, size_t bytes) {
  return bytes > INT32_MAX ? EDGE_HOSE_RANGE
                           : edge_hose_send_raw(name, edge_hose_length(name), from, (int32_t)bytes, 0);
}

/* The receiving end of a stream, and one message of it at a time. */
struct edge_inbox {
  int32_t slot;
  int32_t status; /* EDGE_HOSE_END after the last message; 0, or why there is none */
  unsigned char *at;
  size_t capacity;
  int32_t is_held;
};

static inline struct edge_inbox edge_hose_inbox(const char *name) {
  int32_t slot = edge_hose_accept_raw(name, edge_hose_length(name));
  struct edge_inbox in = {slot, slot < 0 ? slot : 0, 0, 0, 0};
  return in;
}

/* Waits for the next message; it is this guest's own until the next call. Null at the end, and on errors: in->status. */
static inline void *edge_hose_next(struct edge_inbox *in, size_t *length) {
  if (in->is_held) {
    edge_hose_release(in->at);
    in->is_held = 0;
  }
  int32_t size = in->slot < 0 ? in->slot : edge_hose_recv_info(in->slot);
  if (size >= 0 && (size_t)size + 1 > in->capacity) {
    in->capacity = ((size_t)size + 65536) & ~(size_t)65535;
    in->at = (unsigned char *)edge_take_aligned(in->capacity, 65536);
  }
  in->status = size < 0 ? size : edge_hose_recv(in->at, (int32_t)in->capacity, in->slot);
  if (in->status < 0) {
    return 0;
  }
  in->is_held = 1;
  *length = (size_t)in->status;
  in->status = 0;
  return in->at;
}

#endif
