/* Lookups over the daemon's own tables, in C: src/netbase/fib.ts, find.ts. Whoever includes it has their offsets, and IFINDEX,
 * as bench/world.ts writes them. */
#include <stddef.h>
#include <stdint.h>

static const uint32_t *base;

static inline uint32_t fib4(uint32_t dst) {
  uint32_t cell = base[L_fib4 + ((dst & 0xffff) << 8 | (dst >> 16 & 0xff))];
  if (cell >> 31) {
    const uint32_t *node = base + (cell & 0x7fffffff);
    uint32_t byte = dst >> 24, word = byte >> 5;
    uint32_t runs = __builtin_popcount(node[word] & (0xffffffffu >> (31 - (byte & 31))));
    runs += ((const uint8_t *)(node + NODE_COUNTS))[word];
    cell = node[NODE_CELLS - 1 + runs];
  }
  if (!cell) cell = base[H_WIDE4 + (dst & 0xff)];
  return base[L_nhIndex + (cell & CELL_NH_MASK)];
}

// A neighbour in the table (any state but the unusable ones), read whole under its sequence number.
static inline int neigh4(uint32_t ip, uint32_t *mac0, uint32_t *mac1) {
  const uint32_t *table = base + base[H_NEIGH4];
  uint32_t h = ip ^ base[H_NEIGH_SEED];
  h = (h ^ h >> 16) * 0x85ebca6bu;
  h = (h ^ h >> 13 ^ IFINDEX) * 0xc2b2ae35u;
  h ^= h >> 16;
  for (uint32_t n = 0; n < NEIGH_WINDOW; n++, h++) {
    const uint32_t *e = table + (h & L_neighMask4) * NEIGH4_WORDS;
    uint32_t key = e[1];
    if (e[0] == ip && (key & NEIGH_IFINDEX_MASK) == IFINDEX) {
      for (;;) {
        uint32_t before = __atomic_load_n(&e[3], __ATOMIC_ACQUIRE), again, address = e[0];
        key = e[1];
        *mac0 = e[2];
        *mac1 = before;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        again = __atomic_load_n(&e[3], __ATOMIC_RELAXED);
        if (before == again && !(before & 0x10000)) {
          if (address == ip && (key & NEIGH_IFINDEX_MASK) == IFINDEX && key >> 24) return 1;
          break;
        }
      }
    }
    if (!key) return 0;
  }
  return 0;
}
