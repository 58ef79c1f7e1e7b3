/* State: values under keys that outlive a call, and reach the node where the next step runs. Beside edge.h.
 *
 *   struct edge_value old = edge_state_get("tasks/fires/last");     // old.status is EDGE_STATE_NONE where there is none
 *   edge_state_put("run/scene", pixels, bytes);
 *
 * A key is 1 to 512 bytes of UTF-8 in segments that / separates, none of them empty, . or .., and says nothing about
 * where the value is. `run/NAME` is the state of the run of a workflow that this call is a step of; runs that happen at
 * once never meet. Other keys must begin with one of the manifest's [state] prefixes.
 *
 * In a run a step sees one state of its keys for as long as it runs, with what it has written itself. Its writes are
 * held, and written at its end as one group, before its output counts; where that fails, the step has failed.
 * EDGE_STATE_NOW writes, or reads, past that. Outside a run every call of these functions reads and writes at once.
 *
 * A step may run again after a node was lost. Keys of the run are written once: a second run that writes the same is
 * fine. Counters and the like need edge_state_cas, or what they count twice.
 */
#ifndef EDGE_STATE_H
#define EDGE_STATE_H

#include "edge.h"

/* What the raw functions return instead of a length or 0. */
enum edge_state_error {
  EDGE_STATE_BAD = -1,        /* a key, prefix, version, flag or group that is none; run/ outside a run */
  EDGE_STATE_RANGE = -2,      /* pointer and length are not inside the memory */
  EDGE_STATE_MEMORY = -4,     /* no memory for it */
  EDGE_STATE_FULL = -5,       /* too many guests wait, or a step holds 1024 writes */
  EDGE_STATE_NONE = -10,      /* there is no value */
  EDGE_STATE_DENIED = -11,    /* the key is not under the manifest's [state] prefixes */
  EDGE_STATE_OFF = -12,       /* this node keeps no state */
  EDGE_STATE_VERSION = -13,   /* the key has another version */
  EDGE_STATE_TAKEN = -14,     /* the key is written once, and has another value */
  EDGE_STATE_FENCED = -15,    /* another node owns the key */
  EDGE_STATE_TOO_LARGE = -16, /* the value is over the node's limit */
  EDGE_STATE_NO_ROOM = -17,   /* quota or disk full */
  EDGE_STATE_BEHIND = -18,    /* no node in reach has what this run has seen already */
  EDGE_STATE_LATE = -19,      /* written here, and not where it was wanted in time */
  EDGE_STATE_FAILED = -20,    /* the node could not do it; its log says why */
};

/* What a write returns: where it is on disk. */
enum edge_state_durability {
  EDGE_STATE_LOCAL = 0,  /* at this node */
  EDGE_STATE_PEER = 1,   /* at two nodes or more */
  EDGE_STATE_GROUND = 2, /* and on the ground */
  EDGE_STATE_HELD = 3,   /* it waits for the end of this step */
};

enum edge_state_flags {
  EDGE_STATE_NOW = 1,         /* past what the step holds: written at once; in a group also read at once */
  EDGE_STATE_WANT_PEER = 2,   /* returns when it is on disk at two nodes */
  EDGE_STATE_WANT_GROUND = 4, /* ... on the ground */
  EDGE_STATE_EXPECT = 128,    /* in a group: only over the version that is given, none: only where there is no value */
};

/* A version as a guest holds it: text, then zeros; all zeros before the first write. */
struct edge_version {
  char text[96];
};

/* get(key, len, ptr, cap): the value at ptr; its length. Where that is more than cap, nothing is written, and the next
 * get of this key with room for it gets this value. Large values in buffers on a multiple of 65536 are mapped, not
 * copied: to edge_hose those are messages that it can release. */
EDGE_IMPORT("edge_state", "get") int32_t edge_state_get_raw(const char *key, int32_t key_len, void *to, int32_t cap);
/* put(key, len, ptr, len, flags): returns an edge_state_durability. */
EDGE_IMPORT("edge_state", "put")
int32_t edge_state_put_raw(const char *key, int32_t key_len, const void *from, int32_t length, int32_t flags);
/* delete(key, len): the same; also where there was none. */
EDGE_IMPORT("edge_state", "delete") int32_t edge_state_delete_raw(const char *key, int32_t key_len);
/* list(prefix, len, ptr, cap): up to 1024 keys that begin with the prefix, in order; the length of the listing. Where
 * that is more than cap, nothing is written. Little-endian, not aligned: u32 count, u32 more (1: there are keys after the
 * last), then for each u32 size of its value, u16 length of the key, u16 length of the version, key, version ("" of a
 * write that is held). list_after goes on after a key. */
EDGE_IMPORT("edge_state", "list")
int32_t edge_state_list_raw(const char *prefix, int32_t prefix_len, void *to, int32_t cap);
EDGE_IMPORT("edge_state", "list_after")
int32_t edge_state_list_after_raw(const char *prefix, int32_t prefix_len, const char *after, int32_t after_len, void *to,
                                  int32_t cap);
/* version(key, len, ptr, cap): the version of the value that this call has read, or would read; its length. With room for
 * 96 bytes, zeros follow the text. */
EDGE_IMPORT("edge_state", "version")
int32_t edge_state_version_raw(const char *key, int32_t key_len, void *to, int32_t cap);
/* cas(key, len, version, ptr, len): writes at once, if the key has this version (96 bytes, as struct edge_version); else
 * EDGE_STATE_VERSION. Both times the version that the key has now is written back. */
EDGE_IMPORT("edge_state", "cas")
int32_t edge_state_cas_raw(const char *key, int32_t key_len, struct edge_version *version, const void *from,
                           int32_t length);
/* group(ptr, len, out, cap): several operations as one, all or nothing; the length of the reply. Where that is more than
 * cap nothing is written there, but the group is done: group with len 0 takes its reply. Little-endian, not aligned:
 *   request: u32 count (1 to 1024), then for each
 *            u8 operation, u8 flags, u16 length of the key, u16 of the version, u16 0, u32 of the value, u32 ttl_ms,
 *            key, version, value
 *   reply:   u32 count, then for each i32 status, u16 length of the key, u16 of the version, u32 of the value,
 *            key, version, value; in the order of the request, then the keys below a prefix
 * `status` is EDGE_STATE_NONE for a get that found none, a durability for a write. A version goes with EDGE_STATE_EXPECT
 * only, a value and ttl_ms (0: for ever) with a put only. A group with EDGE_STATE_NOW or EDGE_STATE_EXPECT anywhere is done
 * at once as a whole. */
EDGE_IMPORT("edge_state", "group")
int32_t edge_state_group_raw(const void *from, int32_t length, void *to, int32_t cap);

enum edge_state_operation {
  EDGE_STATE_OP_GET = 0,
  EDGE_STATE_OP_PUT = 1,
  EDGE_STATE_OP_DELETE = 2,
  EDGE_STATE_OP_BELOW = 3, /* get all keys that begin with the key; one of a group */
};

static inline int32_t edge_state_length(const char *text) {
  int32_t length = 0;
  while (text[length] != 0) {
    ++length;
  }
  return length;
}

/* A value in memory of its own; `at` is null where `status`, an error, is not 0. */
struct edge_value {
  unsigned char *at;
  size_t length;
  int32_t status;
};

static inline struct edge_value edge_state_get(const char *key) {
  struct edge_value value = {0, 0, 0};
  int32_t key_length = edge_state_length(key), size = edge_state_get_raw(key, key_length, 0, 0);
  if (size >= 0) {
    value.at = (unsigned char *)edge_take_aligned((size_t)size + 1, size < 524288 ? 16 : 65536);
    size = size == 0 ? 0 : edge_state_get_raw(key, key_length, value.at, size);
  }
  value.length = size < 0 ? 0 : (size_t)size;
  value.status = size < 0 ? size : 0;
  value.at = size < 0 ? 0 : value.at;
  return value;
}

static inline int32_t edge_state_put_flags(const char *key, const void *from, size_t bytes, int32_t flags) {
  return bytes > INT32_MAX ? EDGE_STATE_TOO_LARGE
                           : edge_state_put_raw(key, edge_state_length(key), from, (int32_t)bytes, flags);
}

static inline int32_t edge_state_put(const char *key, const void *from, size_t bytes) {
  return edge_state_put_flags(key, from, bytes, 0);
}

static inline int32_t edge_state_delete(const char *key) { return edge_state_delete_raw(key, edge_state_length(key)); }

/* The version of what edge_state_get gave, or would give; all zeros where there is no value. 0, or an error. */
static inline int32_t edge_state_version(const char *key, struct edge_version *version) {
  int32_t status = edge_state_version_raw(key, edge_state_length(key), version, sizeof *version);
  if (status >= 0) {
    return 0;
  }
  *version = (struct edge_version){{0}};
  return status == EDGE_STATE_NONE ? 0 : status;
}

static inline int32_t edge_state_cas(const char *key, struct edge_version *version, const void *from, size_t bytes) {
  return bytes > INT32_MAX ? EDGE_STATE_TOO_LARGE
                           : edge_state_cas_raw(key, edge_state_length(key), version, from, (int32_t)bytes);
}

static inline uint32_t edge_state_u32(const unsigned char *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline unsigned char *edge_state_store(unsigned char *at, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) {
    *at++ = (unsigned char)(value >> (8 * i));
  }
  return at;
}

static inline unsigned char *edge_state_append(unsigned char *at, const void *from, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    at[i] = ((const unsigned char *)from)[i];
  }
  return at + bytes;
}

/* Several operations as one:
 *
 *   struct edge_group group = edge_group_of(4096);          // room for the request
 *   edge_group_get(&group, "run/scene");
 *   edge_group_put(&group, "run/count", &count, sizeof count);
 *   if (edge_group_run(&group) < 0) ...
 *   struct edge_answer answer;
 *   while (edge_group_next(&group, &answer)) ...
 */
struct edge_group {
  unsigned char *request, *at, *end;
  unsigned char *reply;
  uint32_t count, left;
};

struct edge_answer {
  const char *key, *version;        /* neither ends with a zero */
  const unsigned char *value;
  uint32_t key_length, version_length, value_length;
  int32_t status;
};

static inline struct edge_group edge_group_of(size_t bytes) {
  unsigned char *room = (unsigned char *)edge_take(bytes + 4);
  struct edge_group group = {room, room + 4, room + 4 + bytes, 0, 0, 0};
  return group;
}

/* Adds an operation; `version` null for none. Ends the call where the room is used up. */
static inline void edge_group_add(struct edge_group *group, int32_t operation, int32_t flags, const char *key,
                                  const struct edge_version *version, const void *value, size_t bytes) {
  size_t key_length = (size_t)edge_state_length(key);
  size_t version_length = version == 0 ? 0 : (size_t)edge_state_length(version->text);
  size_t room = (size_t)(group->end - group->at);
  if (room < 16 || room - 16 < key_length || room - 16 - key_length < version_length ||
      room - 16 - key_length - version_length < bytes) {
    edge_fail("a group has no room left");
  }
  unsigned char *at = edge_state_store(group->at, (uint64_t)(uint8_t)operation | (uint64_t)(uint8_t)flags << 8, 2);
  at = edge_state_store(at, key_length, 2);
  at = edge_state_store(at, version_length, 4);
  at = edge_state_store(at, bytes, 4);
  at = edge_state_store(at, 0, 4);
  at = edge_state_append(at, key, key_length);
  at = edge_state_append(at, version == 0 ? 0 : version->text, version_length);
  group->at = edge_state_append(at, value, bytes);
  ++group->count;
}

static inline void edge_group_get(struct edge_group *group, const char *key) {
  edge_group_add(group, EDGE_STATE_OP_GET, 0, key, 0, 0, 0);
}
static inline void edge_group_put(struct edge_group *group, const char *key, const void *value, size_t bytes) {
  edge_group_add(group, EDGE_STATE_OP_PUT, 0, key, 0, value, bytes);
}
static inline void edge_group_delete(struct edge_group *group, const char *key) {
  edge_group_add(group, EDGE_STATE_OP_DELETE, 0, key, 0, 0, 0);
}

/* 0, or why nothing was done. */
static inline int32_t edge_group_run(struct edge_group *group) {
  edge_state_store(group->request, group->count, 4);
  int32_t size = edge_state_group_raw(group->request, (int32_t)(group->at - group->request), 0, 0);
  if (size < 0) {
    return size;
  }
  group->reply = (unsigned char *)edge_take_aligned((size_t)size, size < 524288 ? 16 : 65536);
  size = edge_state_group_raw(0, 0, group->reply, size);
  group->left = size < 0 ? 0 : edge_state_u32(group->reply);
  group->reply += 4;
  return size < 0 ? size : 0;
}

/* The next answer; 0 after the last. */
static inline int edge_group_next(struct edge_group *group, struct edge_answer *answer) {
  if (group->left == 0) {
    return 0;
  }
  const unsigned char *at = group->reply;
  answer->status = (int32_t)edge_state_u32(at);
  answer->key_length = edge_state_u32(at + 4) & 0xffff;
  answer->version_length = edge_state_u32(at + 4) >> 16;
  answer->value_length = edge_state_u32(at + 8);
  answer->key = (const char *)at + 12;
  answer->version = answer->key + answer->key_length;
  answer->value = (const unsigned char *)answer->version + answer->version_length;
  group->reply += 12 + answer->key_length + answer->version_length + (size_t)answer->value_length;
  --group->left;
  return 1;
}

/* All keys that begin with a prefix:
 *
 *   struct edge_keys keys = edge_state_list("tasks/");
 *   while (edge_keys_next(&keys)) ...keys.key, keys.key_length, keys.size...
 *   if (keys.status < 0) ...
 */
struct edge_keys {
  const char *prefix;
  const char *key; /* not ended by a zero */
  uint32_t key_length;
  uint32_t size; /* of the value */
  int32_t status;
  const unsigned char *at;
  uint32_t left, more;
};

static inline void edge_keys_fill(struct edge_keys *keys) {
  int32_t length = edge_state_length(keys->prefix);
  unsigned char *room = 0;
  int32_t cap = 0, size = 4096;
  while (size > cap) { /* it may have grown meanwhile */
    cap = size;
    room = (unsigned char *)edge_take((size_t)cap);
    size = edge_state_list_after_raw(keys->prefix, length, keys->key, (int32_t)keys->key_length, room, cap);
  }
  keys->status = size < 0 ? size : 0;
  keys->left = size < 0 ? 0 : edge_state_u32(room);
  keys->more = size < 0 ? 0 : edge_state_u32(room + 4);
  keys->at = room + 8;
}

static inline struct edge_keys edge_state_list(const char *prefix) {
  struct edge_keys keys = {prefix, 0, 0, 0, 0, 0, 0, 0};
  edge_keys_fill(&keys);
  return keys;
}

static inline int edge_keys_next(struct edge_keys *keys) {
  if (keys->left == 0 && keys->more != 0) {
    edge_keys_fill(keys);
  }
  if (keys->left == 0) {
    return 0;
  }
  keys->size = edge_state_u32(keys->at);
  keys->key_length = edge_state_u32(keys->at + 4) & 0xffff;
  keys->key = (const char *)keys->at + 8;
  keys->at += 8 + keys->key_length + (edge_state_u32(keys->at + 4) >> 16);
  --keys->left;
  return 1;
}

#endif
