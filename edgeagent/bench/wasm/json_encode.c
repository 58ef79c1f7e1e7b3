/* Returns its input as base64 in a JSON document, and nothing else: what serialization costs. */
#include "json_base64.h"

EDGE_ALLOCATOR

EDGE_HANDLER(input, length) { return json_reply(input, length, 0); }
