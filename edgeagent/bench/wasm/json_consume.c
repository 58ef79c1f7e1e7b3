/* Input: such a document. Returns three u64: how many bytes were in it; their sum as 64-bit words if it says `"read":true`,
 * else the last eight of them; and where they lie in the memory. */
#include "json_base64.h"

EDGE_ALLOCATOR

EDGE_HANDLER(input, length) {
  static uint64_t reply[3];
  struct json_document document = json_parse(input, length);
  reply[0] = document.bytes;
  if (document.read) {
    reply[1] = sum_of(document.data, document.bytes);
  } else if (document.bytes >= sizeof reply[1]) {
    __builtin_memcpy(&reply[1], document.data + document.bytes - sizeof reply[1], sizeof reply[1]);
  }
  reply[2] = (uintptr_t)document.data;
  return edge_reply(reply, sizeof reply);
}
