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
  NUMBER_SHIFT,
  PATTERN_DST,
  PATTERN_PORTS,
  PATTERN_SRC,
  PATTERN_WORDS,
} from "./layout.ts";
import { srcPrefixOf } from "./pattern.ts";

/** Entries of a table that is large: their lines fill a good part of a second-level cache. */
export const LARGE = 4096;
const FRAMES = 256;

/**
 * Looks ahead for the searches for `n` frames in `words` at `offs` (2 mod 4). TCP, UDP and what has its ports where these
 * have them; without options; of IPv6, matches of whole addresses.
 * @param sent clients sent them: what is searched for is whose the answers to them are
 */
export type Ahead = (words: Int32Array, offs: Int32Array, n: number, sent: boolean) => void;

/** @param touches by entry (own.ts) */
export function makeAhead(table: Int32Array, at: Layout, touches: Int32Array): Ahead {
  const { four, six } = at;
  const seed = table[H_SEED]!;
  const nothing = fold(seed, 0, 0, 0, 0);
  const places = new Int32Array(FRAMES);
  const seconds = new Int32Array(FRAMES);
  const numbers = new Int32Array(FRAMES);

  /** Where the entry with this hash is, as its tag says; word 0 where none has it. */
  const place4 = (hash: number): number => {
    const bucket = hash & four.mask;
    const same = sameTags(table[four.tags + bucket]!, tagsOf(hash));
    return (four.entries + ENTRY4_WORDS + (bucket << BUCKET4_SHIFT)) & ((same | -same) >> 31);
  };

  const place6 = (hash: number): number => {
    const bucket = hash & six.mask;
    const same = sameTags(table[six.tags + bucket]!, tagsOf(hash));
    const place = six.entries + Math.imul(bucket, BUCKET6_WORDS) + firstOf(same) * ENTRY6_WORDS;
    return place & ((same | -same) >> 31);
  };

  return (words, offs, n, sent) => {
    if (table[H_ENTRIES]! < LARGE) return;
    const many = n < FRAMES ? n : FRAMES;
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
        const hash = hashOf(seed, dst & aDst, src & aSrc, ports & aPorts, aForm | protocol);
        places[i] = place4(hash);
        numbers[i] = (hash & four.mask) << NUMBER_SHIFT;
        if (sent)
          sum ^= table[at.destinations + ((hashDestination(seed, src) >>> at.destinationShift) >>> 5)]!;
        seconds[i] = place4(hashOf(seed, dst & bDst, src & bSrc, ports & bPorts, bForm | protocol));
      } else if (type === ETHERTYPE_IPV6) {
        const protocol = (words[ip + 1]! >>> 16) & 0xff;
        const dstAt = ip + toDst6;
        const srcAt = ip + toSrc6;
        const dst = fold(seed, words[dstAt]!, words[dstAt + 1]!, words[dstAt + 2]!, words[dstAt + 3]!);
        const src = fold(seed, words[srcAt]!, words[srcAt + 1]!, words[srcAt + 2]!, words[srcAt + 3]!);
        const ports = (words[ip + 10]! >>> turn) | (words[ip + 10]! << turn);
        const hash = hashOf(seed, dst, cSrc === 0 ? nothing : src, ports & cPorts, cForm | protocol);
        places[i] = place6(hash);
        numbers[i] = six.first + ((hash & six.mask) << NUMBER_SHIFT);
        if (sent)
          sum ^= table[at.destinations + ((hashDestination(seed, src) >>> at.destinationShift) >>> 5)]!;
        seconds[i] = place6(hashOf(seed, dst, dSrc === 0 ? nothing : src, ports & dPorts, dForm | protocol));
      } else places[i] = seconds[i] = 0;
    }
    for (let i = 0; i < many; i++) sum ^= table[places[i]!]! ^ table[seconds[i]!]!;
    for (let i = 0; i < many; i++) sum ^= touches[numbers[i]! & ((places[i]! | -places[i]!) >> 31)]!;
    places[0] = sum;
  };
}
