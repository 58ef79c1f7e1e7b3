/* The messages of a hose socket, as docs/hose-socket.md says; edgeagent/hose/messages.py is the same in Python. */
#ifndef EDGEHOSE_WIRE_H
#define EDGEHOSE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

enum { WIRE_BYTES = 128, WIRE_TEXT_BYTES = 80, WIRE_VERSION = 1 };

enum wire_type {
  WIRE_HELLO = 1,
  WIRE_WELCOME = 2,
  WIRE_PUBLISH = 3,
  WIRE_CREDIT = 4,
  WIRE_REFUSED = 5,
  WIRE_BYE = 6,
};

struct wire_message {
  uint16_t type;
  uint64_t seq;
  uint64_t generation;
  uint64_t offset;
  uint64_t bytes;
  uint32_t code; /* HELLO: the role; REFUSED: why */
  uint32_t credits;
  char text[WIRE_TEXT_BYTES + 1];
};

/* Sends without waiting; `fd` < 0: no descriptor. Returns 0 or a negative errno value, -EAGAIN among them. */
int wire_send(int sock, const struct wire_message *message, int fd);

/* Receives without waiting. `*fd` becomes the descriptor that came along, or -1. Returns 0; -EAGAIN; -ECONNRESET at the
 * end; -EPROTO for what is no message, and what came with it is closed. */
int wire_receive(int sock, struct wire_message *message, int *fd);

#endif
