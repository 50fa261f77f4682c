// IPv6 routes that are for packets from one prefix alone (`ip -6 route add ... from`; CONFIG_IPV6_SUBTREES). The FIB goes by
// destinations, so the mirror does not follow them; where there are any, the kernel may send a packet another way, and
// that from elsewhere too: it passes over a route by destination alone that has one by source beside it
// (fib6_node_lookup_1). That is counted and told, in words.
import type { RouteRow } from "../netbase/rows.ts";
import { formatAddress } from "../wire/address.ts";
import { tableName } from "./names.ts";

export class Sourced {
  /** By what is told of them, the sweep that each was seen in. */
  private readonly all = new Map<string, number>();
  private sweep = 1;

  /** A message told of one; whether it was not known. */
  add(row: RouteRow): boolean {
    const text = textOf(row);
    const known = this.all.has(text);
    this.all.set(text, this.sweep);
    return !known;
  }

  /** Whether there is one that would be told of in these words. */
  has(row: RouteRow): boolean {
    return this.all.has(textOf(row));
  }

  beginSweep(): void {
    this.sweep++;
  }

  /** Removes what was not added since. Returns how many. */
  endSweep(): number {
    const before = this.all.size;
    for (const [text, sweep] of this.all) if (sweep < this.sweep) this.all.delete(text);
    return before - this.all.size;
  }

  /** As `ip route` would say them. */
  get texts(): string[] {
    return [...this.all.keys()];
  }
}

const textOf = ({ family, dst, dstLen, src, srcLen, table, priority }: RouteRow): string =>
  `${formatAddress(family, dst)}/${dstLen} from ${formatAddress(family, src)}/${srcLen} metric ${priority} of table ${tableName(table)}`;
