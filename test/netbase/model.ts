// The simplest thing that follows the kernel's rules for routes: lists and linear scans. What the tables are held to.
import type { RouteRow } from "../../src/netbase/rows.ts";
import { AF_INET6, parseAddress } from "../../src/wire/address.ts";

export interface ModelLeg {
  oif: number;
  gateway: string;
}

export interface ModelRoute {
  family: number;
  address: bigint;
  len: number;
  table: number;
  tos: number;
  priority: number;
  type: number;
  legs: ModelLeg[];
}

export interface ModelLink {
  up: boolean;
  carrier: boolean;
  ignoreLinkdown: boolean;
}

const LOCAL = 2;
const THROW = 9;
const BLACKHOLE = 6;

/** An address as a number of 32 or 128 bits. */
export function toBig(text: string): bigint {
  const { family, words } = parseAddress(text)!;
  const bytes = Buffer.from(words.buffer, 0, family === AF_INET6 ? 16 : 4);
  return BigInt(`0x${bytes.toString("hex")}`);
}

const bitsOf = (family: number): number => (family === AF_INET6 ? 128 : 32);
const covers = (route: ModelRoute, address: bigint): boolean => {
  const shift = BigInt(bitsOf(route.family) - route.len);
  return route.address >> shift === address >> shift;
};

const sameKey = (a: ModelRoute, b: ModelRoute): boolean =>
  a.family === b.family &&
  a.address === b.address &&
  a.len === b.len &&
  a.table === b.table &&
  a.tos === b.tos &&
  a.priority === b.priority;

const sameRoute = (a: ModelRoute, b: ModelRoute): boolean =>
  sameKey(a, b) && a.type === b.type && JSON.stringify(a.legs) === JSON.stringify(b.legs);

const joins = (route: ModelRoute): boolean =>
  route.family === AF_INET6 && route.legs.length > 0 && route.legs[0]!.gateway !== "";

export class Model {
  routes: ModelRoute[] = [];
  links = new Map<number, ModelLink>();
  ownLocal = false;

  /** As the kernel inserts: one of the same key goes before its equals, or after them if appended. */
  add(route: ModelRoute, how: "prepend" | "append" | "replace"): void {
    const six = route.family === AF_INET6;
    if (this.routes.some((other) => sameRoute(other, route))) {
      // The kernel says of no route twice that it was added: IPv4's was gone in the meantime, without a word.
      if (six || how === "replace") return;
      this.remove(route);
    }
    const first = this.routes.findIndex((other) => sameKey(other, route));
    const mine = this.routes.findIndex((other) => sameKey(other, route) && joins(other) === joins(route));
    const replaced = how === "replace" ? (six && mine >= 0 ? mine : first) : six && joins(route) ? mine : -1;
    if (replaced >= 0) this.routes[replaced] = route;
    else if (how === "append" || six || first < 0) this.routes.push(route);
    else this.routes.splice(first, 0, route);
  }

  remove(route: ModelRoute): void {
    this.routes = this.routes.filter((other) => !sameRoute(other, route));
  }

  alive(route: ModelRoute, leg: ModelLeg): boolean {
    const link = this.links.get(leg.oif)!;
    // Our own addresses stay ours on an interface that is down or has no carrier (fib_sync_down_dev; IPv6's are deleted
    // when it goes down, but one that is added then is as good as any).
    return route.type === LOCAL || (link.up && (link.carrier || !link.ignoreLinkdown));
  }

  /** The route for an address, undefined if there is none. */
  lookup(family: number, address: bigint, tos: number): ModelRoute | undefined {
    const tables =
      family === AF_INET6 ? [[255], [254]] : this.ownLocal ? [[255], [254], [253]] : [[255, 254], [253]];
    next: for (const table of tables) {
      const found = this.routes
        .filter((route) => route.family === family && table.includes(route.table) && covers(route, address))
        .map((route, at) => ({ route, at }));
      // Longest first; within a prefix by table, tos, priority, and then as inserted.
      found.sort(
        (a, b) =>
          b.route.len - a.route.len ||
          b.route.table - a.route.table ||
          b.route.tos - a.route.tos ||
          a.route.priority - b.route.priority ||
          a.at - b.at,
      );
      for (const { route } of found) {
        if (route.tos !== 0 && route.tos !== (tos & 0x1c)) continue;
        if (route.type < BLACKHOLE && !route.legs.some((leg) => this.alive(route, leg))) continue;
        if (route.type === THROW) continue next;
        return route;
      }
    }
    return undefined;
  }
}

/** The RouteRow of a model route with `build` of make.ts. */
export type ToRow = (route: ModelRoute) => RouteRow;
