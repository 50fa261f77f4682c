// The machine's own pauses: an empty loop that reads the clock, pinned by its caller. bench/pause.ts holds the net loop
// against it.
//   spin SECONDS    prints the longest time between two readings, in microseconds; and the longest without the time
//                   in which another thread had the core (run delay in /proc/thread-self/schedstat)
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_US = 100 }; // shorter pauses are not looked into

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec * 1e-3;
}

static double run_delay(int fd) {
  char text[64] = "";
  unsigned long long delay = 0;
  if (pread(fd, text, sizeof text - 1, 0) > 0) sscanf(text, "%*u %llu", &delay);
  return delay * 1e-3;
}

int main(int argc, char **argv) {
  int fd = open("/proc/thread-self/schedstat", O_RDONLY);
  double last = now(), end = last + 1e6 * (argc > 1 ? atof(argv[1]) : 1), longest = 0, running = 0, delay = run_delay(fd);
  while (last < end) {
    double t = now();
    if (t - last > longest) longest = t - last;
    if (t - last > LOOK_US) {
      double d = run_delay(fd);
      if (t - last - (d - delay) > running) running = t - last - (d - delay);
      delay = d;
      t = now();
    } else if (t - last > running) {
      running = t - last;
    }
    last = t;
  }
  printf("{\"case\":\"longest pause\",\"value\":%.1f}\n", longest);
  printf("{\"case\":\"longest pause while on the core\",\"value\":%.1f}\n", running);
}
