// Links as objects: struct ifinfomsg and IFLA_* (linux/rtnetlink.h, if_link.h).
//   ifinfomsg: u8 family | u8 | u16 type (ARPHRD_*) | i32 ifindex | u32 flags (IFF_*) | u32 change
import { IFLA, IFLA_XDP, type Attributes } from "../attribute.ts";
import { IFF_ALLMULTI, IFF_MULTICAST, IFF_NOARP, IFF_PROMISC, IFF_UP, RTM_NEWLINK } from "../constants.ts";
import type { Requests } from "../message.ts";
import {
  all,
  as,
  bool,
  type Codec,
  lladdr,
  link,
  list,
  named,
  nested,
  raw,
  record,
  said,
  Schema,
  s32,
  text,
  u8,
  u16,
  u32,
  type Unnamed,
  type Writing,
} from "./codec.ts";
import { Bits, familyName, familyNumber, type HexBit, type Kind } from "./kind.ts";
import { type LinkInfo, linkInfo, peer } from "./linkdata.ts";

const FLAGS = [
  "up",
  "broadcast",
  "debug",
  "loopback",
  "pointopoint",
  "notrailers",
  "running",
  "noarp",
  "promisc",
  "allmulti",
  "master",
  "slave",
  "multicast",
  "portsel",
  "automedia",
  "dynamic",
  "lowerUp",
  "dormant",
  "echo",
] as const;
export type LinkFlag = (typeof FLAGS)[number];
export const linkBits: Bits<LinkFlag> = new Bits(FLAGS);

const OPERSTATES = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"] as const;
export type Operstate = (typeof OPERSTATES)[number];

const STATISTICS =
  "rxPackets txPackets rxBytes txBytes rxErrors txErrors rxDropped txDropped multicast collisions rxLengthErrors rxOverErrors rxCrcErrors rxFrameErrors rxFifoErrors rxMissedErrors txAbortedErrors txCarrierErrors txFifoErrors txHeartbeatErrors txWindowErrors rxCompressed txCompressed rxNohandler rxOtherhostDropped";
type Names<S extends string> = S extends `${infer Name} ${infer Rest}` ? Name | Names<Rest> : S;
/** struct rtnl_link_stats64 */
export type LinkStatistics = { [name in Names<typeof STATISTICS>]: number };

export interface LinkXdp extends Unnamed {
  /** XDP_ATTACHED_*: 0 none, 1 native, 2 generic, 3 hardware, 4 several */
  attached?: number;
  progId?: number;
  drvProgId?: number;
  skbProgId?: number;
  hwProgId?: number;
  flags?: number;
  /** in requests: the program, and the one that must be there now */
  fd?: number;
  expectedFd?: number;
}

/** What links.add and links.change can set. */
export interface LinkSpec extends Unnamed {
  name?: string;
  up?: boolean;
  mtu?: number;
  /** "02:00:00:00:00:01" */
  address?: string;
  broadcast?: string;
  /** of a bridge, bond or VRF to be in: its index or name; 0 to leave it */
  master?: number | string;
  /** the lower device of a vlan or macvlan */
  link?: number | string;
  /** where `link` is, if not here */
  linkNetnsid?: number;
  /** a namespace to be made in, or to move to: an open fd, or the pid of a process in it */
  netnsFd?: number;
  netnsPid?: number;
  /** what its index shall be; in add alone */
  index?: number;
  group?: number;
  txQueueLength?: number;
  txQueues?: number;
  rxQueues?: number;
  alias?: string;
  protoDown?: boolean;
  /** other flags to switch on or off */
  promisc?: boolean;
  allmulti?: boolean;
  noarp?: boolean;
  multicast?: boolean;
  gsoMaxSize?: number;
  gsoMaxSegs?: number;
  groMaxSize?: number;
  xdp?: LinkXdp;
  /** its kind and what that has of its own; needed in add */
  info?: LinkInfo;
}

/** A link, as the kernel tells of it. */
export interface Link extends Omit<LinkSpec, "up" | "promisc" | "allmulti" | "noarp" | "multicast"> {
  index: number;
  name: string;
  /** ARPHRD_*: 1 Ethernet, 772 loopback */
  type: number;
  flags: readonly (LinkFlag | HexBit)[];
  /** "bridge" where the message is about a bridge's port; missing otherwise */
  family?: string;
  /** IFF_* that a notification says have changed */
  change?: number;
  mtu: number;
  link?: number;
  master?: number;
  operstate: Operstate | number;
  qdisc?: string;
  statistics?: LinkStatistics;
  carrier?: boolean;
  carrierChanges?: number;
  carrierUpCount?: number;
  carrierDownCount?: number;
  altNames?: readonly string[];
  permanentAddress?: string;
  promiscuity?: number;
  allmultiCount?: number;
  minMtu?: number;
  maxMtu?: number;
  linkMode?: number;
  parentDevName?: string;
  parentDevBusName?: string;
  /** of the namespace that it moved to, in the notification of its leaving */
  newNetnsid?: number;
  newIndex?: number;
  event?: number;
  netnsImmutable?: boolean;
  /** IFLA_AF_SPEC as it is: what IPv4 and IPv6 (or, for bridge ports, the bridge) have set for the link */
  afSpec?: Uint8Array;
}

const xdpSchema = new Schema(IFLA_XDP, {
  FD: s32,
  ATTACHED: u8,
  ...all(u32, "FLAGS PROG_ID DRV_PROG_ID SKB_PROG_ID HW_PROG_ID"),
  EXPECTED_FD: s32,
});
const xdpAsTold = nested(xdpSchema, false);
const xdp: Codec<LinkXdp> = {
  read: xdpAsTold.read as Codec<LinkXdp>["read"],
  write(m, type, value, to) {
    if (!to.request) return xdpAsTold.write(m, type, value, to);
    // What is attached is no request to attach it.
    if (value.fd === undefined) return;
    const { fd, expectedFd, flags } = value;
    xdpAsTold.write(m, type, { fd, flags, expectedFd }, to);
  },
};

export const linkSchema: Schema = new Schema(
  IFLA as Attributes,
  {
    ADDRESS: lladdr,
    BROADCAST: lladdr,
    IFNAME: as("name", text),
    MTU: u32,
    LINK: link,
    QDISC: said("qdisc", text),
    STATS: said("stats32", record(4, STATISTICS)),
    STATS64: said("statistics", record(8, STATISTICS)),
    MASTER: link,
    TXQLEN: as("txQueueLength", u32),
    MAP: said("map", raw),
    WEIGHT: u32,
    OPERSTATE: said("operstate", named(u8, OPERSTATES)),
    LINKMODE: said("linkMode", u8),
    LINKINFO: as("info", linkInfo),
    NET_NS_PID: as("netnsPid", u32),
    NET_NS_FD: as("netnsFd", u32),
    IFALIAS: as("alias", text),
    NUM_VF: said("numVf", u32),
    GROUP: u32,
    EXT_MASK: u32,
    PROMISCUITY: said("promiscuity", u32),
    NUM_TX_QUEUES: as("txQueues", u32),
    NUM_RX_QUEUES: as("rxQueues", u32),
    CARRIER: said("carrier", bool),
    CARRIER_CHANGES: said("carrierChanges", u32),
    LINK_NETNSID: as("linkNetnsid", s32),
    PHYS_PORT_NAME: said("physPortName", text),
    PROTO_DOWN: bool,
    ...all(u32, "GSO_MAX_SEGS GSO_MAX_SIZE GRO_MAX_SIZE GSO_IPV4_MAX_SIZE GRO_IPV4_MAX_SIZE"),
    XDP: as("xdp", xdp),
    EVENT: said("event", u32),
    NEW_NETNSID: said("newNetnsid", s32),
    TARGET_NETNSID: s32,
    NEW_IFINDEX: said("newIndex", u32),
    CARRIER_UP_COUNT: said("carrierUpCount", u32),
    CARRIER_DOWN_COUNT: said("carrierDownCount", u32),
    MIN_MTU: said("minMtu", u32),
    MAX_MTU: said("maxMtu", u32),
    PROP_LIST: said("altNames", list(text, IFLA.ALT_IFNAME)),
    PERM_ADDRESS: said("permanentAddress", lladdr),
    PARENT_DEV_NAME: said("parentDevName", text),
    PARENT_DEV_BUS_NAME: said("parentDevBusName", text),
    TSO_MAX_SIZE: said("tsoMaxSize", u32),
    TSO_MAX_SEGS: said("tsoMaxSegs", u32),
    ALLMULTI: said("allmultiCount", u32),
    MAX_PACING_OFFLOAD_HORIZON: said("maxPacingOffloadHorizon", u32),
    NETNS_IMMUTABLE: said("netnsImmutable", bool),
    AF_SPEC: said("afSpec", raw),
    HEADROOM: said("headroom", u16),
    TAILROOM: said("tailroom", u16),
  },
  ["index", "type", "flags", "family", "change", "up", "promisc", "allmulti", "noarp", "multicast"],
);

const SWITCHES = {
  up: IFF_UP,
  noarp: IFF_NOARP,
  promisc: IFF_PROMISC,
  allmulti: IFF_ALLMULTI,
  multicast: IFF_MULTICAST,
};

function header(m: Requests, off: number, given: object, to: Writing): void {
  const object = given as Partial<Link> & Pick<LinkSpec, keyof typeof SWITCHES>;
  const w = off >> 2;
  let flags = 0;
  let change = 0;
  if (to.request)
    for (const [name, bit] of Object.entries(SWITCHES)) {
      const on = object[name as keyof typeof SWITCHES];
      if (on === undefined) continue;
      change |= bit;
      if (on) flags |= bit;
    }
  else {
    flags = linkBits.write(object.flags);
    change = object.change ?? 0;
  }
  m.words[w] = familyNumber(object.family) | ((to.request ? 0 : (object.type ?? 0)) << 16);
  m.words[w + 1] = object.index ?? 0;
  m.words[w + 2] = flags;
  m.words[w + 3] = change;
}

export const links: Kind<Link> = {
  name: "link",
  type: RTM_NEWLINK,
  headerBytes: 16,
  schema: linkSchema,
  decode(words, bytes, off, len) {
    if (len < 32) return undefined;
    const w = off >> 2;
    const into: Partial<Link> = {
      index: words[w + 5]!,
      type: words[w + 4]! >>> 16,
      flags: linkBits.read(words[w + 6]!),
    };
    if (words[w + 4]! & 0xff) into.family = familyName(words[w + 4]! & 0xff);
    if (words[w + 7] !== 0) into.change = words[w + 7]! >>> 0;
    return linkSchema.decode(words, bytes, off + 32, off + len, into) ? (into as Link) : undefined;
  },
  encode(m, type, flags, object, to) {
    header(m, m.begin(type, flags, 16), object, to);
    linkSchema.encode(m, object, to);
  },
};

peer.codec = {
  read(words, bytes, off, len) {
    if (len < 16) return undefined;
    const into: Partial<Link> = { index: words[(off >> 2) + 1]! };
    return linkSchema.decode(words, bytes, off + 16, off + len, into) ? into : undefined;
  },
  write(m, type, value, to) {
    const mark = m.nest(type, false);
    header(m, m.room(16), value, to);
    linkSchema.encode(m, value, to);
    m.end(mark);
  },
};
