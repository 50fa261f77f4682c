// What links of a kind have of their own: IFLA_INFO_DATA of each kind that is known here (linux/if_link.h, if_tun.h).
// Kinds that are not known stay readable: their name, and their attributes as bytes.
import {
  IFLA_BR,
  IFLA_INFO,
  IFLA_MACVLAN,
  IFLA_TUN,
  IFLA_VLAN,
  IFLA_VRF,
  type Attributes,
  VETH_INFO,
  textAt,
} from "../attribute.ts";
import type { Requests } from "../message.ts";
import {
  all,
  as,
  be16,
  bool,
  type Codec,
  lladdr,
  named,
  nested,
  raw,
  said,
  Schema,
  text,
  u8,
  u16,
  u32,
  u64,
  type Unnamed,
  type Writing,
} from "./codec.ts";
import type { LinkSpec } from "./link.ts";

export interface VlanData extends Unnamed {
  /** 0 to 4094 */
  id?: number;
  /** ETH_P_*: 0x8100 (802.1Q) or 0x88a8 (802.1ad) */
  protocol?: number;
  /** struct ifla_vlan_flags: VLAN_FLAG_* and which of them to change */
  flags?: Uint8Array;
}

const MACVLAN_MODES = { 1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source" } as const;
export type MacvlanMode = (typeof MACVLAN_MODES)[keyof typeof MACVLAN_MODES];

export interface MacvlanData extends Unnamed {
  mode?: MacvlanMode | number;
  flags?: number;
  macaddrCount?: number;
  bcQueueLen?: number;
  bcQueueLenUsed?: number;
}

export interface VrfData extends Unnamed {
  table?: number;
}

/** The other end; only in requests: the kernel shows it as the link that it is. */
export interface VethData {
  peer?: Omit<LinkSpec, "info" | "up">;
}

export interface TunData extends Unnamed {
  owner?: number;
  group?: number;
  type?: "tun" | "tap" | number;
  pi?: boolean;
  vnetHdr?: boolean;
  persist?: boolean;
  multiQueue?: boolean;
  numQueues?: number;
  numDisabledQueues?: number;
}

const BRIDGE_U8 = "MCAST_ROUTER MCAST_IGMP_VERSION MCAST_MLD_VERSION" as const;
const BRIDGE_BOOL =
  "VLAN_FILTERING TOPOLOGY_CHANGE TOPOLOGY_CHANGE_DETECTED MCAST_SNOOPING MCAST_QUERY_USE_IFADDR MCAST_QUERIER NF_CALL_IPTABLES NF_CALL_IP6TABLES NF_CALL_ARPTABLES VLAN_STATS_ENABLED MCAST_STATS_ENABLED VLAN_STATS_PER_PORT" as const;
const BRIDGE_U16 = "PRIORITY GROUP_FWD_MASK ROOT_PORT VLAN_DEFAULT_PVID" as const;
const BRIDGE_U32 =
  "FORWARD_DELAY HELLO_TIME MAX_AGE AGEING_TIME STP_STATE ROOT_PATH_COST MCAST_HASH_ELASTICITY MCAST_HASH_MAX MCAST_LAST_MEMBER_CNT MCAST_STARTUP_QUERY_CNT" as const;
const BRIDGE_U64 =
  "HELLO_TIMER TCN_TIMER TOPOLOGY_CHANGE_TIMER GC_TIMER MCAST_LAST_MEMBER_INTVL MCAST_MEMBERSHIP_INTVL MCAST_QUERIER_INTVL MCAST_QUERY_INTVL MCAST_QUERY_RESPONSE_INTVL MCAST_STARTUP_QUERY_INTVL" as const;

type Camel<S extends string> = S extends `${infer Head}_${infer Rest}`
  ? `${Lowercase<Head>}${Capitalize<Camel<Rest>>}`
  : Lowercase<S>;
type Keys<S extends string> = S extends `${infer Name} ${infer Rest}` ? Camel<Name> | Keys<Rest> : Camel<S>;

type BridgeNumbers = Keys<typeof BRIDGE_U8 | typeof BRIDGE_U16 | typeof BRIDGE_U32 | typeof BRIDGE_U64>;
/** Times are in USER_HZ (1/100 s). Names are IFLA_BR_*'s. */
export type BridgeData = Unnamed & { [key in BridgeNumbers]?: number } & {
  [key in Keys<typeof BRIDGE_BOOL>]?: boolean;
} & {
  vlanProtocol?: number;
  /** struct ifla_bridge_id: priority (2 bytes), address (6) */
  rootId?: Uint8Array;
  bridgeId?: Uint8Array;
  groupAddr?: string;
};

interface Datas {
  vlan: VlanData;
  macvlan: MacvlanData;
  bridge: BridgeData;
  vrf: VrfData;
  veth: VethData;
  tun: TunData;
}
/** Kinds whose data are known here; ifb, dummy and others have none. */
export type KnownKind = keyof Datas;

/** IFLA_LINKINFO: what kind of link it is, and what its kind and its master's say. */
export type LinkInfo = (
  | { [K in KnownKind]: { kind: K; data?: Datas[K] } }[KnownKind]
  | { kind: string; data?: undefined; unknownData?: Unnamed }
) &
  Unnamed & {
    /** the kind of its master, and what that says of this port */
    slaveKind?: string;
    slaveData?: Uint8Array;
  };

const mode: Codec<MacvlanMode | number> = {
  read(words, _bytes, off, len) {
    if (len !== 4) return undefined;
    const number = words[off >> 2]! >>> 0;
    return MACVLAN_MODES[number as keyof typeof MACVLAN_MODES] ?? number;
  },
  write(m, type, value) {
    const number =
      typeof value === "number"
        ? value
        : Number(Object.entries(MACVLAN_MODES).find(([, name]) => name === value)?.[0] ?? Number.NaN);
    if (Number.isNaN(number)) throw new TypeError(`no macvlan mode "${value}"`);
    m.u32(type, number);
  },
};

/** A veth's peer: struct ifinfomsg, then a link's attributes. Set by link.ts, whose schema it is. */
export const peer: { codec: Codec<object> } = { codec: raw };

const data: { readonly [kind in KnownKind]: Schema } = {
  vlan: new Schema(IFLA_VLAN, { ID: u16, FLAGS: raw, PROTOCOL: be16 }),
  macvlan: new Schema(IFLA_MACVLAN, {
    MODE: mode,
    FLAGS: u16,
    MACADDR_COUNT: said("macaddrCount", u32),
    BC_QUEUE_LEN: u32,
    BC_QUEUE_LEN_USED: said("bcQueueLenUsed", u32),
  }),
  bridge: new Schema(IFLA_BR, {
    ...all(u8, BRIDGE_U8),
    ...all(bool, BRIDGE_BOOL),
    ...all(u16, BRIDGE_U16),
    ...all(u32, BRIDGE_U32),
    ...all(u64, BRIDGE_U64),
    VLAN_PROTOCOL: be16,
    ROOT_ID: raw,
    BRIDGE_ID: raw,
    GROUP_ADDR: lladdr,
  }),
  vrf: new Schema(IFLA_VRF, { TABLE: u32 }),
  veth: new Schema(VETH_INFO, {
    PEER: as("peer", {
      read: (words: Int32Array, bytes: Uint8Array, off: number, len: number) =>
        peer.codec.read(words, bytes, off, len),
      write: (m: Requests, type: number, value: object, to: Writing) => peer.codec.write(m, type, value, to),
    }),
  }),
  tun: new Schema(IFLA_TUN, {
    ...all(u32, "OWNER GROUP NUM_QUEUES NUM_DISABLED_QUEUES"),
    TYPE: named(u8, ["", "tun", "tap"]),
    ...all(bool, "PI VNET_HDR PERSIST MULTI_QUEUE"),
  }),
};
/** For the fuzzer: every schema of a kind's data. */
export const dataSchemas: Readonly<Record<string, Schema>> = data;
const nothing = new Schema({} as Attributes, {});

const rest = new Schema(IFLA_INFO, { SLAVE_KIND: text, SLAVE_DATA: raw }, ["kind", "data", "unknownData"]);

export const linkInfo: Codec<LinkInfo> = {
  read(words, bytes, off, len) {
    const info: Record<string, unknown> = {};
    const end = off + len;
    let kind = "";
    for (let at = off; end - at >= 4; ) {
      const head = words[at >> 2]!;
      const length = head & 0xffff;
      if (length < 4 || length > end - at) return undefined;
      const type = (head >>> 16) & 0x7fff;
      if (type === IFLA_INFO.KIND) info["kind"] = kind = textAt(bytes, at + 4, length - 4);
      else if (type === IFLA_INFO.DATA) {
        const schema = Object.hasOwn(data, kind) ? data[kind as KnownKind] : undefined;
        const into = {};
        if (!(schema ?? nothing).decode(words, bytes, at + 4, at + length, into)) return undefined;
        info[schema ? "data" : "unknownData"] = into;
      } else if (!rest.decode(words, bytes, at, at + length, info)) return undefined;
      at += (length + 3) & ~3;
    }
    return info as LinkInfo;
  },
  write(m, type, value, to) {
    const mark = m.nest(type, false);
    for (const [key, part] of Object.entries(value)) {
      if (part === undefined) continue;
      if (key === "kind") m.text(IFLA_INFO.KIND, part as string);
      else if (key === "data" || key === "unknownData") {
        const schema = Object.hasOwn(data, value.kind ?? "") ? data[value.kind as KnownKind] : undefined;
        if ((key === "data") !== (schema !== undefined))
          throw new TypeError(
            key === "data"
              ? `no data of kind "${value.kind}" is known here`
              : `data of a ${value.kind} is known`,
          );
        nested(schema ?? nothing, false).write(m, IFLA_INFO.DATA, part as object, to);
      } else rest.encode(m, { [key]: part }, to);
    }
    m.end(mark);
  },
};
