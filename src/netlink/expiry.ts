// IPv6 routes that have a time (RTA_CACHEINFO, as router advertisements give them). The kernel follows one no more once
// that is over, and tells so only when it collects it, within half a minute (net/ipv6/ip6_fib.c, fib6_age); that it was
// prolonged it does not tell at all. So when the first should be over, a dump of the routes over its interface says.
import type { RouteRow } from "../netbase/rows.ts";
import type { Agenda } from "./agenda.ts";

/** The kernel tells times in 10 ms; less than that looks as if there were none. */
const LATER_MS = 30;

export class Expiry {
  /** When the first route over an interface is over; 0 is for those that go another way. ms */
  private readonly first = new Map<number, number>();
  private readonly agenda: Agenda;

  constructor(agenda: Agenda) {
    this.agenda = agenda;
  }

  /** Notes the time of a route that has one. False if it is over. */
  lives({ expires, legs, nhid }: RouteRow): boolean {
    if (expires < 0) return false;
    const oif = nhid === 0 && legs.n === 1 ? legs.ifindex[0]! : 0;
    const at = performance.now() + expires * 10 + LATER_MS;
    if (at < (this.first.get(oif) ?? Number.POSITIVE_INFINITY)) this.first.set(oif, at);
    return true;
  }

  /** Puts on the agenda what should be over. Returns when to call again: ms, as `now`. */
  turn(now: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const [oif, at] of this.first)
      if (at > now) next = Math.min(next, at);
      else {
        this.first.delete(oif);
        if (oif === 0) this.agenda.whole("routes6");
        else this.agenda.routesOver6(oif);
      }
    return next;
  }
}
