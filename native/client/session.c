#define _GNU_SOURCE
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t left = PTHREAD_COND_INITIALIZER;
static edgehose *table[EDGEHOSE_HANDLES_MAX];
static _Thread_local char error_text[kErrorBytes] = "no error";

int hose_fail(int rc, const char *format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(error_text, sizeof error_text, format, values);
  va_end(values);
  return rc;
}

int hose_fail_errno(int rc, const char *what) { return hose_fail(rc, "%s: %s", what, strerror(-rc)); }

/* ---- handles ---- */

static int slot_of(const edgehose *h) {
  for (int i = 0; i < EDGEHOSE_HANDLES_MAX && h != NULL; ++i) {
    if (table[i] == h) {
      return i;
    }
  }
  return -1;
}

int hose_enter(edgehose *h) {
  pthread_mutex_lock(&table_lock);
  const bool known = slot_of(h) >= 0;
  if (known) {
    ++h->users;
  }
  pthread_mutex_unlock(&table_lock);
  if (!known) {
    return hose_fail(-EINVAL, "the handle is not open");
  }
  pthread_mutex_lock(&h->lock);
  return 0;
}

int hose_leave(edgehose *h, int rc) {
  pthread_mutex_unlock(&h->lock);
  pthread_mutex_lock(&table_lock);
  if (--h->users == 0) {
    pthread_cond_broadcast(&left);
  }
  pthread_mutex_unlock(&table_lock);
  return rc;
}

int hose_enlist(edgehose *h) {
  int rc = -EMFILE;
  pthread_mutex_lock(&table_lock);
  for (int i = 0; i < EDGEHOSE_HANDLES_MAX && rc != 0; ++i) {
    if (table[i] == NULL) {
      table[i] = h;
      rc = 0;
    }
  }
  pthread_mutex_unlock(&table_lock);
  return rc == 0 ? 0 : hose_fail(rc, "%d hoses are open already", EDGEHOSE_HANDLES_MAX);
}

int hose_delist(edgehose *h) {
  const struct wire_message bye = {.type = WIRE_BYE};
  pthread_mutex_lock(&table_lock);
  const int slot = slot_of(h);
  if (slot < 0) {
    pthread_mutex_unlock(&table_lock);
    return hose_fail(-EINVAL, "the handle is not open");
  }
  table[slot] = NULL; /* nobody enters any more */
  wire_send(h->sock, &bye, -1);
  shutdown(h->sock, SHUT_RDWR);
  while (h->users > 0) {
    pthread_cond_wait(&left, &table_lock);
  }
  pthread_mutex_unlock(&table_lock);
  return 0;
}

struct buffer *hose_find(edgehose *h, const void *data) {
  for (int i = 0; i < EDGEHOSE_BUFFERS_MAX; ++i) {
    if (h->buffers[i].data == data) {
      return &h->buffers[i];
    }
  }
  return NULL;
}

void hose_forget(struct buffer *buffer) {
  memory_unmap(&buffer->area);
  if (buffer->fd >= 0) {
    close(buffer->fd);
  }
  *buffer = (struct buffer){.fd = -1};
}

void hose_destroy(edgehose *h) {
  for (int i = 0; i < EDGEHOSE_BUFFERS_MAX; ++i) {
    hose_forget(&h->buffers[i]);
  }
  if (h->sock >= 0) {
    close(h->sock);
  }
  pthread_mutex_destroy(&h->lock);
  free(h);
}

/* ---- waiting ---- */

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t hose_deadline(int timeout_ms) { return timeout_ms < 0 ? -1 : now_ms() + timeout_ms; }

/* Waits for the socket with the lock released; `deadline` < 0: for ever. */
int hose_wait(edgehose *h, short events, int64_t deadline) {
  struct pollfd item = {.fd = h->sock, .events = events};
  int timeout = -1;
  if (deadline >= 0) {
    const int64_t rest = deadline - now_ms();
    if (rest <= 0) {
      return hose_fail(-EAGAIN, "nothing came in the time given");
    }
    timeout = rest > INT32_MAX ? INT32_MAX : (int)rest;
  }
  pthread_mutex_unlock(&h->lock);
  const int ready = poll(&item, 1, timeout);
  const int error = errno;
  pthread_mutex_lock(&h->lock);
  if (ready < 0) {
    return hose_fail_errno(-error, "waiting for the node");
  }
  return ready > 0 ? 0 : hose_fail(-EAGAIN, "nothing came in the time given");
}

/* ---- the connection ---- */

int hose_break_off(edgehose *h, int rc, const char *text) {
  if (h->broken == 0) {
    h->broken = rc;
    snprintf(h->broken_text, sizeof h->broken_text, "%s", text);
  }
  return hose_fail(h->broken, "%s", h->broken_text);
}

static int refusal_errno(uint32_t code) {
  switch (code) {
  case 2:
    return -EPROTONOSUPPORT;
  case 3:
    return -EACCES;
  case 4:
    return -EBUSY;
  case 5:
    return -ENOENT;
  case 9:
    return -EMSGSIZE;
  default:
    return -EPROTO;
  }
}

/* The text comes from the node: only what a terminal shows as it is. */
static int refused(edgehose *h, const struct wire_message *message) {
  char text[WIRE_TEXT_BYTES + 1];
  size_t n = 0;
  for (; message->text[n] != '\0'; ++n) {
    const unsigned char c = (unsigned char)message->text[n];
    text[n] = c < 0x20 || c == 0x7f ? '?' : message->text[n];
  }
  text[n] = '\0';
  char whole[kErrorBytes];
  snprintf(whole, sizeof whole, "the node refused: %s", text);
  return hose_break_off(h, refusal_errno(message->code), whole);
}

/* The next message, or what is wrong with the connection. -EAGAIN: none yet. */
int hose_receive(edgehose *h, struct wire_message *message, int *fd) {
  if (h->broken != 0) {
    return hose_break_off(h, h->broken, h->broken_text);
  }
  int rc = wire_receive(h->sock, message, fd);
  if (rc == -ECONNRESET) { /* reported once, before what is left in the queue: perhaps a refusal */
    rc = wire_receive(h->sock, message, fd);
  }
  if (rc == 0 && message->type == WIRE_REFUSED) {
    return refused(h, message);
  }
  if (rc == 0 && message->type == WIRE_BYE) {
    return hose_break_off(h, -ECONNRESET, "the node has closed the hose");
  }
  if (rc == 0 || rc == -EAGAIN) {
    return rc;
  }
  if (rc == -EPROTO) {
    return hose_break_off(h, rc, "what came from the node is no message of this protocol");
  }
  return hose_break_off(h, rc == -EMFILE ? rc : -ECONNRESET,
                   rc == -EMFILE ? "no descriptor is left for the frame" : "the node has gone");
}

int hose_send(edgehose *h, const struct wire_message *message, int fd) {
  const int rc = wire_send(h->sock, message, fd);
  if (rc == 0) {
    return 0;
  }
  if (rc == -EPIPE || rc == -ECONNRESET) {
    struct wire_message last;
    int extra = -1;
    while (hose_receive(h, &last, &extra) == 0) { /* until the refusal, if there was one */
      if (extra >= 0) {
        close(extra);
      }
    }
    return hose_break_off(h, -ECONNRESET, "the node has gone");
  }
  char text[kErrorBytes];
  snprintf(text, sizeof text, "sending to the node: %s", strerror(-rc));
  return hose_break_off(h, rc == -EAGAIN ? -ECONNRESET : rc, text); /* its queue is never full when it works */
}

const char *hose_error(void) { return error_text; }
