// The two searches of the switch table, made for one mapping of it: whose a packet is. No lock, and no wait for the
// writer: a search is good if the version is the same after it as before (slots.ts); if not, the writer has changed
// something meanwhile, and it is made again.
//
// `found` is written between the two looks at the version, which also keeps the compiler from taking the second for the
// first. Plain loads are in order on x86; elsewhere this would need acquires.
import { hash4, hash6 } from "./hash.ts";
import {
  ENTRY_DST,
  ENTRY_META,
  ENTRY_OWNER,
  ENTRY_PORTS,
  ENTRY_SHIFT,
  ENTRY_SRC,
  ENTRY_WORDS,
  H_PATTERNS,
  H_SEED,
  H_VERSION,
  KIND_MATCH,
  type Layout,
  OWNER_CLIENT,
  OWNER_KIND_SHIFT,
  PATTERN_DST,
  PATTERN_PORTS,
  PATTERN_SRC,
  PATTERN_WORDS,
} from "./layout.ts";

/** Words of `found`: the entry, 0 for none; the same if it lives by being touched, else 0. */
export const FOUND_ENTRY = 0;
export const FOUND_TOUCH = 1;
export const FOUND_WORDS = 2;

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
  const { slots, slotMask, numberMask, entries } = at;
  const seed = words[H_SEED]!;
  return (protocol, dst, src, ports) => {
    for (;;) {
      const version = words[H_VERSION]!;
      let place = 0;
      let pattern = words[H_PATTERNS]!;
      search: for (let form = words[pattern]!; form !== 0; form = words[pattern]!) {
        const meta = form | protocol;
        const p = ports & words[pattern + PATTERN_PORTS]!;
        const d = dst & words[pattern + PATTERN_DST]!;
        const s = src & words[pattern + PATTERN_SRC]!;
        const hash = hash4(seed, d, s, p, meta);
        let i = hash & slotMask;
        for (let word = words[slots + i]!; word !== 0; word = words[slots + i]!) {
          if (((word ^ hash) & ~numberMask) === 0) {
            place = entries + (word & numberMask) * ENTRY_WORDS;
            if (
              words[place + ENTRY_DST] === d &&
              words[place + ENTRY_META] === meta &&
              words[place + ENTRY_PORTS] === p &&
              words[place + ENTRY_SRC] === s
            )
              break search;
            place = 0;
          }
          i = (i + 1) & slotMask;
        }
        pattern += PATTERN_WORDS;
      }
      const owner = place === 0 ? -1 : words[place + ENTRY_OWNER]!;
      const entry = place === 0 ? 0 : (place - entries) >>> ENTRY_SHIFT;
      found[FOUND_ENTRY] = entry;
      found[FOUND_TOUCH] = owner >>> OWNER_KIND_SHIFT === KIND_MATCH ? 0 : entry;
      if (words[H_VERSION] === version) return owner === -1 ? -1 : owner & OWNER_CLIENT;
    }
  };
}

export function makeSearch6(words: Int32Array, at: Layout, found: Int32Array): Search6 {
  const { slots, slotMask, numberMask, entries } = at;
  const seed = words[H_SEED]!;
  return (header, dst, src, protocol, ports) => {
    for (;;) {
      const version = words[H_VERSION]!;
      let place = 0;
      let pattern = words[H_PATTERNS + 1]!;
      search: for (let form = words[pattern]!; form !== 0; form = words[pattern]!) {
        const meta = form | protocol;
        const p = ports & words[pattern + PATTERN_PORTS]!;
        const d0 = header[dst]! & words[pattern + PATTERN_DST]!;
        const d1 = header[dst + 1]! & words[pattern + PATTERN_DST + 1]!;
        const d2 = header[dst + 2]! & words[pattern + PATTERN_DST + 2]!;
        const d3 = header[dst + 3]! & words[pattern + PATTERN_DST + 3]!;
        const s0 = header[src]! & words[pattern + PATTERN_SRC]!;
        const s1 = header[src + 1]! & words[pattern + PATTERN_SRC + 1]!;
        const s2 = header[src + 2]! & words[pattern + PATTERN_SRC + 2]!;
        const s3 = header[src + 3]! & words[pattern + PATTERN_SRC + 3]!;
        const hash = hash6(seed, d0, d1, d2, d3, s0, s1, s2, s3, p, meta);
        let i = hash & slotMask;
        for (let word = words[slots + i]!; word !== 0; word = words[slots + i]!) {
          if (((word ^ hash) & ~numberMask) === 0) {
            place = entries + (word & numberMask) * ENTRY_WORDS;
            if (
              words[place + ENTRY_DST + 3] === d3 &&
              words[place + ENTRY_META] === meta &&
              words[place + ENTRY_PORTS] === p &&
              words[place + ENTRY_DST + 2] === d2 &&
              words[place + ENTRY_DST + 1] === d1 &&
              words[place + ENTRY_DST] === d0 &&
              words[place + ENTRY_SRC + 3] === s3 &&
              words[place + ENTRY_SRC + 2] === s2 &&
              words[place + ENTRY_SRC + 1] === s1 &&
              words[place + ENTRY_SRC] === s0
            )
              break search;
            place = 0;
          }
          i = (i + 1) & slotMask;
        }
        pattern += PATTERN_WORDS;
      }
      const owner = place === 0 ? -1 : words[place + ENTRY_OWNER]!;
      const entry = place === 0 ? 0 : (place - entries) >>> ENTRY_SHIFT;
      found[FOUND_ENTRY] = entry;
      found[FOUND_TOUCH] = owner >>> OWNER_KIND_SHIFT === KIND_MATCH ? 0 : entry;
      if (words[H_VERSION] === version) return owner === -1 ? -1 : owner & OWNER_CLIENT;
    }
  };
}
