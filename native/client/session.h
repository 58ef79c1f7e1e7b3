/* An open hose: its buffers, its connection, and the table that tells handles from other pointers. */
#ifndef EDGEHOSE_SESSION_H
#define EDGEHOSE_SESSION_H

#include "edgehose.h"
#include "memory.h"
#include "wire.h"

#include <pthread.h>
#include <stdint.h>

enum { kErrorBytes = 256 };

struct buffer {
  const void *data; /* what the caller knows it by; NULL: free */
  struct area area;
  int fd; /* of a loan, else -1 */
  uint64_t seq;
};

struct edgehose {
  pthread_mutex_t lock;
  unsigned users; /* calls inside; guarded by table_lock */
  int sock;
  int role;
  int timeout_ms;
  int broken; /* 0, or what every call returns from now on */
  char broken_text[kErrorBytes];
  uint64_t generation;
  uint64_t last_seq;
  uint32_t credits;
  uint32_t credits_max;
  struct buffer buffers[EDGEHOSE_BUFFERS_MAX];
};

/* Keeps the text for edgehose_error() of this thread, and returns `rc`. */
__attribute__((format(printf, 2, 3))) int hose_fail(int rc, const char *format, ...);
int hose_fail_errno(int rc, const char *what);
const char *hose_error(void);

/* Locks the handle if it is open; every success is followed by hose_leave, which passes `rc` through. */
int hose_enter(edgehose *h);
int hose_leave(edgehose *h, int rc);

/* Into the table, where there is room. Out of it, and back when the last call has left. */
int hose_enlist(edgehose *h);
int hose_delist(edgehose *h);
void hose_destroy(edgehose *h);

/* The buffer that the caller knows by `data`, or NULL; of NULL: a free one. */
struct buffer *hose_find(edgehose *h, const void *data);
void hose_forget(struct buffer *buffer);

/* Milliseconds of the monotonic clock; -1: never. */
int64_t hose_deadline(int timeout_ms);
/* Waits for the socket, with the lock released. -EAGAIN, -EINTR. */
int hose_wait(edgehose *h, short events, int64_t deadline);

/* From now on the hose is of no use, for this reason; returns the first one given. */
int hose_break_off(edgehose *h, int rc, const char *text);
/* The next message, or what is wrong with the connection. -EAGAIN: none yet. */
int hose_receive(edgehose *h, struct wire_message *message, int *fd);
int hose_send(edgehose *h, const struct wire_message *message, int fd);

#endif
