/* Preloaded, it makes a directory read-only for a process that has files of it open, as a file system that met an error
 * does: from when READ_ONLY_WHEN exists, whatever changes something below READ_ONLY_BELOW fails with EROFS. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int refuse(void) {
  errno = EROFS;
  return -1;
}

static int is_below(const char *path) {
  const char *below = getenv("READ_ONLY_BELOW"), *when = getenv("READ_ONLY_WHEN");
  return below != NULL && when != NULL && strncmp(path, below, strlen(below)) == 0 &&
         syscall(SYS_faccessat, AT_FDCWD, when, F_OK) == 0;
}

static int is_open_below(int fd) {
  char name[64], path[4096];
  int error = errno;
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(name, path, sizeof path - 1);
  path[size > 0 ? size : 0] = 0;
  errno = error;
  return size > 0 && is_below(path);
}

static int open_as(const char *path, int flags, va_list rest) {
  int mode = flags & O_CREAT ? va_arg(rest, int) : 0;
  if ((flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) && is_below(path)) {
    return refuse();
  }
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

#define OPENS(NAME)                         \
  int NAME(const char *path, int flags, ...) { \
    va_list rest;                           \
    va_start(rest, flags);                  \
    int fd = open_as(path, flags, rest);    \
    va_end(rest);                           \
    return fd;                              \
  }
OPENS(open)
OPENS(open64)

#define REAL(NAME) ((__typeof__(&NAME))dlsym(RTLD_NEXT, #NAME))
#define CHANGES(TYPE, NAME, PARAMETERS, ARGUMENTS)                                  \
  TYPE NAME PARAMETERS { return is_open_below(fd) ? refuse() : REAL(NAME) ARGUMENTS; }
CHANGES(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
CHANGES(ssize_t, pwrite, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
CHANGES(ssize_t, pwrite64, (int fd, const void *from, size_t size, off64_t at), (fd, from, size, at))
CHANGES(ssize_t, pwritev, (int fd, const struct iovec *from, int count, off_t at), (fd, from, count, at))
CHANGES(ssize_t, pwritev64, (int fd, const struct iovec *from, int count, off64_t at), (fd, from, count, at))
CHANGES(int, ftruncate, (int fd, off_t size), (fd, size))
CHANGES(int, ftruncate64, (int fd, off64_t size), (fd, size))

int posix_fallocate64(int fd, off64_t at, off64_t size) {
  return is_open_below(fd) ? EROFS : REAL(posix_fallocate64)(fd, at, size);
}
int posix_fallocate(int fd, off_t at, off_t size) { return posix_fallocate64(fd, at, size); }

int unlink(const char *path) { return is_below(path) ? refuse() : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0); }
