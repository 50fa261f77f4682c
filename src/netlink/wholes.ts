// What kind a message is of, and what to ask the kernel for, to be told all of a kind.
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

/** The kind that a message is about; undefined if it is none of ours. */
export function kindOf(type: number, family: number): Kind | undefined {
  switch (type) {
    case nl.RTM_NEWROUTE:
    case nl.RTM_DELROUTE:
      return family === nl.AF_INET ? "routes4" : family === nl.AF_INET6 ? "routes6" : undefined;
    case nl.RTM_NEWNEIGH:
    case nl.RTM_DELNEIGH:
      return family === nl.AF_INET ? "neighs4" : family === nl.AF_INET6 ? "neighs6" : undefined;
    case nl.RTM_NEWADDR:
    case nl.RTM_DELADDR:
      return "addrs";
    case nl.RTM_NEWLINK:
    case nl.RTM_DELLINK:
      return family === nl.AF_BRIDGE ? undefined : "links";
    case nl.RTM_NEWNETCONF:
      return family === nl.AF_INET || family === nl.AF_INET6 ? "netconf" : undefined;
    case nl.RTM_NEWNEXTHOP:
    case nl.RTM_DELNEXTHOP:
      return "nexthops";
    case nl.RTM_NEWRULE:
    case nl.RTM_DELRULE:
      return family === nl.AF_INET || family === nl.AF_INET6 ? "rules" : undefined;
    default:
      return undefined;
  }
}
