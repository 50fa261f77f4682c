// Addresses: struct ifaddrmsg and IFA_* (linux/if_addr.h).
//   ifaddrmsg: u8 family | u8 prefixlen | u8 flags | u8 scope | u32 ifindex
// IFA_ADDRESS is the prefix's address, or on a point-to-point link the far end; IFA_LOCAL is ours. IPv6 gives
// IFA_LOCAL only where they differ. IFA_FLAGS has all 32 bits of the flags, the header the low 8.
import type { AddrRow } from "../netbase/rows.ts";
import { address, IFA, type Readers, readAttributes, readers, u32 } from "./attribute.ts";

export const addrReaders: Readers<AddrRow> = readers<AddrRow, keyof typeof IFA>(IFA, {
  ADDRESS: address("peer"),
  LOCAL: address("local"),
  FLAGS: u32("flags"),
});

/** Reads the RTM_NEWADDR or RTM_DELADDR of `len` bytes at byte `off` into `row`; false if a length in it is wrong. */
export function decodeAddr(
  words: Int32Array,
  bytes: Uint8Array,
  off: number,
  len: number,
  row: AddrRow,
): boolean {
  if (len < 24) return false;
  row.family = bytes[off + 16]!;
  row.prefixLen = bytes[off + 17]!;
  row.flags = bytes[off + 18]!;
  row.scope = bytes[off + 19]!;
  row.ifindex = words[(off >> 2) + 5]!;
  const { local, peer } = row;
  local.fill(0);
  peer.fill(0);
  if (!readAttributes(addrReaders, row, words, bytes, off + 24, off + len)) return false;
  if ((local[0]! | local[1]! | local[2]! | local[3]!) === 0) local.set(peer);
  return true;
}
