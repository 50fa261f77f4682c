// The machine's own pauses: an empty loop that reads the clock, pinned by its caller. bench/pause.ts holds the net loop
// against it.
//   spin SECONDS    prints the longest time between two readings, in microseconds
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec * 1e-3;
}

int main(int argc, char **argv) {
  double last = now(), end = last + 1e6 * (argc > 1 ? atof(argv[1]) : 1), longest = 0;
  while (last < end) {
    double t = now();
    if (t - last > longest) longest = t - last;
    last = t;
  }
  printf("{\"case\":\"longest pause\",\"value\":%.1f}\n", longest);
}
