// bpf/steer.h as TypeScript writes and reads it: sizes and offsets of keys and values, limits, and counter names.
// test/xdp/layout.test.ts compiles the header and compares.

export const steerLayout = {
  match_key: { sizeof: 24, addr: 0, port: 16, vlan: 18, proto: 22, family: 23 },
  tuple: { sizeof: 40, daddr: 0, saddr: 16, dport: 32, sport: 34, proto: 36, family: 37 },
  wild_key: { sizeof: 44, masked: 0, pattern: 40 },
  pattern: { sizeof: 40, daddr: 0, saddr: 16, dport: 32, sport: 34, family: 37 },
  address_key: { sizeof: 20, addr: 0, family: 16 },
  mac_key: { sizeof: 8, mac: 0 },
  group_key: { sizeof: 20, addr: 0, port: 16, proto: 18, family: 19 },
  open_key: { sizeof: 24, prefixlen: 0, family: 4, proto: 5, port: 6, remote: 8 },
  steer_config: { sizeof: 16, mac: 0, card: 8, tap: 12 },
  steer_policy: {
    sizeof: 40,
    flags: 0,
    flows: 8,
    patterns: 12,
    macs: 16,
    owned: 20,
    groups: 24,
    dhcp: 28,
    any4: 32,
    any6: 36,
  },
  STEER_QUEUES: 1024,
  STEER_PATTERNS: 32,
  STEER_VLAN_8021AD: 0x1000,
  STEER_SWITCH: 1,
  STEER_RECORD: 2,
  STEER_DROP: 4,
} as const;

/** In the order of enum steer_counter: see bpf/steer.h for what each one means. */
export const steerCounters = [
  "redirected",
  "noSocket",
  "noMatch",
  "other",
  "notMine",
  "fragment",
  "malformed",
  "martian",
  "dropped",
  "toTap",
  "local",
  "cloned",
  "givenBack",
] as const;
export type SteerCounters = Record<(typeof steerCounters)[number], number>;

/** Plain numbers that can be posted to another Worker of this process: what `SteerMaps` is made of. */
export interface SteerMapFds {
  readonly policy: number;
  readonly matches: number;
  readonly flows: number;
  readonly wild: number;
  readonly patterns: number;
  readonly macs: number;
  readonly owned: number;
  readonly groups: number;
  readonly dhcp: number;
  readonly dsts: number;
  readonly open: number;
  readonly kernelFlows: number;
}

/** The maps' names in the object. */
export const mapNames: Record<keyof SteerMapFds, string> = {
  policy: "policy",
  matches: "matches",
  flows: "flows",
  wild: "wild",
  patterns: "patterns",
  macs: "macs",
  owned: "owned",
  groups: "groups",
  dhcp: "dhcp",
  dsts: "dsts",
  open: "open",
  kernelFlows: "kernel_flows",
};

/** What a frame must be addressed to, to be redirected. */
export interface Match {
  readonly family: number; // AF_INET, AF_INET6
  readonly proto: number; // IPPROTO_UDP, IPPROTO_TCP
  /** Destination address: memory words, network byte order; word 0 for IPv4, words 0..3 for IPv6. */
  readonly address: Int32Array;
  readonly port: number;
  /** At most two VLAN ids, outer first; STEER_VLAN_8021AD or-ed in for an 802.1ad tag. None: untagged, or id 0. */
  readonly vlans?: readonly number[];
}
