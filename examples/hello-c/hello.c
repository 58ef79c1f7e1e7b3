/* The smallest useful bytes function in C: greets whoever its input names. */
#include "edge.h"

EDGE_ALLOCATOR

EDGE_HANDLER(name, length) {
  static const char greeting[] = "hello, ";
  size_t head = sizeof greeting - 1;
  char *out = edge_take(head + length + 2);
  for (size_t i = 0; i < head; ++i) {
    out[i] = greeting[i];
  }
  for (size_t i = 0; i < length; ++i) {
    out[head + i] = (char)name[i];
  }
  out[head + length] = '!';
  out[head + length + 1] = '\n';
  edge_log(EDGE_INFO, "greeted");
  return edge_reply(out, head + length + 2);
}
