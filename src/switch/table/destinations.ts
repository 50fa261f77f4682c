// Which destinations matches have, as bits by their hash: a packet to anywhere else is nobody's, and needs no search. That is
// most of what clients send. IPv4 matches with one source as well, which connections are, have another bit for the two
// addresses: a flow between any other two does not depend on them (forward/accept.ts).
// Written by the control Worker: a match's bits are there before the match is, and longer. Matches of more than one destination
// are only counted: while there is one, every destination may have a match, or, if they are of any, every one of this host's.
import { fold, hashDestination, meet } from "./hash.ts";
import { ENTRY_DST, ENTRY_META, H_OPEN, H_SEED, H_WILD, KEY_SRC, type Layout } from "./layout.ts";
import { dstPrefixOf, isMeeting, META_SIX } from "./pattern.ts";

/** Whether somebody may have packets to an address: a memory word, or four of `header` at `at`, folded. */
export type MayHave = (dst: number) => boolean;

const makeHasBit = (words: Int32Array, { destinations, destinationShift }: Layout): MayHave => {
  const seed = words[H_SEED]!;
  return (address) => {
    const bit = hashDestination(seed, address) >>> destinationShift;
    return ((words[destinations + (bit >>> 5)]! >>> bit) & 1) !== 0;
  };
};

const makeMayHave = (words: Int32Array, at: Layout, six: 0 | 1): MayHave => {
  const hasBit = makeHasBit(words, at);
  return (dst) => hasBit(dst) || (words[H_OPEN + six]! | words[H_WILD + six]!) !== 0;
};

/** Whether a match may be of an IPv4 destination by its name, or of a network that it is in: not of any. */
export const makeMayName4 = (words: Int32Array, at: Layout): MayHave => {
  const hasBit = makeHasBit(words, at);
  return (dst) => hasBit(dst) || words[H_OPEN] !== 0;
};

export const makeMayHave4 = (words: Int32Array, at: Layout): MayHave => makeMayHave(words, at, 0);

export const makeMayHave6 = (
  words: Int32Array,
  at: Layout,
): ((header: Int32Array, at: number) => boolean) => {
  const mayHave = makeMayHave(words, at, 1);
  const seed = words[H_SEED]!;
  return (header, dst) =>
    mayHave(fold(seed, header[dst]!, header[dst + 1]!, header[dst + 2]!, header[dst + 3]!));
};

/** Whether a match may have both an IPv4 destination and a source. */
export const makeMayMeet4 = (words: Int32Array, at: Layout) => {
  const hasBit = makeHasBit(words, at);
  const seed = words[H_SEED]!;
  return (dst: number, src: number): boolean => hasBit(meet(seed, dst, src));
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
    if (isOpen(key)) Atomics.add(this.words, openOf(key), 1);
    for (const bit of this.bitsOf(key))
      if (this.counts[bit]!++ === 0) Atomics.or(this.words, this.at.destinations + (bit >>> 5), 1 << bit);
  }

  /** It is one less. */
  release(key: Int32Array): void {
    if (isOpen(key)) Atomics.sub(this.words, openOf(key), 1);
    for (const bit of this.bitsOf(key))
      if (--this.counts[bit]! === 0) Atomics.and(this.words, this.at.destinations + (bit >>> 5), ~(1 << bit));
  }

  private bitsOf(key: Int32Array): number[] {
    const seed = this.words[H_SEED]!;
    const d = ENTRY_DST;
    const addresses: number[] = [];
    if (!isOpen(key))
      addresses.push(isSix(key) ? fold(seed, key[d]!, key[d + 1]!, key[d + 2]!, key[d + 3]!) : key[d]!);
    if (isMeeting(key[ENTRY_META]!)) addresses.push(meet(seed, key[d]!, key[KEY_SRC]!));
    return addresses.map((address) => hashDestination(seed, address) >>> this.at.destinationShift);
  }
}

const isSix = (key: Int32Array): boolean => (key[ENTRY_META]! & META_SIX) !== 0;
/** Of more than one destination. */
const isOpen = (key: Int32Array): boolean => dstPrefixOf(key[ENTRY_META]!) !== (isSix(key) ? 128 : 32);
const openOf = (key: Int32Array): number =>
  (dstPrefixOf(key[ENTRY_META]!) === 0 ? H_WILD : H_OPEN) + Number(isSix(key));
