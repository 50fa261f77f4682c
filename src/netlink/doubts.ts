// What messages about routes leave open, because a message names a route by less than what tells it from others: which of
// several alike was replaced or is gone, and what is left of an IPv6 route whose legs differ, of which the kernel tells the first
// leg's attributes alone. A dump tells; it goes on the agenda.
import type { RouteTable } from "../netbase/netbase.ts";
import { RouteRow } from "../netbase/rows.ts";
import type { Agenda } from "./agenda.ts";
import * as nl from "./constants.ts";

/** What tells one route from another in messages, as far as they do. */
type Key = Pick<RouteRow, "dst" | "dstLen" | "table" | "priority">;
const keyOf = ({ dst, dstLen, table, priority }: Key): string =>
  `${dst.join()} ${dstLen} ${table} ${priority}`;

export class Doubts {
  /**
   * Whether legs of an IPv6 route may differ in what only the first is told of, and nothing told so: a dump brought them;
   * an interface's MTU was changed, which each leg follows by itself (rt6_mtu_change), or may have been, in what was lost.
   */
  legs = false;
  private readonly routes: RouteTable;
  private readonly agenda: Agenda;
  /** IPv6 routes whose legs differ in more than the way, or that may be there twice: a dump tells what is left of them. */
  private readonly mixed = new Map<string, Key>();
  /** IPv4 routes that there are two of, by all that we know: a dump tells whether one is left. */
  private readonly twins = new Set<string>();
  private readonly other = new RouteRow();

  constructor(routes: RouteTable, agenda: Agenda) {
    this.routes = routes;
    this.agenda = agenda;
    const { six } = routes;
    six.onHidden = (row) => {
      six.load(row, this.other);
      this.mix(this.other);
    };
  }

  private mix({ dst, dstLen, table, priority }: Key): void {
    const key = { dst: dst.slice(0, 4), dstLen, table, priority };
    this.mixed.set(keyOf(key), key);
  }

  /** How many IPv6 rows a message may mean that names no more than this. */
  private rows6(key: Key): number {
    const { other } = this;
    const { six } = this.routes;
    let rows = 0;
    for (const row of six.rowsOf(key)) {
      six.load(row, other);
      if (other.table === key.table && other.priority === key.priority) rows++;
    }
    return rows;
  }

  /** All IPv6 routes were dumped, and what is not there any more was swept. */
  swept6(): void {
    for (const [text, key] of this.mixed) if (this.rows6(key) === 0) this.mixed.delete(text);
  }

  /** A route is told to be gone. */
  goes(route: RouteRow): void {
    const { mixed, twins, agenda } = this;
    if (mixed.size > 0 && mixed.has(keyOf(route))) agenda.whole("routes6");
    if (twins.size > 0 && twins.has(keyOf(route))) agenda.whole("routes4");
  }

  /** A route has a leg less: what is told of the others may not be what was told of it. */
  loses(): void {
    if (this.legs) this.agenda.whole("routes6");
  }

  /** All IPv4 routes are about to be dumped. */
  clearTwins(): void {
    this.twins.clear();
  }

  /**
   * The kernel replaced the first of several equal routes. IPv4: which of ours that was is not known while some may be
   * gone in silence. IPv6: ours stand in the order of preference, the kernel's do not; the new one may be there already,
   * and is there twice then; or none was replaced, but its nexthop object.
   */
  replaces(route: RouteRow): void {
    const { agenda, routes } = this;
    const four = route.family === nl.AF_INET;
    if (four && !agenda.jobs.routes4.pending) return;
    if ((four ? [...routes.four.rowsOf(route)].length : this.rows6(route)) < 2) return;
    agenda.whole(four ? "routes4" : "routes6");
    if (!four) this.mix(route);
  }

  /** A leg has joined an IPv6 route: whether it brought attributes of its own. */
  joins(route: RouteRow): void {
    const { other, agenda } = this;
    const { six } = this.routes;
    for (const row of six.rowsOf(route)) {
      six.load(row, other);
      if (other.table !== route.table || other.priority !== route.priority || other.legs.n === 0) continue;
      const same =
        other.mtu === route.mtu &&
        other.protocol === route.protocol &&
        other.pref === route.pref &&
        other.hasPrefsrc === route.hasPrefsrc &&
        other.prefsrc.every((word, i) => word === route.prefsrc[i]);
      if (same) continue;
      this.mix(route);
      agenda.whole("routes6");
    }
  }

  /** An IPv4 route that looks like one that is there: another, or the same again after it went without a word. */
  twin(route: RouteRow, dumped: boolean): void {
    this.twins.add(keyOf(route));
    if (!dumped) this.agenda.whole("routes4");
  }
}
