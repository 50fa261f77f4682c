// The routes of one family, as the writer keeps them: what becomes of a route message, and of next hops that come and go.
// rib.ts explains rows and the order of tables, alias.ts has the lists, follow.ts the FIB, sweep.ts how rows end.
import { NLM_F_MULTI, NLM_F_REPLACE, ROW_MULTIPATH } from "./alias.ts";
import {
  H_OWN_LOCAL4,
  NH_NHID,
  ROW_ATTR,
  ROW_META,
  ROW_NEXT,
  ROW_NH,
  ROW_PRIORITY,
  ROW_STAMP,
} from "./layout.ts";
import { dropLegs, sameTarget } from "./legs.ts";
import { loadRecord } from "./record.ts";
import { RT_TABLE_LOCAL } from "./rib.ts";
import { RouteRow } from "./rows.ts";
import { ADDED, CHANGED, REMOVED, SAME } from "./stats.ts";
import { Swept } from "./sweep.ts";

export class RouteFamily extends Swept {
  private readonly scratch = new RouteRow();

  /**
   * Whether the last upsert told of a route that was there already, or told of it twice in one dump. IPv4 has routes that
   * differ in nothing that is mirrored, or in nothing that messages tell (the weight of a single leg).
   */
  twin = false;

  /** Takes over a route: `flags` are its message's nlmsg_flags. ADDED, CHANGED, SAME (also: not mirrored), REFUSED. */
  upsert(row: RouteRow, flags: number): number {
    this.twin = false;
    const rank = this.rankOf(row.table);
    if (rank < 0 || row.srcLen !== 0 || row.dstLen > this.maxLen) return SAME;
    this.epochs.relieve();
    const nh = this.nexthops.intern(row);
    this.setPrefix(row);
    const attr = this.attrOf(row);
    const meta = row.dstLen | (row.table << 8) | (row.tos << 16) | (row.type << 24);
    const head = this.find(this.w0, this.w1, this.w2, this.w3, this.len);
    if (nh === 0) {
      // One that is there stays as it was, if it is the state of its legs alone that there is no room for.
      const known = this.nexthops.lookup(row);
      const same = known === 0 ? 0 : this.findSame(head, meta, row.priority, attr, known);
      if (same !== 0) this.words[same + ROW_STAMP] = this.stamp;
      return this.gauge.refuse();
    }
    let replaced = 0;
    if (head !== 0) {
      const { words } = this;
      const same = this.findSame(head, meta, row.priority, attr, nh);
      replaced = this.findReplaced(head, meta, row.priority, attr, flags);
      if (same !== 0) {
        this.turn(head, same, nh, rank);
        const dump = (flags & NLM_F_MULTI) !== 0;
        const other = replaced !== 0 && replaced !== same && row.nhid === 0;
        this.twin = dump ? words[same + ROW_STAMP] === this.stamp : other || (flags & NLM_F_REPLACE) === 0;
        words[same + ROW_STAMP] = this.stamp;
        words[same + ROW_META] = meta;
        if (replaced === 0 || replaced === same) {
          if (dump) return this.reorder(head, same, rank);
          return replaced === 0 && !this.six ? this.moved(head, same, rank, flags) : SAME;
        }
        // A nexthop object was replaced and its routes are told of, in whatever place they are; or it means the other:
        // of routes with an object IPv4 refuses that. Where it is not known the mirror asks for a dump.
        if (!this.six || row.nhid !== 0) return SAME;
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
    const fresh = (replaced === 0 && this.gauge.full) || !this.lines.room() ? 0 : this.take();
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
    const nh = this.nexthops.lookup(row);
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
    const known = this.nexthops.lookup(row);
    const same = known === 0 ? 0 : this.findSame(head, meta, row.priority, attr, known);
    if (same === 0) {
      if ((attr & ROW_MULTIPATH) === 0 || this.findReplaced(head, meta, row.priority, attr, 0) === 0)
        return false;
      return this.upsert(row, 0) > 0; // IPv6 legs in another order
    }
    this.words[same + ROW_STAMP] = this.stamp;
    const nh = this.nexthops.intern(row);
    if (nh !== 0) this.turn(head, same, nh, this.rankOf(row.table));
    return true;
  }

  /** A row's next hop is `nh`, interned, from now on: another one than before if its legs are told to be dead, or no more. */
  private turn(head: number, row: number, nh: number, rank: number): void {
    const { words } = this;
    const old = words[row + ROW_NH]!;
    if (nh !== old) {
      const before = this.begin(head, rank);
      words[row + ROW_NH] = nh;
      this.end(rank, before);
    }
    this.nexthops.release(old);
  }

  /** Gives the prefixes that use these next hops a new answer: their usability changed. */
  refresh(nexthops: ReadonlySet<number>): void {
    const { words, rowWords } = this;
    // What others fall back to comes first.
    for (let row = this.find(0, 0, 0, 0, 0); row !== 0; row = words[row + ROW_NEXT]!)
      if (nexthops.has(words[row + ROW_NH]!)) this.again(row);
    for (let row = this.rows + rowWords; row < this.top; row += rowWords) {
      const meta = words[row + ROW_META]!;
      if (meta === 0 || (meta & 0xff) === 0 || !nexthops.has(words[row + ROW_NH]!)) continue;
      this.epochs.relieve();
      this.again(row);
    }
  }

  /** Gives a row's prefix its answer anew. */
  private again(row: number): void {
    this.setPrefixOf(row);
    const rank = this.rankOf((this.words[row + ROW_META]! >>> 8) & 0xff);
    this.begin(0, rank);
    this.end(rank, -1);
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

  /** The row that says the same, whatever is told of its legs' state. With a nexthop object the type is the object's: it may have become a blackhole since. */
  private findSame(head: number, meta: number, priority: number, attr: number, nh: number): number {
    const { words } = this;
    const mask = words[this.nexthops.record(nh) + NH_NHID] === 0 ? -1 : 0xffffff;
    for (let row = head; row !== 0; row = words[row + ROW_NEXT]!)
      if (((words[row + ROW_META]! ^ meta) & mask) === 0 && words[row + ROW_PRIORITY] === (priority | 0))
        if (words[row + ROW_ATTR] === attr && this.nexthops.areAlike(words[row + ROW_NH]!, nh)) return row;
    return 0;
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
}
