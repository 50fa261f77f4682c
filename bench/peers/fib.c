/* Longest-prefix match by looking at every route: the peer of `bench fib` that needs no library, and its judge.
 *
 *   peer-fib verify ROUTES ADDRESSES    prints the next hop of each address, one a line, 0 for none
 *   peer-fib time ROUTES ADDRESSES N    one JSON line {"case":"N prefixes","value":ns a lookup} over the first N routes
 *
 * Files have text lines: "PREFIX/LEN NEXTHOP" and "ADDRESS", IPv4 or IPv6. Addresses are compared as two 64-bit
 * words in host order; IPv4 lies in the first one's upper half. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct address {
  uint64_t high, low;
};

struct route {
  struct address prefix, mask;
  uint32_t len, hop;
};

static struct address parse(const char *text) {
  unsigned char bytes[16] = {0};
  struct address a = {0, 0};
  if (inet_pton(strchr(text, ':') ? AF_INET6 : AF_INET, text, bytes) != 1) {
    fprintf(stderr, "not an address: %s\n", text);
    exit(1);
  }
  for (int i = 0; i < 8; i++) a.high = a.high << 8 | bytes[i], a.low = a.low << 8 | bytes[i + 8];
  return a;
}

static FILE *open_file(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) perror(path), exit(1);
  return file;
}

static struct route *routes;
static size_t route_count;

static uint32_t lookup(struct address a) {
  uint32_t hop = 0, len = 0;
  for (size_t i = 0; i < route_count; i++) {
    const struct route *r = &routes[i];
    if (((a.high ^ r->prefix.high) & r->mask.high) == 0 && ((a.low ^ r->prefix.low) & r->mask.low) == 0 &&
        (hop == 0 || r->len > len))
      hop = r->hop, len = r->len;
  }
  return hop;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  size_t most = argc > 4 ? strtoul(argv[4], NULL, 10) : SIZE_MAX, room = 0, count = 0;
  char text[128];
  FILE *file = open_file(argv[2]);
  unsigned len, hop;
  while (route_count < most && fscanf(file, "%127[^/]/%u %u\n", text, &len, &hop) == 3) {
    if (route_count == room) routes = realloc(routes, (room = room ? room * 2 : 1024) * sizeof *routes);
    struct route *r = &routes[route_count++];
    r->prefix = parse(text);
    r->len = len;
    r->hop = hop;
    r->mask.high = len == 0 ? 0 : len >= 64 ? ~0ull : ~0ull << (64 - len);
    r->mask.low = len <= 64 ? 0 : ~0ull << (128 - len);
  }
  fclose(file);
  struct address *addresses = NULL;
  file = open_file(argv[3]);
  for (room = 0; fscanf(file, "%127s\n", text) == 1; addresses[count++] = parse(text))
    if (count == room) addresses = realloc(addresses, (room = room ? room * 2 : 1024) * sizeof *addresses);
  fclose(file);
  if (strcmp(argv[1], "verify") == 0) {
    for (size_t i = 0; i < count; i++) printf("%u\n", lookup(addresses[i]));
    return 0;
  }
  struct timespec from, to;
  uint32_t sum = 0;
  size_t n = 20000;
  clock_gettime(CLOCK_MONOTONIC, &from);
  for (size_t i = 0; i < n; i++) sum += lookup(addresses[i % count]);
  clock_gettime(CLOCK_MONOTONIC, &to);
  double ns = (to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec);
  fprintf(stderr, "%s", sum == 1 ? " " : "");
  printf("{\"case\":\"%zu prefixes\",\"value\":%.3f}\n", route_count, ns / n);
  return 0;
}
