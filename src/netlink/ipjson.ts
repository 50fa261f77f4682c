// The library's objects in the shape that `ip -j` prints (iproute2 6.1: ip/ipaddress.c, iproute.c, ipneigh.c, ipnexthop.c,
// iprule.c), for the command line and for tests that hold the two together. Links are named, as ip names them.
import {
  addrFlags,
  linkFlags,
  linkTypeName,
  protocolName,
  routeFlags,
  scopeName,
  tableName,
} from "./names.ts";
import type { KindName, Objects } from "./notice.ts";
import { type Addr, addrBits } from "./object/addr.ts";
import { type Link, linkBits } from "./object/link.ts";
import type { Neigh } from "./object/neigh.ts";
import type { Nexthop } from "./object/nexthop.ts";
import { type Leg, type Route, routeBits } from "./object/routespec.ts";
import type { Rule } from "./object/rule.ts";

export type IpObject = Record<string, unknown>;
/** A link's name by its index. */
export type NameOf = (index: number) => string;

/** Without what is undefined. */
const tidy = (object: IpObject): IpObject =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
const when = <T>(condition: unknown, value: T): T | undefined => (condition ? value : undefined);
/** "10.0.0.0/8" as ip shows it: no length for a whole address, "default" for nothing. */
function prefix(text: string): string {
  const [address, length] = text.split("/") as [string, string];
  if (length === "0") return "default";
  return length === (address.includes(":") ? "128" : "32") ? address : text;
}
const hex = (number: number, digits = 0): string => `0x${number.toString(16).padStart(digits, "0")}`;

const MODES = ["DEFAULT", "DORMANT"];

function link(o: Link, name: NameOf): IpObject {
  const elsewhere = o.linkNetnsid !== undefined;
  return tidy({
    ifindex: o.index,
    link_index: when(elsewhere && o.link !== undefined, o.link),
    link: when(!elsewhere && o.link !== undefined, o.link ? name(o.link) : null),
    ifname: o.name,
    flags: linkFlags(linkBits.write(o.flags)),
    mtu: o.mtu,
    qdisc: o.qdisc,
    master: when(o.master, name(o.master ?? 0)),
    operstate: String(o.operstate).toUpperCase(),
    linkmode: MODES[o.linkMode ?? 0],
    group: o.group ? String(o.group) : "default",
    txqlen: o.txQueueLength || undefined,
    link_type: linkTypeName(o.type),
    address: o.address,
    broadcast: o.broadcast,
    link_netnsid: o.linkNetnsid,
    ifalias: o.alias,
    altnames: o.altNames,
  });
}

/** One address of a link, as in its `addr_info`, with the link in front. */
function addr(o: Addr, name: NameOf): IpObject {
  const [local, length] = o.address.split("/");
  const bits = addrBits.write(o.flags);
  const flags: IpObject = { dynamic: when((bits & 0x80) === 0, true) };
  for (const flag of addrFlags(bits & ~0x80))
    flags[flag === "secondary" && o.family === "inet6" ? "temporary" : flag] = true;
  return tidy({
    ifindex: o.link,
    ifname: name(o.link),
    family: o.family,
    local,
    address: o.peer,
    prefixlen: Number(length),
    metric: o.priority,
    broadcast: o.broadcast,
    anycast: o.anycast,
    scope: scopeName(o.scope),
    ...flags,
    label: o.label,
    valid_life_time: o.times?.valid,
    preferred_life_time: o.times?.preferred,
  });
}

const METRICS: Record<string, string> = {
  ccAlgo: "congestion",
  rtoMin: "rto_min",
  fastopenNoCookie: "fastopen_no_cookie",
};

const hop = (o: { oif?: number; via?: string }, family: string, name: NameOf): IpObject => {
  const six = o.via?.includes(":");
  const other = o.via !== undefined && six !== (family === "inet6");
  return {
    gateway: when(o.via !== undefined && !other, o.via),
    via: when(other, { family: six ? "inet6" : "inet", host: o.via }),
    dev: when(o.oif, name(o.oif ?? 0)),
  };
};

function route(o: Route, name: NameOf): IpObject {
  const { metrics } = o;
  const bits = routeBits.write(o.flags);
  const at = o as { oif?: number; via?: string };
  return tidy({
    type: when(o.type !== "unicast", o.type),
    dst: prefix(o.dst),
    from: when(o.src !== undefined, prefix(o.src ?? "")),
    tos: when(o.tos, hex(o.tos ?? 0, 2)),
    nhid: o.nhid,
    ...hop(at, o.family, name),
    table: when(o.table !== 254, tableName(o.table)),
    protocol: when(o.protocol !== 3, protocolName(o.protocol)),
    scope: when(o.scope !== 0, scopeName(o.scope)),
    prefsrc: o.prefsrc,
    metric: o.priority,
    flags: routeFlags(bits),
    metrics: metrics && [
      Object.fromEntries(
        Object.entries(metrics).map(([key, value]) => [
          METRICS[key] ?? key,
          key === "rtt" ? (value as number) / 8 : key === "rttvar" ? (value as number) / 4 : value,
        ]),
      ),
    ],
    expires: when(o.times?.expires, Math.trunc((o.times?.expires ?? 0) / 100)),
    pref: o.pref,
    nexthops: o.nexthops?.map((leg: Leg) =>
      tidy({
        ...hop(leg, o.family, name),
        weight: leg.weight,
        flags: routeFlags(routeBits.write(leg.flags)),
      }),
    ),
  });
}

const OTHER_FLAGS = [
  ["router", "router"],
  ["proxy", "proxy"],
  ["externLearn", "extern_learn"],
  ["offloaded", "offload"],
  ["sticky", "sticky"],
] as const;

function neigh(o: Neigh, name: NameOf): IpObject {
  const flags = Object.fromEntries(
    OTHER_FLAGS.filter(([flag]) => o.flags.includes(flag)).map(([, shown]) => [shown, null]),
  );
  return tidy({
    dst: o.dst,
    dev: name(o.link),
    lladdr: o.lladdr,
    ...flags,
    managed: when(o.extFlags?.includes("managed"), null),
    state: when(!o.flags.includes("proxy"), [String(o.state).toUpperCase()]),
    protocol: when(o.protocol, protocolName(o.protocol ?? 0)),
  });
}

function nexthop(o: Nexthop, name: NameOf): IpObject {
  const { resilient } = o;
  const seconds = (time = 0) => time / 100;
  return tidy({
    id: o.id,
    group: o.group?.map(({ id, weight }) => tidy({ id, weight: when(weight > 1, weight) })),
    type: when(o.group && o.groupType === "resilient", "resilient"),
    resilient_args: resilient && {
      buckets: resilient.buckets,
      idle_timer: seconds(resilient.idleTimer),
      unbalanced_timer: seconds(resilient.unbalancedTimer),
      unbalanced_time: seconds(resilient.unbalancedTime),
    },
    ...hop({ ...(o.link && { oif: o.link }), ...(o.via !== undefined && { via: o.via }) }, o.family, name),
    scope: when(o.scope !== 0, scopeName(o.scope)),
    blackhole: when(o.blackhole, null),
    protocol: when(o.protocol !== 0, protocolName(o.protocol)),
    fdb: when(o.fdb, null),
    flags: routeFlags(routeBits.write(o.flags)),
  });
}

const IP_PROTOCOLS: Record<number, string> = {
  1: "icmp",
  2: "igmp",
  6: "tcp",
  17: "udp",
  33: "dccp",
  47: "gre",
  50: "esp",
  51: "ah",
  58: "ipv6-icmp",
  132: "sctp",
};

function rule(o: Rule): IpObject {
  const whole = o.family === "inet" ? 32 : 128;
  const side = (key: string, text: string | undefined): IpObject => {
    if (text === undefined) return {};
    const [address, length] = text.split("/");
    return { [key]: address, [`${key}len`]: when(Number(length) !== whole, Number(length)) };
  };
  const range = (key: string, value: { start: number; end: number } | undefined): IpObject =>
    value === undefined
      ? {}
      : value.start === value.end && key !== "uid"
        ? { [key]: value.start }
        : { [`${key}_start`]: value.start, [`${key}_end`]: value.end };
  const table = o.action === "table" && !o.l3mdev;
  return tidy({
    priority: o.priority ?? 0,
    not: when(o.flags.includes("invert"), null),
    src: "all",
    ...side("src", o.src),
    ...side("dst", o.dst),
    tos: when(o.tos, hex(o.tos ?? 0)),
    fwmark: when(o.fwmark !== undefined || o.fwmask !== undefined, hex(o.fwmark ?? 0)),
    fwmask: when(o.fwmask !== undefined && o.fwmask !== 0xffffffff, hex(o.fwmask ?? 0)),
    iif: o.iif,
    iif_detached: when(o.flags.includes("iifDetached"), null),
    oif: o.oif,
    oif_detached: when(o.flags.includes("oifDetached"), null),
    l3mdev: when(o.l3mdev, null),
    ...range("uid", o.uidRange),
    ipproto: when(o.ipProto, IP_PROTOCOLS[o.ipProto ?? 0] ?? String(o.ipProto)),
    ...range("sport", o.sportRange),
    ...range("dport", o.dportRange),
    table: when(table && o.table, tableName(o.table)),
    suppress_prefixlen: when(
      o.suppressPrefixlen !== undefined && o.suppressPrefixlen >= 0,
      o.suppressPrefixlen,
    ),
    goto: o.goto,
    unresolved: when(o.flags.includes("unresolved"), null),
    action: when(!table && !o.l3mdev && o.action !== "goto", o.action),
    protocol: when(o.protocol && o.protocol !== 2, protocolName(o.protocol ?? 0)),
  });
}

const shapes: { readonly [K in KindName]: (object: Objects[K], name: NameOf) => IpObject } = {
  links: link,
  addrs: addr,
  routes: route,
  nexthops: nexthop,
  neighs: neigh,
  rules: rule,
};

/** The object as `ip -j` shows it; an address as in `addr_info`, with `ifindex` and `ifname` of its link. */
export function ipJson<K extends KindName>(kind: K, object: Objects[K], name: NameOf): IpObject {
  return shapes[kind](object, name);
}
