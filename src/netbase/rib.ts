// The RIB: every route of a family as the kernel has it, one row each. Rows of one prefix are a list in the kernel's
// order; the first of them hangs in a hash bucket's chain, keyed by prefix and length.
//
//   buckets[hash] -> row (prefix A, 1st alias) --ROW_CHAIN--> row (prefix B, 1st) --> 0
//                     |ROW_NEXT                                |ROW_NEXT
//                    row (A, 2nd) -> 0                         0
//
// Here is what readers and the writer share: finding a prefix, the order of tables, and the slow lookup, which
// follows the kernel's rules step by step. routes.ts writes.
//
// Order of tables. IPv6: local, then main. IPv4: local, main, default; but as long as a namespace never had a policy
// rule of its own, the kernel keeps local and main in one trie, and the longest prefix of *both* wins (seen on 6.18:
// `local 10.64.0.0/10` loses against `10.65.0.0/16` of main until `ip rule add`, and never wins it back).
// `throw` sends the lookup to the next table, not to a shorter prefix (fib_trie.c, fib_rules.c).
import { swap32 } from "../wire/address.ts";
import { fence } from "./fence.ts";
import {
  H_LENGTHS4,
  H_LENGTHS6,
  H_OWN_LOCAL4,
  H_RIB_SEQ,
  type Layout,
  NH_DEAD,
  NH_TYPE,
  ROW_CHAIN,
  ROW_DST,
  ROW_DST6,
  ROW_META,
  ROW_NEXT,
  ROW_NH,
  ROW4_WORDS,
  ROW6_WORDS,
} from "./layout.ts";

export const RT_TABLE_DEFAULT = 253;
export const RT_TABLE_MAIN = 254;
export const RT_TABLE_LOCAL = 255;
export const RTN_THROW = 9;
/** What a route's tos is compared with: INET_DSCP_LEGACY_TOS_MASK. */
export const TOS_MASK = 0x1c;

/** Word masks by number of leading address bits, for memory words. */
export const MASKS: Int32Array = Int32Array.from({ length: 33 }, (_, n) =>
  n === 0 ? 0 : swap32(-1 << (32 - n)),
);

export class Rib {
  readonly words: Int32Array;
  readonly six: boolean;
  readonly rows: number; // word offset of row 0
  readonly rowWords: number;
  readonly maxLen: number;
  readonly maxRank: number;
  private readonly buckets: number;
  private readonly bucketMask: number;
  private readonly lengths: number;
  private readonly nhIndex: number;

  constructor(words: Int32Array, at: Layout, six: boolean) {
    this.words = words;
    this.six = six;
    this.rows = six ? at.rows6 : at.rows4;
    this.rowWords = six ? ROW6_WORDS : ROW4_WORDS;
    this.maxLen = six ? 128 : 32;
    this.maxRank = six ? 1 : 2;
    this.buckets = six ? at.buckets6 : at.buckets4;
    this.bucketMask = six ? at.bucketMask6 : at.bucketMask4;
    this.lengths = six ? H_LENGTHS6 : H_LENGTHS4;
    this.nhIndex = at.nhIndex;
  }

  /** Tables of a higher rank win over longer prefixes of a lower one; -1: a table that is not mirrored. */
  rankOf(table: number): number {
    if (table === RT_TABLE_LOCAL) return this.six || this.words[H_OWN_LOCAL4] === 0 ? 1 : 2;
    if (table === RT_TABLE_MAIN) return this.six ? 0 : 1;
    return table === RT_TABLE_DEFAULT && !this.six ? 0 : -1;
  }

  /** Word offset of the bucket that a prefix hangs in. Bits beyond `len` must be zero, as everywhere here. */
  bucket(w0: number, w1: number, w2: number, w3: number, len: number): number {
    let h = Math.imul(w0 ^ Math.imul(len, 0x9e3779b1), 0x85ebca6b);
    if (this.six) {
      h = Math.imul((h ^ (h >>> 15)) + w1, 0xc2b2ae35);
      h = Math.imul((h ^ (h >>> 13)) + w2, 0x27d4eb2f);
      h = Math.imul((h ^ (h >>> 15)) + w3, 0x165667b1);
    }
    return this.buckets + ((h ^ (h >>> 15)) & this.bucketMask);
  }

  /** The first row of a prefix: its word offset, 0 if there is none. */
  find(w0: number, w1: number, w2: number, w3: number, len: number): number {
    const words = this.words;
    let row = words[this.bucket(w0, w1, w2, w3, len)]!;
    while (row !== 0 && !this.isPrefix(row, w0, w1, w2, w3, len)) row = words[row + ROW_CHAIN]!;
    return row;
  }

  isPrefix(row: number, w0: number, w1: number, w2: number, w3: number, len: number): boolean {
    const words = this.words;
    if (words[row + ROW_DST] !== w0 || (words[row + ROW_META]! & 0xff) !== len) return false;
    if (!this.six) return true;
    return (
      words[row + ROW_DST6] === w1 && words[row + ROW_DST6 + 1] === w2 && words[row + ROW_DST6 + 2] === w3
    );
  }

  hasLength(len: number): boolean {
    return (this.words[this.lengths + (len >>> 5)]! & (1 << (len & 31))) !== 0;
  }

  setLength(len: number, used: boolean): void {
    const at = this.lengths + (len >>> 5);
    this.words[at] = used ? this.words[at]! | (1 << (len & 31)) : this.words[at]! & ~(1 << (len & 31));
  }

  /** The row's next-hop record: a word offset. */
  record(row: number): number {
    return this.words[this.nhIndex + this.words[row + ROW_NH]!]!;
  }

  /** Whether a row can be used at all (some leg is up). */
  usable(row: number): boolean {
    return (this.words[this.record(row) + NH_TYPE]! & NH_DEAD) === 0;
  }

  /** The first usable row of a prefix in tables of this rank that takes `tos`; 0 if none. */
  private candidate(head: number, rank: number, tos: number): number {
    const words = this.words;
    for (let row = head; row !== 0; row = words[row + ROW_NEXT]!) {
      const meta = words[row + ROW_META]!;
      if (this.rankOf((meta >>> 8) & 0xff) !== rank) continue;
      const own = (meta >>> 16) & 0xff;
      if ((own === 0 || own === (tos & TOS_MASK)) && this.usable(row)) return row;
    }
    return 0;
  }

  /** The row that the kernel's lookup ends at, by its own rules: 0 if none. Some microseconds. */
  match(w0: number, w1: number, w2: number, w3: number, tos: number): number {
    const words = this.words;
    for (let tries = 0; ; tries++) {
      const seq = words[H_RIB_SEQ]!;
      const row = this.walk(w0, w1, w2, w3, tos);
      // Under a writer that never pauses the walk is repeated, but not for ever.
      if (((seq & 1) === 0 && fence() && words[H_RIB_SEQ] === seq) || tries === 1000) return row;
    }
  }

  private walk(w0: number, w1: number, w2: number, w3: number, tos: number): number {
    for (let rank = this.maxRank; rank >= 0; rank--)
      for (let len = this.maxLen; len >= 0; len--) {
        if (!this.hasLength(len)) continue;
        const row = this.candidate(this.findMasked(w0, w1, w2, w3, len), rank, tos);
        if (row === 0) continue;
        if (this.words[row + ROW_META]! >>> 24 === RTN_THROW) break;
        return row;
      }
    return 0;
  }

  /** `find` for an address of which only the first `len` bits count. */
  findMasked(w0: number, w1: number, w2: number, w3: number, len: number): number {
    const bits = (from: number) => MASKS[Math.min(Math.max(len - from, 0), 32)]!;
    if (!this.six) return this.find(w0 & bits(0), 0, 0, 0, len);
    return this.find(w0 & bits(0), w1 & bits(32), w2 & bits(64), w3 & bits(96), len);
  }
}
