// Attributes: what each kind's types are called and number, and how the cold decoders read them into rows.
// struct nlattr: u16 length with these 4 bytes and without padding | u16 type | payload | padding to 4 bytes.
// The two high bits of the type are NLA_F_NESTED and NLA_F_NET_BYTEORDER.
//
// Names are listed in the kernel's enum order, so that a position is a number: test/netlink/headers.test.ts
// holds every one of them to the C headers, extended acks are told by name with them (ack.ts), and decoders
// are tables from number to reader. The two hot decoders (route.ts, neigh.ts) are written out instead.

export const NLA_F_NESTED = 0x8000;
export const NLA_TYPE_MASK = 0x3fff;

type Words<S extends string, Before = never> = S extends `${infer Word} ${infer Rest}`
  ? Words<Rest, Before | Word>
  : Before | S;

/** Attribute types of one level of one kind: `IFLA.MTU` is 4. */
export type Attributes<Name extends string = string> = { readonly [N in Name]: number };

const prefixes = new WeakMap<object, string>();
const nests = new WeakMap<object, Record<number, Attributes | ((kind: string) => Attributes | undefined)>>();

/** A list of attribute types, in the kernel's order from 0 on. */
export function list<S extends string>(prefix: string, names: S): Attributes<Words<S>> {
  const set = Object.fromEntries(names.split(" ").map((name, type) => [name, type]));
  prefixes.set(set, prefix);
  return set as Attributes<Words<S>>;
}

export const IFLA = list(
  "IFLA_",
  "UNSPEC ADDRESS BROADCAST IFNAME MTU LINK QDISC STATS COST PRIORITY MASTER WIRELESS PROTINFO TXQLEN MAP WEIGHT OPERSTATE LINKMODE LINKINFO NET_NS_PID IFALIAS NUM_VF VFINFO_LIST STATS64 VF_PORTS PORT_SELF AF_SPEC GROUP NET_NS_FD EXT_MASK PROMISCUITY NUM_TX_QUEUES NUM_RX_QUEUES CARRIER PHYS_PORT_ID CARRIER_CHANGES PHYS_SWITCH_ID LINK_NETNSID PHYS_PORT_NAME PROTO_DOWN GSO_MAX_SEGS GSO_MAX_SIZE PAD XDP EVENT NEW_NETNSID TARGET_NETNSID CARRIER_UP_COUNT CARRIER_DOWN_COUNT NEW_IFINDEX MIN_MTU MAX_MTU PROP_LIST ALT_IFNAME PERM_ADDRESS PROTO_DOWN_REASON PARENT_DEV_NAME PARENT_DEV_BUS_NAME GRO_MAX_SIZE TSO_MAX_SIZE TSO_MAX_SEGS ALLMULTI DEVLINK_PORT GSO_IPV4_MAX_SIZE GRO_IPV4_MAX_SIZE DPLL_PIN MAX_PACING_OFFLOAD_HORIZON NETNS_IMMUTABLE HEADROOM TAILROOM",
);
export const IFLA_INFO = list("IFLA_INFO_", "UNSPEC KIND DATA XSTATS SLAVE_KIND SLAVE_DATA");
export const IFLA_VLAN = list("IFLA_VLAN_", "UNSPEC ID FLAGS EGRESS_QOS INGRESS_QOS PROTOCOL");
export const IFLA_MACVLAN = list(
  "IFLA_MACVLAN_",
  "UNSPEC MODE FLAGS MACADDR_MODE MACADDR MACADDR_DATA MACADDR_COUNT BC_QUEUE_LEN BC_QUEUE_LEN_USED",
);
export const IFLA_BR = list(
  "IFLA_BR_",
  "UNSPEC FORWARD_DELAY HELLO_TIME MAX_AGE AGEING_TIME STP_STATE PRIORITY VLAN_FILTERING VLAN_PROTOCOL GROUP_FWD_MASK ROOT_ID BRIDGE_ID ROOT_PORT ROOT_PATH_COST TOPOLOGY_CHANGE TOPOLOGY_CHANGE_DETECTED HELLO_TIMER TCN_TIMER TOPOLOGY_CHANGE_TIMER GC_TIMER GROUP_ADDR FDB_FLUSH MCAST_ROUTER MCAST_SNOOPING MCAST_QUERY_USE_IFADDR MCAST_QUERIER MCAST_HASH_ELASTICITY MCAST_HASH_MAX MCAST_LAST_MEMBER_CNT MCAST_STARTUP_QUERY_CNT MCAST_LAST_MEMBER_INTVL MCAST_MEMBERSHIP_INTVL MCAST_QUERIER_INTVL MCAST_QUERY_INTVL MCAST_QUERY_RESPONSE_INTVL MCAST_STARTUP_QUERY_INTVL NF_CALL_IPTABLES NF_CALL_IP6TABLES NF_CALL_ARPTABLES VLAN_DEFAULT_PVID PAD VLAN_STATS_ENABLED MCAST_STATS_ENABLED MCAST_IGMP_VERSION MCAST_MLD_VERSION VLAN_STATS_PER_PORT MULTI_BOOLOPT MCAST_QUERIER_STATE",
);
export const IFLA_VRF = list("IFLA_VRF_", "UNSPEC TABLE");
export const IFLA_TUN = list(
  "IFLA_TUN_",
  "UNSPEC OWNER GROUP TYPE PI VNET_HDR PERSIST MULTI_QUEUE NUM_QUEUES NUM_DISABLED_QUEUES",
);
export const IFLA_XDP = list(
  "IFLA_XDP_",
  "UNSPEC FD ATTACHED FLAGS PROG_ID DRV_PROG_ID SKB_PROG_ID HW_PROG_ID EXPECTED_FD",
);
export const VETH_INFO = list("VETH_INFO_", "UNSPEC PEER");

export const IFA = list(
  "IFA_",
  "UNSPEC ADDRESS LOCAL LABEL BROADCAST ANYCAST CACHEINFO MULTICAST FLAGS RT_PRIORITY TARGET_NETNSID PROTO",
);

export const RTA = list(
  "RTA_",
  "UNSPEC DST SRC IIF OIF GATEWAY PRIORITY PREFSRC METRICS MULTIPATH PROTOINFO FLOW CACHEINFO SESSION MP_ALGO TABLE MARK MFC_STATS VIA NEWDST PREF ENCAP_TYPE ENCAP EXPIRES PAD UID TTL_PROPAGATE IP_PROTO SPORT DPORT NH_ID FLOWLABEL",
);
export const RTAX = list(
  "RTAX_",
  "UNSPEC LOCK MTU WINDOW RTT RTTVAR SSTHRESH CWND ADVMSS REORDERING HOPLIMIT INITCWND FEATURES RTO_MIN INITRWND QUICKACK CC_ALGO FASTOPEN_NO_COOKIE",
);

export const NHA = list(
  "NHA_",
  "UNSPEC ID GROUP GROUP_TYPE BLACKHOLE OIF GATEWAY ENCAP_TYPE ENCAP GROUPS MASTER FDB RES_GROUP RES_BUCKET OP_FLAGS GROUP_STATS HW_STATS_ENABLE HW_STATS_USED",
);
export const NHA_RES_GROUP = list(
  "NHA_RES_GROUP_",
  "UNSPEC BUCKETS IDLE_TIMER UNBALANCED_TIMER UNBALANCED_TIME",
);

export const NDA = list(
  "NDA_",
  "UNSPEC DST LLADDR CACHEINFO PROBES VLAN PORT VNI IFINDEX MASTER LINK_NETNSID SRC_VNI PROTOCOL NH_ID FDB_EXT_ATTRS FLAGS_EXT NDM_STATE_MASK NDM_FLAGS_MASK",
);

export const FRA = list(
  "FRA_",
  "UNSPEC DST SRC IIFNAME GOTO UNUSED2 PRIORITY UNUSED3 UNUSED4 UNUSED5 FWMARK FLOW TUN_ID SUPPRESS_IFGROUP SUPPRESS_PREFIXLEN TABLE FWMASK OIFNAME PAD L3MDEV UID_RANGE PROTOCOL IP_PROTO SPORT_RANGE DPORT_RANGE DSCP FLOWLABEL FLOWLABEL_MASK SPORT_MASK DPORT_MASK DSCP_MASK",
);

export const NLMSGERR_ATTR = list("NLMSGERR_ATTR_", "UNUSED MSG OFFS COOKIE POLICY MISS_TYPE MISS_NEST");

/** All lists, for the test that holds them to the headers. */
export const attributeLists: readonly Attributes[] = [
  IFLA,
  IFLA_INFO,
  IFLA_VLAN,
  IFLA_MACVLAN,
  IFLA_BR,
  IFLA_VRF,
  IFLA_TUN,
  IFLA_XDP,
  VETH_INFO,
  IFA,
  RTA,
  RTAX,
  NHA,
  NHA_RES_GROUP,
  NDA,
  FRA,
  NLMSGERR_ATTR,
];

const dataOf: Record<string, Attributes> = {
  vlan: IFLA_VLAN,
  macvlan: IFLA_MACVLAN,
  bridge: IFLA_BR,
  vrf: IFLA_VRF,
  veth: VETH_INFO,
};
nests.set(IFLA, { [IFLA.LINKINFO]: IFLA_INFO, [IFLA.XDP]: IFLA_XDP });
nests.set(IFLA_INFO, { [IFLA_INFO.DATA]: (kind) => dataOf[kind] });
nests.set(VETH_INFO, { [VETH_INFO.PEER]: IFLA });
nests.set(RTA, { [RTA.METRICS]: RTAX, [RTA.MULTIPATH]: RTA });
nests.set(NHA, { [NHA.RES_GROUP]: NHA_RES_GROUP });

/** Says which attributes of `set` are nests of which others. */
export const holds = (set: Attributes, nest: Record<number, Attributes>): void => void nests.set(set, nest);

/** The prefix of a list's names in C: "IFLA_". */
export const prefixOf = (set: Attributes): string => prefixes.get(set)!;

/** "IFLA_MTU", or "IFLA_99" for a type that the list does not have. */
export function attributeName(set: Attributes, type: number): string {
  for (const name in set) if (set[name] === type) return prefixOf(set) + name;
  return `${prefixOf(set)}${type}`;
}

/** What an attribute of `set` holds, if it is a nest that we know; `kind` is IFLA_INFO_KIND beside it. */
export function nestOf(set: Attributes, type: number, kind: string): Attributes | undefined {
  const nest = nests.get(set)?.[type];
  return typeof nest === "function" ? nest(kind) : nest;
}

// Reading: a decoder is an array from attribute type to reader; types without one are skipped.

export interface Reader<Row> {
  /** Payload bytes that the reader needs; a shorter attribute makes the whole message malformed. */
  readonly min: number;
  /** `off` and `len`: the payload. Returns false if what is in it is malformed. */
  readonly read: (row: Row, words: Int32Array, bytes: Uint8Array, off: number, len: number) => boolean;
}
export type Readers<Row> = readonly (Reader<Row> | undefined)[];

/** A decoder table from readers by attribute name. */
export function readers<Row, Name extends string>(
  set: Attributes<Name>,
  byName: { readonly [N in NoInfer<Name>]?: Reader<Row> },
): Readers<Row> {
  const table: (Reader<Row> | undefined)[] = [];
  for (const [name, reader] of Object.entries<Reader<Row> | undefined>(byName))
    table[(set as Attributes)[name]!] = reader;
  return table;
}

/** Runs the readers over the attributes from `off` to `end`. False: a length does not fit. The last of equals wins. */
export function readAttributes<Row>(
  table: Readers<Row>,
  row: Row,
  words: Int32Array,
  bytes: Uint8Array,
  off: number,
  end: number,
): boolean {
  while (end - off >= 4) {
    const head = words[off >> 2]!;
    const length = head & 0xffff;
    if (length < 4 || length > end - off) return false;
    const reader = table[(head >>> 16) & NLA_TYPE_MASK];
    if (reader !== undefined) {
      if (length - 4 < reader.min || !reader.read(row, words, bytes, off + 4, length - 4)) return false;
    }
    off += (length + 3) & ~3;
  }
  return true;
}

type Keys<Row, T> = { [K in keyof Row]: Row[K] extends T ? K : never }[keyof Row];
type Fields = Record<PropertyKey, unknown>;

export const u8 = <Row>(field: Keys<Row, number>): Reader<Row> => ({
  min: 1,
  read(row, _words, bytes, off) {
    (row as Fields)[field] = bytes[off]!;
    return true;
  },
});

export const u16 = <Row>(field: Keys<Row, number>): Reader<Row> => ({
  min: 2,
  read(row, words, _bytes, off) {
    (row as Fields)[field] = words[off >> 2]! & 0xffff;
    return true;
  },
});

/** 32 bits, unsigned, host order. */
export const u32 = <Row>(field: Keys<Row, number>): Reader<Row> => ({
  min: 4,
  read(row, words, _bytes, off) {
    (row as Fields)[field] = words[off >> 2]! >>> 0;
    return true;
  },
});

const utf8 = new TextDecoder();

/** A string, up to its NUL or its end. */
export const text = <Row>(field: Keys<Row, string>): Reader<Row> => ({
  min: 0,
  read(row, _words, bytes, off, len) {
    (row as Fields)[field] = textAt(bytes, off, len);
    return true;
  },
});

export function textAt(bytes: Uint8Array, off: number, len: number): string {
  let end = off;
  while (end < off + len && bytes[end] !== 0) end++;
  return utf8.decode(bytes.subarray(off, end));
}

/** An address of 4 or 16 bytes into four words, the rest zero; any other length is malformed. */
export const address = <Row>(field: Keys<Row, Int32Array>): Reader<Row> => ({
  min: 4,
  read(row, words, _bytes, off, len) {
    return copyAddress(row[field] as Int32Array, 0, words, off, len);
  },
});

export function copyAddress(
  to: Int32Array,
  at: number,
  words: Int32Array,
  off: number,
  len: number,
): boolean {
  const w = off >> 2;
  to[at] = words[w]!;
  if (len === 16) {
    to[at + 1] = words[w + 1]!;
    to[at + 2] = words[w + 2]!;
    to[at + 3] = words[w + 3]!;
    return true;
  }
  to[at + 1] = to[at + 2] = to[at + 3] = 0;
  return len === 4;
}

/** A link-layer address of up to 32 bytes (MAX_ADDR_LEN). */
export const lladdr = <Row extends { lladdr: Uint8Array; lladdrLen: number }>(): Reader<Row> => ({
  min: 0,
  read(row, _words, bytes, off, len) {
    return copyLladdr(row, bytes, off, len);
  },
});

export function copyLladdr(
  row: { lladdr: Uint8Array; lladdrLen: number },
  bytes: Uint8Array,
  off: number,
  len: number,
): boolean {
  if (len > 32) return false;
  for (let i = 0; i < len; i++) row.lladdr[i] = bytes[off + i]!;
  row.lladdrLen = len;
  return true;
}

export const nested = <Row>(table: Readers<Row>): Reader<Row> => ({
  min: 0,
  read: (row, words, bytes, off, len) => readAttributes(table, row, words, bytes, off, off + len),
});
