/* Feeds a node's hose with synthetic frames, as a camera driver would: feed SOCKET HOSE [BYTES [COUNT [FRAMES_PER_S]]].
 *
 * Each frame is a moving ramp, written straight into memory that the node's functions then read. COUNT 0: until Ctrl-C;
 * FRAMES_PER_S 0: as fast as the node takes them.
 */
#define _POSIX_C_SOURCE 200809L
#include <edgehose.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { kWaitMs = 200 };

static volatile sig_atomic_t stopped = 0;

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

static uint64_t number(int argc, char **argv, int at, uint64_t otherwise) {
  if (argc <= at) {
    return otherwise;
  }
  char *end = NULL;
  errno = 0;
  const uint64_t value = strtoull(argv[at], &end, 10);
  if (errno != 0 || end == argv[at] || *end != '\0' || argv[at][0] == '-') {
    fprintf(stderr, "feed: %s is not a number\n", argv[at]);
    exit(2);
  }
  return value;
}

static double now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void sleep_until(double when_s) {
  const double rest = when_s - now_s();
  if (rest > 0) {
    const struct timespec pause = {.tv_sec = (time_t)rest, .tv_nsec = (long)((rest - (double)(time_t)rest) * 1e9)};
    nanosleep(&pause, NULL); /* cut short by Ctrl-C */
  }
}

static void draw(unsigned char *pixels, size_t bytes, uint64_t frame) {
  for (size_t i = 0; i < bytes; ++i) {
    pixels[i] = (unsigned char)(i + frame);
  }
}

/* One frame; 0, or the library's error. */
static int feed(edgehose *hose, size_t bytes, uint64_t frame) {
  void *pixels = NULL;
  int rc = edgehose_loan(hose, bytes, &pixels);
  if (rc == 0) {
    draw(pixels, bytes, frame);
    do { /* while the node is busy; a signal between the test and the wait is seen at the next turn */
      rc = edgehose_publish(hose, pixels, bytes, NULL);
    } while ((rc == -EAGAIN || rc == -EINTR) && !stopped);
    if (rc == -EAGAIN || rc == -EINTR) { /* stopped: the loan is still ours */
      edgehose_abandon(hose, pixels);
      rc = -EINTR;
    }
  }
  return rc;
}

int main(int argc, char **argv) {
  if (argc < 3 || argc > 6) {
    fprintf(stderr, "usage: %s SOCKET HOSE [BYTES [COUNT [FRAMES_PER_S]]]\n", argv[0]);
    return 2;
  }
  const size_t bytes = (size_t)number(argc, argv, 3, 1 << 20);
  const uint64_t count = number(argc, argv, 4, 0);
  const double period_s = number(argc, argv, 5, 10) == 0 ? 0.0 : 1.0 / (double)number(argc, argv, 5, 10);

  struct sigaction action;
  memset(&action, 0, sizeof action); /* without SA_RESTART: a wait ends with Ctrl-C */
  action.sa_handler = stop;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);

  edgehose *hose = NULL;
  int rc = edgehose_attach(argv[1], argv[2], EDGEHOSE_PRODUCER, &hose);
  if (rc == 0) {
    edgehose_set_timeout(hose, kWaitMs);
  }
  uint64_t sent = 0;
  const double start_s = now_s();
  while (rc == 0 && !stopped && (count == 0 || sent < count)) {
    rc = feed(hose, bytes, sent);
    if (rc == 0) {
      ++sent;
      sleep_until(start_s + (double)sent * period_s);
    }
  }
  if (rc != 0 && !(rc == -EINTR && stopped)) {
    fprintf(stderr, "feed: %s\n", edgehose_error(hose));
  }
  const double took_s = now_s() - start_s;
  printf("%" PRIu64 " frames of %zu bytes in %.3f s, %.1f a second\n", sent, bytes, took_s,
         took_s > 0 ? (double)sent / took_s : 0.0);
  if (hose != NULL) {
    edgehose_close(hose);
  }
  return rc == 0 || (rc == -EINTR && stopped) ? 0 : 1;
}
