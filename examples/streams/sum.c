/* Adds the whole numbers that it is sent, one to a message, until its senders are done; sends the sum to `rows`. */
#include "edge_hose.h"

EDGE_ALLOCATOR

static int64_t number(const unsigned char *text, size_t length) {
  int64_t value = 0;
  for (size_t i = 0; i < length; ++i) {
    if (text[i] < '0' || text[i] > '9') {
      edge_fail("not a number");
    }
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

EDGE_HANDLER(input, length) {
  struct edge_inbox rows = edge_hose_inbox("sum");
  edge_hose_open("rows"); /* from here on who waits there waits for us, and does not see the end too early */
  int64_t sum = number(input, length); /* the first message started this run */
  size_t count = 0;
  unsigned char *row;
  while ((row = edge_hose_next(&rows, &count)) != 0) {
    sum += number(row, count);
  }
  if (rows.status != EDGE_HOSE_END) {
    edge_fail("the stream broke");
  }
  char text[24];
  size_t at = sizeof text;
  text[--at] = '\n';
  do {
    text[--at] = (char)('0' + sum % 10);
    sum /= 10;
  } while (sum > 0);
  edge_hose_send("rows", text + at, sizeof text - at);
  return edge_reply(text + at, sizeof text - at);
}
