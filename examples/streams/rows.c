/* Sends each line of its input to the function `sum` while that runs, and answers with what `sum` sends back. */
#include "edge_hose.h"

EDGE_ALLOCATOR

EDGE_HANDLER(input, length) {
  /* Before the first line goes out: from here on what is sent to `rows` waits for this run. */
  struct edge_inbox answers = edge_hose_inbox("rows");
  size_t begin = 0;
  size_t sent = 0;
  for (size_t i = 0; i <= length; ++i) {
    if (i < length && input[i] != '\n') {
      continue;
    }
    if (i > begin && edge_hose_send("sum", input + begin, i - begin) < 0) {
      edge_fail("sum does not take messages: is it deployed?");
    }
    sent += i > begin;
    begin = i + 1;
  }
  if (sent == 0) {
    return edge_reply("0\n", 2);
  }
  edge_hose_close("sum");
  size_t count = 0;
  void *answer = edge_hose_next(&answers, &count);
  if (answer == 0) {
    edge_fail("sum did not answer");
  }
  return edge_reply(answer, count);
}
