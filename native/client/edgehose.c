/* Theory of operation.
 *
 * A handle is looked up in a table before it is touched and a buffer in its handle's list, so that wrong pointers are
 * found, not followed. A call holds its handle's lock except while it waits in poll(); edgehose_close() takes the
 * handle out of the table, ends the connection, which wakes whoever waits, and frees it when the last call has left.
 *
 * A frame costs its producer a credit, which comes back when the node has done with it. Once the node is lost or has
 * refused, `broken` stays set and every later call returns it.
 */
#define _GNU_SOURCE
#define EDGEHOSE_API __attribute__((visibility("default")))
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { kAttachMs = 5000, kNameBytesMax = 63 };

/* ---- attach and close ---- */

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const struct timeval limit = {.tv_sec = kAttachMs / 1000};
  const size_t length = strlen(path);
  if (length == 0 || length >= sizeof address.sun_path) {
    return hose_fail(-EINVAL, "the path of a socket has 1 to %zu bytes", sizeof address.sun_path - 1);
  }
  memcpy(address.sun_path, path, length);
  const int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (sock < 0) {
    return hose_fail_errno(-errno, "socket");
  }
  setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* for connect, when the node's queue is full */
  if (connect(sock, (const struct sockaddr *)&address, sizeof address) != 0) {
    const int error = errno == EAGAIN ? ETIMEDOUT : errno;
    close(sock);
    return hose_fail(-error, "%.150s: %s", path, strerror(error));
  }
  return sock;
}

static int check_name(const char *name) {
  const size_t length = strlen(name);
  if (length == 0 || length > kNameBytesMax ||
      strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != length) {
    return hose_fail(-EINVAL, "the name of a hose is 1 to 63 of a-z, 0-9, '.', '_' and '-'");
  }
  return 0;
}

static int greet(edgehose *h, const char *name) {
  struct wire_message message = {.type = WIRE_HELLO, .code = (uint32_t)h->role};
  const int64_t deadline = hose_deadline(kAttachMs);
  int fd = -1;
  memcpy(message.text, name, strlen(name));
  int rc = hose_send(h, &message, -1);
  if (rc == 0) {
    while ((rc = hose_receive(h, &message, &fd)) == -EAGAIN) {
      rc = hose_wait(h, POLLIN, deadline);
      if (rc == -EAGAIN) {
        return hose_fail(-ETIMEDOUT, "the node did not answer in %d ms", (int)kAttachMs);
      }
      if (rc != 0) {
        return rc;
      }
    }
  }
  if (rc == 0 && fd >= 0) {
    close(fd);
  }
  if (rc == 0 && (message.type != WIRE_WELCOME || message.credits == 0)) {
    return hose_break_off(h, -EPROTO, "the node did not answer with a welcome");
  }
  h->generation = message.generation;
  h->credits_max = h->credits = message.credits;
  return rc;
}

uint32_t edgehose_abi_version(void) { return EDGEHOSE_ABI_VERSION; }

int edgehose_attach(const char *socket_path, const char *hose_name, int role, edgehose **out) {
  if (out == NULL) {
    return hose_fail(-EINVAL, "out is NULL");
  }
  *out = NULL;
  if (socket_path == NULL || hose_name == NULL) {
    return hose_fail(-EINVAL, "the path of the socket or the name of the hose is NULL");
  }
  if (role != EDGEHOSE_PRODUCER && role != EDGEHOSE_CONSUMER) {
    return hose_fail(-EINVAL, "there is no role %d", role);
  }
  int rc = check_name(hose_name);
  if (rc != 0) {
    return rc;
  }
  edgehose *h = calloc(1, sizeof *h);
  if (h == NULL) {
    return hose_fail_errno(-ENOMEM, "attach");
  }
  pthread_mutex_init(&h->lock, NULL);
  for (int i = 0; i < EDGEHOSE_BUFFERS_MAX; ++i) {
    h->buffers[i].fd = -1;
  }
  h->role = role;
  h->timeout_ms = -1;
  h->sock = connect_to(socket_path);
  rc = h->sock < 0 ? h->sock : 0;
  if (rc == 0) {
    pthread_mutex_lock(&h->lock); /* wait_for releases it */
    rc = greet(h, hose_name);
    pthread_mutex_unlock(&h->lock);
  }
  if (rc == 0) {
    rc = hose_enlist(h);
  }
  if (rc != 0) {
    hose_destroy(h);
    return rc;
  }
  *out = h;
  return 0;
}

int edgehose_close(edgehose *h) {
  const int rc = hose_delist(h);
  if (rc == 0) {
    hose_destroy(h);
  }
  return rc;
}

/* ---- producer ---- */

/* Producer: counts the credits that have come back. */
static int collect_credits(edgehose *h) {
  struct wire_message message;
  int fd = -1;
  for (;;) {
    const int rc = hose_receive(h, &message, &fd);
    if (rc == -EAGAIN) {
      return 0;
    }
    if (rc != 0) {
      return rc;
    }
    if (fd >= 0) {
      close(fd);
    }
    if (message.type != WIRE_CREDIT || message.generation != h->generation || message.seq == 0 ||
        message.seq > h->last_seq || h->credits >= h->credits_max) {
      return hose_break_off(h, -EPROTO, "the node returned a credit that was not out");
    }
    ++h->credits;
  }
}

static int check_role(const edgehose *h, int role) {
  const char *other = role == EDGEHOSE_PRODUCER ? "a consumer" : "a producer";
  return h->role == role ? 0 : hose_fail(-EINVAL, "this hose was attached as %s", other);
}

static int check_loan(edgehose *h) {
  const int rc = check_role(h, EDGEHOSE_PRODUCER);
  if (rc == 0 && hose_find(h, NULL) == NULL) {
    return hose_fail(-ENOBUFS, "%d buffers are lent already", EDGEHOSE_BUFFERS_MAX);
  }
  return rc;
}

int edgehose_loan(edgehose *h, size_t bytes, void **ptr) {
  struct area area = {0};
  int fd = -1;
  if (ptr == NULL || bytes == 0) {
    return hose_fail(-EINVAL, "ptr is NULL or the size is 0");
  }
  *ptr = NULL;
  int rc = hose_enter(h);
  if (rc != 0) {
    return rc;
  }
  rc = check_loan(h);
  if (rc != 0) {
    return hose_leave(h, rc);
  }
  pthread_mutex_unlock(&h->lock); /* to fill the memory takes a while; the handle stays, for this call is inside */
  rc = memory_make(bytes, &fd, &area);
  pthread_mutex_lock(&h->lock);
  if (rc != 0) {
    return hose_leave(h, hose_fail_errno(rc, "a buffer of this size cannot be had"));
  }
  rc = check_loan(h);
  if (rc != 0) {
    memory_unmap(&area);
    close(fd);
    return hose_leave(h, rc);
  }
  *hose_find(h, NULL) = (struct buffer){.data = area.at, .area = area, .fd = fd};
  *ptr = area.at;
  return hose_leave(h, 0);
}

static int wait_for_credit(edgehose *h, int timeout_ms) {
  const int64_t deadline = hose_deadline(timeout_ms);
  for (;;) {
    int rc = collect_credits(h);
    if (rc != 0 || h->credits > 0) {
      return rc;
    }
    rc = hose_wait(h, POLLIN, deadline);
    if (rc != 0) {
      return rc == -EAGAIN ? hose_fail(rc, "the node has not returned a credit yet") : rc;
    }
  }
}

/* The loan is gone after it, whatever comes of it. */
static int send_frame(edgehose *h, struct buffer *loan, size_t bytes, uint64_t *seq) {
  struct wire_message message = {
      .type = WIRE_PUBLISH, .seq = h->last_seq + 1, .generation = h->generation, .bytes = bytes};
  memory_unmap(&loan->area); /* the only writable view: the seal would be refused beside it */
  int rc = memory_seal(loan->fd);
  if (rc != 0) {
    hose_fail_errno(rc, "the buffer cannot be sealed");
  } else {
    rc = hose_send(h, &message, loan->fd);
  }
  hose_forget(loan);
  if (rc == 0) {
    --h->credits;
    ++h->last_seq;
    if (seq != NULL) {
      *seq = message.seq;
    }
  }
  return rc;
}

static int publish(edgehose *h, void *ptr, size_t bytes, uint64_t *seq, bool may_wait) {
  int rc = hose_enter(h);
  if (rc != 0) {
    return rc;
  }
  struct buffer *loan = ptr == NULL ? NULL : hose_find(h, ptr);
  if (loan == NULL || loan->fd < 0) {
    return hose_leave(h, hose_fail(-EINVAL, "the pointer is not a loan of this hose"));
  }
  if (bytes == 0 || bytes > loan->area.bytes) {
    return hose_leave(h, hose_fail(-EINVAL, "a frame of this loan has 1 to %zu bytes", loan->area.bytes));
  }
  rc = wait_for_credit(h, may_wait ? h->timeout_ms : 0);
  loan = hose_find(h, ptr); /* another thread may have had it meanwhile */
  if (loan == NULL || loan->fd < 0 || bytes > loan->area.bytes) {
    return hose_leave(h, hose_fail(-EINVAL, "another thread has given the loan away"));
  }
  if (rc == 0) {
    rc = send_frame(h, loan, bytes, seq);
  } else if (rc != -EAGAIN && rc != -EINTR) {
    hose_forget(loan);
  }
  return hose_leave(h, rc);
}

int edgehose_publish(edgehose *h, void *ptr, size_t bytes, uint64_t *seq) { return publish(h, ptr, bytes, seq, true); }

int edgehose_try_publish(edgehose *h, void *ptr, size_t bytes, uint64_t *seq) {
  return publish(h, ptr, bytes, seq, false);
}

int edgehose_set_timeout(edgehose *h, int timeout_ms) {
  const int rc = hose_enter(h);
  if (rc != 0) {
    return rc;
  }
  h->timeout_ms = timeout_ms < 0 ? -1 : timeout_ms;
  return hose_leave(h, 0);
}

int edgehose_abandon(edgehose *h, void *ptr) {
  const int rc = hose_enter(h);
  if (rc != 0) {
    return rc;
  }
  struct buffer *loan = ptr == NULL ? NULL : hose_find(h, ptr);
  if (loan == NULL || loan->fd < 0) {
    return hose_leave(h, hose_fail(-EINVAL, "the pointer is not a loan of this hose"));
  }
  hose_forget(loan);
  return hose_leave(h, 0);
}

/* ---- consumer ---- */

static int send_credit(edgehose *h, uint64_t seq) {
  const struct wire_message message = {.type = WIRE_CREDIT, .seq = seq, .generation = h->generation};
  return h->broken == 0 ? hose_send(h, &message, -1) : 0;
}

static int accept_frame(edgehose *h, struct buffer *slot, const struct wire_message *message, int fd) {
  const char *why = "the node sent something that is no frame";
  if (message->type != WIRE_PUBLISH || message->generation != h->generation || message->bytes > SIZE_MAX / 2 ||
      !memory_is_frame(fd, message->offset, message->bytes, &why)) {
    return hose_break_off(h, -EBADMSG, why);
  }
  const int rc = memory_map(fd, message->offset, (size_t)message->bytes, &slot->area, &slot->data);
  if (rc != 0) {
    send_credit(h, message->seq); /* this frame is lost, the next may fit */
    return hose_fail_errno(rc, "the frame cannot be mapped");
  }
  slot->seq = message->seq;
  return 0;
}

static int next_frame(edgehose *h, struct wire_message *message, int *fd, int64_t deadline) {
  int rc;
  while ((rc = hose_receive(h, message, fd)) == -EAGAIN) {
    rc = hose_wait(h, POLLIN, deadline);
    if (rc != 0) {
      return rc;
    }
  }
  return rc;
}

int edgehose_take(edgehose *h, const void **ptr, size_t *bytes, int timeout_ms) {
  struct wire_message message;
  int fd = -1;
  if (ptr == NULL || bytes == NULL) {
    return hose_fail(-EINVAL, "ptr or bytes is NULL");
  }
  *ptr = NULL;
  *bytes = 0;
  int rc = hose_enter(h);
  if (rc != 0) {
    return rc;
  }
  rc = check_role(h, EDGEHOSE_CONSUMER);
  if (rc == 0 && hose_find(h, NULL) == NULL) {
    rc = hose_fail(-ENOBUFS, "%d frames are taken already", EDGEHOSE_BUFFERS_MAX);
  }
  if (rc == 0) {
    rc = next_frame(h, &message, &fd, hose_deadline(timeout_ms));
  }
  struct buffer *slot = hose_find(h, NULL);
  if (rc == 0 && slot == NULL) { /* other threads took the last ones while this one waited */
    send_credit(h, message.seq);
    rc = hose_fail(-ENOBUFS, "%d frames are taken already", EDGEHOSE_BUFFERS_MAX);
  }
  if (rc == 0) {
    rc = accept_frame(h, slot, &message, fd);
  }
  if (fd >= 0) {
    close(fd);
  }
  if (rc == 0) {
    *ptr = slot->data;
    *bytes = (size_t)message.bytes;
  }
  return hose_leave(h, rc);
}

int edgehose_release(edgehose *h, const void *ptr) {
  const int rc = hose_enter(h);
  if (rc != 0) {
    return rc;
  }
  struct buffer *frame = ptr == NULL ? NULL : hose_find(h, ptr);
  if (frame == NULL || frame->fd >= 0) {
    return hose_leave(h, hose_fail(-EINVAL, "the pointer is not a frame of this hose"));
  }
  const uint64_t seq = frame->seq;
  hose_forget(frame);
  send_credit(h, seq); /* a lost node is for the next take to report */
  return hose_leave(h, 0);
}

const char *edgehose_error(const edgehose *h) {
  (void)h; /* texts are kept by thread: a handle's could change while it is read */
  return hose_error();
}
