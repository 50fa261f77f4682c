/* The search of src/switch/table/search.ts in C, IPv4. Whoever includes it has the offsets of src/switch/table/layout.ts. */
#include <stddef.h>
#include <stdint.h>

static const volatile uint32_t *version;
static const uint32_t *words;
static uint32_t found;

static inline uint32_t hash4(uint32_t seed, uint32_t dst, uint32_t src, uint32_t ports, uint32_t meta) {
  uint32_t d = (dst ^ seed) * 0x9e3779b1u, p = (ports ^ seed) * 0xc2b2ae35u;
  d = (d ^ d >> 15 ^ src) * 0x85ebca6bu;
  uint32_t h = (d ^ d >> 16 ^ p ^ p >> 13 ^ meta) * 0x27d4eb2fu;
  return h ^ h >> 15;
}

static inline int32_t find4(uint32_t protocol, uint32_t dst, uint32_t src, uint32_t ports) {
  uint32_t seed = words[H_SEED];
  for (;;) {
    uint32_t before = *version, number = 0;
    const uint32_t *e = NULL;
    for (const uint32_t *pattern = words + words[H_PATTERNS]; pattern[0] && !e; pattern += PATTERN_WORDS) {
      uint32_t meta = pattern[0] | protocol, p = ports & pattern[PATTERN_PORTS];
      uint32_t d = dst & pattern[PATTERN_DST], s = src & pattern[PATTERN_SRC];
      uint32_t hash = hash4(seed, d, s, p, meta), tags = ((hash >> 25) | 0x80) * 0x010101u;
      uint32_t home = hash & L_four_mask, bucket = home;
      do {
        uint32_t word = words[L_four_tags + bucket], x = word ^ tags;
        for (uint32_t same = (x - 0x010101u) & ~x & 0x808080u; same && !e; ) {
          uint32_t n = __builtin_clz(same) >> 3;
          same &= 0x7fffffu >> ((n - 1) * 8);
          const uint32_t *one = words + L_four_entries + (bucket << BUCKET4_SHIFT) + n * ENTRY4_WORDS;
          if (one[ENTRY_DST] != d || one[ENTRY4_SRC] != s || one[ENTRY_PORTS] != p || one[ENTRY_META] != meta) continue;
          e = one;
          number = (bucket << NUMBER_SHIFT) + n;
        }
        if (!(word >> BEHIND_SHIFT)) break;
        bucket = (bucket + 1) & L_four_mask;
      } while (!e && bucket != home);
    }
    int32_t client = e ? (int32_t)(e[ENTRY_OWNER] & OWNER_CLIENT) : -1;
    found = number;
    if (*version == before) return client;
  }
}
