/* The memory of frames: memfds that this process makes and seals, or receives and checks. */
#ifndef EDGEHOSE_MEMORY_H
#define EDGEHOSE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct area {
  void *at; /* what mmap returned */
  size_t bytes;
};

/* A memfd of at least `bytes`, sealed against SHRINK and GROW, mapped writable (from 2 MiB up at a 2 MiB boundary)
 * and populated. Returns 0 or a negative errno value. */
int memory_make(size_t bytes, int *fd, struct area *area);

/* For ever immutable; -EBUSY while anybody can still write. */
int memory_seal(int fd);

/* Whether `fd` is a memfd that nobody can change and that holds the range; if not, `why`. */
bool memory_is_frame(int fd, uint64_t offset, uint64_t bytes, const char **why);

/* Read-only and private; `*data` is where `offset` lies. */
int memory_map(int fd, uint64_t offset, size_t bytes, struct area *area, const void **data);

void memory_unmap(struct area *area);

#endif
