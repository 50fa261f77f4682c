// Looking ahead. A search in a large table waits for memory two or three times, and what happens to a frame between two
// of them is too much for the processor to look beyond. So the lines that the searches for a batch will look at are
// loaded first, those of all frames one right after the other and without a branch that waits for one, so that the
// misses overlap: for each frame the slots under the first PATTERNS patterns, then the entries that they name. Small tables
// are in the cache anyway.
import { ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherType } from "../../wire/ether.ts";
import { hash4, hash6 } from "./hash.ts";
import {
  ENTRY_SHIFT,
  H_ENTRIES,
  H_PATTERNS,
  H_SEED,
  type Layout,
  PATTERN_DST,
  PATTERN_PORTS,
  PATTERN_SRC,
  PATTERN_WORDS,
} from "./layout.ts";

/** Entries of a table that is large: their lines fill a good part of a second-level cache. */
export const LARGE = 4096;
const FRAMES = 256;
const PATTERNS = 2;

/**
 * Looks ahead for the searches for `n` frames in `words` at `offs` (2 mod 4). TCP, UDP and what has its ports where these
 * have them; without options. @param sent clients sent them: they are searched for both ways, whose they are, and whose the
 * answers to them are
 */
export type Ahead = (words: Int32Array, offs: Int32Array, n: number, sent: boolean) => void;

export function makeAhead(table: Int32Array, at: Layout): Ahead {
  const { slots, slotMask, numberMask, entries } = at;
  const seed = table[H_SEED]!;
  const hashes = new Int32Array(FRAMES * PATTERNS * 2);
  const seen = new Int32Array(hashes.length);
  let count = 0;

  const four = (protocol: number, dst: number, src: number, ports: number): void => {
    let pattern = table[H_PATTERNS]!;
    for (let i = 0; i < PATTERNS; i++) {
      const p = ports & table[pattern + PATTERN_PORTS]!;
      const d = dst & table[pattern + PATTERN_DST]!;
      const s = src & table[pattern + PATTERN_SRC]!;
      hashes[count + i] = hash4(seed, d, s, p, table[pattern]! | protocol);
      pattern += PATTERN_WORDS;
    }
    count += PATTERNS;
  };

  const six = (words: Int32Array, protocol: number, dst: number, src: number, ports: number): void => {
    let pattern = table[H_PATTERNS + 1]!;
    for (let i = 0; i < PATTERNS; i++) {
      hashes[count + i] = hash6(
        seed,
        words[dst]! & table[pattern + PATTERN_DST]!,
        words[dst + 1]! & table[pattern + PATTERN_DST + 1]!,
        words[dst + 2]! & table[pattern + PATTERN_DST + 2]!,
        words[dst + 3]! & table[pattern + PATTERN_DST + 3]!,
        words[src]! & table[pattern + PATTERN_SRC]!,
        words[src + 1]! & table[pattern + PATTERN_SRC + 1]!,
        words[src + 2]! & table[pattern + PATTERN_SRC + 2]!,
        words[src + 3]! & table[pattern + PATTERN_SRC + 3]!,
        ports & table[pattern + PATTERN_PORTS]!,
        table[pattern]! | protocol,
      );
      pattern += PATTERN_WORDS;
    }
    count += PATTERNS;
  };

  return (words, offs, n, sent) => {
    if (table[H_ENTRIES]! < LARGE) return;
    const many = n < FRAMES ? n : FRAMES;
    count = 0;
    for (let i = 0; i < many; i++) {
      const ip = (offs[i]! + ETHERNET) >>> 2;
      const type = etherType(words, ip);
      if (type === ETHERTYPE_IPV4) {
        const protocol = (words[ip + 2]! >>> 8) & 0xff;
        const src = words[ip + 3]!;
        const dst = words[ip + 4]!;
        const ports = words[ip + 5]!;
        four(protocol, dst, src, ports);
        if (sent) four(protocol, src, dst, (ports >>> 16) | (ports << 16));
      } else if (type === ETHERTYPE_IPV6) {
        const protocol = (words[ip + 1]! >>> 16) & 0xff;
        const ports = words[ip + 10]!;
        six(words, protocol, ip + 6, ip + 2, ports);
        if (sent) six(words, protocol, ip + 2, ip + 6, (ports >>> 16) | (ports << 16));
      }
    }
    for (let i = 0; i < count; i++) seen[i] = table[slots + (hashes[i]! & slotMask)]!;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const word = seen[i]!;
      const other = (word ^ hashes[i]!) & ~numberMask;
      const number = word & numberMask & ~((other | -other) >> 31); // 0 where the tag is another
      sum ^= table[entries + (number << ENTRY_SHIFT)]!;
    }
    seen[0] = sum;
  };
}
