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
  LINE_WORDS,
  NH_BOUND,
  NH_DEAD,
  NH_OIF,
  NH_TYPE,
  ROW_ATTR,
  ROW_CHAIN,
  ROW_DST,
  ROW_DST6,
  ROW_META,
  ROW_NEXT,
  ROW_NH,
  ROW_PRIORITY,
  ROW4_WORDS,
  ROW6_WORDS,
} from "./layout.ts";
import { loadRecord } from "./record.ts";
import { RouteRow } from "./rows.ts";
import { RTN_BLACKHOLE } from "./said.ts";

export const RT_TABLE_DEFAULT = 253;
export const RT_TABLE_MAIN = 254;
export const RT_TABLE_LOCAL = 255;
export const RTN_THROW = 9;
/** What a route's tos is compared with: INET_DSCP_LEGACY_TOS_MASK. */
export const TOS_MASK = 0x1c;

/** What became of a row in a lookup. "dead": no leg is up; "oif": none over the interface asked for. */
export type Verdict = "chosen" | "tos" | "dead" | "oif" | "throw";
export type Trace = (row: number, verdict: Verdict) => void;

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

  /** Why a row of the right table is not the one for a packet, or "chosen". */
  private verdict(row: number, tos: number, oif: number): Verdict {
    const { words } = this;
    const own = (words[row + ROW_META]! >>> 16) & 0xff;
    if (own !== 0 && own !== (tos & TOS_MASK)) return "tos";
    const record = this.record(row);
    const type = words[record + NH_TYPE]!;
    if ((type & NH_DEAD) !== 0) return "dead";
    if (words[row + ROW_META]! >>> 24 === RTN_THROW) return "throw";
    // IPv4 says no before it looks at legs; IPv6's routes that say no lead out of the loopback interface.
    if (oif === 0 || (!this.six && (type & 0xff) >= RTN_BLACKHOLE)) return "chosen";
    for (let leg = record, n = type >>> 16; n > 0; n--, leg += LINE_WORDS)
      if (words[leg + NH_OIF] === oif && words[leg + NH_BOUND] !== -1) return "chosen";
    return "oif";
  }

  /**
   * The row that the kernel's lookup ends at, by its own rules: 0 if none. Some microseconds.
   * @param oif only routes over this interface, 0 for all
   * @param trace is told of every row that was looked at, in order; may be told more than once under a busy writer
   */
  match(w0: number, w1: number, w2: number, w3: number, tos: number, oif = 0, trace?: Trace): number {
    const words = this.words;
    for (let tries = 0; ; tries++) {
      const seq = words[H_RIB_SEQ]!;
      const row = this.walk(w0, w1, w2, w3, tos, oif, trace);
      // Under a writer that never pauses the walk is repeated, but not for ever.
      if (((seq & 1) === 0 && fence() && words[H_RIB_SEQ] === seq) || tries === 1000) return row;
    }
  }

  private walk(
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    tos: number,
    oif: number,
    trace?: Trace,
  ): number {
    const { words } = this;
    tables: for (let rank = this.maxRank; rank >= 0; rank--)
      for (let len = this.maxLen; len >= 0; len--) {
        if (!this.hasLength(len)) continue;
        for (let row = this.findMasked(w0, w1, w2, w3, len); row !== 0; row = words[row + ROW_NEXT]!) {
          if (this.rankOf((words[row + ROW_META]! >>> 8) & 0xff) !== rank) continue;
          const verdict = this.verdict(row, tos, oif);
          trace?.(row, verdict);
          if (verdict === "chosen") return row;
          if (verdict === "throw") continue tables;
        }
      }
    return 0;
  }

  /** The row that is as good as `row` and leads out of `oif`, or `row`: where IPv6 prefers an interface (rt6_score_route). */
  preferred(row: number, oif: number): number {
    const { words } = this;
    for (let other = row; other !== 0; other = words[other + ROW_NEXT]!) {
      const isAsGood =
        ((words[other + ROW_META]! ^ words[row + ROW_META]!) & 0xff00) === 0 &&
        words[other + ROW_PRIORITY] === words[row + ROW_PRIORITY] &&
        ((words[other + ROW_ATTR]! ^ words[row + ROW_ATTR]!) & (3 << 16)) === 0;
      if (isAsGood && this.verdict(other, 0, oif) === "chosen") return other;
    }
    return row;
  }

  /** The rows of a route's prefix, in order. */
  *rowsOf({ dst, dstLen }: Pick<RouteRow, "dst" | "dstLen">): Generator<number> {
    const first = this.findMasked(dst[0]!, dst[1]!, dst[2]!, dst[3]!, dstLen);
    for (let row = first; row !== 0; row = this.words[row + ROW_NEXT]!) yield row;
  }

  /** Fills `out` with all of a row. */
  load(row: number, out: RouteRow): void {
    const { words } = this;
    const meta = words[row + ROW_META]!;
    const attr = words[row + ROW_ATTR]!;
    loadRecord(words, this.record(row), out);
    out.table = (meta >>> 8) & 0xff;
    out.dstLen = meta & 0xff;
    out.tos = (meta >>> 16) & 0xff;
    out.type = meta >>> 24;
    out.priority = words[row + ROW_PRIORITY]! >>> 0;
    out.protocol = attr & 0xff;
    out.pref = (attr >>> 16) & 3;
    out.flags = out.legs.n === 1 ? out.legs.flags[0]! : 0;
    out.srcLen = 0;
    out.dst[0] = words[row + ROW_DST]!;
    for (let i = 1; i < 4; i++) out.dst[i] = this.six ? words[row + ROW_DST6 + i - 1]! : 0;
  }

  /** All routes, prefix by prefix in no order, the rows of one prefix in the kernel's. The same object each time. */
  *all(): Generator<RouteRow> {
    const { words } = this;
    const out = new RouteRow();
    for (let bucket = 0; bucket <= this.bucketMask; bucket++)
      for (let head = words[this.buckets + bucket]!; head !== 0; head = words[head + ROW_CHAIN]!)
        for (let row = head; row !== 0; row = words[row + ROW_NEXT]!) {
          if (words[row + ROW_META] === 0) continue;
          this.load(row, out);
          yield out;
        }
  }

  /** `find` for an address of which only the first `len` bits count. */
  findMasked(w0: number, w1: number, w2: number, w3: number, len: number): number {
    if (!this.six) return this.find(w0 & MASKS[len]!, 0, 0, 0, len);
    const m0 = len >= 32 ? -1 : MASKS[len]!;
    const m1 = len >= 64 ? -1 : len <= 32 ? 0 : MASKS[len - 32]!;
    const m2 = len >= 96 ? -1 : len <= 64 ? 0 : MASKS[len - 64]!;
    const m3 = len <= 96 ? 0 : MASKS[len - 96]!;
    return this.find(w0 & m0, w1 & m1, w2 & m2, w3 & m3, len);
  }
}
