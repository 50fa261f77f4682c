// Links: struct ifinfomsg and IFLA_* (linux/rtnetlink.h, if_link.h). First what the kernel says, then requests.
//   ifinfomsg: u8 family | u8 | u16 type (ARPHRD_*) | i32 ifindex | u32 flags (IFF_*) | u32 change
import type { LinkRow } from "../netbase/rows.ts";
import { parseLladdr } from "../wire/address.ts";
import {
  IFLA,
  IFLA_INFO,
  IFLA_MACVLAN,
  IFLA_VLAN,
  IFLA_VRF,
  lladdr,
  nested,
  type Readers,
  readAttributes,
  readers,
  text,
  u8,
  u16,
  u32,
  VETH_INFO,
} from "./attribute.ts";
import {
  IFF_UP,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  RTM_DELLINK,
  RTM_GETLINK,
  RTM_NEWLINK,
} from "./constants.ts";
import type { Requests } from "./message.ts";

const ELSEWHERE = -1;

const vlan: Readers<LinkRow> = readers<LinkRow, keyof typeof IFLA_VLAN>(IFLA_VLAN, { ID: u16("vlan") });

export const linkReaders: Readers<LinkRow> = readers<LinkRow, keyof typeof IFLA>(IFLA, {
  ADDRESS: lladdr(),
  IFNAME: text("name"),
  MTU: u32("mtu"),
  // IFLA_LINK_NETNSID is there only if the lower device is in another namespace, where its index means nothing here.
  LINK: {
    min: 4,
    read(row, words, _bytes, off) {
      if (row.link !== ELSEWHERE) row.link = words[off >> 2]!;
      return true;
    },
  },
  LINK_NETNSID: {
    min: 4,
    read(row) {
      row.link = ELSEWHERE;
      return true;
    },
  },
  MASTER: u32("master"),
  OPERSTATE: u8("operstate"),
  CARRIER: u8("carrier"),
  LINKINFO: nested(
    readers<LinkRow, keyof typeof IFLA_INFO>(IFLA_INFO, {
      KIND: text("kind"),
      // What is in it depends on the kind, which the kernel writes first.
      DATA: {
        min: 0,
        read: (row, words, bytes, off, len) =>
          row.kind !== "vlan" || readAttributes(vlan, row, words, bytes, off, off + len),
      },
    }),
  ),
});

/**
 * Reads the RTM_NEWLINK or RTM_DELLINK of `len` bytes at byte `off` into `row`; false if a length in it is wrong.
 * A message of family AF_BRIDGE (byte `off + 16`) is about a bridge port, not about the link: a DELLINK of that
 * family says "left the bridge". Look before you decode.
 */
export function decodeLink(
  words: Int32Array,
  bytes: Uint8Array,
  off: number,
  len: number,
  row: LinkRow,
): boolean {
  if (len < 32) return false;
  const w = off >> 2;
  row.type = words[w + 4]! >>> 16;
  row.ifindex = words[w + 5]!;
  row.flags = words[w + 6]!;
  row.mtu = row.operstate = row.master = row.link = row.lladdrLen = 0;
  row.carrier = 1;
  row.vlan = -1;
  row.name = row.kind = "";
  const whole = readAttributes(linkReaders, row, words, bytes, off + 32, off + len);
  if (row.link === ELSEWHERE) row.link = 0;
  return whole;
}

/** A link by index, or by name where the index is missing or 0. */
export interface LinkKey {
  ifindex?: number;
  name?: string;
}

export interface LinkSpec extends LinkKey {
  /** A name to change to; the link must be down, or its driver able to. */
  rename?: string;
  up?: boolean;
  mtu?: number;
  /** "02:00:00:00:00:01" */
  lladdr?: string;
  /** ifindex of the bridge, bond or VRF to be in; 0 to leave it */
  master?: number;
  /** ifindex of the lower device (vlan, macvlan) */
  link?: number;
  /** fd of the namespace to be made in, or to move to */
  netnsFd?: number;
  txQueues?: number;
  rxQueues?: number;
}

/** What newLink makes. */
export interface NewLinkSpec extends LinkSpec {
  /** "veth", "bridge", "vlan", "macvlan", "ifb", "vrf", "dummy"... */
  kind: string;
  /** the other end of a veth pair; the kernel refuses to bring it up in the same request */
  peer?: Omit<LinkSpec, "up">;
  /** 802.1Q id of a vlan */
  vlan?: number;
  /** MACVLAN_MODE_*: 1 private, 2 vepa, 4 bridge, 8 passthru */
  macvlanMode?: number;
  /** routing table of a vrf */
  vrfTable?: number;
}

function header(m: Requests, off: number, ifindex: number, up: boolean | undefined): void {
  const w = off >> 2;
  m.words[w + 1] = ifindex;
  if (up !== undefined) {
    m.words[w + 2] = up ? IFF_UP : 0;
    m.words[w + 3] = IFF_UP;
  }
}

function attributes(m: Requests, spec: LinkSpec): void {
  const name = spec.rename ?? (spec.ifindex ? undefined : spec.name);
  if (name !== undefined) m.text(IFLA.IFNAME, name);
  if (spec.mtu !== undefined) m.u32(IFLA.MTU, spec.mtu);
  if (spec.lladdr !== undefined) {
    const bytes = parseLladdr(spec.lladdr);
    if (!bytes) throw new TypeError(`not a link-layer address: ${spec.lladdr}`);
    m.raw(IFLA.ADDRESS, bytes);
  }
  if (spec.master !== undefined) m.u32(IFLA.MASTER, spec.master);
  if (spec.link !== undefined) m.u32(IFLA.LINK, spec.link);
  if (spec.netnsFd !== undefined) m.u32(IFLA.NET_NS_FD, spec.netnsFd);
  if (spec.txQueues !== undefined) m.u32(IFLA.NUM_TX_QUEUES, spec.txQueues);
  if (spec.rxQueues !== undefined) m.u32(IFLA.NUM_RX_QUEUES, spec.rxQueues);
}

/** RTM_NEWLINK. `ifindex`, if given, is what the link's shall be. */
export function newLink(m: Requests, spec: NewLinkSpec, flags = NLM_F_CREATE | NLM_F_EXCL): void {
  header(m, m.begin(RTM_NEWLINK, flags, 16), spec.ifindex ?? 0, spec.up);
  attributes(m, { ...spec, rename: spec.rename ?? spec.name });
  const info = m.nest(IFLA.LINKINFO);
  m.text(IFLA_INFO.KIND, spec.kind);
  const data = m.nest(IFLA_INFO.DATA);
  if (spec.peer) {
    const peer = m.nest(VETH_INFO.PEER);
    header(m, m.room(16), spec.peer.ifindex ?? 0, undefined);
    attributes(m, { ...spec.peer, rename: spec.peer.name });
    m.end(peer);
  }
  if (spec.vlan !== undefined) m.u16(IFLA_VLAN.ID, spec.vlan);
  if (spec.macvlanMode !== undefined) m.u32(IFLA_MACVLAN.MODE, spec.macvlanMode);
  if (spec.vrfTable !== undefined) m.u32(IFLA_VRF.TABLE, spec.vrfTable);
  m.end(data);
  m.end(info);
}

/** RTM_NEWLINK without NLM_F_CREATE: changes what is given of the link that `ifindex` or else `name` names. */
export function setLink(m: Requests, spec: LinkSpec): void {
  header(m, m.begin(RTM_NEWLINK, 0, 16), spec.ifindex ?? 0, spec.up);
  if (spec.rename !== undefined && !spec.ifindex) throw new TypeError("a rename needs the ifindex");
  attributes(m, spec);
}

function keyed(m: Requests, type: number, key: LinkKey): void {
  header(m, m.begin(type, 0, 16), key.ifindex ?? 0, undefined);
  if (!key.ifindex && key.name !== undefined) m.text(IFLA.IFNAME, key.name);
}

export const delLink = (m: Requests, key: LinkKey): void => keyed(m, RTM_DELLINK, key);
export const getLink = (m: Requests, key: LinkKey): void => keyed(m, RTM_GETLINK, key);

export function dumpLinks(m: Requests): void {
  m.begin(RTM_GETLINK, NLM_F_DUMP, 16);
}
