// The kernel's numbers as iproute2 prints them. Sources: linux/rtnetlink.h, if.h, if_arp.h, neighbour.h, if_addr.h;
// iproute2's ip/, lib/rt_names.c and its rt_protos, rt_tables, rt_scopes. A number without a name prints as itself.

type Names = Readonly<Record<number, string>>;

const name = (names: Names, number: number): string => names[number] ?? String(number);

/** The names of the bits that are set, in the order of the table; unknown bits are left out. */
const bits = (table: readonly (readonly [number, string])[], value: number): string[] =>
  table.filter(([bit]) => (value & bit) !== 0).map(([, text]) => text);

const TABLES: Names = { 253: "default", 254: "main", 255: "local" };
const SCOPES: Names = { 0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere" };
const TYPES: Names = {
  1: "unicast",
  2: "local",
  3: "broadcast",
  4: "anycast",
  5: "multicast",
  6: "blackhole",
  7: "unreachable",
  8: "prohibit",
  9: "throw",
};
const PROTOCOLS: Names = {
  0: "unspec",
  1: "redirect",
  2: "kernel",
  3: "boot",
  4: "static",
  8: "gated",
  9: "ra",
  10: "mrt",
  11: "zebra",
  12: "bird",
  13: "dnrouted",
  14: "xorp",
  15: "ntk",
  16: "dhcp",
  17: "mrouted",
  18: "keepalived",
  42: "babel",
  84: "ovn",
  99: "openr",
  186: "bgp",
  187: "isis",
  188: "ospf",
  189: "rip",
  192: "eigrp",
};
const OPERSTATES: Names = {
  0: "UNKNOWN",
  1: "NOTPRESENT",
  2: "DOWN",
  3: "LOWERLAYERDOWN",
  4: "TESTING",
  5: "DORMANT",
  6: "UP",
};
const LINK_TYPES: Names = {
  1: "ether",
  32: "infiniband",
  512: "ppp",
  768: "ipip",
  769: "tunnel6",
  772: "loopback",
  776: "sit",
  778: "gre",
  823: "gre6",
  65534: "none",
  65535: "void",
};
const PREFS: Names = { 0: "medium", 1: "high", 3: "low" };

const LINK_FLAGS = [
  [0x8, "LOOPBACK"],
  [0x2, "BROADCAST"],
  [0x10, "POINTOPOINT"],
  [0x1000, "MULTICAST"],
  [0x80, "NOARP"],
  [0x200, "ALLMULTI"],
  [0x100, "PROMISC"],
  [0x400, "MASTER"],
  [0x800, "SLAVE"],
  [0x4, "DEBUG"],
  [0x8000, "DYNAMIC"],
  [0x4000, "AUTOMEDIA"],
  [0x2000, "PORTSEL"],
  [0x20, "NOTRAILERS"],
  [0x1, "UP"],
  [0x10000, "LOWER_UP"],
  [0x20000, "DORMANT"],
  [0x40000, "ECHO"],
] as const;
const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;

const ADDR_FLAGS = [
  [0x01, "secondary"],
  [0x02, "nodad"],
  [0x04, "optimistic"],
  [0x08, "dadfailed"],
  [0x10, "home"],
  [0x20, "deprecated"],
  [0x40, "tentative"],
  [0x80, "permanent"],
  [0x100, "mngtmpaddr"],
  [0x200, "noprefixroute"],
  [0x400, "autojoin"],
  [0x800, "stable-privacy"],
] as const;

const ROUTE_FLAGS = [
  [0x1, "dead"],
  [0x4, "onlink"],
  [0x2, "pervasive"],
  [0x8, "offload"],
  [0x40, "trap"],
  [0x10, "linkdown"],
  [0x20, "unresolved"],
] as const;

const NUD_STATES = [
  [0x01, "INCOMPLETE"],
  [0x02, "REACHABLE"],
  [0x04, "STALE"],
  [0x08, "DELAY"],
  [0x10, "PROBE"],
  [0x20, "FAILED"],
  [0x40, "NOARP"],
  [0x80, "PERMANENT"],
] as const;

export const tableName = (table: number): string => name(TABLES, table >>> 0);
export const scopeName = (scope: number): string => name(SCOPES, scope);
export const typeName = (type: number): string => name(TYPES, type);
export const protocolName = (protocol: number): string => name(PROTOCOLS, protocol);
export const operstateName = (state: number): string => name(OPERSTATES, state);
export const linkTypeName = (type: number): string => name(LINK_TYPES, type);
export const prefName = (pref: number): string => name(PREFS, pref);

export const linkFlags = (flags: number): string[] => [
  ...((flags & IFF_UP) !== 0 && (flags & IFF_RUNNING) === 0 ? ["NO-CARRIER"] : []),
  ...bits(LINK_FLAGS, flags),
];
export const addrFlags = (flags: number): string[] => bits(ADDR_FLAGS, flags);
export const routeFlags = (flags: number): string[] => bits(ROUTE_FLAGS, flags);
export const neighStates = (state: number): string[] => (state === 0 ? ["NONE"] : bits(NUD_STATES, state));
