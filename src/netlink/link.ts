// Links, received: struct ifinfomsg and IFLA_* (linux/rtnetlink.h, if_link.h). Requests are in linkset.ts.
//   ifinfomsg: u8 family | u8 | u16 type (ARPHRD_*) | i32 ifindex | u32 flags (IFF_*) | u32 change
import type { LinkRow } from "../netbase/rows.ts";
import {
  IFLA,
  IFLA_INFO,
  IFLA_VLAN,
  lladdr,
  nested,
  type Readers,
  readAttributes,
  readers,
  text,
  u8,
  u16,
  u32,
} from "./attribute.ts";

const vlan: Readers<LinkRow> = readers<LinkRow, keyof typeof IFLA_VLAN>(IFLA_VLAN, { ID: u16("vlan") });

export const linkReaders: Readers<LinkRow> = readers<LinkRow, keyof typeof IFLA>(IFLA, {
  ADDRESS: lladdr(),
  IFNAME: text("name"),
  MTU: u32("mtu"),
  LINK: u32("link"),
  // Only there if the lower device is in another namespace, where its index means nothing here. Follows IFLA_LINK.
  LINK_NETNSID: {
    min: 4,
    read(row) {
      row.link = 0;
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
  return readAttributes(linkReaders, row, words, bytes, off + 32, off + len);
}
