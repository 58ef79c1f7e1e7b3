/* What `tally` has counted, all of it read as one group; after it in a workflow, what it told the run as well. */
#include "edge_state.h"

EDGE_ALLOCATOR

EDGE_HANDLER(input, length) {
  (void)input;
  (void)length;
  struct edge_group group = edge_group_of(256);
  edge_group_add(&group, EDGE_STATE_OP_BELOW, 0, "tasks/tally/", 0, 0, 0);
  if (edge_group_run(&group) < 0) {
    edge_fail("the counts cannot be read");
  }
  struct edge_value told = edge_state_get("run/tally");
  struct edge_group again = group;
  struct edge_answer answer;
  size_t size = told.length;
  while (edge_group_next(&again, &answer)) {
    size += answer.key_length + answer.value_length + 2;
  }
  unsigned char *output = (unsigned char *)edge_take(size + 1), *to = output;
  while (edge_group_next(&group, &answer)) {
    to = edge_state_append(to, answer.key, answer.key_length);
    *to++ = ' ';
    to = edge_state_append(to, answer.value, answer.value_length);
    *to++ = '\n';
  }
  to = edge_state_append(to, told.at, told.length);
  return edge_reply(output, (size_t)(to - output));
}
