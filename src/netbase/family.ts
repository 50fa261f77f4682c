// The routes of one family, as the writer keeps them: rows in the kernel's order, and what follows from them in the
// FIB. rib.ts explains rows and the order of tables, table.ts how the FIB is painted.
//
// A prefix gives its addresses, per rank of tables, the next hop of its first usable row; what needs more than the
// destination to decide (tos, throw) gives NHID_SLOW, and readers ask Rib.match. Removing the answer of one prefix
// reveals the next shorter one of the same rank; failing that, lower ranks, whose longer prefixes may have been
// covered: those are painted again, best first, so that no address passes through a wrong answer.
import type { Epochs } from "../mem/epoch.ts";
import {
  CELL_KEY_SHIFT,
  H_DEFAULT4,
  H_DEFAULT6,
  H_OWN_LOCAL4,
  H_RIB_SEQ,
  type Layout,
  NH_NHID,
  NHID_SLOW,
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
import type { Lines } from "./lines.ts";
import { dropLegs, sameTarget } from "./legs.ts";
import type { NexthopTable } from "./nexthop.ts";
import { loadRecord } from "./record.ts";
import { MASKS, Rib, RT_TABLE_LOCAL, RTN_THROW } from "./rib.ts";
import { RouteRow } from "./rows.ts";
import { ADDED, CHANGED, Gauge, REMOVED, SAME } from "./stats.ts";
import { FibTable } from "./table.ts";

export const NLM_F_MULTI = 0x2; // part of a dump
export const NLM_F_REPLACE = 0x100;
export const NLM_F_APPEND = 0x800;
const RTPROT_RA = 9;

/** ROW_ATTR: this IPv6 route joins others of its metric as legs of one (rt6_qualify_for_ecmp). */
export const ROW_MULTIPATH = 1 << 24;

/** `retire` kinds of rows. */
export const RETIRE_ROW4 = 1;
export const RETIRE_ROW6 = 2;

/** Which routes a sweep is about; what is absent does not narrow it. */
export interface RouteFilter {
  readonly table?: number;
  /** routes with a leg over this interface */
  readonly oif?: number;
  /** routes that name one of these nexthop objects */
  readonly nhids?: ReadonlySet<number>;
  /** IPv4: not those to these destinations (memory words): they changed under the dump */
  readonly spare?: ReadonlySet<number>;
}

export class RouteFamily extends Rib {
  private readonly fib: FibTable;
  private readonly lines: Lines;
  private readonly epochs: Epochs;
  private readonly nexthops: NexthopTable;
  private readonly gauge: Gauge;
  private readonly retireKind: number;
  private readonly free: number[] = [];
  private top: number; // word offset after the last row ever used
  private readonly perLength: Int32Array;
  private readonly perRank = new Int32Array(3);
  private stamp = 1;
  private readonly scratch = new RouteRow();
  // The prefix that is being changed.
  private w0 = 0;
  private w1 = 0;
  private w2 = 0;
  private w3 = 0;
  private len = 0;

  constructor(
    words: Int32Array,
    at: Layout,
    six: boolean,
    lines: Lines,
    epochs: Epochs,
    nexthops: NexthopTable,
  ) {
    super(words, at, six);
    this.fib = new FibTable(words, six ? at.fib6 : at.fib4, six ? H_DEFAULT6 : H_DEFAULT4, lines, epochs);
    this.lines = lines;
    this.epochs = epochs;
    this.nexthops = nexthops;
    this.gauge = six
      ? new Gauge(words, "routes6", at.capacity.routes6)
      : new Gauge(words, "routes4", at.capacity.routes4);
    this.retireKind = six ? RETIRE_ROW6 : RETIRE_ROW4;
    this.top = this.rows + this.rowWords;
    this.perLength = new Int32Array(this.maxLen + 1);
  }

  /** Takes over a route: `flags` are its message's nlmsg_flags. ADDED, CHANGED, SAME (also: not mirrored), REFUSED. */
  upsert(row: RouteRow, flags: number): number {
    const rank = this.rankOf(row.table);
    if (rank < 0 || row.srcLen !== 0 || row.dstLen > this.maxLen) return SAME;
    this.epochs.relieve();
    const nh = this.nexthops.intern(row);
    if (nh === 0) return this.gauge.refuse();
    this.setPrefix(row);
    const attr = this.attrOf(row);
    const meta = row.dstLen | (row.table << 8) | (row.tos << 16) | (row.type << 24);
    const head = this.find(this.w0, this.w1, this.w2, this.w3, this.len);
    let replaced = 0;
    if (head !== 0) {
      const { words } = this;
      const same = this.findSame(head, meta, row.priority, attr, nh);
      replaced = this.findReplaced(head, meta, row.priority, attr, flags);
      if (same !== 0) {
        this.nexthops.release(nh);
        words[same + ROW_STAMP] = this.stamp;
        words[same + ROW_META] = meta;
        if (replaced === 0 || replaced === same) {
          if ((flags & NLM_F_MULTI) !== 0) return this.reorder(head, same, rank);
          return replaced === 0 && !this.six ? this.moved(head, same, rank, flags) : SAME;
        }
        // IPv4: a nexthop object was replaced and its routes are told of, in whatever place they are. (The kernel refuses
        // to replace a route by one that it has already.)
        if (!this.six) return SAME;
        // IPv6: the other goes, this one takes its place.
        const before = this.begin(head, rank);
        this.unlink(same);
        this.linkBefore(replaced, same);
        this.unlink(replaced);
        this.end(rank, before);
        this.drop(replaced);
        return CHANGED;
      }
    }
    const fresh = (replaced === 0 && this.gauge.full) || !this.lines.room ? 0 : this.take();
    if (fresh === 0) {
      this.nexthops.release(nh);
      return this.gauge.refuse();
    }
    this.fill(fresh, meta, row.priority, attr, nh);
    const before = this.begin(head, rank);
    if (replaced !== 0) {
      this.linkBefore(replaced, fresh);
      this.unlink(replaced);
    } else this.link(head, fresh, flags);
    this.end(rank, before);
    if (replaced === 0) {
      this.gauge.entries++;
      this.perRank[rank]!++;
      return ADDED;
    }
    this.retire(replaced);
    return CHANGED;
  }

  /** Takes a route out as its RTM_DELROUTE names it: REMOVED, CHANGED (IPv6: some legs less), or SAME (not there). */
  remove(row: RouteRow): number {
    const rank = this.rankOf(row.table);
    if (rank < 0 || row.srcLen !== 0 || row.dstLen > this.maxLen) return SAME;
    this.setPrefix(row);
    const head = this.find(this.w0, this.w1, this.w2, this.w3, this.len);
    if (head === 0) return SAME;
    const attr = this.attrOf(row);
    const meta = row.dstLen | (row.table << 8) | (row.tos << 16) | (row.type << 24);
    const nh = this.nexthops.find(row);
    const same = nh === 0 ? 0 : this.findSame(head, meta, row.priority, attr, nh);
    if (same !== 0) {
      this.removeRow(same);
      return REMOVED;
    }
    if (!this.six || (attr & ROW_MULTIPATH) === 0) return SAME;
    return this.subtract(row, head, meta, attr);
  }

  /**
   * A dump of some routes, not of all with their prefix, has told of this one: spares it from the sweep, and leaves its
   * place in the order alone. False if it is not there, and so its place is not known.
   */
  touch(row: RouteRow): boolean {
    if (this.rankOf(row.table) < 0 || row.srcLen !== 0 || row.dstLen > this.maxLen) return true;
    this.setPrefix(row);
    const head = this.find(this.w0, this.w1, this.w2, this.w3, this.len);
    if (head === 0) return false;
    const attr = this.attrOf(row);
    const meta = row.dstLen | (row.table << 8) | (row.tos << 16) | (row.type << 24);
    const nh = this.nexthops.find(row);
    const same = nh === 0 ? 0 : this.findSame(head, meta, row.priority, attr, nh);
    if (same === 0) {
      if ((attr & ROW_MULTIPATH) === 0 || this.findReplaced(head, meta, row.priority, attr, 0) === 0)
        return false;
      return this.upsert(row, 0) > 0; // IPv6 legs in another order
    }
    this.words[same + ROW_STAMP] = this.stamp;
    return true;
  }

  beginSweep(): number {
    this.gauge.clearMissing();
    return ++this.stamp;
  }

  /** Routes that the last endSweep would have removed but for `spare`. */
  spared = 0;

  /** Removes the routes that `only` is about and that were not upserted since; returns how many. */
  endSweep(sweep: number, only: RouteFilter): number {
    const { words, rowWords } = this;
    let n = 0;
    this.spared = 0;
    for (let row = this.rows + rowWords; row < this.top; row += rowWords) {
      const meta = words[row + ROW_META]!;
      if (meta === 0 || words[row + ROW_STAMP]! >= sweep) continue;
      if (only.table !== undefined && ((meta >>> 8) & 0xff) !== only.table) continue;
      if (only.oif !== undefined && !this.nexthops.uses(words[row + ROW_NH]!, only.oif)) continue;
      if (only.nhids !== undefined && !only.nhids.has(this.nexthops.named(words[row + ROW_NH]!))) continue;
      if (only.spare?.has(words[row + ROW_DST]!)) {
        this.spared++;
        continue;
      }
      this.removeRow(row);
      n++;
    }
    return n;
  }

  /** Gives the prefixes that use these next hops a new answer: their usability changed. */
  refresh(nexthops: ReadonlySet<number>): void {
    const { words, rowWords } = this;
    for (let row = this.rows + rowWords; row < this.top; row += rowWords) {
      const meta = words[row + ROW_META]!;
      if (meta === 0 || !nexthops.has(words[row + ROW_NH]!)) continue;
      this.setPrefixOf(row);
      const rank = this.rankOf((meta >>> 8) & 0xff);
      this.begin(0, rank);
      this.end(rank, -1);
    }
  }

  /** IPv4's local table is a table of its own from now on: a policy rule was seen (rib.ts). There is no way back. */
  splitLocal(): void {
    const { words, rowWords } = this;
    if (this.six || words[H_OWN_LOCAL4] !== 0) return;
    this.begin(0, 2);
    words[H_OWN_LOCAL4] = 1;
    for (let row = this.rows + rowWords; row < this.top; row += rowWords) {
      const meta = words[row + ROW_META]!;
      if (meta === 0 || ((meta >>> 8) & 0xff) !== RT_TABLE_LOCAL) continue;
      this.perRank[1]!--;
      this.perRank[2]!++;
      this.setPrefixOf(row);
      this.end(2, 0);
    }
  }

  /** A row has waited out its epoch. */
  reuse(row: number): void {
    this.free.push(row);
  }

  /** A change of the present prefix begins. Returns what it gives its addresses now; `head` is its first row or 0. */
  private begin(head: number, rank: number): number {
    const before = this.value(head, rank);
    Atomics.store(this.words, H_RIB_SEQ, this.words[H_RIB_SEQ]! | 1);
    return before;
  }

  /** The change is made: the FIB follows. `before` is what `begin` returned, -1 if that is no longer known. */
  private end(rank: number, before: number): void {
    const { words } = this;
    this.publish(rank, before, this.value(this.find(this.w0, this.w1, this.w2, this.w3, this.len), rank));
    Atomics.store(words, H_RIB_SEQ, (words[H_RIB_SEQ]! | 1) + 1);
  }

  private setPrefix(row: RouteRow): void {
    const { dst } = row;
    this.setMasked(dst[0]!, dst[1]!, dst[2]!, dst[3]!, row.dstLen);
  }

  private setPrefixOf(row: number): void {
    const { words } = this;
    const six = this.six ? row + ROW_DST6 : 0;
    this.w0 = words[row + ROW_DST]!;
    this.w1 = six === 0 ? 0 : words[six]!;
    this.w2 = six === 0 ? 0 : words[six + 1]!;
    this.w3 = six === 0 ? 0 : words[six + 2]!;
    this.len = words[row + ROW_META]! & 0xff;
  }

  private setMasked(w0: number, w1: number, w2: number, w3: number, len: number): void {
    this.len = len;
    this.w0 = w0 & MASKS[Math.min(len, 32)]!;
    if (!this.six) return;
    this.w1 = w1 & MASKS[Math.min(Math.max(len - 32, 0), 32)]!;
    this.w2 = w2 & MASKS[Math.min(Math.max(len - 64, 0), 32)]!;
    this.w3 = w3 & MASKS[Math.min(Math.max(len - 96, 0), 32)]!;
  }

  private attrOf(row: RouteRow): number {
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

  private equals(a: number, b: number): boolean {
    const { words } = this;
    return this.order(a, words[b + ROW_META]!, words[b + ROW_PRIORITY]!, words[b + ROW_ATTR]!) === 0;
  }

  /** The row that says the same. With a nexthop object the type is the object's: it may have become a blackhole since. */
  private findSame(head: number, meta: number, priority: number, attr: number, nh: number): number {
    const { words } = this;
    const mask = words[this.nexthops.record(nh) + NH_NHID] === 0 ? -1 : 0xffffff;
    for (let row = head; row !== 0; row = words[row + ROW_NEXT]!)
      if (((words[row + ROW_META]! ^ meta) & mask) === 0 && words[row + ROW_PRIORITY] === (priority | 0))
        if (words[row + ROW_ATTR] === attr && words[row + ROW_NH] === nh) return row;
    return 0;
  }

  /** The row whose place a new one takes: by NLM_F_REPLACE, or as the IPv6 route that its legs belong to. */
  private findReplaced(head: number, meta: number, priority: number, attr: number, flags: number): number {
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

  /** A dump tells rows in the kernel's order: what it has told goes before what it has not. */
  private reorder(head: number, row: number, rank: number): number {
    const { words } = this;
    for (let other = head; other !== row; other = words[other + ROW_NEXT]!)
      if (words[other + ROW_STAMP]! < this.stamp && this.equals(other, row)) {
        this.relink(head, row, rank, NLM_F_MULTI);
        return CHANGED;
      }
    return SAME;
  }

  /**
   * IPv4: the kernel adds no route that is there, so one that it has added was gone in the meantime, without a word
   * (its link went down and up again): it is where new ones are.
   */
  private moved(head: number, row: number, rank: number, flags: number): number {
    const { words } = this;
    let equals = 0;
    for (let other = head; other !== 0; other = words[other + ROW_NEXT]!)
      if (other !== row && this.equals(other, row)) equals++;
    if (equals === 0) return SAME;
    this.relink(head, row, rank, flags);
    return CHANGED;
  }

  /** Gives a row the place in its list that it would get if it came now. */
  private relink(head: number, row: number, rank: number, flags: number): void {
    const before = this.begin(head, rank);
    this.unlink(row);
    this.link(this.find(this.w0, this.w1, this.w2, this.w3, this.len), row, flags);
    this.end(rank, before);
  }

  private take(): number {
    const own = this.free.pop();
    if (own !== undefined) return own;
    // While too many rows wait for their epoch, there may be none although the table is not full.
    if (this.top >= this.rows + (this.gauge.capacity + ROW_SLACK) * this.rowWords) return 0;
    this.top += this.rowWords;
    return this.top - this.rowWords;
  }

  private fill(row: number, meta: number, priority: number, attr: number, nh: number): void {
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
  private link(head: number, row: number, flags: number): void {
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
  private linkBefore(other: number, row: number): void {
    const { words } = this;
    words[row + ROW_NEXT] = other;
    const from = this.pointerTo(other);
    words[row + ROW_CHAIN] = words[other + ROW_CHAIN]!;
    words[from] = row;
  }

  private unlink(row: number): void {
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

  /** Where `pointerTo` found a row that is not the first of its prefix; 0 otherwise. */
  private nextOfPrevious = 0;

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

  /** Takes a row out of everything. */
  private removeRow(row: number): void {
    this.epochs.relieve();
    this.setPrefixOf(row);
    const rank = this.rankOf((this.words[row + ROW_META]! >>> 8) & 0xff);
    const before = this.begin(this.find(this.w0, this.w1, this.w2, this.w3, this.len), rank);
    this.unlink(row);
    this.end(rank, before);
    this.drop(row);
  }

  /** Counts an unlinked row out and gives it up. */
  private drop(row: number): void {
    this.perRank[this.rankOf((this.words[row + ROW_META]! >>> 8) & 0xff)]!--;
    this.gauge.entries--;
    this.retire(row);
  }

  private retire(row: number): void {
    this.nexthops.release(this.words[row + ROW_NH]!);
    this.words[row + ROW_META] = 0;
    this.epochs.retire(this.retireKind, row);
  }

  /** IPv6 tells of one leg less by an RTM_DELROUTE with that leg alone. */
  private subtract(row: RouteRow, head: number, meta: number, attr: number): number {
    const { words, scratch } = this;
    const from = this.findReplaced(head, meta, row.priority, attr, 0);
    if (from === 0) return SAME;
    loadRecord(words, this.record(from), scratch);
    const { legs } = scratch;
    let left = legs.n;
    for (let i = 0; i < row.legs.n; i++)
      for (let k = 0; k < legs.n; k++)
        if (legs.weight[k] !== 0 && sameTarget(row.legs, i, legs, k)) {
          legs.weight[k] = 0;
          left--;
          break;
        }
    if (left === legs.n) return SAME;
    if (left === 0) {
      this.removeRow(from);
      return REMOVED;
    }
    dropLegs(legs);
    scratch.table = row.table;
    scratch.dstLen = row.dstLen;
    scratch.dst.set(row.dst);
    scratch.priority = row.priority;
    scratch.protocol = words[from + ROW_ATTR]! & 0xff;
    scratch.pref = (words[from + ROW_ATTR]! >>> 16) & 3;
    this.upsert(scratch, 0);
    return CHANGED;
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
    const { fib, w0, w1, w2, w3, len } = this;
    const key = this.key(rank, len);
    if (after !== 0) {
      const cell = (key << CELL_KEY_SHIFT) | after;
      if (len > 0) fib.paint(w0, w1, w2, w3, len, key, false, cell);
      else if (fib.defaultCell >>> CELL_KEY_SHIFT <= key) {
        fib.defaultCell = cell;
        if (this.below(rank) > 0) fib.paint(0, 0, 0, 0, 0, key, false, 0);
      }
      return;
    }
    if (len === 0 && (fib.defaultCell === 0 || fib.defaultCell >>> CELL_KEY_SHIFT !== key)) return;
    const base = this.covering(rank);
    const own = base >>> CELL_KEY_SHIFT >= this.key(rank, 0) && base !== 0; // a shorter prefix of the same rank
    if (!own && len < this.maxLen && this.below(rank) > 0) this.reveal(rank, key);
    if (len === 0) fib.defaultCell = base;
    else
      fib.paint(
        w0,
        w1,
        w2,
        w3,
        len,
        key,
        true,
        base >>> CELL_KEY_SHIFT === fib.defaultCell >>> CELL_KEY_SHIFT ? 0 : base,
      );
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

  /** Paints the longer prefixes of lower ranks over what the present prefix gives up, best first. */
  private reveal(rank: number, key: number): void {
    const { words, rowWords, fib } = this;
    const { w0, w1, w2, w3, len } = this;
    const hidden: { row: number; rank: number; len: number }[] = [];
    for (let row = this.rows + rowWords; row < this.top; row += rowWords) {
      const meta = words[row + ROW_META]!;
      const own = this.rankOf((meta >>> 8) & 0xff);
      if (meta === 0 || own >= rank || (meta & 0xff) <= len) continue;
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

/** RTA_PREF as a rank: high 1 above medium 0 above low 3. */
const prefRank = (attr: number): number => {
  const pref = (attr >>> 16) & 3;
  return pref === 1 ? 2 : pref === 3 ? 0 : 1;
};
