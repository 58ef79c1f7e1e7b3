/* A command function: an ordinary C program. Counts lines and bytes of standard input; with an argument, lines that
 * hold it. Build: clang --target=wasm32-wasi --sysroot=/usr -O2 -o count.wasm count.c (Debian's wasi-libc). */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  static char line[65536];
  unsigned long lines = 0, bytes = 0, matches = 0;
  while (fgets(line, sizeof line, stdin) != NULL) {
    ++lines;
    bytes += strlen(line);
    if (argc > 1 && strstr(line, argv[1]) != NULL) {
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
