/* A command function: an ordinary C program. Counts lines and bytes of standard input; with an argument, lines that
 * hold it. Build: clang --target=wasm32-wasi --sysroot=/usr -O2 -o count.wasm count.c (Debian's wasi-libc). */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

int main(int argc, char **argv) {
  char *line = NULL;
  size_t room = 0;
  ssize_t length;
  unsigned long lines = 0, bytes = 0, matches = 0;
  while ((length = getline(&line, &room, stdin)) > 0) {
    ++lines;
    bytes += (size_t)length;
    if (argc > 1 && memmem(line, (size_t)length, argv[1], strlen(argv[1])) != NULL) {
      ++matches;
    }
  }
  printf("%lu lines, %lu bytes", lines, bytes);
  if (argc > 1) {
    printf(", %lu with %s", matches, argv[1]);
  }
  printf("\n");
  if (lines == 0) {
    fprintf(stderr, "nothing on standard input\n");
    return 3;
  }
  return 0;
}
