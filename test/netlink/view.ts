// The kernel's tables seen two ways, in one shape: `ours` decodes dumps with the codec, `theirs` asks `ip -N -j -d`.
// The shape is ip's, cut to what rows have; lists are sorted where the kernel's order means nothing.
import type { Host } from "../../src/lab/host.ts";
import {
  AddrRow,
  type Legs,
  LinkRow,
  NeighRow,
  NexthopRow,
  RouteRow,
  RuleRow,
} from "../../src/netbase/rows.ts";
import { decodeAddr, dumpAddrs } from "../../src/netlink/addr.ts";
import * as nl from "../../src/netlink/constants.ts";
import { decodeLink, dumpLinks } from "../../src/netlink/link.ts";
import type { Requests } from "../../src/netlink/message.ts";
import { decodeNeigh, dumpNeighs } from "../../src/netlink/neigh.ts";
import { decodeNexthop, dumpNexthops } from "../../src/netlink/nexthop.ts";
import { decodeRoute } from "../../src/netlink/route.ts";
import { dumpRoutes } from "../../src/netlink/routeset.ts";
import { decodeRule, dumpRules } from "../../src/netlink/rule.ts";
import { formatAddress, formatLladdr } from "../../src/wire/address.ts";

type Plain = Record<string, unknown>;
// biome-ignore lint/suspicious/noExplicitAny: JSON as ip prints it
export type Json = any;

export function run(host: Host, ...command: string[]): string {
  const child = Bun.spawnSync(host.command(...command));
  if (child.exitCode !== 0) throw new Error(`${command.join(" ")}: ${child.stderr}`);
  return child.stdout.toString();
}

export const ip = (host: Host, ...args: string[]): Json[] => {
  const text = run(host, "ip", "-N", "-j", "-d", ...args);
  // ip prints {} for what its filter hides
  return text.trim() === "" ? [] : JSON.parse(text).filter((o: Plain) => Object.keys(o).length > 0);
};

/** What is undefined, null or false is not there. */
const tidy = (o: Plain): Plain =>
  Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined && v !== null && v !== false));

const sorted = (list: Plain[]): Plain[] =>
  list
    .map(tidy)
    .map((o) => [JSON.stringify(o), o] as const)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([, o]) => o);

type Decode<Row> = (words: Int32Array, bytes: Uint8Array, off: number, len: number, row: Row) => boolean;

/** Dumps (again while the kernel says that it was interrupted) into what `view` makes of each row. */
export function collect<Row>(
  host: Host,
  ask: (m: Requests) => void,
  decode: Decode<Row>,
  row: Row,
  view: (row: Row) => Plain,
): Plain[] {
  for (;;) {
    const out: Plain[] = [];
    const whole = host.nl.dump(ask, (words, bytes, off, len) => {
      if (!decode(words, bytes, off, len, row)) throw new Error("malformed message");
      out.push(view(row));
    });
    if (whole) return out;
  }
}

const opers = ["UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP"];

const names = (host: Host): Map<number, string> =>
  new Map(
    collect(host, dumpLinks, decodeLink, new LinkRow(), (row) => ({ i: row.ifindex, n: row.name })).map(
      (o) => [o["i"] as number, o["n"] as string],
    ),
  );

export const links = {
  ours(host: Host): Plain[] {
    const name = names(host);
    const view = (row: LinkRow) => ({
      ifindex: row.ifindex,
      ifname: row.name,
      flags: [nl.IFF_UP, nl.IFF_LOWER_UP, nl.IFF_LOOPBACK, nl.IFF_NOARP].map((f) => (row.flags & f) !== 0),
      mtu: row.mtu,
      operstate: opers[row.operstate],
      link_type: `[${row.type}]`,
      address: formatLladdr(row.lladdr.subarray(0, row.lladdrLen)),
      kind: row.kind || undefined,
      master: name.get(row.master),
      link: name.get(row.link),
    });
    return collect(host, dumpLinks, decodeLink, new LinkRow(), view).map(tidy);
  },
  theirs: (host: Host): Plain[] =>
    ip(host, "link").map((o) =>
      tidy({
        ifindex: o.ifindex,
        ifname: o.ifname,
        flags: ["UP", "LOWER_UP", "LOOPBACK", "NOARP"].map((f) => o.flags.includes(f)),
        mtu: o.mtu,
        operstate: o.operstate,
        link_type: o.link_type,
        address: o.address,
        kind: o.linkinfo?.info_kind,
        master: o.master,
        link: o.link,
      }),
    ),
};

export const addrs = {
  ours(host: Host): Plain[] {
    const name = names(host);
    const view = (row: AddrRow) => {
      const local = formatAddress(row.family, row.local);
      const peer = formatAddress(row.family, row.peer);
      const v6 = row.family === nl.AF_INET6;
      return {
        dev: name.get(row.ifindex),
        local,
        address: peer === local ? undefined : peer,
        prefixlen: row.prefixLen,
        scope: String(row.scope),
        secondary: !v6 && (row.flags & nl.IFA_F_SECONDARY) !== 0,
        nodad: (row.flags & nl.IFA_F_NODAD) !== 0,
        tentative: (row.flags & nl.IFA_F_TENTATIVE) !== 0,
        deprecated: (row.flags & nl.IFA_F_DEPRECATED) !== 0,
        dynamic: (row.flags & nl.IFA_F_PERMANENT) === 0,
        noprefixroute: (row.flags & nl.IFA_F_NOPREFIXROUTE) !== 0,
      };
    };
    return sorted(collect(host, dumpAddrs, decodeAddr, new AddrRow(), view));
  },
  theirs: (host: Host): Plain[] =>
    sorted(
      ip(host, "addr").flatMap((link) =>
        link.addr_info.map((o: Json) => ({
          dev: link.ifname,
          local: o.local,
          address: o.address,
          prefixlen: o.prefixlen,
          scope: o.scope,
          secondary: o.secondary,
          nodad: o.nodad,
          tentative: o.tentative,
          deprecated: o.deprecated,
          dynamic: o.dynamic,
          noprefixroute: o.noprefixroute,
        })),
      ),
    ),
};

const legFlags = (flags: number): string[] =>
  [
    [nl.RTNH_F_DEAD, "dead"],
    [nl.RTNH_F_ONLINK, "onlink"],
    [nl.RTNH_F_PERVASIVE, "pervasive"],
    [nl.RTNH_F_LINKDOWN, "linkdown"],
  ].flatMap(([bit, name]) => (flags & (bit as number) ? [name as string] : []));

function legView(name: Map<number, string>, family: number, legs: Legs, i: number): Plain {
  const host = legs.gatewayFamily[i] ? formatAddress(legs.gatewayFamily[i]!, legs.gateway, i * 4) : undefined;
  const same = legs.gatewayFamily[i] === family;
  return {
    gateway: same ? host : undefined,
    via:
      host && !same ? { family: legs.gatewayFamily[i] === nl.AF_INET ? "inet" : "inet6", host } : undefined,
    dev: name.get(legs.ifindex[i]!),
  };
}

const prefix = (family: number, words: Int32Array, length: number): string =>
  length === 0
    ? "default"
    : formatAddress(family, words) + (length === (family === nl.AF_INET ? 32 : 128) ? "" : `/${length}`);

const routeKeys =
  "type dst from gateway via dev table protocol scope prefsrc metric tos nhid flags pref nexthops".split(" ");

export const routes = {
  ours(host: Host): Plain[] {
    const name = names(host);
    const view = (row: RouteRow): Plain => {
      const { legs, family } = row;
      const many = legs.n > 1;
      return tidy({
        type: String(row.type),
        dst: prefix(family, row.dst, row.dstLen),
        from: row.srcLen ? true : undefined,
        ...(legs.n === 1 ? legView(name, family, legs, 0) : {}),
        table: String(row.table),
        protocol: String(row.protocol),
        scope: String(row.scope),
        prefsrc: row.hasPrefsrc ? formatAddress(family, row.prefsrc) : undefined,
        metric: family === nl.AF_INET ? row.priority || undefined : row.priority,
        tos: row.tos ? `0x${row.tos.toString(16).padStart(2, "0")}` : undefined,
        nhid: row.nhid || undefined,
        mtu: row.mtu || undefined,
        flags: legFlags(row.flags),
        pref: family === nl.AF_INET6 ? ["medium", "high", "", "low"][row.pref] : undefined,
        nexthops: many
          ? Array.from({ length: legs.n }, (_, i) =>
              tidy({
                ...legView(name, family, legs, i),
                weight: legs.weight[i],
                flags: legFlags(legs.flags[i]!),
              }),
            )
          : undefined,
      });
    };
    return collect(host, dumpRoutes, decodeRoute, new RouteRow(), view);
  },
  theirs: (host: Host): Plain[] =>
    ip(host, "route", "show", "table", "all").map((o) =>
      tidy({
        ...Object.fromEntries(routeKeys.map((key) => [key, o[key]])),
        from: o.from === undefined ? undefined : true,
        mtu: o.metrics?.find((m: Json) => m.mtu)?.mtu,
      }),
    ),
};

export const neighs = {
  ours(host: Host): Plain[] {
    const name = names(host);
    const states = "INCOMPLETE REACHABLE STALE DELAY PROBE FAILED NOARP PERMANENT".split(" ");
    const view = (row: NeighRow) => ({
      dst: formatAddress(row.family, row.dst),
      dev: name.get(row.ifindex),
      lladdr: row.lladdrLen ? formatLladdr(row.lladdr.subarray(0, row.lladdrLen)) : undefined,
      state: states.filter((_, i) => row.state & (1 << i)),
      router: (row.flags & nl.NTF_ROUTER) !== 0,
      proxy: (row.flags & nl.NTF_PROXY) !== 0,
      managed: ((row.flags >>> nl.NTF_EXT_SHIFT) & nl.NTF_EXT_MANAGED) !== 0,
      extern_learn: (row.flags & nl.NTF_EXT_LEARNED) !== 0,
    });
    const proxies = (m: Requests) => dumpNeighs(m, 0, 0, true);
    const row = new NeighRow();
    return sorted([
      ...collect(host, (m) => dumpNeighs(m), decodeNeigh, row, view),
      ...collect(host, proxies, decodeNeigh, row, (r) => ({ ...view(r), state: [] })),
    ]);
  },
  theirs: (host: Host): Plain[] =>
    sorted(
      [...ip(host, "neigh", "show", "nud", "all"), ...ip(host, "neigh", "show", "proxy")].map((o) => ({
        dst: o.dst,
        dev: o.dev,
        lladdr: o.lladdr,
        state: o.state ?? [],
        router: "router" in o,
        proxy: "proxy" in o,
        managed: "managed" in o,
        extern_learn: "extern_learn" in o,
      })),
    ),
};

export const nexthops = {
  ours(host: Host): Plain[] {
    const name = names(host);
    const view = (row: NexthopRow): Plain => {
      const { legs } = row;
      const group = Array.from({ length: legs.n }, (_, i) => ({
        id: legs.nhid[i],
        ...(legs.weight[i]! > 1 ? { weight: legs.weight[i] } : {}),
      }));
      const { gateway, via, dev } = legView(name, row.family, legs, 0);
      return tidy({
        id: row.id,
        group: row.group ? group : undefined,
        type: row.groupType === nl.NEXTHOP_GRP_TYPE_RES ? "resilient" : undefined,
        gateway: row.group ? undefined : gateway,
        via: row.group ? undefined : via,
        dev: row.group ? undefined : dev,
        scope: String(row.scope),
        blackhole: row.blackhole === 1,
        protocol: String(row.protocol),
        flags: legFlags(row.flags),
      });
    };
    return collect(host, dumpNexthops, decodeNexthop, new NexthopRow(), view);
  },
  theirs: (host: Host): Plain[] =>
    ip(host, "nexthop").map((o) =>
      tidy({
        ...Object.fromEntries(
          "id group type gateway via dev scope protocol flags".split(" ").map((key) => [key, o[key]]),
        ),
        blackhole: "blackhole" in o,
      }),
    ),
};

export const rules = {
  ours(host: Host): Plain[] {
    const hex = (n: number) => (n ? `0x${n.toString(16)}` : undefined);
    const view = (row: RuleRow) => {
      const whole = row.family === nl.AF_INET ? 32 : 128;
      return {
        priority: row.priority,
        not: (row.flags & nl.FIB_RULE_INVERT) !== 0,
        src: row.srcLen ? formatAddress(row.family, row.src) : "all",
        srclen: row.srcLen === whole ? undefined : row.srcLen || undefined,
        dst: row.dstLen ? formatAddress(row.family, row.dst) : undefined,
        dstlen: row.dstLen === whole ? undefined : row.dstLen || undefined,
        tos: hex(row.tos),
        fwmark: hex(row.fwmark),
        fwmask: row.fwmask === 0xffffffff ? undefined : hex(row.fwmask),
        iif: row.iifname || undefined,
        oif: row.oifname || undefined,
        table: row.table ? String(row.table) : undefined,
        goto: row.goto || undefined,
        l3mdev: row.l3mdev === 1,
        action: row.action >= nl.FR_ACT_BLACKHOLE ? String(row.action) : undefined,
        suppress_prefixlen: row.suppressPrefixLen < 0 ? undefined : row.suppressPrefixLen,
        protocol: String(row.protocol),
        others: row.others > 0,
      };
    };
    return [nl.AF_INET, nl.AF_INET6].flatMap((family) =>
      collect(host, (m) => dumpRules(m, family), decodeRule, new RuleRow(), view).map(tidy),
    );
  },
  theirs: (host: Host): Plain[] =>
    [...ip(host, "rule"), ...ip(host, "-6", "rule")].map((o) => {
      const { not, l3mdev, ...rest } = o;
      const others = Object.keys(o).filter((key) => /^(ipproto|[sd]port|uid)/.test(key));
      for (const key of others) delete rest[key];
      return tidy({ ...rest, not: not === null, l3mdev: l3mdev === null, others: others.length > 0 });
    }),
};

export const kinds = { links, addrs, routes, neighs, nexthops, rules };
