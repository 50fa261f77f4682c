// Looking ahead. A search in a large table waits for memory, and what happens to a frame between two of them is too much
// for the processor to look beyond. So the lines that the searches for a batch will look at are loaded first, those of all
// frames one right after the other and without a branch that waits for one, so that the misses overlap: for each frame the
// entries whose tag fits under the first two patterns, the exact and the listening one as a rule, and the touch of the first:
// claims are exact. The tags are in the cache, and so is all of a small table.
import { ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherType } from "../../wire/ether.ts";
import { firstOf, fold, hashDestination, hashOf, sameTags, tagsOf } from "./hash.ts";
import {
  ENTRY4_WORDS,
  ENTRY6_WORDS,
  BUCKET4_SHIFT,
  BUCKET6_WORDS,
  H_ENTRIES,
  H_PATTERNS,
  H_SEED,
  type Layout,
  NUMBER_PLACE,
  NUMBER_SHIFT,
  PATTERN_DST,
  PATTERN_PORTS,
  PATTERN_SRC,
  PATTERN_WORDS,
} from "./layout.ts";
import { srcPrefixOf } from "./pattern.ts";

/** Entries of a table that is large: their lines fill a good part of a second-level cache. */
export const LARGE = 4096;
/** Frames of a batch that are looked at. */
export const AHEAD = 256;

/**
 * Looks ahead for the searches for `n` frames in `words` at `offs` (2 mod 4). TCP, UDP and what has its ports where these
 * have them; without options; of IPv6, matches of whole addresses. Returns how many of them it looked at.
 * @param sent clients sent them: what is searched for is whose the answers to them are
 */
export type Ahead = (words: Int32Array, offs: Int32Array, n: number, sent: boolean) => number;

/** @param touches by entry (own.ts); @param entries filled with the entry that each frame's search will find, as a guess */
export function makeAhead(table: Int32Array, at: Layout, touches: Int32Array, entries: Int32Array): Ahead {
  const { four, six } = at;
  const seed = table[H_SEED]!;
  const nothing = fold(seed, 0, 0, 0, 0);
  const places = new Int32Array(AHEAD);
  const seconds = new Int32Array(AHEAD);
  const exact = new Int32Array(AHEAD);

  /** The entry with this hash, as its tag says; 0 where none has it. */
  const entry4 = (hash: number): number => {
    const bucket = hash & four.mask;
    const same = sameTags(table[four.tags + bucket]!, tagsOf(hash));
    return ((bucket << NUMBER_SHIFT) + firstOf(same)) & ((same | -same) >> 31);
  };

  const entry6 = (hash: number): number => {
    const bucket = hash & six.mask;
    const same = sameTags(table[six.tags + bucket]!, tagsOf(hash));
    return (six.first + (bucket << NUMBER_SHIFT) + firstOf(same)) & ((same | -same) >> 31);
  };

  /** A word of its line; word 0 where there is none. */
  const place4 = (entry: number): number =>
    (four.entries + ENTRY4_WORDS + ((entry >>> NUMBER_SHIFT) << BUCKET4_SHIFT)) & (-entry >> 31);

  const place6 = (entry: number): number =>
    (six.entries +
      Math.imul((entry - six.first) >>> NUMBER_SHIFT, BUCKET6_WORDS) +
      (entry & NUMBER_PLACE) * ENTRY6_WORDS) &
    (-entry >> 31);

  return (words, offs, n, sent) => {
    if (table[H_ENTRIES]! < LARGE) return 0;
    const many = n < AHEAD ? n : AHEAD;
    const turn = sent ? 16 : 0;
    const toDst4 = sent ? 3 : 4;
    const toSrc4 = sent ? 4 : 3;
    const toDst6 = sent ? 2 : 6;
    const toSrc6 = sent ? 6 : 2;
    const a = table[H_PATTERNS]!;
    const aForm = table[a]!;
    const aPorts = table[a + PATTERN_PORTS]!;
    const aDst = table[a + PATTERN_DST]!;
    const aSrc = table[a + PATTERN_SRC]!;
    const b = a + PATTERN_WORDS;
    const bForm = table[b]!;
    const bPorts = table[b + PATTERN_PORTS]!;
    const bDst = table[b + PATTERN_DST]!;
    const bSrc = table[b + PATTERN_SRC]!;
    const c = table[H_PATTERNS + 1]!;
    const cForm = table[c]!;
    const cPorts = table[c + PATTERN_PORTS]!;
    const cSrc = srcPrefixOf(cForm);
    const d = c + PATTERN_WORDS;
    const dForm = table[d]!;
    const dPorts = table[d + PATTERN_PORTS]!;
    const dSrc = srcPrefixOf(dForm);
    let sum = 0;
    for (let i = 0; i < many; i++) {
      const ip = (offs[i]! + ETHERNET) >>> 2;
      const type = etherType(words, ip);
      if (type === ETHERTYPE_IPV4) {
        const protocol = (words[ip + 2]! >>> 8) & 0xff;
        const dst = words[ip + toDst4]!;
        const src = words[ip + toSrc4]!;
        const ports = (words[ip + 5]! >>> turn) | (words[ip + 5]! << turn);
        const first = entry4(hashOf(seed, dst & aDst, src & aSrc, ports & aPorts, aForm | protocol));
        const second = entry4(hashOf(seed, dst & bDst, src & bSrc, ports & bPorts, bForm | protocol));
        places[i] = place4(first);
        seconds[i] = place4(second);
        exact[i] = first;
        entries[i] = first | (second & ~(-first >> 31));
        if (sent)
          sum ^= table[at.destinations + ((hashDestination(seed, src) >>> at.destinationShift) >>> 5)]!;
      } else if (type === ETHERTYPE_IPV6) {
        const protocol = (words[ip + 1]! >>> 16) & 0xff;
        const dstAt = ip + toDst6;
        const srcAt = ip + toSrc6;
        const dst = fold(seed, words[dstAt]!, words[dstAt + 1]!, words[dstAt + 2]!, words[dstAt + 3]!);
        const src = fold(seed, words[srcAt]!, words[srcAt + 1]!, words[srcAt + 2]!, words[srcAt + 3]!);
        const ports = (words[ip + 10]! >>> turn) | (words[ip + 10]! << turn);
        const first = entry6(hashOf(seed, dst, cSrc === 0 ? nothing : src, ports & cPorts, cForm | protocol));
        const second = entry6(
          hashOf(seed, dst, dSrc === 0 ? nothing : src, ports & dPorts, dForm | protocol),
        );
        places[i] = place6(first);
        seconds[i] = place6(second);
        exact[i] = first;
        entries[i] = first | (second & ~(-first >> 31));
        if (sent)
          sum ^= table[at.destinations + ((hashDestination(seed, src) >>> at.destinationShift) >>> 5)]!;
      } else places[i] = seconds[i] = exact[i] = entries[i] = 0;
    }
    for (let i = 0; i < many; i++) sum ^= table[places[i]!]! ^ table[seconds[i]!]!;
    for (let i = 0; i < many; i++) sum ^= touches[exact[i]!]!;
    places[0] = sum;
    return many;
  };
}
