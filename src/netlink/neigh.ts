// Neighbours: struct ndmsg and NDA_* (linux/neighbour.h). First what the kernel says, then requests.
//   ndmsg: u8 family | u8 | u16 | i32 ifindex | u16 state (NUD_*) | u8 flags (NTF_*) | u8 type (RTN_*)
// Dumps and storms bring hundreds of thousands, so the decoder is written out, as route.ts has it.
import type { NeighRow } from "../netbase/rows.ts";
import { parseLladdr } from "../wire/address.ts";
import { copyAddress, copyLladdr, NDA, NLA_TYPE_MASK } from "./attribute.ts";
import {
  AF_INET,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_REPLACE,
  NTF_EXT_SHIFT,
  NTF_PROXY,
  NTF_USE,
  NUD_NONE,
  NUD_PERMANENT,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
} from "./constants.ts";
import type { Requests } from "./message.ts";
import { type Address, toAddress } from "./prefix.ts";

/**
 * Reads the RTM_NEWNEIGH or RTM_DELNEIGH of `len` bytes at byte `off` into `row`; false if a length in it is wrong.
 * `row.flags` has NDA_FLAGS_EXT shifted left by NTF_EXT_SHIFT above NTF_*. Bridge forwarding entries come in the
 * same messages with family AF_BRIDGE; their `dst` may be missing (zero).
 */
export function decodeNeigh(
  words: Int32Array,
  bytes: Uint8Array,
  off: number,
  len: number,
  row: NeighRow,
): boolean {
  if (len < 28) return false;
  let w = off >> 2;
  const third = words[w + 6]!;
  row.family = words[w + 4]! & 0xff;
  row.ifindex = words[w + 5]!;
  row.state = third & 0xffff;
  row.flags = (third >>> 16) & 0xff;
  row.type = third >>> 24;
  row.lladdrLen = 0;
  const { dst } = row;
  dst[0] = dst[1] = dst[2] = dst[3] = 0;
  const end = off + len;
  w += 7;
  for (let rest = end - w * 4; rest >= 4; rest = end - w * 4) {
    const head = words[w]!;
    const length = head & 0xffff;
    if (length < 4 || length > rest) return false;
    switch ((head >>> 16) & NLA_TYPE_MASK) {
      case 1: // NDA_DST
        if (length === 8) dst[0] = words[w + 1]!;
        else if (!copyAddress(dst, 0, words, (w + 1) * 4, length - 4)) return false;
        break;
      case 2: // NDA_LLADDR
        if (!copyLladdr(row, bytes, (w + 1) * 4, length - 4)) return false;
        break;
      case 15: // NDA_FLAGS_EXT
        if (length < 8) return false;
        row.flags |= words[w + 1]! << NTF_EXT_SHIFT;
        break;
    }
    w += (length + 3) >> 2;
  }
  return true;
}

export interface NeighSpec {
  ifindex: number;
  dst: Address;
  /** "02:00:00:00:00:01", or bytes */
  lladdr?: string | ArrayLike<number>;
  /** NUD_*; PERMANENT if missing */
  state?: number;
  /** NTF_*, with NTF_EXT_* shifted left by NTF_EXT_SHIFT */
  flags?: number;
}

function write(m: Requests, type: number, messageFlags: number, spec: NeighSpec): void {
  const { family, words } = toAddress(spec.dst);
  const flags = spec.flags ?? 0;
  const off = m.begin(type, messageFlags, 12);
  m.bytes[off] = family;
  m.words[(off >> 2) + 1] = spec.ifindex;
  m.words[(off >> 2) + 2] = (spec.state ?? NUD_PERMANENT) | ((flags & 0xff) << 16);
  m.address(NDA.DST, words, family === AF_INET ? 1 : 4);
  if (spec.lladdr !== undefined) {
    const bytes = typeof spec.lladdr === "string" ? parseLladdr(spec.lladdr) : spec.lladdr;
    if (!bytes) throw new TypeError(`not a link-layer address: ${spec.lladdr}`);
    m.raw(NDA.LLADDR, bytes);
  }
  if (flags >>> NTF_EXT_SHIFT) m.u32(NDA.FLAGS_EXT, flags >>> NTF_EXT_SHIFT);
}

export const newNeigh = (m: Requests, spec: NeighSpec, flags = NLM_F_CREATE | NLM_F_REPLACE): void =>
  write(m, RTM_NEWNEIGH, flags, spec);

export const delNeigh = (m: Requests, spec: NeighSpec): void => write(m, RTM_DELNEIGH, 0, spec);

/**
 * As `ip neigh add DST dev IF use`: a missing entry is made and asked for, a stale one is confirmed, as if the
 * kernel itself had a packet for it. `words` from `at`: one for AF_INET, four for AF_INET6. Allocates nothing.
 */
export function useNeigh(
  m: Requests,
  ifindex: number,
  family: number,
  words: ArrayLike<number>,
  at = 0,
): void {
  const count = family === AF_INET ? 1 : 4;
  const off = m.begin(RTM_NEWNEIGH, NLM_F_CREATE, 12 + 4 + count * 4);
  const w = off >> 2;
  const { words: out } = m;
  out[w] = family;
  out[w + 1] = ifindex;
  out[w + 2] = NUD_NONE | (NTF_USE << 16);
  out[w + 3] = (4 + count * 4) | (NDA.DST << 16);
  for (let i = 0; i < count; i++) out[w + 4 + i] = words[at + i]!;
}

/** `family` 0 for both; `ifindex` 0 for all. Proxy entries have a dump of their own. */
export function dumpNeighs(m: Requests, family = 0, ifindex = 0, proxy = false): void {
  const off = m.begin(RTM_GETNEIGH, NLM_F_DUMP, 12);
  m.bytes[off] = family;
  if (proxy) m.words[(off >> 2) + 2] = NTF_PROXY << 16;
  // Strict checking refuses ndm_ifindex: the filter is the attribute.
  if (ifindex !== 0) m.u32(NDA.IFINDEX, ifindex);
}
