// Addresses: struct ifaddrmsg and IFA_* (linux/if_addr.h).
//   ifaddrmsg: u8 family | u8 prefixlen | u8 flags | u8 scope | u32 ifindex
// IFA_ADDRESS is the prefix's address, or on a point-to-point link the far end; IFA_LOCAL is ours. IPv6 gives
// IFA_LOCAL only where they differ. IFA_FLAGS has all 32 bits of the flags, the header the low 8.
import type { AddrRow } from "../netbase/rows.ts";
import { address, IFA, type Readers, readAttributes, readers, u32 } from "./attribute.ts";
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR } from "./constants.ts";
import type { Requests } from "./message.ts";
import { type Address, type Prefix, toAddress, toPrefix } from "./prefix.ts";

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

export interface AddrSpec {
  ifindex: number;
  /** "10.0.0.1/24": ours, and how much of it is the prefix */
  local: Prefix;
  /** the far end of a point-to-point link */
  peer?: Address;
  broadcast?: Address;
  /** IFA_F_* */
  flags?: number;
  /** RT_SCOPE_* */
  scope?: number;
  /** priority of the prefix route */
  priority?: number;
}

function write(m: Requests, type: number, messageFlags: number, spec: AddrSpec): void {
  const { family, words, prefixLen } = toPrefix(spec.local);
  const count = family === 2 ? 1 : 4;
  const off = m.begin(type, messageFlags, 8);
  m.bytes[off] = family;
  m.bytes[off + 1] = prefixLen;
  m.bytes[off + 3] = spec.scope ?? 0;
  m.words[(off >> 2) + 1] = spec.ifindex;
  m.address(IFA.LOCAL, words, count);
  m.address(IFA.ADDRESS, spec.peer === undefined ? words : toAddress(spec.peer).words, count);
  if (spec.broadcast !== undefined) m.address(IFA.BROADCAST, toAddress(spec.broadcast).words, count);
  if (spec.flags !== undefined) m.u32(IFA.FLAGS, spec.flags);
  if (spec.priority !== undefined) m.u32(IFA.RT_PRIORITY, spec.priority);
}

export const newAddr = (m: Requests, spec: AddrSpec, flags = NLM_F_CREATE | NLM_F_EXCL): void =>
  write(m, RTM_NEWADDR, flags, spec);

export const delAddr = (m: Requests, spec: AddrSpec): void => write(m, RTM_DELADDR, 0, spec);

/** `family` 0 for both; `ifindex` 0 for all. */
export function dumpAddrs(m: Requests, family = 0, ifindex = 0): void {
  const off = m.begin(RTM_GETADDR, NLM_F_DUMP, 8);
  m.bytes[off] = family;
  m.words[(off >> 2) + 1] = ifindex;
}
