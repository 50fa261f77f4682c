// Next-hop objects: struct nhmsg and NHA_* (linux/nexthop.h).
//   nhmsg: u8 family | u8 scope | u8 protocol | u8 | u32 flags (RTNH_F_*)
//   NHA_GROUP: structs nexthop_grp of 8 bytes: u32 id | u8 weight - 1 | u8 weight_high | u16 (6.12 and later)
import { LEG_ENCAP, type NexthopRow } from "../netbase/rows.ts";
import { NHA, NHA_RES_GROUP, type Readers, readAttributes, readers, u16, u32 } from "./attribute.ts";
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  RTM_DELNEXTHOP,
  RTM_GETNEXTHOP,
  RTM_NEWNEXTHOP,
  RTNH_F_ONLINK,
  RTPROT_STATIC,
} from "./constants.ts";
import type { Requests } from "./message.ts";
import { type Address, toAddress } from "./prefix.ts";
import { setGateway } from "./route.ts";

export const nexthopReaders: Readers<NexthopRow> = readers<NexthopRow, keyof typeof NHA>(NHA, {
  ID: u32("id"),
  GROUP: {
    min: 8,
    read(row, words, bytes, off, len) {
      row.group = 1;
      row.legs.clear();
      for (let at = off; at + 8 <= off + len; at += 8) {
        const leg = row.legs.add();
        row.legs.nhid[leg] = words[at >> 2]!;
        row.legs.weight[leg] = (bytes[at + 4]! | (bytes[at + 5]! << 8)) + 1;
      }
      return len % 8 === 0;
    },
  },
  GROUP_TYPE: u16("groupType"),
  BLACKHOLE: {
    min: 0,
    read(row) {
      row.blackhole = 1;
      return true;
    },
  },
  OIF: {
    min: 4,
    read(row, words, _bytes, off) {
      row.legs.ifindex[0] = words[off >> 2]!;
      return true;
    },
  },
  GATEWAY: {
    min: 4,
    read: (row, words, _bytes, off, len) => setGateway(row.legs, 0, words, off, len),
  },
  ENCAP_TYPE: {
    min: 2,
    read(row) {
      row.legs.flags[0] = LEG_ENCAP;
      return true;
    },
  },
});

/** Reads the RTM_NEWNEXTHOP or RTM_DELNEXTHOP of `len` bytes at byte `off` into `row`; false if a length in it is wrong. */
export function decodeNexthop(
  words: Int32Array,
  bytes: Uint8Array,
  off: number,
  len: number,
  row: NexthopRow,
): boolean {
  if (len < 24) return false;
  row.family = bytes[off + 16]!;
  row.scope = bytes[off + 17]!;
  row.protocol = bytes[off + 18]!;
  row.flags = words[(off >> 2) + 5]!;
  row.id = row.blackhole = row.group = row.groupType = 0;
  row.legs.clear();
  row.legs.add();
  if (!readAttributes(nexthopReaders, row, words, bytes, off + 24, off + len)) return false;
  if (!row.group) row.legs.flags[0] = row.legs.flags[0]! | (row.flags & 0xff);
  return true;
}

export interface NexthopSpec {
  /** 0 or missing: the kernel chooses */
  id?: number;
  /** AF_INET or AF_INET6; the gateway's if missing, and AF_INET without one */
  family?: number;
  oif?: number;
  via?: Address;
  onlink?: boolean;
  blackhole?: boolean;
  /** a group of others, with nothing else but a type; weights 1 to 65536 (256 before Linux 6.12) */
  group?: readonly { id: number; weight?: number }[];
  /** makes the group resilient */
  buckets?: number;
  protocol?: number;
}

/** RTM_NEWNEXTHOP; with NLM_F_CREATE | NLM_F_REPLACE it replaces. */
export function newNexthop(m: Requests, spec: NexthopSpec, flags = NLM_F_CREATE | NLM_F_EXCL): void {
  const gateway = spec.via === undefined ? undefined : toAddress(spec.via);
  const off = m.begin(RTM_NEWNEXTHOP, flags, 8);
  m.bytes[off] = spec.group ? AF_UNSPEC : (spec.family ?? gateway?.family ?? AF_INET);
  m.bytes[off + 2] = spec.protocol ?? RTPROT_STATIC;
  m.words[(off >> 2) + 1] = spec.onlink ? RTNH_F_ONLINK : 0;
  if (spec.id) m.u32(NHA.ID, spec.id);
  if (spec.group) {
    m.raw(
      NHA.GROUP,
      spec.group.flatMap(({ id, weight = 1 }) => [
        id & 255,
        (id >>> 8) & 255,
        (id >>> 16) & 255,
        id >>> 24,
        (weight - 1) & 255,
        (weight - 1) >>> 8,
        0,
        0,
      ]),
    );
    if (spec.buckets !== undefined) {
      m.u16(NHA.GROUP_TYPE, 1);
      const mark = m.nest(NHA.RES_GROUP);
      m.u16(NHA_RES_GROUP.BUCKETS, spec.buckets);
      m.end(mark);
    }
  }
  if (spec.blackhole) m.flag(NHA.BLACKHOLE);
  if (spec.oif !== undefined) m.u32(NHA.OIF, spec.oif);
  if (gateway) m.address(NHA.GATEWAY, gateway.words, gateway.family === AF_INET6 ? 4 : 1);
}

/** Deletes it, and with it every route that uses it. */
export function delNexthop(m: Requests, id: number): void {
  m.begin(RTM_DELNEXTHOP, 0, 8);
  m.u32(NHA.ID, id);
}

/** `oif` 0 for all. */
export function dumpNexthops(m: Requests, oif = 0): void {
  m.begin(RTM_GETNEXTHOP, NLM_F_DUMP, 8);
  if (oif !== 0) m.u32(NHA.OIF, oif);
}
