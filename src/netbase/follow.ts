// How the FIB follows the rows of a family.
//
// A prefix gives its addresses, per rank of tables, the next hop of its first usable row; what needs more than the
// destination to decide (tos, throw) gives NHID_SLOW, and readers ask Rib.match. Removing the answer of one prefix
// reveals the next shorter one of the same rank; failing that, lower ranks, whose longer prefixes may have been
// covered: those are painted again (table.ts), best first, so that no address passes through a wrong answer.
import type { Epochs } from "../mem/epoch.ts";
import { Aliases } from "./alias.ts";
import { changesOf } from "./fib6.ts";
import {
  CELL_KEY_SHIFT,
  CHANGES6,
  H_CHANGES6,
  H_WIDE4,
  H_WIDE6,
  H_RIB_SEQ,
  type Layout,
  NHID_SLOW,
  ROW_META,
  ROW_NEXT,
  ROW_NH,
} from "./layout.ts";
import type { Lines } from "./lines.ts";
import { RTN_THROW } from "./rib.ts";
import { FibTable, WIDE_BITS } from "./table.ts";

export class Followed extends Aliases {
  private readonly fib: FibTable;
  private readonly changes: Float64Array; // of IPv6, by /32: what readers keep is good until then (fib6.ts)
  /** Rows in tables of each rank. */
  protected readonly perRank: Int32Array = new Int32Array(3);

  /** @param dense see FibTable */
  constructor(
    words: Int32Array,
    at: Layout,
    six: boolean,
    lines: Lines,
    epochs: Epochs,
    dense: (at: number) => void,
  ) {
    super(words, at, six);
    const [first, wide] = six ? [at.fib6, H_WIDE6] : [at.fib4, H_WIDE4];
    this.fib = new FibTable(words, first, wide, lines, epochs, dense);
    this.changes = new Float64Array(words.buffer, words.byteOffset + H_CHANGES6 * 4, CHANGES6);
    if (six) this.changes.fill(1);
  }

  /** A change of the present prefix begins. Returns what it gives its addresses now; `head` is its first row or 0. */
  protected begin(head: number, rank: number): number {
    const before = this.value(head, rank);
    Atomics.store(this.words, H_RIB_SEQ, this.words[H_RIB_SEQ]! | 1);
    return before;
  }

  /** The change is made: the FIB follows. `before` is what `begin` returned, -1 if that is no longer known. */
  protected end(rank: number, before: number): void {
    const { words } = this;
    this.publish(rank, before, this.value(this.find(this.w0, this.w1, this.w2, this.w3, this.len), rank));
    Atomics.store(words, H_RIB_SEQ, (words[H_RIB_SEQ]! | 1) + 1);
  }

  /** What the list of a prefix gives its addresses in tables of a rank: a next-hop id, 0 if nothing. */
  private value(head: number, rank: number): number {
    const { words } = this;
    for (let row = head; row !== 0; row = words[row + ROW_NEXT]!) {
      const meta = words[row + ROW_META]!;
      if (this.rankOf((meta >>> 8) & 0xff) !== rank || !this.usable(row)) continue;
      return ((meta >>> 16) & 0xff) !== 0 || meta >>> 24 === RTN_THROW ? NHID_SLOW : words[row + ROW_NH]!;
    }
    return 0;
  }

  private key(rank: number, len: number): number {
    return (rank << (this.six ? 8 : 6)) | len;
  }

  /** Makes the FIB follow: the present prefix gave `before` in this rank and gives `after` now. */
  private publish(rank: number, before: number, after: number): void {
    if (before === after) return;
    this.paint(rank, after);
    if (this.six) this.count();
  }

  /** IPv6: what readers keep of the present prefix's addresses is not good any more. */
  private count(): void {
    const { changes, w0, len } = this;
    // The last byte of a /32 is one of those that say which count it is in.
    for (let i = len >= 32 ? 0 : len > 24 ? (1 << (32 - len)) - 1 : 255; i >= 0; i--)
      changes[changesOf(w0 + (i << 24))]!++;
  }

  private paint(rank: number, after: number): void {
    const { fib, w0, w1, w2, w3, len } = this;
    const key = this.key(rank, len);
    if (after !== 0) {
      fib.paint(w0, w1, w2, w3, len, key, false, (key << CELL_KEY_SHIFT) | after);
      if (len <= WIDE_BITS && this.below(rank) > 0) fib.uncover(w0, len, key);
      return;
    }
    const base = this.covering(rank);
    const own = base >>> CELL_KEY_SHIFT >= this.key(rank, 0) && base !== 0; // a shorter prefix of the same rank
    if (!own && len < this.maxLen && this.below(rank) > 0) this.reveal(rank, key, base >>> CELL_KEY_SHIFT);
    // What a 0 stands for is not written out.
    const zero = len > WIDE_BITS && ((base >>> CELL_KEY_SHIFT) & (this.six ? 0xff : 0x3f)) <= WIDE_BITS;
    fib.paint(w0, w1, w2, w3, len, key, true, zero ? 0 : base);
  }

  /** Rows in tables of lower rank. */
  private below(rank: number): number {
    let n = 0;
    for (let lower = 0; lower < rank; lower++) n += this.perRank[lower]!;
    return n;
  }

  /** The cell of the best answer for the present prefix's addresses beside its own: shorter, or of a lower rank. */
  private covering(rank: number): number {
    for (let r = rank; r >= 0; r--)
      for (let len = r === rank ? this.len - 1 : this.len; len >= 0; len--) {
        if (!this.hasLength(len)) continue;
        const value = this.value(this.findMasked(this.w0, this.w1, this.w2, this.w3, len), r);
        if (value !== 0) return (this.key(r, len) << CELL_KEY_SHIFT) | value;
      }
    return 0;
  }

  /**
   * Paints the longer prefixes of lower ranks over what the present prefix gives up, best first; not those that `floor`
   * hides, the key of what all of the prefix falls to (a default route of main hides all of table default).
   */
  private reveal(rank: number, key: number, floor: number): void {
    const { words, rowWords, fib } = this;
    const { w0, w1, w2, w3, len } = this;
    const hidden: { row: number; rank: number; len: number }[] = [];
    for (let row = this.rows + rowWords; row < this.top; row += rowWords) {
      const meta = words[row + ROW_META]!;
      const own = this.rankOf((meta >>> 8) & 0xff);
      if (meta === 0 || own >= rank || (meta & 0xff) <= len || this.key(own, meta & 0xff) < floor) continue;
      this.setPrefixOf(row);
      this.setMasked(this.w0, this.w1, this.w2, this.w3, len);
      if (this.w0 === w0 && this.w1 === w1 && this.w2 === w2 && this.w3 === w3)
        hidden.push({ row, rank: own, len: meta & 0xff });
    }
    hidden.sort((a, b) => b.rank - a.rank || b.len - a.len);
    for (const one of hidden) {
      this.setPrefixOf(one.row);
      const value = this.value(this.find(this.w0, this.w1, this.w2, this.w3, this.len), one.rank);
      const cell = (this.key(one.rank, one.len) << CELL_KEY_SHIFT) | value;
      if (value !== 0) fib.paint(this.w0, this.w1, this.w2, this.w3, this.len, key, true, cell);
    }
    this.w0 = w0;
    this.w1 = w1;
    this.w2 = w2;
    this.w3 = w3;
    this.len = len;
  }
}
