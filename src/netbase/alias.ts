// The rows of one family and their lists, as the writer keeps them: storage, and every row's place in the list of its
// prefix (rib.ts), which is the kernel's.
import {
  type Layout,
  ROW_ATTR,
  ROW_CHAIN,
  ROW_DST,
  ROW_DST6,
  ROW_META,
  ROW_NEXT,
  ROW_NH,
  ROW_PRIORITY,
  ROW_SLACK,
  ROW_STAMP,
} from "./layout.ts";
import { MASKS, Rib } from "./rib.ts";
import type { RouteRow } from "./rows.ts";
import { Gauge } from "./stats.ts";

export const NLM_F_MULTI = 0x2; // part of a dump
export const NLM_F_REPLACE = 0x100;
export const NLM_F_APPEND = 0x800;
const RTPROT_RA = 9;

/** ROW_ATTR: this IPv6 route joins others of its metric as legs of one (rt6_qualify_for_ecmp). */
export const ROW_MULTIPATH = 1 << 24;

export class Aliases extends Rib {
  protected readonly gauge: Gauge;
  /** Word offset after the last row ever used. */
  protected top: number;
  protected stamp = 1;
  private readonly free: number[] = [];
  private readonly perLength: Int32Array;
  // The prefix that is being changed.
  protected w0 = 0;
  protected w1 = 0;
  protected w2 = 0;
  protected w3 = 0;
  protected len = 0;
  /** Where `pointerTo` found a row that is not the first of its prefix; 0 otherwise. */
  private nextOfPrevious = 0;

  constructor(words: Int32Array, at: Layout, six: boolean) {
    super(words, at, six);
    const { routes4, routes6 } = at.capacity;
    this.gauge = six ? new Gauge(words, "routes6", routes6) : new Gauge(words, "routes4", routes4);
    this.top = this.rows + this.rowWords;
    this.perLength = new Int32Array(this.maxLen + 1);
  }

  protected setPrefix(row: RouteRow): void {
    const { dst } = row;
    this.setMasked(dst[0]!, dst[1]!, dst[2]!, dst[3]!, row.dstLen);
  }

  protected setPrefixOf(row: number): void {
    const { words } = this;
    const six = this.six ? row + ROW_DST6 : 0;
    this.w0 = words[row + ROW_DST]!;
    this.w1 = six === 0 ? 0 : words[six]!;
    this.w2 = six === 0 ? 0 : words[six + 1]!;
    this.w3 = six === 0 ? 0 : words[six + 2]!;
    this.len = words[row + ROW_META]! & 0xff;
  }

  protected setMasked(w0: number, w1: number, w2: number, w3: number, len: number): void {
    this.len = len;
    this.w0 = w0 & MASKS[Math.min(len, 32)]!;
    if (!this.six) return;
    this.w1 = w1 & MASKS[Math.min(Math.max(len - 32, 0), 32)]!;
    this.w2 = w2 & MASKS[Math.min(Math.max(len - 64, 0), 32)]!;
    this.w3 = w3 & MASKS[Math.min(Math.max(len - 96, 0), 32)]!;
  }

  protected attrOf(row: RouteRow): number {
    const multipath =
      this.six &&
      row.nhid === 0 &&
      row.protocol !== RTPROT_RA &&
      row.legs.n > 0 &&
      row.legs.gatewayFamily[0] !== 0;
    return row.protocol | (row.scope << 8) | ((row.pref & 3) << 16) | (multipath ? ROW_MULTIPATH : 0);
  }

  /**
   * The kernel's order of rows in a prefix: negative if (meta, priority, attr) goes before `row`, 0 if equal.
   * IPv4: table falling, tos falling, priority rising (fib_insert_alias). IPv6: priority rising, then preference.
   */
  private order(row: number, meta: number, priority: number, attr: number): number {
    const { words } = this;
    const other = words[row + ROW_META]!;
    const byTable = ((other >>> 8) & 0xff) - ((meta >>> 8) & 0xff);
    if (byTable !== 0) return byTable;
    const byTos = ((other >>> 16) & 0xff) - ((meta >>> 16) & 0xff);
    if (byTos !== 0) return byTos;
    const byPriority = (priority >>> 0) - (words[row + ROW_PRIORITY]! >>> 0);
    if (byPriority !== 0) return byPriority;
    return prefRank(words[row + ROW_ATTR]!) - prefRank(attr);
  }

  protected equals(a: number, b: number): boolean {
    const { words } = this;
    return this.order(a, words[b + ROW_META]!, words[b + ROW_PRIORITY]!, words[b + ROW_ATTR]!) === 0;
  }

  /** The row whose place a new one takes: by NLM_F_REPLACE, or as the IPv6 route that its legs belong to. */
  protected findReplaced(head: number, meta: number, priority: number, attr: number, flags: number): number {
    const replace = (flags & NLM_F_REPLACE) !== 0;
    if (!replace && (attr & ROW_MULTIPATH) === 0) return 0;
    const { words } = this;
    let first = 0;
    for (let row = head; row !== 0; row = words[row + ROW_NEXT]!) {
      if (((words[row + ROW_META]! ^ meta) & 0xffff00) !== 0 || words[row + ROW_PRIORITY] !== (priority | 0))
        continue;
      if (!this.six || ((words[row + ROW_ATTR]! ^ attr) & ROW_MULTIPATH) === 0) return row;
      first ||= row;
    }
    return replace ? first : 0;
  }

  protected take(): number {
    const own = this.free.pop();
    if (own !== undefined) return own;
    // While too many rows wait for their epoch, there may be none although the table is not full.
    if (this.top >= this.rows + (this.gauge.capacity + ROW_SLACK) * this.rowWords) return 0;
    this.top += this.rowWords;
    return this.top - this.rowWords;
  }

  protected fill(row: number, meta: number, priority: number, attr: number, nh: number): void {
    const { words } = this;
    words[row + ROW_DST] = this.w0;
    words[row + ROW_META] = meta;
    words[row + ROW_PRIORITY] = priority;
    words[row + ROW_ATTR] = attr;
    words[row + ROW_NH] = nh;
    words[row + ROW_NEXT] = 0;
    words[row + ROW_STAMP] = this.stamp;
    words[row + ROW_CHAIN] = 0;
    if (!this.six) return;
    words[row + ROW_DST6] = this.w1;
    words[row + ROW_DST6 + 1] = this.w2;
    words[row + ROW_DST6 + 2] = this.w3;
  }

  /** Puts a row into the list of its prefix, where the kernel has it. `head` is the prefix's first row or 0. */
  protected link(head: number, row: number, flags: number): void {
    const { words } = this;
    if (head === 0) {
      const bucket = this.bucket(this.w0, this.w1, this.w2, this.w3, this.len);
      words[row + ROW_NEXT] = 0;
      words[row + ROW_CHAIN] = words[bucket]!;
      words[bucket] = row;
      if (this.perLength[this.len]!++ === 0) this.setLength(this.len, true);
      return;
    }
    const meta = words[row + ROW_META]!;
    const priority = words[row + ROW_PRIORITY]!;
    const attr = words[row + ROW_ATTR]!;
    // Among equals: last if appended (IPv6: always), first if not; in a dump after those it has told already.
    const dump = (flags & NLM_F_MULTI) !== 0;
    const last = this.six || (flags & NLM_F_APPEND) !== 0;
    let before = 0;
    let after = head;
    for (; after !== 0; before = after, after = words[after + ROW_NEXT]!) {
      const order = this.order(after, meta, priority, attr);
      if (order < 0) break;
      if (order === 0 && (dump ? words[after + ROW_STAMP]! < this.stamp : !last)) break;
    }
    if (before === 0) this.linkBefore(head, row);
    else {
      words[row + ROW_NEXT] = after;
      words[before + ROW_NEXT] = row;
    }
  }

  /** Puts a row into the list straight before another. */
  protected linkBefore(other: number, row: number): void {
    const { words } = this;
    words[row + ROW_NEXT] = other;
    const from = this.pointerTo(other);
    words[row + ROW_CHAIN] = words[other + ROW_CHAIN]!;
    words[from] = row;
  }

  protected unlink(row: number): void {
    const { words } = this;
    const from = this.pointerTo(row);
    const next = words[row + ROW_NEXT]!;
    if (from === this.nextOfPrevious) words[from] = next;
    else if (next !== 0) {
      words[next + ROW_CHAIN] = words[row + ROW_CHAIN]!;
      words[from] = next;
    } else {
      words[from] = words[row + ROW_CHAIN]!;
      if (--this.perLength[this.len]! === 0) this.setLength(this.len, false);
    }
  }

  /** The word that points to a row of the present prefix: a bucket, a chain or a next word. */
  private pointerTo(row: number): number {
    const { words } = this;
    this.nextOfPrevious = 0;
    let from = this.bucket(this.w0, this.w1, this.w2, this.w3, this.len);
    while (!this.isPrefix(words[from]!, this.w0, this.w1, this.w2, this.w3, this.len))
      from = words[from]! + ROW_CHAIN;
    if (words[from] === row) return from;
    from = words[from]! + ROW_NEXT;
    while (words[from] !== row) from = words[from]! + ROW_NEXT;
    this.nextOfPrevious = from;
    return from;
  }

  /** A row has waited out its epoch. */
  reuse(row: number): void {
    this.free.push(row);
  }
}

/** RTA_PREF as a rank: high 1 above medium 0 above low 3. */
const prefRank = (attr: number): number => {
  const pref = (attr >>> 16) & 3;
  return pref === 1 ? 2 : pref === 3 ? 0 : 1;
};
