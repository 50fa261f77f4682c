// The two searches of the switch table, made for one mapping of it: whose a packet is. No lock, and no wait for the
// writer: a search is good if the version is the same after it as before (buckets.ts); if not, the writer has changed
// something meanwhile, and it is made again.
//
// `found` is written between the two looks at the version, which also keeps the compiler from taking the second for the
// first. Plain loads are in order on x86; elsewhere this would need acquires.
import { firstOf, fold, hashOf, nextOf, sameTags, tagsOf } from "./hash.ts";
import {
  BEHIND_SHIFT,
  BUCKET4_SHIFT,
  BUCKET6_WORDS,
  ENTRY4_SRC,
  ENTRY4_WORDS,
  ENTRY6_SRC,
  ENTRY6_WORDS,
  ENTRY_DST,
  ENTRY_META,
  ENTRY_OWNER,
  ENTRY_PORTS,
  H_PATTERNS,
  H_SEED,
  H_VERSION,
  KIND_MATCH,
  type Layout,
  NUMBER_SHIFT,
  OWNER_CLIENT,
  OWNER_KIND_SHIFT,
  PATTERN_DST,
  PATTERN_PORTS,
  PATTERN_SRC,
  PATTERN_WORDS,
} from "./layout.ts";
import { dstPrefixOf, srcPrefixOf } from "./pattern.ts";

/** Words of `found`: the entry, 0 for none; the same if it lives by being touched, else 0; its meta (pattern.ts). */
export const FOUND_ENTRY = 0;
export const FOUND_TOUCH = 1;
export const FOUND_META = 2;
export const FOUND_WORDS = 3;

/** Client's slot, or -1. Addresses are memory words; ports as they lie in a header. */
export type Search4 = (protocol: number, dst: number, src: number, ports: number) => number;
/** Addresses are four words each of `header`, at `dst` and `src`. */
export type Search6 = (
  header: Int32Array,
  dst: number,
  src: number,
  protocol: number,
  ports: number,
) => number;

export function makeSearch4(words: Int32Array, at: Layout, found: Int32Array): Search4 {
  const { tags, entries, mask } = at.four;
  const seed = words[H_SEED]!;
  return (protocol, dst, src, ports) => {
    for (;;) {
      const version = words[H_VERSION]!;
      let entry = 0;
      let owner = -1;
      let meta = 0;
      let pattern = words[H_PATTERNS]!;
      search: for (let form = words[pattern]!; form !== 0; form = words[pattern]!) {
        const p = ports & words[pattern + PATTERN_PORTS]!;
        const d = dst & words[pattern + PATTERN_DST]!;
        const s = src & words[pattern + PATTERN_SRC]!;
        meta = form | protocol;
        const hash = hashOf(seed, d, s, p, meta);
        const tag = tagsOf(hash);
        const home = hash & mask;
        let bucket = home;
        do {
          const word = words[tags + bucket]!;
          for (let same = sameTags(word, tag); same !== 0; same = nextOf(same)) {
            const n = firstOf(same);
            const place = (entries + (bucket << BUCKET4_SHIFT) + n * ENTRY4_WORDS) | 0;
            if (
              words[place + ENTRY_DST] === d &&
              words[place + ENTRY4_SRC] === s &&
              words[place + ENTRY_PORTS] === p &&
              words[place + ENTRY_META] === meta
            ) {
              owner = words[place + ENTRY_OWNER]!;
              entry = (bucket << NUMBER_SHIFT) | n;
              break search;
            }
          }
          if (word >>> BEHIND_SHIFT === 0) break;
          bucket = (bucket + 1) & mask;
        } while (bucket !== home);
        pattern += PATTERN_WORDS;
      }
      found[FOUND_ENTRY] = entry;
      found[FOUND_TOUCH] = owner >>> OWNER_KIND_SHIFT === KIND_MATCH ? 0 : entry;
      found[FOUND_META] = meta;
      if (words[H_VERSION] === version) return owner === -1 ? -1 : owner & OWNER_CLIENT;
    }
  };
}

export function makeSearch6(words: Int32Array, at: Layout, found: Int32Array): Search6 {
  const { tags, entries, mask, first } = at.six;
  const seed = words[H_SEED]!;
  const nothing = fold(seed, 0, 0, 0, 0);

  /** An address under the mask at word `of`, folded. */
  const foldUnder = (header: Int32Array, address: number, of: number): number =>
    fold(
      seed,
      header[address]! & words[of]!,
      header[address + 1]! & words[of + 1]!,
      header[address + 2]! & words[of + 2]!,
      header[address + 3]! & words[of + 3]!,
    );

  /** Whether an address under the mask at word `of` is the one at word `is`. */
  const isUnder = (header: Int32Array, address: number, of: number, is: number): boolean =>
    (header[address + 3]! & words[of + 3]!) === words[is + 3]! &&
    (header[address + 2]! & words[of + 2]!) === words[is + 2]! &&
    (header[address + 1]! & words[of + 1]!) === words[is + 1]! &&
    (header[address]! & words[of]!) === words[is]!;

  return (header, dst, src, protocol, ports) => {
    for (;;) {
      const version = words[H_VERSION]!;
      let entry = 0;
      let owner = -1;
      let meta = 0;
      let pattern = words[H_PATTERNS + 1]!;
      const wholeDst = fold(seed, header[dst]!, header[dst + 1]!, header[dst + 2]!, header[dst + 3]!);
      const wholeSrc = fold(seed, header[src]!, header[src + 1]!, header[src + 2]!, header[src + 3]!);
      search: for (let form = words[pattern]!; form !== 0; form = words[pattern]!) {
        const p = ports & words[pattern + PATTERN_PORTS]!;
        const ofDst = dstPrefixOf(form) === 128 ? wholeDst : foldUnder(header, dst, pattern + PATTERN_DST);
        const ofSrc =
          srcPrefixOf(form) === 0
            ? nothing
            : srcPrefixOf(form) === 128
              ? wholeSrc
              : foldUnder(header, src, pattern + PATTERN_SRC);
        meta = form | protocol;
        const hash = hashOf(seed, ofDst, ofSrc, p, meta);
        const tag = tagsOf(hash);
        const home = hash & mask;
        let bucket = home;
        do {
          const word = words[tags + bucket]!;
          for (let same = sameTags(word, tag); same !== 0; same = nextOf(same)) {
            const n = firstOf(same);
            const place = (entries + Math.imul(bucket, BUCKET6_WORDS) + n * ENTRY6_WORDS) | 0;
            if (
              words[place + ENTRY_PORTS] === p &&
              words[place + ENTRY_META] === meta &&
              isUnder(header, dst, pattern + PATTERN_DST, place + ENTRY_DST) &&
              isUnder(header, src, pattern + PATTERN_SRC, place + ENTRY6_SRC)
            ) {
              owner = words[place + ENTRY_OWNER]!;
              entry = (first + (bucket << NUMBER_SHIFT) + n) | 0;
              break search;
            }
          }
          if (word >>> BEHIND_SHIFT === 0) break;
          bucket = (bucket + 1) & mask;
        } while (bucket !== home);
        pattern += PATTERN_WORDS;
      }
      found[FOUND_ENTRY] = entry;
      found[FOUND_TOUCH] = owner >>> OWNER_KIND_SHIFT === KIND_MATCH ? 0 : entry;
      found[FOUND_META] = meta;
      if (words[H_VERSION] === version) return owner === -1 ? -1 : owner & OWNER_CLIENT;
    }
  };
}
