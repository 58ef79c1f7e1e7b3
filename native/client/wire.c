#define _GNU_SOURCE
#include "wire.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const uint32_t kMagic = 0x534F4845; /* "EHOS" */

static void put(unsigned char *at, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    at[i] = (unsigned char)(value >> (8 * i));
  }
}

static uint64_t get(const unsigned char *at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) {
    value |= (uint64_t)at[i] << (8 * i);
  }
  return value;
}

static void encode(const struct wire_message *message, unsigned char out[WIRE_BYTES]) {
  memset(out, 0, WIRE_BYTES);
  put(out, kMagic, 4);
  put(out + 4, WIRE_VERSION, 2);
  put(out + 6, message->type, 2);
  put(out + 8, message->seq, 8);
  put(out + 16, message->generation, 8);
  put(out + 24, message->offset, 8);
  put(out + 32, message->bytes, 8);
  put(out + 40, message->code, 4);
  put(out + 44, message->credits, 4);
  memcpy(out + 48, message->text, strnlen(message->text, WIRE_TEXT_BYTES));
}

/* A refusal is understood whatever its version: its layout never changes. */
static bool decode(const unsigned char in[WIRE_BYTES], struct wire_message *message) {
  message->type = (uint16_t)get(in + 6, 2);
  message->seq = get(in + 8, 8);
  message->generation = get(in + 16, 8);
  message->offset = get(in + 24, 8);
  message->bytes = get(in + 32, 8);
  message->code = (uint32_t)get(in + 40, 4);
  message->credits = (uint32_t)get(in + 44, 4);
  memcpy(message->text, in + 48, WIRE_TEXT_BYTES);
  message->text[WIRE_TEXT_BYTES] = '\0';
  return get(in, 4) == kMagic && (get(in + 4, 2) == WIRE_VERSION || message->type == WIRE_REFUSED);
}

int wire_send(int sock, const struct wire_message *message, int fd) {
  unsigned char bytes[WIRE_BYTES];
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
  struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
  encode(message, bytes);
  if (fd >= 0) {
    memset(control, 0, sizeof control);
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  ssize_t sent;
  do {
    sent = sendmsg(sock, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent == (ssize_t)sizeof bytes) {
    return 0;
  }
  return sent >= 0 ? -EPROTO : -errno;
}

int wire_receive(int sock, struct wire_message *message, int *fd) {
  unsigned char bytes[WIRE_BYTES];
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
  struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
  /* Room for one descriptor, not for the second that CMSG_SPACE's padding would hold: the kernel drops the rest. */
  header.msg_controllen = CMSG_LEN(sizeof(int));
  *fd = -1;
  ssize_t got;
  do {
    got = recvmsg(sock, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) {
    return got == 0 ? -ECONNRESET : -errno;
  }
  const struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
  if (rights != NULL && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS &&
      rights->cmsg_len == CMSG_LEN(sizeof(int))) {
    memcpy(fd, CMSG_DATA(rights), sizeof *fd);
  }
  const bool whole = got == (ssize_t)sizeof bytes && (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  if (whole && decode(bytes, message) && (*fd >= 0) == (message->type == WIRE_PUBLISH)) {
    return 0;
  }
  if (*fd >= 0) {
    close(*fd);
    *fd = -1;
    return -EPROTO;
  }
  /* Cut off although there was room: this process may have no more descriptors. */
  return (header.msg_flags & MSG_CTRUNC) != 0 ? -EMFILE : -EPROTO;
}
