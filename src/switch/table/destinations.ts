// Which destinations matches have, as bits by their hash: a packet to anywhere else is nobody's, and needs no search. That is
// most of what clients send. Written by the control Worker: a match's bit is there before the match is, and longer. Matches
// of more than one destination are only counted; while there is one, every destination may have a match.
import { fold, hashDestination } from "./hash.ts";
import { ENTRY_DST, ENTRY_META, H_OPEN, H_SEED, type Layout } from "./layout.ts";
import { dstPrefixOf, META_SIX } from "./pattern.ts";

/** Whether somebody may have packets to an address: a memory word, or four of `header` at `at`, folded. */
export type MayHave = (dst: number) => boolean;

const makeMayHave = (words: Int32Array, at: Layout, open: number): MayHave => {
  const { destinations, destinationShift } = at;
  const seed = words[H_SEED]!;
  return (dst) => {
    const bit = hashDestination(seed, dst) >>> destinationShift;
    return ((words[destinations + (bit >>> 5)]! >>> bit) & 1) !== 0 || words[open] !== 0;
  };
};

export const makeMayHave4 = (words: Int32Array, at: Layout): MayHave => makeMayHave(words, at, H_OPEN);

export const makeMayHave6 = (
  words: Int32Array,
  at: Layout,
): ((header: Int32Array, at: number) => boolean) => {
  const mayHave = makeMayHave(words, at, H_OPEN + 1);
  const seed = words[H_SEED]!;
  return (header, dst) =>
    mayHave(fold(seed, header[dst]!, header[dst + 1]!, header[dst + 2]!, header[dst + 3]!));
};

export class Destinations {
  private readonly words: Int32Array;
  private readonly at: Layout;
  /** Matches by bit. */
  private readonly counts: Int32Array;

  constructor(words: Int32Array, at: Layout) {
    this.words = words;
    this.at = at;
    this.counts = new Int32Array(2 ** (32 - at.destinationShift));
  }

  /** A match with this key is about to be one more. */
  hold(key: Int32Array): void {
    const bit = this.bitOf(key);
    if (bit < 0) Atomics.add(this.words, this.openOf(key), 1);
    else if (this.counts[bit]!++ === 0) Atomics.or(this.words, this.at.destinations + (bit >>> 5), 1 << bit);
  }

  /** It is one less. */
  release(key: Int32Array): void {
    const bit = this.bitOf(key);
    if (bit < 0) Atomics.sub(this.words, this.openOf(key), 1);
    else if (--this.counts[bit]! === 0)
      Atomics.and(this.words, this.at.destinations + (bit >>> 5), ~(1 << bit));
  }

  private openOf(key: Int32Array): number {
    return (key[ENTRY_META]! & META_SIX) === 0 ? H_OPEN : H_OPEN + 1;
  }

  /** -1: of more than one destination. */
  private bitOf(key: Int32Array): number {
    const meta = key[ENTRY_META]!;
    const six = (meta & META_SIX) !== 0;
    if (dstPrefixOf(meta) !== (six ? 128 : 32)) return -1;
    const seed = this.words[H_SEED]!;
    const d = ENTRY_DST;
    const dst = six ? fold(seed, key[d]!, key[d + 1]!, key[d + 2]!, key[d + 3]!) : key[d]!;
    return hashDestination(seed, dst) >>> this.at.destinationShift;
  }
}
