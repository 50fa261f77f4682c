/* What src/link/memif/ring.ts, src/switch/forward.ts and a card's ring do with a client's frames, in C at -O3, over the very
 * same tables: the peer of `bench line-rate`.
 *   forward NETBASE TABLE FRAMES LOG2 time SECONDS   {"case":"ns","value":ns a frame}: the first twentieth of slices
 *   forward NETBASE TABLE FRAMES LOG2 check          every frame once: {"case":"sent"} and {"case":"sum"} of what was sent
 * FRAMES: u32 length, bytes, padded to 4, and so on; one a slot of the ring. Offsets are generated into build/forward.h. */
#define _GNU_SOURCE
#include "forward.h"
#include "netbase.inc.h"
#include "search.inc.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

enum { BUFFER = 2048, OWN = 4096, BATCH = 64, FLOWS = 4096, SLICE = 8192, ETHERNET = 14, TCP = 6, UDP = 17, SLOT = 0 };

struct desc {
  uint16_t flags, region;
  uint32_t length, offset, metadata;
};

struct ring {
  uint32_t cookie;
  uint16_t flags, head;
  uint8_t pad[56];
  uint16_t tail;
  uint8_t pad2[62];
  struct desc desc[];
};

static struct ring *ring;
static uint8_t *client, *frames;
static uint32_t mask, region_bytes, stock[BATCH], spare[OWN], top, sent;
static uint32_t flows[FLOWS][4];
static struct { uint32_t addr, pad, len, options; } tx[2048];
static uint32_t card0, card1, mac0, mac1, longest;
static int look;
static uint32_t sum, sum_frames;

static inline uint32_t at32(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return v;
}

static inline void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

static inline int is_forward(uint32_t protocol, uint32_t src, uint32_t dst, uint32_t ports, uint32_t *flow) {
  uint32_t before = *version;
  if (find4(protocol, src, dst, ports >> 16 | ports << 16) != SLOT || !found) return 0;
  if (find4(protocol, dst, src, ports) >= 0) return 0;
  flow[0] = src;
  flow[1] = dst;
  flow[2] = ports;
  flow[3] = before ^ SLOT << 8 ^ protocol;
  return 1;
}

/* Routes the frame at p; 1 if it is ready to be sent. */
static inline int forward(uint8_t *p, uint32_t len) {
  uint8_t *ip = p + ETHERNET;
  uint32_t w0 = at32(ip), w1 = at32(ip + 4), w2 = at32(ip + 8), src = at32(ip + 12), dst = at32(ip + 16), ports = at32(ip + 20);
  uint32_t total = (w0 >> 8 & 0xff00) | w0 >> 24, protocol = w2 >> 8 & 0xff;
  uint64_t all = (uint64_t)w0 + w1 + w2 + src + dst;
  uint32_t fold = (uint32_t)(all >> 32) + (uint32_t)(all & 0xffff) + ((uint32_t)all >> 16);
  if (len < 42 || len > longest || at32(p) != card0 || at32(p + 4) != (card1 | mac0 << 16) || at32(p + 8) != (mac0 >> 16 | mac1 << 16) ||
      (at32(p + 12) & 0xffff) != 8 || (w0 & 0xff) != 0x45 || total > len - ETHERNET || (fold & 0xffff) + (fold >> 16) != 0xffff ||
      w1 & 0xff3f0000 || (w2 & 0xff) < 2 || !((protocol == UDP && total >= 28) || (protocol == TCP && total >= 40)) ||
      (dst & 0xff) >= 0xe0 || dst == src)
    return 0;
  uint32_t hash = (dst ^ dst >> 16) * 0x9e3779b1u ^ src ^ (ports ^ ports >> 15) * 0x85ebca6bu;
  uint32_t *flow = flows[(hash ^ hash >> 15) & (FLOWS - 1)];
  if (!(flow[0] == src && flow[1] == dst && flow[2] == ports && flow[3] == (*version ^ SLOT << 8 ^ protocol)) &&
      !is_forward(protocol, src, dst, ports, flow))
    return 0;
  const uint32_t *nh = base + fib4(dst);
  uint32_t via = nh[NH_LINK] & 0xff, near0, near1;
  if ((nh[NH_TYPE] & ~NH_PREFSRC) != 0x10001 || nh[NH_OIF] != IFINDEX || (nh[NH_MTU] && total > nh[NH_MTU]) || via > 2) return 0;
  if (!neigh4(via ? nh[NH_GATEWAY] : dst, &near0, &near1)) return 0;
  uint32_t check = (w2 >> 16) + 1;
  put32(p, near0);
  put32(p + 4, (near1 & 0xffff) | card0 << 16);
  put32(p + 8, card0 >> 16 | card1 << 16);
  put32(ip + 8, ((w2 & 0xffff) - 1) | (check + (check >> 16)) << 16);
  return 1;
}

static inline uint32_t turn(void) {
  uint16_t tail = ring->tail;
  uint32_t n = (uint16_t)(__atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) - tail), kept = 0, lens[BATCH];
  if (n > BATCH) n = BATCH;
  for (uint32_t i = 0; i < n; i++) {
    struct desc d = ring->desc[(uint16_t)(tail + i) & mask];
    if (d.flags || d.region || !d.length || d.length > 2046 || d.offset > region_bytes - d.length) exit(3);
    const uint8_t *from = client + d.offset;
    uint8_t *to = frames + stock[i];
    for (uint32_t k = 0; k < d.length; k += 64) memcpy(to + k, from + k, 64);
    lens[i] = d.length;
  }
  __atomic_store_n(&ring->tail, (uint16_t)(tail + n), __ATOMIC_RELEASE);
  for (uint32_t i = 0; i < n; i++) {
    if (!forward(frames + stock[i], lens[i])) exit(4);
    uint32_t slot = (sent + kept++) & 2047;
    tx[slot].addr = stock[i];
    tx[slot].len = lens[i];
    if (!look) continue;
    uint8_t *p = frames + stock[i] - 2;
    for (uint32_t k = 0; k < lens[i] + 2; k += 4) sum = sum * 31 + (k ? at32(p + k) : at32(p) & ~0xffffu);
    sum_frames++;
  }
  __atomic_store_n(&sent, sent + kept, __ATOMIC_RELEASE);
  for (uint32_t i = 0; i < n; i++) spare[top++] = stock[i] & -BUFFER;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t one = spare[--top];
    stock[i] = one + 2;
  }
  return n;
}

static void *map_file(const char *path, size_t *bytes) {
  int fd = open(path, O_RDONLY);
  struct stat s;
  if (fd < 0 || fstat(fd, &s) < 0) return perror(path), exit(1), NULL;
  void *p = mmap(NULL, s.st_size, PROT_READ, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) return perror(path), exit(1), NULL;
  *bytes = s.st_size;
  return p;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double slice(void) {
  double start = now();
  uint32_t n = 0;
  while (n < SLICE) {
    __atomic_store_n(&ring->head, (uint16_t)(ring->tail + mask + 1), __ATOMIC_RELEASE);
    n += turn();
  }
  return (now() - start) / n;
}

int main(int argc, char **argv) {
  if (argc < 6) return fprintf(stderr, "usage: see the head of bench/peers/forward.c\n"), 2;
  size_t bytes;
  base = map_file(argv[1], &bytes);
  words = map_file(argv[2], &bytes);
  version = words + H_VERSION;
  const uint8_t *in = map_file(argv[3], &bytes);
  uint32_t size = 1u << atoi(argv[4]), ring_bytes = (2 * (128 + 16 * size) + 4095) & ~4095u;
  mask = size - 1;
  region_bytes = ring_bytes + size * BUFFER;
  uint8_t *memory = aligned_alloc(2 << 20, (size_t)OWN * BUFFER + ((region_bytes + (2 << 20)) & -(2 << 20)));
  madvise(memory, (size_t)OWN * BUFFER, MADV_HUGEPAGE);
  memset(memory, 0, (size_t)OWN * BUFFER + region_bytes);
  frames = memory;
  client = memory + (size_t)OWN * BUFFER;
  ring = (struct ring *)client;
  for (uint32_t i = 0; i < size; i++) {
    uint32_t len = at32(in);
    memcpy(client + ring_bytes + i * BUFFER, in + 4, len);
    ring->desc[i] = (struct desc){0, 0, len, ring_bytes + i * BUFFER, 0};
    in += 4 + ((len + 3) & ~3u);
  }
  for (uint32_t i = 0; i < OWN; i++) spare[top++] = i * BUFFER;
  for (uint32_t i = 0; i < BATCH; i++) {
    uint32_t one = spare[--top];
    stock[i] = one + 2;
  }
  card0 = CARD0, card1 = CARD1, mac0 = MAC0, mac1 = MAC1, longest = 1514;
  if (!strcmp(argv[5], "check")) {
    look = 1;
    ring->head = size;
    while (turn());
    printf("{\"case\":\"sent\",\"value\":%u}\n{\"case\":\"sum\",\"value\":%u}\n", sum_frames, sum);
    return 0;
  }
  for (double end = now() + 0.2e9; now() < end;) slice();
  static double slices[1 << 20];
  uint32_t n = 0;
  for (double end = now() + atof(argv[6]) * 1e9; now() < end && n < 1 << 20;) slices[n++] = slice();
  qsort(slices, n, sizeof *slices, ascending);
  printf("{\"case\":\"ns\",\"value\":%.4f}\n", slices[n / 20]);
  return 0;
}
