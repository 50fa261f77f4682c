// How the rows of one family come to an end: one by one, or because a dump lacked them (mark and sweep).
import type { Epochs } from "../mem/epoch.ts";
import { ROW_MULTIPATH } from "./alias.ts";
import { Followed } from "./follow.ts";
import {
  type Layout,
  NH_TYPE,
  ROW_ATTR,
  ROW_DST,
  ROW_META,
  ROW_NEXT,
  ROW_NH,
  ROW_PRIORITY,
  ROW_STAMP,
} from "./layout.ts";
import type { Lines } from "./lines.ts";
import type { NexthopTable } from "./nexthop.ts";

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

export class Swept extends Followed {
  protected readonly lines: Lines;
  protected readonly epochs: Epochs;
  protected readonly nexthops: NexthopTable;
  private readonly retireKind: number;

  constructor(
    words: Int32Array,
    at: Layout,
    six: boolean,
    lines: Lines,
    epochs: Epochs,
    nexthops: NexthopTable,
    dense: (at: number) => void,
  ) {
    super(words, at, six, lines, epochs, dense);
    this.lines = lines;
    this.epochs = epochs;
    this.nexthops = nexthops;
    this.retireKind = six ? RETIRE_ROW6 : RETIRE_ROW4;
  }

  /** @param whole everything will come again, also what found no room; else only a part of it */
  beginSweep(whole: boolean): number {
    if (whole) {
      this.gauge.clearMissing();
      this.nexthops.clearMissing();
    }
    return ++this.stamp;
  }

  /** Routes that the last endSweep would have removed but for `spare`. */
  spared = 0;

  /** IPv6: called for each route that the last sweep left though the dump lacked it (`hidden`). */
  onHidden: (row: number) => void = () => {};

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
      if (this.six && this.hidden(row, sweep, only)) continue;
      this.removeRow(row);
      n++;
    }
    return n;
  }

  /**
   * IPv6: whether a dump hides this row. The kernel tells the legs of a route at its first one and goes on after its last
   * (fib6_dump_node): routes of the same metric that came in between are there, behind it, but not told.
   */
  private hidden(row: number, sweep: number, only: RouteFilter): boolean {
    const { words, nexthops } = this;
    this.setPrefixOf(row);
    const head = this.find(this.w0, this.w1, this.w2, this.w3, this.len);
    for (let other = head; other !== 0; other = words[other + ROW_NEXT]!) {
      if (((words[other + ROW_META]! ^ words[row + ROW_META]!) & 0xff00) !== 0) continue;
      if (words[other + ROW_PRIORITY] !== words[row + ROW_PRIORITY]) continue;
      const nh = words[other + ROW_NH]!;
      if ((words[other + ROW_ATTR]! & ROW_MULTIPATH) === 0 || words[this.record(other) + NH_TYPE]! >>> 16 < 2)
        continue;
      const there =
        words[other + ROW_STAMP]! >= sweep || (only.oif !== undefined && !nexthops.uses(nh, only.oif));
      if (!there) continue;
      const rank = this.rankOf((words[row + ROW_META]! >>> 8) & 0xff);
      const before = this.begin(head, rank);
      this.unlink(row);
      this.link(this.find(this.w0, this.w1, this.w2, this.w3, this.len), row, 0);
      this.end(rank, before);
      this.onHidden(row);
      return true;
    }
    return false;
  }

  /** As long as usability changed that the FIB has not followed yet, what a list gives now is not what it had given. */
  protected override begin(head: number, rank: number): number {
    const before = super.begin(head, rank);
    return this.nexthops.unsettled ? -1 : before;
  }

  /** Takes a row out of everything. */
  protected removeRow(row: number): void {
    this.epochs.relieve();
    this.setPrefixOf(row);
    const rank = this.rankOf((this.words[row + ROW_META]! >>> 8) & 0xff);
    const before = this.begin(this.find(this.w0, this.w1, this.w2, this.w3, this.len), rank);
    this.unlink(row);
    this.end(rank, before);
    this.drop(row);
  }

  /** Counts an unlinked row out and gives it up. */
  protected drop(row: number): void {
    this.perRank[this.rankOf((this.words[row + ROW_META]! >>> 8) & 0xff)]!--;
    this.gauge.entries--;
    this.retire(row);
  }

  protected retire(row: number): void {
    this.nexthops.release(this.words[row + ROW_NH]!);
    this.words[row + ROW_META] = 0;
    this.epochs.retire(this.retireKind, row);
  }
}
