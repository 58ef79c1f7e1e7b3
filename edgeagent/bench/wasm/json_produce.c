/* Input: a number of bytes (u32, little-endian). Fills as many and returns them as base64 in a JSON document. */
#include "json_base64.h"

EDGE_ALLOCATOR

EDGE_HANDLER(input, length) {
  uint32_t bytes;
  if (length < sizeof bytes) {
    edge_fail("no number of bytes");
  }
  __builtin_memcpy(&bytes, input, sizeof bytes);
  uint8_t *payload = edge_take(bytes);
  fill(payload, bytes);
  return json_reply(payload, bytes, 1);
}
