// What to ask the kernel for, to be told all of a kind.
import { dumpAddrs } from "./addr.ts";
import type { Kind } from "./agenda.ts";
import * as nl from "./constants.ts";
import { dumpLinks } from "./link.ts";
import type { Requests } from "./message.ts";
import { dumpNeighs } from "./neigh.ts";
import { dumpNetconf } from "./netconf.ts";
import { dumpNexthops } from "./nexthop.ts";
import { dumpRoutes } from "./routeset.ts";
import { dumpRules } from "./rule.ts";

/** The requests whose answers together are all rows of a kind, or all routes over `oif`. */
export function dumpsOf(kind: Kind, oif: number): ((m: Requests) => void)[] {
  const of = (family: number, tables: readonly number[]) =>
    oif !== 0
      ? [(m: Requests) => dumpRoutes(m, { family, oif })]
      : tables.map((table) => (m: Requests) => dumpRoutes(m, { family, table }));
  switch (kind) {
    case "rules":
      return [(m) => dumpRules(m, nl.AF_INET), (m) => dumpRules(m, nl.AF_INET6)];
    case "links":
      return [dumpLinks];
    case "netconf":
      return [(m) => dumpNetconf(m, nl.AF_INET), (m) => dumpNetconf(m, nl.AF_INET6)];
    case "addrs":
      return [(m) => dumpAddrs(m, nl.AF_INET), (m) => dumpAddrs(m, nl.AF_INET6)];
    case "nexthops":
      return [(m) => dumpNexthops(m)];
    case "routes4":
      return of(nl.AF_INET, [nl.RT_TABLE_LOCAL, nl.RT_TABLE_MAIN, nl.RT_TABLE_DEFAULT]);
    case "routes6":
      return of(nl.AF_INET6, [nl.RT_TABLE_LOCAL, nl.RT_TABLE_MAIN]);
    case "neighs4":
      return [(m) => dumpNeighs(m, nl.AF_INET)];
    case "neighs6":
      return [(m) => dumpNeighs(m, nl.AF_INET6)];
  }
}
