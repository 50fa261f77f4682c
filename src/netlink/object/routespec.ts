// What routes are to the library's user: as the kernel tells of them, and as they are asked for. How they become messages
// is route.ts's. Numbers and names: linux/rtnetlink.h.
import type { Unnamed } from "./codec.ts";
import { Bits, type Family, type HexBit } from "./kind.ts";
import type { Protocol, Scope, Table } from "./numbers.ts";

export const TYPES = [
  "unspec",
  "unicast",
  "local",
  "broadcast",
  "anycast",
  "multicast",
  "blackhole",
  "unreachable",
  "prohibit",
  "throw",
  "nat",
  "xresolve",
] as const;
/** Routes that lead nowhere. */
export type RejectType = "blackhole" | "unreachable" | "prohibit" | "throw";
/** Routes that lead somewhere. */
export type PathType = "unicast" | "local" | "broadcast" | "anycast" | "multicast";
export type RouteType = (typeof TYPES)[number];
export const routeTypeNumber = (type: RouteType): number => TYPES.indexOf(type);

const FLAGS = [
  "dead",
  "pervasive",
  "onlink",
  "offload",
  "linkdown",
  "unresolved",
  "trap",
  "",
  "notify",
  "cloned",
  "equalize",
  "prefix",
  "lookupTable",
  "fibMatch",
  "rtOffload",
  "rtTrap",
  "",
  "",
  "",
  "",
  "",
  "",
  "",
  "",
  "",
  "",
  "",
  "",
  "",
  "offloadFailed",
] as const;
/** RTNH_F_* (to "trap") and RTM_F_*. */
export type RouteFlag = Exclude<(typeof FLAGS)[number], "">;
export const routeBits: Bits<RouteFlag> = new Bits(FLAGS as readonly (RouteFlag | "")[]);
/** The flags that requests may have: the others say what became of the route. */
export const ASKED = 0x2 | 0x4;

export const PREFS = ["medium", "high", "", "low"] as const;
export type RoutePreference = "low" | "medium" | "high";

/** RTAX_*: numbers as `ip route` takes and shows them; RTTs in the kernel's own units (1/8 and 1/4 ms). */
export interface RouteMetrics extends Unnamed {
  lock?: number;
  mtu?: number;
  window?: number;
  rtt?: number;
  rttvar?: number;
  ssthresh?: number;
  cwnd?: number;
  advmss?: number;
  reordering?: number;
  hoplimit?: number;
  initcwnd?: number;
  features?: number;
  rtoMin?: number;
  initrwnd?: number;
  quickack?: number;
  ccAlgo?: string;
  fastopenNoCookie?: number;
}

/** struct rta_cacheinfo; `expires` in 1/100 s, 0 for never. */
export interface RouteTimes {
  references: number;
  lastUse: number;
  expires: number;
  error: number;
  used: number;
  id: number;
  timestamp: number;
  age: number;
}

/** A tunnel's head: LWTUNNEL_ENCAP_* and its attributes as they are. */
interface Encap {
  encapType?: number;
  encap?: Uint8Array;
}

/** What all routes may have. */
interface RouteHead extends Unnamed {
  /** "10.0.0.0/8", "::/0"; the family is in it */
  dst: string;
  /** IPv6: for packets from this prefix alone */
  src?: string;
  /** IPv4: the TOS byte */
  tos?: number;
  /** the metric; IPv6's default is 1024 */
  priority?: number;
  prefsrc?: string;
  metrics?: RouteMetrics;
  /** IPv6: how good a router this is */
  pref?: RoutePreference;
  mark?: number;
  uid?: number;
  ttlPropagate?: number;
}

/** Where one next hop is. `via` may be of the other family. */
type Hop<Link> = Encap & ({ oif: Link; via?: string } | { oif?: Link; via: string });
type NoHop = { oif?: undefined; via?: undefined; encap?: undefined; encapType?: undefined };
type NoNexthops = { nexthops?: undefined };
type NoObject = { nhid?: undefined };

export type LegSpec = Hop<number | string> &
  Unnamed & {
    /** 1 to 256 */
    weight?: number;
    onlink?: boolean;
  };

interface SpecHead extends RouteHead {
  /** main if missing */
  table?: Table;
  /** static if missing; in a delete: any */
  protocol?: Protocol;
  /** what `ip` would choose if missing */
  scope?: Scope;
  flags?: readonly (RouteFlag | HexBit)[];
  /** IPv6: seconds until the route goes */
  expires?: number;
}

/** A route to make: by a next hop, by several, by a nexthop object, or to nowhere. Nothing else is a route. */
export type RouteSpec = SpecHead &
  (
    | ({ type?: PathType; onlink?: boolean } & Hop<number | string> & NoNexthops & NoObject)
    | ({ type?: PathType; nexthops: readonly [LegSpec, ...LegSpec[]] } & NoHop & NoObject)
    | ({ type?: PathType; nhid: number } & NoHop & NoNexthops)
    | ({ type: RejectType } & NoHop & NoNexthops & NoObject)
  );

/** Which route: whatever is given must be so, and the first such one is meant. */
export interface RouteKey extends Omit<SpecHead, "flags" | "metrics"> {
  type?: RouteType;
  oif?: number | string;
  via?: string;
  nexthops?: readonly LegSpec[];
  nhid?: number;
  metrics?: RouteMetrics;
  flags?: readonly (RouteFlag | HexBit)[];
}

export type Leg = Encap &
  Unnamed & {
    oif?: number;
    via?: string;
    weight: number;
    flags: readonly (RouteFlag | HexBit)[];
    ttlPropagate?: number;
  };

interface ToldHead extends RouteHead {
  family: Family;
  table: number;
  protocol: number;
  scope: number;
  flags: readonly (RouteFlag | HexBit)[];
  times?: RouteTimes;
  /** in a lookup's answer */
  iif?: number;
  nexthopFlow?: number;
}

/**
 * A route, as the kernel tells of it. With `nhid` it may show the object's next hops besides. IPv6's ways to nowhere
 * have an `oif` (lo).
 */
export type Route = ToldHead &
  (
    | ({ type: PathType; nhid?: number; nexthops?: undefined } & Encap & { oif?: number; via?: string })
    | ({ type: PathType; nhid?: number; nexthops: readonly Leg[] } & NoHop)
    | ({ type: RejectType; nhid?: number; oif?: number } & { via?: undefined } & NoNexthops)
  );

/** `ip route get`. */
export interface LookupSpec {
  dst: string;
  from?: string;
  oif?: number | string;
  iif?: number | string;
  tos?: number;
  mark?: number;
  uid?: number;
  ipProto?: number;
  sport?: number;
  dport?: number;
  /** answer with the entry that matched, instead of with the result of the lookup */
  fibMatch?: boolean;
}
