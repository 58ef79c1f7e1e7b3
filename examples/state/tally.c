/* Counts how often it was told each word: adds 1 to tasks/tally/WORD for every word of its input, whoever else does the
 * same at the same time, and answers with the new counts. As a step of a workflow it leaves its answer in run/tally. */
#include "edge_state.h"

EDGE_ALLOCATOR

static const char kPrefix[] = "tasks/tally/";

static uint64_t number(const unsigned char *text, size_t length) {
  uint64_t value = 0;
  for (size_t i = 0; i < length; ++i) {
    value = value * 10 + (uint64_t)(text[i] - '0');
  }
  return value;
}

static size_t decimal(uint64_t value, char *to) {
  char text[20];
  size_t at = sizeof text;
  do {
    text[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value > 0);
  edge_state_append((unsigned char *)to, text + at, sizeof text - at);
  return sizeof text - at;
}

static size_t add_one(const char *key, char *to) {
  struct edge_version version;
  int32_t status;
  size_t length;
  do {
    struct edge_value old = edge_state_get(key);
    if ((old.status < 0 && old.status != EDGE_STATE_NONE) || edge_state_version(key, &version) < 0) {
      edge_fail("the count cannot be read");
    }
    length = decimal(number(old.at, old.length) + 1, to);
    status = edge_state_cas(key, &version, to, length);
  } while (status == EDGE_STATE_VERSION); /* somebody else was quicker */
  if (status < 0) {
    edge_fail("the count cannot be written");
  }
  return length;
}

EDGE_HANDLER(input, length) {
  char *output = (char *)edge_take_array(length + 1, 24), *to = output;
  for (size_t at = 0; at < length; ++at) {
    size_t start = at;
    while (at < length && input[at] > ' ') {
      ++at;
    }
    if (at - start == 0) {
      continue;
    }
    char *key = (char *)edge_take(sizeof kPrefix + at - start);
    unsigned char *end = edge_state_append((unsigned char *)key, kPrefix, sizeof kPrefix - 1);
    edge_state_append(end, input + start, at - start);
    to = (char *)edge_state_append((unsigned char *)to, input + start, at - start);
    *to++ = ' ';
    to += add_one(key, to);
    *to++ = '\n';
  }
  int32_t status = edge_state_put("run/tally", output, (size_t)(to - output));
  if (status < 0 && status != EDGE_STATE_BAD) { /* outside a run it is no key */
    edge_fail("the answer cannot be left to the run");
  }
  return edge_reply(output, (size_t)(to - output));
}
