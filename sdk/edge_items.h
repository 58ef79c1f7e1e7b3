/* Framed items: what a step of a chain gets after a step with several functions (`--then b+c`), in the order in which
 * they were named. For each an unsigned 32-bit little-endian length, then its bytes. Beside edge.h.
 *
 *   struct edge_items all = edge_items_of(input, length);
 *   size_t size;
 *   const unsigned char *item;
 *   while ((item = edge_items_next(&all, &size)) != 0) ...
 */
#ifndef EDGE_ITEMS_H
#define EDGE_ITEMS_H

#include "edge.h"

struct edge_items {
  const unsigned char *at;
  const unsigned char *end;
};

static inline struct edge_items edge_items_of(const unsigned char *input, size_t length) {
  struct edge_items items = {input, input + length};
  return items;
}

/* The next item and its length; null after the last. Ends the call where the lengths do not add up. */
static inline const unsigned char *edge_items_next(struct edge_items *items, size_t *length) {
  size_t left = (size_t)(items->end - items->at);
  if (left == 0) {
    return 0;
  }
  if (left < 4) {
    edge_fail("items are cut");
  }
  size_t size = (size_t)items->at[0] | (size_t)items->at[1] << 8 | (size_t)items->at[2] << 16 | (size_t)items->at[3] << 24;
  if (size > left - 4) {
    edge_fail("items are cut");
  }
  const unsigned char *item = items->at + 4;
  items->at = item + size;
  *length = size;
  return item;
}

#endif
