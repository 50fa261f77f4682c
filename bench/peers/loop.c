// The net loop in C at -O3, over the very same tables: what bench/loop.ts holds ours against, and compares byte by byte.
//   loop NETBASE EPOCHS MATCHES FRAMES time SECONDS BATCH   ns a frame, the frames going round a hairpin: the
//     first decile of slices of 16384 frames, so that what else the machine does costs neither side
//   loop NETBASE EPOCHS MATCHES FRAMES check OUT            every frame once, in batches of 64; what is sent goes to OUT
// NETBASE, EPOCHS, MATCHES: shared memory of the bench, as paths. FRAMES and OUT: u32 length, bytes, padded to 4, and so on.
// Offsets are generated from src/netbase/layout.ts and src/switch/drops.ts into build/loop.h.
//
// The same work as src/switch: frames come off a descriptor ring; Ethernet, IPv4 and UDP are checked, with both checksums;
// a match is looked up; the answer is written in place, routed (FIB, next hop, neighbour), and put on the ring. Links are
// looked at, and the clock, every 64 turns; the epoch is published every turn. No fragments, groups or solicitation beyond
// the drop reason: the timed frames have none.
#include "loop.h"
#include "netbase.inc.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_BYTES = 2048, START = 2 /* IPv4 in whole words, as ours */, MAX_BATCH = 256, TURNS = 64, ETHERNET = 14, REASONS = 64, SLICE = 16384 };

struct desc {
  uint64_t addr;
  uint32_t len, options;
};

struct ring {
  uint32_t producer, pad1[15], consumer, pad2[15];
  struct desc desc[];
};

static uint32_t *epoch;
static const uint32_t *matches;
static struct ring *rx, *tx;
static uint32_t ring_mask;
static uint8_t *frames;
static uint64_t counts[REASONS];
static uint64_t rx_bytes, tx_bytes;
static uint64_t published[REASONS + 2];

static uint8_t own_mac[6];
static uint32_t src_head, src_tail, up, longest;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static inline uint16_t be16(const uint8_t *p) {
  uint16_t v;
  memcpy(&v, p, 2);
  return __builtin_bswap16(v);
}

static inline uint16_t mem16(const uint8_t *p) {
  uint16_t v;
  memcpy(&v, p, 2);
  return v;
}

static inline uint32_t mem32(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return v;
}

static inline void put16(uint8_t *p, uint16_t v) {
  memcpy(p, &v, 2);
}

static inline void put32(uint8_t *p, uint32_t v) {
  memcpy(p, &v, 4);
}

static inline uint64_t sum(const uint8_t *p, uint32_t bytes, uint64_t s) {
  uint32_t words = bytes >> 2;
  for (uint32_t i = 0; i < words; i++) s += mem32(p + i * 4);
  p += words * 4;
  if (bytes & 2) {
    s += mem16(p);
    p += 2;
  }
  return bytes & 1 ? s + *p : s;
}

static inline uint16_t fold(uint64_t s) {
  s = (s & 0xffffffff) + (s >> 32);
  s = (s & 0xffff) + ((s >> 16) & 0xffff) + (s >> 32);
  s = (s & 0xffff) + (s >> 16);
  return (s & 0xffff) + (s >> 16);
}

static inline int32_t match(uint32_t address, uint32_t key) {
  uint32_t h = (address ^ key * 0x9e3779b1u) * 0x85ebca6bu;
  h ^= h >> 15;
  for (uint32_t slot = h & (MATCH_SLOTS - 1);; slot = (slot + 1) & (MATCH_SLOTS - 1)) {
    const uint32_t *e = matches + slot * 4;
    if (e[1] == key && e[0] == address) return e[2];
    if (e[1] == 0) return -1;
  }
}

// Takes priority tags and IPv4 options out, by moving what stands before them towards the payload. Returns how many bytes
// the frame is shorter, or -reason.
static int without_extras(uint8_t *p, uint32_t len) {
  uint32_t tags = 0;
  while (tags < 8 && len >= 46) {
    uint16_t type = mem16(p + 12);
    if ((type != 0x0081 && type != 0xa888) || (mem16(p + 14) & 0xff0f)) break;
    memmove(p + 4, p, 12);
    p += 4;
    len -= 4;
    tags += 4;
  }
  if (mem16(p + 12) != 0x0008) return -DROP_not_ipv4;
  uint32_t header = (p[14] & 15) * 4, total = be16(p + 16);
  if (p[14] >> 4 != 4 || header < 20 || total < header + 8 || total > len - ETHERNET) return -DROP_bad_header;
  if (fold(sum(p + ETHERNET, header, 0)) != 0xffff) return -DROP_bad_ip_checksum;
  uint32_t options = header - 20;
  uint8_t *q = p + options;
  memmove(q, p, 34);
  q[14] = 0x45;
  put16(q + 16, __builtin_bswap16(total - options));
  put16(q + 24, 0);
  put16(q + 24, ~fold(sum(q + ETHERNET, 20, 0)));
  return tags + options;
}

// Turns the frame into its answer, but for the Ethernet header. Returns 0, or the drop reason.
static inline int answer(uint64_t *addr, uint32_t *length) {
  uint8_t *p = frames + *addr;
  uint32_t len = *length;
  if (len < 42) return DROP_runt;
  if (memcmp(p, own_mac, 6)) return DROP_other_host;
  if ((mem32(p + 12) & 0xffffff) != 0x450008) {
    int moved = without_extras(p, len);
    if (moved < 0) return -moved;
    p += moved;
    *addr += moved;
    len -= moved;
  }
  uint32_t total = be16(p + 16);
  if (total < 28 || total > len - ETHERNET) return DROP_bad_header;
  if (fold(sum(p + 14, 20, 0)) != 0xffff) return DROP_bad_ip_checksum;
  if (mem16(p + 20) & 0xff3f) return DROP_fragment;
  if (p[23] != 17) return DROP_not_udp;
  uint32_t udp = be16(p + 38);
  if (udp < 8 || udp > total - 20) return DROP_bad_udp_length;
  uint32_t src = mem32(p + 26), dst = mem32(p + 30);
  uint16_t sport = mem16(p + 34), dport = mem16(p + 36), given = mem16(p + 40);
  if (match(dst, dport | 17 << 16) < 0) return DROP_no_match;
  if (sport == dport) return DROP_echo_loop;
  // The answer's checksum is the question's: swapping addresses and ports does not change the sum.
  uint64_t addresses = (uint64_t)src + dst;
  uint64_t s = addresses + (17 << 8) + mem16(p + 38) + mem32(p + 34) + mem16(p + 38);
  uint16_t folded = fold(sum(p + 42, udp - 8, s));
  uint16_t checksum = folded == 0xffff ? 0xffff : ~folded;
  if (given != checksum && given != 0) return DROP_bad_udp_checksum;

  uint16_t out = __builtin_bswap16(20 + udp);
  put32(p + 14, 0x0045 | out << 16);
  put32(p + 18, 0x0040 << 16);
  put32(p + 22, 0x1140 | (uint32_t)(uint16_t)~fold(0x0045 + 0x0040 + 0x1140 + out + addresses) << 16);
  put32(p + 26, dst);
  put32(p + 30, src);
  put32(p + 34, dport | (uint32_t)sport << 16);
  put16(p + 40, checksum);
  *length = ETHERNET + 20 + udp;
  return 0;
}

// Writes the Ethernet header; returns 0, or the drop reason.
static inline int route(uint8_t *p, uint32_t len) {
  static const uint8_t by_type[] = {DROP_no_route, 0, DROP_to_kernel, 0, DROP_to_kernel, 0, DROP_blackhole,
                                    DROP_unreachable, DROP_prohibit, DROP_no_route};
  uint32_t dst = mem32(p + 30), nh = fib4(dst);
  if (!nh) return DROP_no_route;
  const uint32_t *n = base + nh;
  if (n[NH_TYPE] & NH_SPECIAL) die("a route of several legs");
  uint32_t type = n[NH_TYPE] & 0xff;
  if (type != 1 && (type >= sizeof by_type || by_type[type])) return type < sizeof by_type ? by_type[type] : DROP_no_route;
  if (n[NH_TYPE] & NH_ENCAP) return DROP_encap;
  if (n[NH_OIF] != IFINDEX) return DROP_other_interface;
  if (!up) return DROP_link_down;
  if (len > longest || (n[NH_MTU] && len > n[NH_MTU] + ETHERNET)) return DROP_mtu;
  if (type != 1) return DROP_bad_source;
  uint32_t hop = (n[NH_LINK] & 0xff) == 0 ? dst : n[NH_GATEWAY], mac0, mac1;
  if (!neigh4(hop, &mac0, &mac1)) return DROP_no_neighbour;
  mac1 = (mac1 & 0xffff) | src_head;
  memcpy(p, &mac0, 4);
  memcpy(p + 4, &mac1, 4);
  memcpy(p + 8, &src_tail, 4);
  return 0;
}

static inline uint32_t turn(uint32_t limit) {
  static struct { uint32_t addr, len; } batch[MAX_BATCH];
  uint32_t consumer = rx->consumer, n = __atomic_load_n(&rx->producer, __ATOMIC_ACQUIRE) - consumer, kept = 0;
  if (n > limit) n = limit;
  if (!n) return 0;
  for (uint32_t i = 0; i < n; i++) {
    const struct desc *d = &rx->desc[(consumer + i) & ring_mask];
    batch[i].addr = d->addr;
    batch[i].len = d->len;
  }
  __atomic_store_n(&rx->consumer, consumer + n, __ATOMIC_RELEASE);
  for (uint32_t i = 0; i < n; i++) {
    uint64_t addr = batch[i].addr;
    uint32_t len = batch[i].len;
    rx_bytes += len;
    int reason = answer(&addr, &len);
    if (!reason) reason = route(frames + addr, len);
    counts[reason]++;
    if (reason) continue;
    tx_bytes += len;
    batch[kept].addr = addr;
    batch[kept++].len = len;
  }
  uint32_t producer = tx->producer, room = ring_mask + 1 - (producer - __atomic_load_n(&tx->consumer, __ATOMIC_ACQUIRE));
  uint32_t sent = kept < room ? kept : room;
  for (uint32_t i = 0; i < sent; i++) {
    struct desc *d = &tx->desc[(producer + i) & ring_mask];
    d->addr = batch[i].addr;
    d->len = batch[i].len;
  }
  __atomic_store_n(&tx->producer, producer + sent, __ATOMIC_RELEASE);
  return n;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

// Between batches: the card's state, and what was counted.
static void refresh(void) {
  const uint32_t *link = base + base[L_linkIndex + IFINDEX];
  uint32_t flags = link[LINK_FLAGS];
  up = (flags & 1) && (flags & 0x40);
  longest = link[LINK_MTU] + ETHERNET;
  src_head = link[LINK_SRC_HEAD];
  src_tail = link[LINK_SRC_TAIL];
  memcpy(own_mac, link + LINK_LLADDR, 6);
  for (int i = 0; i < REASONS; i++) published[i] += counts[i], counts[i] = 0;
  published[REASONS] += rx_bytes;
  published[REASONS + 1] += tx_bytes;
  rx_bytes = tx_bytes = 0;
}

static uint64_t turns(uint32_t limit) {
  uint64_t received = 0;
  for (int k = 0; k < TURNS; k++) {
    received += turn(limit);
    __atomic_store_n(epoch, base[H_EPOCH], __ATOMIC_SEQ_CST);
  }
  refresh();
  return received;
}

static void *map_file(const char *path, int prot, size_t *bytes) {
  int fd = open(path, prot & PROT_WRITE ? O_RDWR : O_RDONLY);
  struct stat s;
  if (fd < 0 || fstat(fd, &s) < 0) die(path);
  void *p = mmap(NULL, s.st_size, prot, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) die(path);
  close(fd);
  if (bytes) *bytes = s.st_size;
  return p;
}

static int ascending(const void *a, const void *b) {
  return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

int main(int argc, char **argv) {
  if (argc < 7) return fprintf(stderr, "usage: see the head of bench/peers/loop.c\n"), 2;
  size_t bytes;
  base = map_file(argv[1], PROT_READ, NULL);
  epoch = map_file(argv[2], PROT_READ | PROT_WRITE, NULL);
  matches = map_file(argv[3], PROT_READ, NULL);
  const uint8_t *in = map_file(argv[4], PROT_READ, &bytes);
  int timed = !strcmp(argv[5], "time");

  uint32_t count = 0, slots = 1;
  for (size_t at = 0; at < bytes; at += 4 + ((mem32(in + at) + 3) & ~3u)) count++;
  while (slots < count) slots *= 2;
  ring_mask = slots - 1;
  size_t ring_bytes = (sizeof(struct ring) + slots * sizeof(struct desc) + 4095) & ~4095ul;
  size_t size = 2 * ring_bytes + (size_t)slots * FRAME_BYTES;
  uint8_t *memory = aligned_alloc(2 << 20, (size + (2 << 20) - 1) & ~((2ul << 20) - 1));
  if (!memory) die("aligned_alloc");
  madvise(memory, size, MADV_HUGEPAGE);
  memset(memory, 0, size);
  rx = (struct ring *)memory;
  tx = timed ? rx : (struct ring *)(memory + ring_bytes);
  frames = memory + 2 * ring_bytes;
  for (size_t at = 0, i = 0; i < count; i++) {
    uint32_t len = mem32(in + at);
    memcpy(frames + i * FRAME_BYTES + START, in + at + 4, len);
    rx->desc[i] = (struct desc){i * FRAME_BYTES + START, len, 0};
    at += 4 + ((len + 3) & ~3u);
  }
  rx->producer = count;
  refresh();

  if (timed) {
    double seconds = atof(argv[6]);
    uint32_t limit = atoi(argv[7]);
    for (double end = now() + 0.1e9; now() < end;) turns(limit);
    static double slices[1 << 20];
    uint32_t n = 0;
    double start = now(), last = start;
    while (last < start + seconds * 1e9 && n < 1 << 20) {
      uint64_t done = 0;
      while (done < SLICE) done += turns(limit);
      double t = now();
      slices[n++] = (t - last) / done;
      last = t;
    }
    qsort(slices, n, sizeof *slices, ascending);
    uint64_t dropped = 0;
    for (int i = 1; i < REASONS; i++) dropped += published[i];
    if (dropped || rx->producer - rx->consumer != count) return fprintf(stderr, "loop: frames were dropped\n"), 1;
    printf("{\"case\":\"ns\",\"value\":%.4f}\n", slices[n / 10]);
    return 0;
  }
  while (rx->producer != rx->consumer) turns(64);
  FILE *out = fopen(argv[6], "w");
  if (!out) die(argv[6]);
  static const uint8_t zero[4];
  for (; tx->consumer != tx->producer; tx->consumer++) {
    const struct desc *d = &tx->desc[tx->consumer & ring_mask];
    fwrite(&d->len, 4, 1, out);
    fwrite(frames + d->addr, 1, d->len, out);
    fwrite(zero, 1, -d->len & 3, out);
  }
  if (fclose(out)) die(argv[6]);
  for (int i = 0; i < REASONS; i++)
    if (published[i]) printf("{\"case\":\"%d\",\"value\":%lu}\n", i, published[i]);
  return 0;
}
