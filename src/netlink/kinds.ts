// What the library's kinds differ in: their dumps and filters, keys, and multicast groups.
import { IFLA, IFLA_INFO, NDA, NHA, RTA } from "./attribute.ts";
import type { Definition } from "./collection.ts";
import * as nl from "./constants.ts";
import type { Requests } from "./message.ts";
import { type Addr, type AddrSpec, addrs as addrKind } from "./object/addr.ts";
import type { Writing } from "./object/codec.ts";
import { type Family, familyNumber, type Kind, parsePrefix } from "./object/kind.ts";
import { type Link, links as linkKind } from "./object/link.ts";
import { type Neigh, type NeighKey, type NeighState, neighs as neighKind } from "./object/neigh.ts";
import { type Nexthop, nexthops as nexthopKind } from "./object/nexthop.ts";
import { type Protocol, protocolNumber, type Table, tableNumber } from "./object/numbers.ts";
import { encodeLookup, routes as routeKind } from "./object/route.ts";
import {
  type LookupSpec,
  type Route,
  type RouteKey,
  type RouteType,
  routeTypeNumber,
} from "./object/routespec.ts";
import { type Rule, type RuleKey, rules as ruleKind } from "./object/rule.ts";
import type { Fill } from "./pull.ts";

type Maybe<T> = T | undefined;
const families = (family: Maybe<Family>): number[] =>
  family === undefined ? [nl.AF_INET, nl.AF_INET6] : [familyNumber(family)];

/** Every test must hold; undefined if there is none. */
function every<T>(
  ...tests: (((object: T) => boolean) | false | undefined)[]
): ((object: T) => boolean) | undefined {
  const given = tests.filter((test) => test !== undefined && test !== false);
  return given.length === 0 ? undefined : (object) => given.every((test) => test(object));
}

const begin = (m: Requests, kind: Kind, family = 0): number => {
  const off = m.begin(kind.type + 2, nl.NLM_F_DUMP, kind.headerBytes);
  m.bytes[off] = family;
  return off;
};

/** A link by index or name. */
export type LinkKey = number | string;
export interface LinkFilter {
  /** in this bridge, bond or VRF */
  master?: LinkKey;
  /** IFLA_INFO_KIND: "veth" */
  kind?: string;
  up?: boolean;
}

export const links: Definition<Link, LinkKey, LinkFilter> = {
  kind: linkKind,
  groups: [nl.RTNLGRP_LINK],
  watch: () => [],
  dumps: ({ master, kind }, to) => [
    (m) => {
      begin(m, linkKind);
      if (master !== undefined) m.u32(IFLA.MASTER, to.ifindex(master));
      if (kind === undefined) return;
      const info = m.nest(IFLA.LINKINFO);
      m.text(IFLA_INFO.KIND, kind);
      m.end(info);
    },
  ],
  matches({ master, kind, up }, to) {
    const index = master === undefined ? 0 : to.ifindex(master);
    return every<Link>(
      master !== undefined && ((link) => (link.master ?? 0) === index),
      kind !== undefined && ((link) => link.info?.kind === kind),
      up !== undefined && ((link) => link.flags.includes("up") === up),
    );
  },
  identify: (key, to) => ({ index: to.ifindex(key) }),
  get(m, key) {
    const off = m.begin(nl.RTM_GETLINK, 0, 16);
    if (typeof key === "number") m.words[(off >> 2) + 1] = key;
    else m.text(key.length > 15 ? IFLA.ALT_IFNAME : IFLA.IFNAME, key);
  },
};

export interface AddrFilter {
  family?: Family;
  link?: LinkKey;
}
/** "10.0.0.1/24" on a link. */
export type AddrKey = Pick<AddrSpec, "link" | "address" | "peer">;

export const addrs: Definition<Addr, AddrKey, AddrFilter> = {
  kind: addrKind,
  groups: [nl.RTNLGRP_IPV4_IFADDR, nl.RTNLGRP_IPV6_IFADDR],
  watch: () => [],
  dumps: ({ family, link }, to) =>
    families(family).map((af) => (m: Requests) => {
      const off = begin(m, addrKind, af);
      if (link !== undefined) m.words[(off >> 2) + 1] = to.ifindex(link);
    }),
  matches({ link }, to) {
    const index = link === undefined ? 0 : to.ifindex(link);
    return every<Addr>(link !== undefined && ((addr) => addr.link === index));
  },
  identify: (key) => key,
  find(key, to) {
    const { family, length } = parsePrefix(key.address);
    const address = key.address.includes("/") ? key.address : `${key.address}/${length}`;
    return {
      filter: { family: family === nl.AF_INET ? "inet" : "inet6", link: to.ifindex(key.link) },
      matches: (addr) => addr.address === address && (key.peer === undefined || addr.peer === key.peer),
    };
  },
};

export interface RouteFilter {
  family?: Family;
  table?: Table;
  oif?: LinkKey;
  protocol?: Protocol;
  type?: RouteType;
  /** IPv6: exceptions that the kernel learned (path MTUs, redirects) instead of the table */
  cloned?: boolean;
}

const uses = (route: Route, oif: number): boolean =>
  route.oif === oif || (route.nexthops?.some((leg) => leg.oif === oif) ?? false);

export const routes: Definition<Route, RouteKey, RouteFilter> = {
  kind: routeKind,
  groups: [nl.RTNLGRP_IPV4_ROUTE, nl.RTNLGRP_IPV6_ROUTE],
  // IPv4's walk says when it was interrupted.
  watch: ({ family }) => (family === "inet" ? [] : [nl.RTNLGRP_IPV6_ROUTE]),
  dumps: (filter, to) =>
    families(filter.family).map((af) => (m: Requests) => {
      const off = begin(m, routeKind, af);
      if (filter.protocol !== undefined) m.bytes[off + 5] = protocolNumber(filter.protocol);
      if (filter.type !== undefined) m.bytes[off + 7] = routeTypeNumber(filter.type);
      if (filter.cloned) m.words[(off >> 2) + 2] = nl.RTM_F_CLONED;
      if (filter.table !== undefined) m.u32(RTA.TABLE, tableNumber(filter.table));
      if (filter.oif !== undefined) m.u32(RTA.OIF, to.ifindex(filter.oif));
    }),
  matches({ table, oif, protocol, type }, to) {
    const index = oif === undefined ? 0 : to.ifindex(oif);
    const id = table === undefined ? 0 : tableNumber(table);
    const by = protocol === undefined ? 0 : protocolNumber(protocol);
    return every<Route>(
      table !== undefined && ((route) => route.table === id),
      oif !== undefined && ((route) => uses(route, index)),
      protocol !== undefined && ((route) => route.protocol === by),
      type !== undefined && ((route) => route.type === type),
    );
  },
  identify: (key) => key,
};

/** `ip route get`. */
export const lookup = (m: Requests, spec: LookupSpec, to: Writing): void =>
  encodeLookup(m, nl.RTM_GETROUTE, spec, to);

export interface NexthopFilter {
  link?: LinkKey;
  /** groups alone */
  groups?: boolean;
  /** of this VRF */
  master?: LinkKey;
}

export const nexthops: Definition<Nexthop, number, NexthopFilter> = {
  kind: nexthopKind,
  groups: [nl.RTNLGRP_NEXTHOP],
  watch: () => [],
  dumps: ({ link, groups, master }, to) => [
    (m) => {
      begin(m, nexthopKind);
      if (link !== undefined) m.u32(NHA.OIF, to.ifindex(link));
      if (groups) m.flag(NHA.GROUPS);
      if (master !== undefined) m.u32(NHA.MASTER, to.ifindex(master));
    },
  ],
  matches: ({ groups }) => every<Nexthop>(groups === false && ((nexthop) => nexthop.group === undefined)),
  identify: (id) => ({ id }),
  get(m, id) {
    m.begin(nl.RTM_GETNEXTHOP, 0, 8);
    m.u32(NHA.ID, id);
  },
};

export interface NeighFilter {
  family?: Family;
  link?: LinkKey;
  state?: NeighState;
  /** those that we answer for, instead of those that we know */
  proxy?: boolean;
}

export const neighs: Definition<Neigh, NeighKey, NeighFilter> = {
  kind: neighKind,
  groups: [nl.RTNLGRP_NEIGH],
  watch: () => [nl.RTNLGRP_NEIGH],
  dumps: ({ family, link, proxy }, to) =>
    families(family).map((af) => (m: Requests) => {
      const off = begin(m, neighKind, af);
      if (proxy) m.words[(off >> 2) + 2] = nl.NTF_PROXY << 16;
      // Strict checking refuses ndm_ifindex: the filter is the attribute.
      if (link !== undefined) m.u32(NDA.IFINDEX, to.ifindex(link));
    }),
  matches({ link, state }, to) {
    const index = link === undefined ? 0 : to.ifindex(link);
    return every<Neigh>(
      link !== undefined && ((neigh) => neigh.link === index),
      state !== undefined && ((neigh) => neigh.state === state),
    );
  },
  identify: ({ link, dst, proxy }) => ({ link, dst, ...(proxy && { proxy: true }) }),
  get(m, { link, dst, proxy }, to) {
    const { family, words } = parsePrefix(dst);
    const off = m.begin(nl.RTM_GETNEIGH, 0, 12);
    m.bytes[off] = family;
    m.words[(off >> 2) + 1] = to.ifindex(link);
    if (proxy) m.words[(off >> 2) + 2] = nl.NTF_PROXY << 16;
    m.address(NDA.DST, words, family === nl.AF_INET ? 1 : 4);
  },
};

export interface RuleFilter {
  family?: Family;
  table?: Table;
  priority?: number;
}

export const rules: Definition<Rule, RuleKey, RuleFilter> = {
  kind: ruleKind,
  groups: [nl.RTNLGRP_IPV4_RULE, nl.RTNLGRP_IPV6_RULE],
  watch: () => [],
  dumps: ({ family }) =>
    families(family).map(
      (af): Fill =>
        (m) =>
          void begin(m, ruleKind, af),
    ),
  matches({ table, priority }) {
    const id = table === undefined ? 0 : tableNumber(table);
    return every<Rule>(
      table !== undefined && ((rule) => rule.table === id),
      priority !== undefined && ((rule) => (rule.priority ?? 0) === priority),
    );
  },
  identify: (key) => key,
  find(key) {
    const { family, invert, table, ...rest } = key;
    const wanted: Record<string, unknown> = {
      ...rest,
      ...(table !== undefined && { table: tableNumber(table) }),
    };
    if (wanted["protocol"] !== undefined) wanted["protocol"] = protocolNumber(wanted["protocol"] as Protocol);
    for (const name of ["src", "dst"]) {
      const prefix = wanted[name] as Maybe<string>;
      if (prefix !== undefined && !prefix.includes("/"))
        wanted[name] = `${prefix}/${parsePrefix(prefix).length}`;
    }
    return {
      filter: { family },
      matches: (rule) =>
        (invert === undefined || rule.flags.includes("invert") === invert) &&
        Object.entries(wanted).every(
          ([name, value]) =>
            value === undefined ||
            Bun.deepEquals(
              (rule as unknown as Record<string, unknown>)[name] ?? (name === "priority" ? 0 : undefined),
              value,
            ),
        ),
    };
  },
};
