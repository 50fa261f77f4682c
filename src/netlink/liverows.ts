// The rows of a live view: objects by identity, what an event makes of them, and what a dump says beyond that.
// Identity is the kernel's (reference: net/ipv4/fib_trie.c fib_table_insert, net/ipv6/ip6_fib.c fib6_add_rt2node):
//   links index | addrs link, address, peer | neighs link, dst, whether proxy | nexthops id | rules all of it
//   routes: (table, dst, src, tos, priority) is a list: IPv4's APPEND goes last, CREATE alone first, REPLACE takes the
//   place of the first and does not name it; IPv6 tells the whole set of a multipath route, but deletes leg by leg.
// Where an event does not say for sure what became of the list, `unsure` asks for a dump.
import type { ChangeFlags } from "./monitor.ts";
import type { Objects } from "./notice.ts";
import type { Route } from "./object/routespec.ts";

/** What changed; `before` is what a changed object was. */
export type RowEvent<T> =
  | { event: "added"; object: T }
  | { event: "changed"; object: T; before: T }
  | { event: "removed"; object: T };
export type Emit<T> = (event: RowEvent<T>) => void;

/** What changes all the time, and is no change. */
const VOLATILE = new Set(["times", "probes", "statistics", "stats32", "afSpec", "change"]);
const VOLATILE_DATA = new Set(["helloTimer", "tcnTimer", "topologyChangeTimer", "gcTimer", "unbalancedTime"]);

function same(a: object, b: object, skip: ReadonlySet<string> = VOLATILE): boolean {
  let keys = 0;
  for (const key in a) {
    if (skip.has(key)) continue;
    keys++;
    const left = (a as Record<string, unknown>)[key];
    const right = (b as Record<string, unknown>)[key];
    if (left === right) continue;
    if (typeof left !== "object" || typeof right !== "object" || !left || !right) return false;
    const nested = key === "info" || key === "data" || key === "resilient";
    if (nested ? !same(left, right, VOLATILE_DATA) : !Bun.deepEquals(left, right)) return false;
  }
  for (const key in b) if (!skip.has(key)) keys--;
  return keys === 0;
}

export interface Rows<T> {
  readonly size: number;
  values(): IterableIterator<T>;
  /** Identity of an object, list and place in it included. */
  id(object: T): string;
  /** A notification. Returns false if only a dump can tell what became of it. */
  apply(event: "new" | "delete", object: T, flags: ChangeFlags, emit: Emit<T>): boolean;
  /** What a dump has: added, or changed if it differs. */
  upsert(object: T, emit: Emit<T>): void;
  remove(id: string, emit: Emit<T>): void;
  /** Puts what a whole dump had in its order, and removes the rest. */
  replace(objects: readonly T[], emit: Emit<T>): void;
}

class Keyed<T extends object> implements Rows<T> {
  readonly id: (object: T) => string;
  private rows = new Map<string, T>();

  constructor(id: (object: T) => string) {
    this.id = id;
  }

  get size(): number {
    return this.rows.size;
  }

  values(): IterableIterator<T> {
    return this.rows.values();
  }

  apply(event: "new" | "delete", object: T, _flags: ChangeFlags, emit: Emit<T>): boolean {
    if (event === "delete") this.remove(this.id(object), emit);
    else this.upsert(object, emit);
    return true;
  }

  upsert(object: T, emit: Emit<T>): void {
    const id = this.id(object);
    const before = this.rows.get(id);
    this.rows.set(id, object);
    if (before === undefined) emit({ event: "added", object });
    else if (!same(before, object)) emit({ event: "changed", object, before });
  }

  remove(id: string, emit: Emit<T>): void {
    const object = this.rows.get(id);
    if (object === undefined) return;
    this.rows.delete(id);
    emit({ event: "removed", object });
  }

  replace(objects: readonly T[], emit: Emit<T>): void {
    const old = this.rows;
    this.rows = new Map(objects.map((object) => [this.id(object), object]));
    for (const [id, object] of old) if (!this.rows.has(id)) emit({ event: "removed", object });
    for (const [id, object] of this.rows) {
      const before = old.get(id);
      if (before === undefined) emit({ event: "added", object });
      else if (!same(before, object)) emit({ event: "changed", object, before });
    }
  }
}

const listOf = (r: Route): string => `${r.table} ${r.dst} ${r.src ?? ""} ${r.tos ?? 0} ${r.priority ?? 0}`;
const placeOf = (r: Route): string => {
  const head = `${r.type} ${r.protocol} ${r.prefsrc ?? ""} `;
  if (r.nhid !== undefined) return `${head}nhid ${r.nhid}`;
  if (r.nexthops === undefined) return `${head}${r.oif ?? ""} ${r.via ?? ""}`;
  return head + r.nexthops.map((leg) => `${leg.oif ?? ""} ${leg.via ?? ""} ${leg.weight}`).join(",");
};
const viaGateway = (r: Route): boolean => r.via !== undefined || r.nexthops !== undefined;

class RouteRows implements Rows<Route> {
  size = 0;
  private lists = new Map<string, Route[]>();

  id(route: Route): string {
    return `${listOf(route)}|${placeOf(route)}`;
  }

  *values(): IterableIterator<Route> {
    for (const list of this.lists.values()) yield* list;
  }

  apply(event: "new" | "delete", route: Route, flags: ChangeFlags, emit: Emit<Route>): boolean {
    const key = listOf(route);
    const list = this.lists.get(key);
    const at = list ? this.find(list, route) : -1;
    if (event === "delete") {
      if (at < 0) return list === undefined;
      this.take(key, list!, at, emit);
      return true;
    }
    if (at >= 0) {
      this.put(list!, at, route, emit);
      return true;
    }
    if (!list) {
      this.insert(key, [route], 0, route, emit);
      return true;
    }
    const four = route.family === "inet";
    if (flags.replace) {
      this.put(list, 0, route, emit);
      return list.length === 1;
    }
    if (four) {
      this.insert(key, list, flags.append ? list.length : 0, route, emit);
      return true;
    }
    // The whole set of a multipath route, in place of what it was.
    const grown = viaGateway(route) ? list.findIndex(viaGateway) : -1;
    if (grown < 0) this.insert(key, list, list.length, route, emit);
    else this.put(list, grown, route, emit);
    return grown < 0;
  }

  upsert(route: Route, emit: Emit<Route>): void {
    const key = listOf(route);
    const list = this.lists.get(key) ?? [];
    const at = this.find(list, route);
    if (at < 0) this.insert(key, list, list.length, route, emit);
    else this.put(list, at, route, emit);
  }

  remove(id: string, emit: Emit<Route>): void {
    const key = id.slice(0, id.indexOf("|"));
    const list = this.lists.get(key);
    const at = list ? list.findIndex((route) => this.id(route) === id) : -1;
    if (at >= 0) this.take(key, list!, at, emit);
  }

  replace(routes: readonly Route[], emit: Emit<Route>): void {
    const old = this.lists;
    this.lists = new Map();
    for (const route of routes) {
      const key = listOf(route);
      const list = this.lists.get(key);
      if (list) list.push(route);
      else this.lists.set(key, [route]);
    }
    this.size = routes.length;
    for (const [key, list] of old) {
      const now = this.lists.get(key);
      for (const object of list) if (!now || this.find(now, object) < 0) emit({ event: "removed", object });
    }
    for (const [key, list] of this.lists) {
      const past = old.get(key);
      for (const object of list) {
        const at = past ? this.find(past, object) : -1;
        if (at < 0) emit({ event: "added", object });
        else if (!same(past![at]!, object)) emit({ event: "changed", object, before: past![at]! });
      }
    }
  }

  private find(list: readonly Route[], route: Route): number {
    // Most lists are one route long, and unchanged.
    const place = placeOf(route);
    return list.findIndex((other) => placeOf(other) === place);
  }

  private insert(key: string, list: Route[], at: number, route: Route, emit: Emit<Route>): void {
    if (list[0] !== route) list.splice(at, 0, route);
    this.lists.set(key, list);
    this.size++;
    emit({ event: "added", object: route });
  }

  private put(list: Route[], at: number, route: Route, emit: Emit<Route>): void {
    const before = list[at]!;
    list[at] = route;
    if (!same(before, route)) emit({ event: "changed", object: route, before });
  }

  private take(key: string, list: Route[], at: number, emit: Emit<Route>): void {
    const [object] = list.splice(at, 1);
    if (list.length === 0) this.lists.delete(key);
    this.size--;
    emit({ event: "removed", object: object! });
  }
}

/** Empty rows of each kind. */
export const rowsOf: { readonly [K in keyof Objects]: () => Rows<Objects[K]> } = {
  links: () => new Keyed((link) => String(link.index)),
  addrs: () => new Keyed((addr) => `${addr.link} ${addr.address} ${addr.peer ?? ""}`),
  routes: () => new RouteRows(),
  nexthops: () => new Keyed((nexthop) => String(nexthop.id)),
  neighs: () =>
    new Keyed((neigh) => `${neigh.link} ${neigh.dst ?? neigh.lladdr} ${neigh.flags.includes("proxy")}`),
  rules: () => new Keyed((rule) => JSON.stringify(rule)),
};
