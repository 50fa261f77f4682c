// Requests about routes: add, change, delete, dump, and the kernel's own lookup. What comes back: route.ts.
import { RTA, RTAX } from "./attribute.ts";
import {
  AF_INET,
  AF_INET6,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  RT_SCOPE_HOST,
  RT_SCOPE_LINK,
  RT_SCOPE_NOWHERE,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_MAIN,
  RT_TABLE_UNSPEC,
  RTM_DELROUTE,
  RTM_F_FIB_MATCH,
  RTM_F_LOOKUP_TABLE,
  RTM_GETROUTE,
  RTM_NEWROUTE,
  RTN_ANYCAST,
  RTN_BROADCAST,
  RTN_LOCAL,
  RTN_MULTICAST,
  RTN_UNICAST,
  RTN_UNSPEC,
  RTNH_F_ONLINK,
  RTPROT_STATIC,
  RTPROT_UNSPEC,
} from "./constants.ts";
import type { Requests } from "./message.ts";
import { type Address, type Prefix, toAddress, toPrefix } from "./prefix.ts";

export interface LegSpec {
  oif?: number;
  /** the gateway; one of the other family goes as RTA_VIA */
  via?: Address;
  onlink?: boolean;
  /** 1 to 256 */
  weight?: number;
}

export interface RouteSpec extends LegSpec {
  /** for a default route prefix.ts has defaultRoute(family) */
  dst: Prefix;
  /** IPv6: for packets from this prefix alone */
  src?: Prefix;
  /** RTN_*; unicast if missing (any, in a delete) */
  type?: number;
  /** main if missing */
  table?: number;
  /** RTPROT_*; static if missing (any, in a delete) */
  protocol?: number;
  /** RT_SCOPE_*; what `ip` would choose if missing (any, in a delete) */
  scope?: number;
  tos?: number;
  /** the metric; IPv6's default is 1024 */
  priority?: number;
  prefsrc?: Address;
  mtu?: number;
  /** the nexthop object to use, instead of via and oif */
  nhid?: number;
  /** multipath, instead of via and oif */
  nexthops?: readonly LegSpec[];
  /** IPv6 router preference: 0 medium, 1 high, 3 low */
  pref?: number;
}

/** The scope that `ip route` gives to a route that does not say. */
function scopeOf(spec: RouteSpec, type: number): number {
  if (type === RTN_LOCAL) return RT_SCOPE_HOST;
  if (type === RTN_BROADCAST || type === RTN_MULTICAST || type === RTN_ANYCAST) return RT_SCOPE_LINK;
  const direct = spec.via === undefined && spec.nhid === undefined && spec.nexthops === undefined;
  return type === RTN_UNICAST && direct ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
}

function leg(m: Requests, family: number, via: Address | undefined): void {
  if (via === undefined) return;
  const { family: viaFamily, words } = toAddress(via);
  if (viaFamily === family) {
    m.address(RTA.GATEWAY, words, family === AF_INET ? 1 : 4);
    return;
  }
  const count = viaFamily === AF_INET ? 4 : 16;
  const bytes = new Uint8Array(2 + count);
  bytes[0] = viaFamily;
  for (let i = 0; i < count; i++) bytes[2 + i] = words[i >> 2]! >>> ((i & 3) * 8);
  m.raw(RTA.VIA, bytes);
}

function write(m: Requests, message: number, flags: number, spec: RouteSpec): void {
  const adding = message === RTM_NEWROUTE;
  const { family, words, prefixLen } = toPrefix(spec.dst);
  const src = spec.src === undefined ? undefined : toPrefix(spec.src);
  const type = spec.type ?? (adding ? RTN_UNICAST : RTN_UNSPEC);
  const scope = spec.scope ?? (adding ? (family === AF_INET ? scopeOf(spec, type) : 0) : RT_SCOPE_NOWHERE);
  const protocol = spec.protocol ?? (adding ? RTPROT_STATIC : RTPROT_UNSPEC);
  const table = spec.table ?? RT_TABLE_MAIN;
  const count = family === AF_INET ? 1 : 4;
  const off = m.begin(message, flags, 12);
  m.words[off >> 2] = family | (prefixLen << 8) | ((src?.prefixLen ?? 0) << 16) | ((spec.tos ?? 0) << 24);
  m.words[(off >> 2) + 1] =
    (table < 256 ? table : RT_TABLE_UNSPEC) | (protocol << 8) | (scope << 16) | (type << 24);
  m.words[(off >> 2) + 2] = spec.onlink ? RTNH_F_ONLINK : 0;
  if (prefixLen > 0) m.address(RTA.DST, words, count);
  if (src) m.address(RTA.SRC, src.words, count);
  if (table >= 256) m.u32(RTA.TABLE, table);
  if (spec.priority !== undefined) m.u32(RTA.PRIORITY, spec.priority);
  if (spec.prefsrc !== undefined) m.address(RTA.PREFSRC, toAddress(spec.prefsrc).words, count);
  if (spec.mtu !== undefined) {
    const metrics = m.nest(RTA.METRICS);
    m.u32(RTAX.MTU, spec.mtu);
    m.end(metrics);
  }
  if (spec.pref !== undefined) m.u8(RTA.PREF, spec.pref);
  if (spec.nhid !== undefined) m.u32(RTA.NH_ID, spec.nhid);
  if (spec.oif !== undefined) m.u32(RTA.OIF, spec.oif);
  leg(m, family, spec.via);
  if (spec.nexthops) {
    const multipath = m.nest(RTA.MULTIPATH);
    for (const nexthop of spec.nexthops) {
      const at = m.room(8);
      m.bytes[at + 2] = nexthop.onlink ? RTNH_F_ONLINK : 0;
      m.bytes[at + 3] = (nexthop.weight ?? 1) - 1;
      m.words[(at >> 2) + 1] = nexthop.oif ?? 0;
      leg(m, family, nexthop.via);
      m.end(at);
    }
    m.end(multipath);
  }
}

/**
 * RTM_NEWROUTE. By flags: CREATE | EXCL adds, CREATE | REPLACE replaces the first of equal key or adds,
 * CREATE | APPEND puts it after those, CREATE alone before them.
 */
export const newRoute = (m: Requests, spec: RouteSpec, flags = NLM_F_CREATE | NLM_F_EXCL): void =>
  write(m, RTM_NEWROUTE, flags, spec);

/** Deletes the first route that has all that is given. */
export const delRoute = (m: Requests, spec: RouteSpec): void => write(m, RTM_DELROUTE, 0, spec);

export interface RouteFilter {
  /** 0 for both, which not every kernel filters */
  family?: number;
  table?: number;
  oif?: number;
  protocol?: number;
  type?: number;
}

/** A table that does not exist is ENOENT in the dump's end. */
export function dumpRoutes(m: Requests, filter: RouteFilter = {}): void {
  const off = m.begin(RTM_GETROUTE, NLM_F_DUMP, 12);
  m.bytes[off] = filter.family ?? 0;
  m.bytes[off + 5] = filter.protocol ?? 0;
  m.bytes[off + 7] = filter.type ?? 0;
  if (filter.table !== undefined) m.u32(RTA.TABLE, filter.table);
  if (filter.oif !== undefined) m.u32(RTA.OIF, filter.oif);
}

export interface LookupSpec {
  dst: Address;
  from?: Address;
  oif?: number;
  iif?: number;
  tos?: number;
  mark?: number;
  /** answer with the entry that matched, instead of with the result of the lookup */
  fibMatch?: boolean;
  ipProto?: number;
  sport?: number;
  dport?: number;
}

const be16 = (port: number): readonly number[] => [port >>> 8, port & 255];

/** `ip route get`: one RTM_NEWROUTE comes back, with RTM_F_CLONED unless fibMatch; or an error. */
export function getRoute(m: Requests, spec: LookupSpec): void {
  const { family, words } = toAddress(spec.dst);
  const bits = family === AF_INET6 ? 128 : 32;
  const count = bits >> 5;
  const off = m.begin(RTM_GETROUTE, 0, 12);
  m.words[off >> 2] =
    family | (bits << 8) | ((spec.from === undefined ? 0 : bits) << 16) | ((spec.tos ?? 0) << 24);
  m.words[(off >> 2) + 2] = RTM_F_LOOKUP_TABLE | (spec.fibMatch ? RTM_F_FIB_MATCH : 0);
  m.address(RTA.DST, words, count);
  if (spec.from !== undefined) m.address(RTA.SRC, toAddress(spec.from).words, count);
  if (spec.oif !== undefined) m.u32(RTA.OIF, spec.oif);
  if (spec.iif !== undefined) m.u32(RTA.IIF, spec.iif);
  if (spec.mark !== undefined) m.u32(RTA.MARK, spec.mark);
  if (spec.ipProto !== undefined) m.u8(RTA.IP_PROTO, spec.ipProto);
  if (spec.sport !== undefined) m.raw(RTA.SPORT, be16(spec.sport));
  if (spec.dport !== undefined) m.raw(RTA.DPORT, be16(spec.dport));
}
