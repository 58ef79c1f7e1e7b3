/* Guests of edgeagent in C: the `bytes` ABI.
 *
 *   #include "edge.h"
 *   EDGE_ALLOCATOR
 *   EDGE_HANDLER(input, length) { ...; return edge_reply(output, output_length); }
 *
 * Build (clang with wasm-ld, no C library needed):
 *   clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry -Wl,--stack-first -Wl,--strip-all -I sdk -o f.wasm f.c
 *
 * Every invocation runs in a fresh instance: memory is never freed, and nothing survives a call.
 * A handler that cannot go on calls edge_fail(): the line is logged and the caller gets a problem document.
 */
#ifndef EDGE_H
#define EDGE_H

#include <stddef.h>
#include <stdint.h>

#define EDGE_EXPORT(name) __attribute__((export_name(name)))
#define EDGE_IMPORT(module, name) __attribute__((import_module(module), import_name(name)))

/* edge_log.log(level, ptr, len): at most 256 lines of 1024 bytes a call are kept. */
enum edge_level { EDGE_TRACE = 0, EDGE_DEBUG = 1, EDGE_INFO = 2, EDGE_WARN = 3, EDGE_ERROR = 4 };
EDGE_IMPORT("edge_log", "log") void edge_log_raw(int32_t level, const char *text, int32_t length);

static inline void edge_log(enum edge_level level, const char *text) {
  int32_t length = 0;
  while (text[length] != 0) {
    ++length;
  }
  edge_log_raw(level, text, length);
}

/* Ends the invocation with a trap; the text is in the node's log. */
__attribute__((noreturn)) static inline void edge_fail(const char *text) {
  edge_log(EDGE_ERROR, text);
  __builtin_trap();
}

/* Fresh zeroed memory; grows the linear memory as needed, traps when the limit is reached. `align`: a power of two. */
extern unsigned char __heap_base;
static inline void *edge_take_aligned(size_t bytes, size_t align) {
  static uintptr_t next = 0;
  if (next == 0) {
    next = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
  }
  uint64_t start = ((uint64_t)next + align - 1) & ~((uint64_t)align - 1);
  uint64_t end = start + (((uint64_t)bytes + 15) & ~(uint64_t)15);
  uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) << 16;
  if (end > have && (end >> 32 != 0 || __builtin_wasm_memory_grow(0, (size_t)((end - have + 65535) >> 16)) == (size_t)-1)) {
    edge_fail("out of memory");
  }
  next = (uintptr_t)end;
  return (void *)(uintptr_t)start;
}

/* The same, aligned to 16 bytes. */
static inline void *edge_take(size_t bytes) { return edge_take_aligned(bytes, 16); }

/* The same for `count` values of `size` bytes, where the product may not fit 32 bits. */
static inline void *edge_take_array(size_t count, size_t size) {
  uint64_t bytes = (uint64_t)count * size;
  if (bytes >> 32 != 0) {
    edge_fail("out of memory");
  }
  return edge_take((size_t)bytes);
}

/* Defines edge_alloc, through which the host asks where to put the input, and edge_alloc_aligned, with which whole pages
 * of another function's output can become the input without a copy. The host may use any part of what it gets. */
#define EDGE_ALLOCATOR                                                                                                 \
  EDGE_EXPORT("edge_alloc") void *edge_alloc(size_t length) { return edge_take(length); }                              \
  EDGE_EXPORT("edge_alloc_aligned") void *edge_alloc_aligned(size_t length, size_t align) {                            \
    return edge_take_aligned(length, align);                                                                           \
  }

/* Defines edge_handle(input, length) -> output pointer << 32 | output length. */
#define EDGE_HANDLER(input, length)                                                                                    \
  EDGE_EXPORT("edge_handle") uint64_t edge_handle(uint8_t *input, size_t length)

static inline uint64_t edge_reply(const void *output, size_t length) {
  return (uint64_t)(uintptr_t)output << 32 | length;
}

#endif
