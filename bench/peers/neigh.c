/* The neighbour table of src/netbase/neigh.ts in C: the same entries, hash, probing and protocol, one writer
 * thread and one reader. The peer of `bench neigh`.
 *
 *   peer-neigh hit|miss 4|6 ENTRIES quiet|busy single|batch CORE OTHER    one JSON line {"case":"...","value":ns a lookup, best pass}
 *
 * busy: a second thread gives the entries other link-layer addresses at full speed meanwhile. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WINDOW 128
#define ASKED 65536
#define ROUNDS 16
#define LOOKUPS (ASKED * ROUNDS)
#define PASSES 20
#define SEED 0x5bd1e995u

static _Atomic uint32_t *table;
static uint32_t mask, entry, key_at, mac_at, entries;
static atomic_bool stop;
static atomic_ulong writes;

static uint32_t hash(const uint32_t *ip, uint32_t ifindex) {
  uint32_t h = ip[0] ^ SEED;
  if (key_at == 1) {
    h = (h ^ h >> 16) * 0x85ebca6bu;
  } else {
    h = (h ^ ip[1] * 0x9e3779b1u) * 0x27d4eb2fu;
    h += (ip[2] ^ ip[2] >> 16) * 0x165667b1u ^ (ip[3] ^ ip[3] >> 15) * 0x85ebca6bu;
  }
  h = (h ^ h >> 13 ^ ifindex) * 0xc2b2ae35u;
  return h ^ h >> 16;
}

/* The link-layer address and the next sequence number, in one store. */
static void set_mac(_Atomic uint32_t *e, uint32_t mac0, uint32_t mac1) {
  uint32_t seq = (atomic_load_explicit(&e[mac_at + 1], memory_order_relaxed) >> 16) + 2;
  uint64_t both = (uint64_t)(seq << 16 | mac1) << 32 | mac0;
  atomic_store_explicit((_Atomic uint64_t *)(uintptr_t)&e[mac_at], both, memory_order_seq_cst);
}

/* The entry of an address, or the first free slot. */
static _Atomic uint32_t *slot(const uint32_t *ip, uint32_t ifindex) {
  for (uint32_t i = hash(ip, ifindex) & mask;; i = (i + 1) & mask) {
    _Atomic uint32_t *e = table + (size_t)i * entry;
    if (e[key_at] == 0) return e;
    uint32_t same = (e[key_at] & 0xffffff) == ifindex;
    for (uint32_t k = 0; k < key_at; k++) same &= e[k] == ip[k];
    if (same) return e;
  }
}

static void put(const uint32_t *ip, uint32_t n) {
  _Atomic uint32_t *e = slot(ip, 2);
  if (e[key_at] == 0)
    for (uint32_t i = 0; i < key_at; i++) atomic_store_explicit(&e[i], ip[i], memory_order_relaxed);
  set_mac(e, n, n & 0xffff);
  atomic_store_explicit(&e[key_at], 2 | 2 << 24, memory_order_seq_cst);
}

static uint32_t mac0, mac1;

/* Once along the slots: the state, 0 if it is not there, -1 if it changed meanwhile. */
static inline int walk(const uint32_t *ip, uint32_t ifindex) {
  uint32_t i = hash(ip, ifindex) & mask;
  for (int n = 0; n < WINDOW; n++, i = (i + 1) & mask) {
    _Atomic uint32_t *e = table + (size_t)i * entry;
    uint32_t last = atomic_load_explicit(&e[mac_at + 1], memory_order_acquire);
    uint32_t key = atomic_load_explicit(&e[key_at], memory_order_acquire), same = (key & 0xffffff) == ifindex;
    for (uint32_t k = 0; k < key_at; k++) same &= atomic_load_explicit(&e[k], memory_order_relaxed) == ip[k];
    if (same) {
      mac0 = atomic_load_explicit(&e[mac_at], memory_order_relaxed);
      mac1 = last & 0xffff;
      atomic_thread_fence(memory_order_acquire);
      return atomic_load_explicit(&e[mac_at + 1], memory_order_relaxed) == last ? (int)(key >> 24) : -1;
    }
    if (key == 0) return 0;
  }
  return 0;
}

static inline int find(const uint32_t *ip, uint32_t ifindex) {
  for (int tries = 0; tries < 100; tries++) {
    int state = walk(ip, ifindex);
    if (state >= 0) return state;
  }
  return 0;
}

/* 64 at a time, as src/netbase/many.ts: all entries are fetched, then read; which of two slots has it is no branch. */
#define BATCH 64
static uint32_t answers[BATCH][4];

static unsigned long find_all(uint32_t (*asked)[4], uint32_t ifindex) {
  unsigned long found = 0;
  for (int i = 0; i < BATCH; i++) {
    uint32_t slot = hash(asked[i], ifindex) & mask;
    answers[i][0] = slot;
    answers[i][1] = atomic_load_explicit(&table[(size_t)slot * entry + key_at - 1], memory_order_relaxed);
  }
  for (int i = 0; i < BATCH; i++) {
    const uint32_t *ip = asked[i];
    uint32_t slot = (answers[i][0] + (answers[i][1] != ip[key_at - 1])) & mask;
    _Atomic uint32_t *e = table + (size_t)slot * entry;
    uint64_t both = atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&e[mac_at], memory_order_acquire);
    uint32_t key = atomic_load_explicit(&e[key_at], memory_order_acquire), other = (key ^ ifindex) << 8;
    for (uint32_t k = 0; k < key_at; k++) other |= atomic_load_explicit(&e[k], memory_order_relaxed) ^ ip[k];
    if (other == 0) {
      memcpy(&answers[i][2], &both, sizeof both);
      atomic_thread_fence(memory_order_acquire);
      if (atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&e[mac_at], memory_order_relaxed) == both) {
        answers[i][0] = key >> 24;
        found++;
        continue;
      }
    } else if (key == 0) {
      answers[i][0] = 0;
      continue;
    }
    answers[i][0] = find(ip, ifindex);
    answers[i][2] = mac0;
    answers[i][3] = mac1;
    found += answers[i][0] != 0;
  }
  return found;
}

/* The n-th address: the same as in bench/neigh.ts. */
static void address(uint32_t n, uint32_t *ip) {
  ip[0] = key_at == 1 ? 0x0a | __builtin_bswap32(n & 0xffffff) : 0x77fd;
  ip[1] = 0;
  ip[2] = n * 0x9e3779b1u;
  ip[3] = n;
}

static void pin(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(0, sizeof set, &set);
}

static void *churn(void *arg) {
  pin(*(int *)arg);
  uint32_t ip[4];
  unsigned long n = 0;
  while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
    address(n % entries, ip);
    put(ip, n);
    atomic_store_explicit(&writes, ++n, memory_order_relaxed);
  }
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 8) return 2;
  int miss = strcmp(argv[1], "miss") == 0, busy = strcmp(argv[4], "busy") == 0, other = atoi(argv[7]);
  int single = strcmp(argv[5], "single") == 0;
  key_at = argv[2][0] == '4' ? 1 : 4;
  mac_at = key_at == 1 ? 2 : 6;
  entry = key_at == 1 ? 4 : 8;
  entries = strtoul(argv[3], NULL, 10);
  pin(atoi(argv[6]));
  for (mask = 2; mask < entries * 4; mask *= 2) {}
  table = aligned_alloc(4096, (size_t)mask * entry * 4);
  memset((void *)table, 0, (size_t)mask * entry * 4);
  mask--;
  uint32_t ip[4];
  for (uint32_t n = 0; n < entries; n++) address(n, ip), put(ip, n);
  uint32_t(*asked)[4] = malloc(ASKED * sizeof *asked), x = 2463534242u;
  for (int i = 0; i < ASKED; i++) {
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    address(x % entries + (miss ? 1000000 : 0), asked[i]);
  }
  pthread_t writer;
  if (busy) pthread_create(&writer, NULL, churn, &other);
  double best = 1e9;
  unsigned long found = 0;
  for (int p = 0; p < PASSES; p++) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int r = 0; r < ROUNDS; r++)
      if (single)
        for (int i = 0; i < ASKED; i++) found += find(asked[i], 2) != 0;
      else
        for (int i = 0; i < ASKED; i += BATCH) found += find_all(asked + i, 2);
    clock_gettime(CLOCK_MONOTONIC, &to);
    double ns = ((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec)) / LOOKUPS;
    if (ns < best) best = ns;
  }
  atomic_store(&stop, true);
  if (busy) pthread_join(writer, NULL);
  if (found != (miss ? 0ul : (unsigned long)PASSES * LOOKUPS)) {
    fprintf(stderr, "%lu found\n", found);
    return 1;
  }
  printf("{\"case\":\"IPv%s %s, %u entries%s%s\",\"value\":%.3f}\n", argv[2], argv[1], entries,
         busy ? ", writer busy" : "", single ? ", one by one" : "", best);
  return 0;
}
