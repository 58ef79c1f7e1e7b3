/* What the double knows, and its rules; see libcuda.c. One translation unit, so all is static. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;

enum { OK = 0, INVALID = 1, OOM = 2, NOT_INIT = 3, NO_DEVICE = 100, BAD_DEVICE = 101, NO_CONTEXT = 201, BAD_HANDLE = 400,
       NOT_READY = 600, ACTIVE = 708, REGISTERED = 712, NOT_REGISTERED = 713, UNSUPPORTED = 801 };
enum { MAGIC_STREAM = 0x51, MAGIC_EVENT, MAGIC_POOL, DEVICES = 2, FAULTS = 32, NAMES = 64, ATTRIBUTES = 160 };

typedef struct op {
  int kind; /* 0 copy, 1 free, 2 event */
  void *to;
  const void *from;
  size_t bytes;
  struct op *next;
} op;
typedef struct object {
  int magic;
  struct object *next;
  op *first, **last;          /* stream: what is not done */
  double done_ms;             /* event: when */
  int recorded, pending, timing;
  size_t used, reserved, keep; /* pool */
  size_t unseen;               /* pool: freed, and nobody has looked at the stream since: not to be given back */
  void *freed_on;              /* pool: that stream */
} object;
typedef struct chunk {
  uint64_t at;
  size_t bytes;
  object *pool;
  int kind; /* 0 device, 1 host, 2 registered */
  int freed; /* free is under way on a stream */
  unsigned flags; /* of host memory */
  struct chunk *next;
} chunk;
typedef struct fault {
  char function[48];
  long k;
  CUresult code;
  int sticky;
} fault;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static int initialized, device_count, held, retained[DEVICES], attributes[ATTRIBUTES], version, context_tag[DEVICES];
static long long memory_limit, device_used, host_limit, copies;
static CUresult sticky;
static object *objects;
static chunk *chunks;
static fault faults[FAULTS];
static int fault_count;
static struct { const char *name; long calls; } called[NAMES];
static double clock_ms;
static unsigned last_register_flags, last_context_flags;
static int last_priority;
static __thread void *current;

static CUresult enter(const char *name) {
  int i = 0;
  long calls;
  pthread_mutex_lock(&lock);
  while (i < NAMES - 1 && called[i].name != NULL && strcmp(called[i].name, name) != 0) {
    ++i;
  }
  called[i].name = name;
  calls = ++called[i].calls;
  for (i = 0; i < fault_count; ++i) {
    if (strcmp(faults[i].function, name) == 0 && faults[i].k == calls) {
      if (faults[i].sticky) {
        sticky = faults[i].code;
      }
      return faults[i].code;
    }
  }
  return OK;
}
static CUresult leave(CUresult result) {
  pthread_mutex_unlock(&lock);
  return result;
}
#define BEGIN(name)                                                                                                    \
  CUresult result = enter(#name);                                                                                      \
  if (result != OK) {                                                                                                  \
    return leave(result);                                                                                              \
  }
#define NEED(condition, code)                                                                                          \
  if (!(condition)) {                                                                                                  \
    return leave(code);                                                                                                \
  }
#define WORKING(name)                                                                                                  \
  BEGIN(name)                                                                                                          \
  NEED(initialized, NOT_INIT)                                                                                          \
  NEED(sticky == OK, sticky)                                                                                           \
  NEED(current != NULL && retained[(int *)current - context_tag] > 0, NO_CONTEXT)

static object *make(int magic) {
  object *it = calloc(1, sizeof *it);
  it->magic = magic;
  it->last = &it->first;
  it->next = objects;
  objects = it;
  return it;
}
static object *known(const void *handle, int magic) {
  object *it = objects;
  while (it != NULL && it != handle) {
    it = it->next;
  }
  return it != NULL && it->magic == magic ? it : NULL;
}
static void forget(object *dead) {
  object **at = &objects;
  while (*at != dead) {
    at = &(*at)->next;
  }
  *at = dead->next;
  free(dead);
}
static chunk *chunk_at(uint64_t at, size_t bytes, int kind) {
  chunk *it = chunks;
  while (it != NULL && !(it->kind == kind && at >= it->at && bytes <= it->bytes && at - it->at <= it->bytes - bytes)) {
    it = it->next;
  }
  return it;
}
static chunk *add_chunk(uint64_t at, size_t bytes, object *pool, int kind) {
  chunk *it = calloc(1, sizeof *it);
  it->at = at;
  it->bytes = bytes;
  it->pool = pool;
  it->kind = kind;
  it->next = chunks;
  chunks = it;
  return it;
}
static void remove_chunk(chunk *dead) {
  chunk **at = &chunks;
  while (*at != dead) {
    at = &(*at)->next;
  }
  *at = dead->next;
  if (dead->kind != 2) {
    free((void *)(uintptr_t)dead->at);
  }
  free(dead);
}
static void release_above(object *pool, size_t keep) {
  size_t bound = pool->used + pool->unseen, least = bound > keep ? bound : keep;
  if (pool->reserved > least) {
    device_used -= (long long)(pool->reserved - least);
    pool->reserved = least;
  }
}
static void see(const void *stream) { /* the host knows that all is done there */
  object *it;
  for (it = objects; it != NULL; it = it->next) {
    if (it->magic == MAGIC_POOL && it->freed_on == stream) {
      it->unseen = 0;
    }
  }
}
static void *aligned(size_t bytes) { /* as device memory is */
  void *at = NULL;
  return posix_memalign(&at, 512, bytes) == 0 ? at : NULL;
}
static int mapped(uint64_t start, uint64_t bytes, int writable) { /* all of it is the process's, and may be written to */
  char line[512], rights[8];
  unsigned long long low, high;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (maps != NULL && bytes > 0 && fgets(line, sizeof line, maps) != NULL) {
    if (sscanf(line, "%llx-%llx %7s", &low, &high, rights) == 3 && low <= start && start < high &&
        (!writable || rights[1] == 'w')) {
      bytes = high - start < bytes ? bytes - (high - start) : 0;
      start = high;
    }
  }
  if (maps != NULL) {
    fclose(maps);
  }
  return bytes == 0;
}
static void run(op *work) {
  if (work->kind == 0) {
    memcpy(work->to, work->from, work->bytes);
    ++copies;
  } else if (work->kind == 1) {
    chunk *it = work->to;
    if (it->pool != NULL) {
      it->pool->used -= it->bytes;
      it->pool->unseen += it->bytes;
    }
    remove_chunk(it);
  } else {
    object *event = known(work->to, MAGIC_EVENT);
    if (event != NULL && --event->pending == 0) {
      event->done_ms = clock_ms;
    }
  }
}
static void progress(object *stream) {
  while (!held && stream->first != NULL) {
    op *work = stream->first;
    stream->first = work->next;
    if (stream->first == NULL) {
      stream->last = &stream->first;
    }
    clock_ms += 0.25; /* each piece of work takes a quarter of a millisecond */
    run(work);
    free(work);
  }
}
static void enqueue(object *stream, int kind, void *to, const void *from, size_t bytes) {
  op *work = calloc(1, sizeof *work);
  work->kind = kind;
  work->to = to;
  work->from = from;
  work->bytes = bytes;
  *stream->last = work;
  stream->last = &work->next;
  progress(stream);
}
static void destroy_all(void) {
  chunk **at = &chunks;
  while (objects != NULL) {
    while (objects->first != NULL) {
      op *work = objects->first;
      objects->first = work->next;
      free(work);
    }
    forget(objects);
  }
  while (*at != NULL) {
    remove_chunk(*at);
  }
  device_used = 0;
}
