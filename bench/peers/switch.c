/* The search of src/switch/table/search.ts in C, IPv4, over the same table; the peer of `bench switch`.
 *   switch TABLE COUNT time SECONDS   {"case":"ns","value":ns a search}: the first decile of slices
 *   switch TABLE COUNT check          {"case":"found","value":what the searches find, as one number}
 * Offsets are generated from src/switch/table/layout.ts into build/switch.h. */
#define _GNU_SOURCE
#include "switch.h"
#include "search.inc.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

enum { ORDER = 262144, SLICE = 16384, UDP = 17, WARM_UP_MS = 400 };

static inline uint32_t own(uint32_t n) {
  return 0x0a | __builtin_bswap32(n & 0xffffff);
}

static inline uint32_t peer(uint32_t n) {
  return 0xa8c0 | __builtin_bswap32(n * 7 & 0xffff);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static uint32_t order[ORDER], ports;

static double slice(uint32_t at) {
  uint64_t start = now();
  uint32_t wrong = 0;
  for (uint32_t i = at; i < at + SLICE; i++) {
    uint32_t n = order[i];
    if (find4(UDP, own(n), peer(n), ports) != (int32_t)(n % CLIENTS)) wrong++;
  }
  uint64_t end = now();
  if (wrong) {
    fprintf(stderr, "%u of %d searches went astray\n", wrong, SLICE);
    exit(1);
  }
  return (double)(end - start) / SLICE;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  int fd = open(argv[1], O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st)) return perror(argv[1]), 1;
  /* Huge pages need an address that is a multiple of theirs: as ffi/memory.ts maps it. */
  const size_t huge = 2u << 20;
  char *room = mmap(NULL, st.st_size + huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *at = (char *)(((uintptr_t)room + huge - 1) & ~(huge - 1));
  words = mmap(at, st.st_size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
  if (words == MAP_FAILED) return perror("mmap"), 1;
  version = words + H_VERSION;
  uint32_t count = strtoul(argv[2], NULL, 10), x = 2463534242u;
  ports = __builtin_bswap16(REMOTE_PORT) | (uint32_t)__builtin_bswap16(PORT) << 16;
  if (!strcmp(argv[3], "check")) {
    uint32_t sum = 0;
    for (uint32_t n = 0; n < count * 2; n++) sum = sum * 31 + (uint32_t)find4(UDP, own(n), peer(n + (n % 3 == 0)), ports);
    printf("{\"case\":\"found\",\"value\":%u}\n", sum);
    return 0;
  }
  for (int i = 0; i < ORDER; i++) x ^= x << 13, x ^= x >> 17, x ^= x << 5, order[i] = x % count;
  static double slices[1 << 16];
  uint64_t end = now() + WARM_UP_MS * 1000000ull;
  uint32_t from = 0;
  for (; now() < end; from = (from + SLICE) & (ORDER - 1)) slice(from);
  end = now() + (uint64_t)(atof(argv[4]) * 1e9);
  int n = 0;
  for (; now() < end && n < 1 << 16; from = (from + SLICE) & (ORDER - 1)) slices[n++] = slice(from);
  qsort(slices, n, sizeof *slices, by_value);
  printf("{\"case\":\"ns\",\"value\":%.3f}\n", slices[n / 10]);
  return 0;
}
