#define _GNU_SOURCE
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

static const size_t kHugeBytes = (size_t)2 << 20;

static size_t page_bytes(void) {
  const long bytes = sysconf(_SC_PAGESIZE);
  return bytes > 0 ? (size_t)bytes : 4096;
}

/* Maps the file; where 2 MiB pages are possible, so that address and file offset agree modulo 2 MiB, as they need. */
static int map_file(int fd, int prot, int flags, off_t offset, size_t bytes, struct area *area) {
  if (bytes < kHugeBytes) {
    void *anywhere = mmap(NULL, bytes, prot, flags, fd, offset);
    *area = (struct area){.at = anywhere == MAP_FAILED ? NULL : anywhere, .bytes = bytes};
    return anywhere == MAP_FAILED ? -errno : 0;
  }
  const size_t room = bytes + kHugeBytes;
  char *raw = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) {
    return -errno;
  }
  const size_t wanted = (size_t)offset % kHugeBytes;
  const size_t head = (wanted + kHugeBytes - (uintptr_t)raw % kHugeBytes) % kHugeBytes;
  char *at = raw + head;
  if (mmap(at, bytes, prot, flags | MAP_FIXED, fd, offset) == MAP_FAILED) {
    const int error = -errno;
    munmap(raw, room);
    return error;
  }
  if (head > 0) {
    munmap(raw, head);
  }
  /* What is mapped ends at a page's end; the reservation goes on behind it. */
  char *end = at + (bytes + page_bytes() - 1) / page_bytes() * page_bytes();
  if (end < raw + room) {
    munmap(end, (size_t)(raw + room - end));
  }
  area->at = at;
  area->bytes = bytes;
  return 0;
}

/* All pages now: to run out of memory later, in the middle of a store, would be a SIGBUS. */
static int populate(int fd, const struct area *area) {
  const bool huge = area->bytes >= kHugeBytes;
  if (huge) {
    madvise(area->at, area->bytes, MADV_HUGEPAGE); /* a hint, for the faults to come */
  }
  if (madvise(area->at, area->bytes, MADV_POPULATE_WRITE) != 0) {
    /* Older kernels do not know it (EINVAL); fallocate fills as well, without mapping. */
    if (errno != EINVAL || fallocate(fd, 0, 0, (off_t)area->bytes) != 0) {
      return errno == ENOSPC || errno == EFAULT ? -ENOMEM : -errno;
    }
  }
  if (huge) {
    madvise(area->at, area->bytes, MADV_COLLAPSE); /* and where the hint was not taken */
  }
  return 0;
}

int memory_make(size_t bytes, int *fd, struct area *area) {
  const size_t unit = bytes >= kHugeBytes ? kHugeBytes : page_bytes();
  if (bytes > (size_t)(PTRDIFF_MAX / 2)) {
    return -EFBIG;
  }
  const size_t size = (bytes + unit - 1) / unit * unit;
  const int made = memfd_create("edgehose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (made < 0) {
    return -errno;
  }
  int rc = 0;
  if (ftruncate(made, (off_t)size) != 0 || fcntl(made, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    rc = -errno;
  }
  if (rc == 0) {
    rc = map_file(made, PROT_READ | PROT_WRITE, MAP_SHARED, 0, size, area);
  }
  if (rc == 0) {
    rc = populate(made, area);
    if (rc != 0) {
      memory_unmap(area);
    }
  }
  if (rc != 0) {
    close(made);
    return rc;
  }
  *fd = made;
  return 0;
}

int memory_seal(int fd) { return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) == 0 ? 0 : -errno; }

bool memory_is_frame(int fd, uint64_t offset, uint64_t bytes, const char **why) {
  const int wanted = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  struct stat inode;
  /* Seals first: they are asked of no file system, so that no file of a hostile one can keep us waiting. */
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) {
    *why = "the node sent a descriptor that is no memfd";
  } else if ((seals & wanted) != wanted) {
    *why = "the node sent a memfd that is not sealed";
  } else if (fstat(fd, &inode) != 0 || inode.st_size < 0 || bytes == 0 || offset > (uint64_t)inode.st_size ||
             bytes > (uint64_t)inode.st_size - offset) {
    *why = "the node sent a memfd that is smaller than its frame";
  } else {
    return true;
  }
  return false;
}

int memory_map(int fd, uint64_t offset, size_t bytes, struct area *area, const void **data) {
  const size_t skip = (size_t)(offset % page_bytes());
  /* Private: a shared mapping of a write-sealed memfd needs Linux 6.7. */
  const int rc = map_file(fd, PROT_READ, MAP_PRIVATE, (off_t)(offset - skip), bytes + skip, area);
  if (rc == 0) {
    *data = (const char *)area->at + skip;
  }
  return rc;
}

void memory_unmap(struct area *area) {
  if (area->at != NULL) {
    munmap(area->at, area->bytes);
    area->at = NULL;
  }
}
