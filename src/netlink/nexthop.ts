// Next-hop objects: struct nhmsg and NHA_* (linux/nexthop.h).
//   nhmsg: u8 family | u8 scope | u8 protocol | u8 | u32 flags (RTNH_F_*)
//   NHA_GROUP: structs nexthop_grp of 8 bytes: u32 id | u8 weight - 1 | u8 weight_high | u16 (6.12 and later)
import type { NexthopRow } from "../netbase/rows.ts";
import { NHA, type Readers, readAttributes, readers, u16, u32 } from "./attribute.ts";
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
  if (!row.group) row.legs.flags[0] = row.flags & 0xff;
  return true;
}
