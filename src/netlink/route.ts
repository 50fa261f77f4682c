// Routes, as the kernel gives them: struct rtmsg and RTA_* (linux/rtnetlink.h). Requests are in routeset.ts.
//   rtmsg: u8 family | u8 dst_len | u8 src_len | u8 tos | u8 table | u8 protocol | u8 scope | u8 type | u32 flags
// A dump may have millions, so this decoder is written out: 32-bit words, literal cases (numbers of attribute.ts;
// test/netlink/headers.test.ts holds these too), no call for an attribute that most routes have.
import { LEG_ENCAP, type Legs, type RouteRow } from "../netbase/rows.ts";
import { copyAddress, NLA_TYPE_MASK } from "./attribute.ts";
import { AF_INET, AF_INET6 } from "./constants.ts";

const RTNH_F_MASK = 0xff;

/** Reads the RTM_NEWROUTE or RTM_DELROUTE of `len` bytes at byte `off` into `row`; false if a length in it is wrong. */
export function decodeRoute(
  words: Int32Array,
  bytes: Uint8Array,
  off: number,
  len: number,
  row: RouteRow,
): boolean {
  if (len < 28) return false;
  let w = off >> 2;
  const first = words[w + 4]!;
  const second = words[w + 5]!;
  const flags = words[w + 6]!;
  row.family = first & 0xff;
  row.dstLen = (first >>> 8) & 0xff;
  row.srcLen = (first >>> 16) & 0xff;
  row.tos = first >>> 24;
  row.table = second & 0xff;
  row.protocol = (second >>> 8) & 0xff;
  row.scope = (second >>> 16) & 0xff;
  row.type = second >>> 24;
  row.flags = flags;
  row.priority = row.nhid = row.mtu = row.pref = row.hasPrefsrc = row.expires = 0;
  const { dst, src, prefsrc, legs } = row;
  dst[0] = dst[1] = dst[2] = dst[3] = 0;
  src[0] = src[1] = src[2] = src[3] = 0;
  prefsrc[0] = prefsrc[1] = prefsrc[2] = prefsrc[3] = 0;
  legs.n = 0;

  let oif = 0;
  let gateway = 0; // word index of the gateway's address, 0 if none
  let gatewayLen = 0;
  let via = 0; // word index of RTA_VIA's payload
  let viaLen = 0;
  let multipath = false;
  let encap = 0;
  const end = off + len;
  w += 7;
  // The kernel's own order, with IPv4's lengths, is what nearly every message of a large dump has: read as it comes,
  // without the loop. Whatever is left goes through that. Heads are length 8 | type << 16.
  const last = (end >> 2) - 2;
  if (w <= last && words[w] === 0x000f0008 /* RTA_TABLE */) {
    row.table = words[w + 1]! >>> 0;
    w += 2;
  }
  if (w <= last && words[w] === 0x00010008 /* RTA_DST */) {
    dst[0] = words[w + 1]!;
    w += 2;
  }
  if (w <= last && words[w] === 0x00060008 /* RTA_PRIORITY */) {
    row.priority = words[w + 1]! >>> 0;
    w += 2;
  }
  if (w <= last && words[w] === 0x00050008 /* RTA_GATEWAY */) {
    gateway = w + 1;
    gatewayLen = 4;
    w += 2;
  }
  if (w <= last && words[w] === 0x00040008 /* RTA_OIF */) {
    oif = words[w + 1]!;
    w += 2;
  }
  for (let rest = end - w * 4; rest >= 4; rest = end - w * 4) {
    const head = words[w]!;
    const length = head & 0xffff;
    if (length < 4 || length > rest) return false;
    const payload = length - 4;
    switch ((head >>> 16) & NLA_TYPE_MASK) {
      case 1: // RTA_DST
        if (payload === 4) dst[0] = words[w + 1]!;
        else if (!copyAddress(dst, 0, words, (w + 1) * 4, payload)) return false;
        break;
      case 2: // RTA_SRC
        if (!copyAddress(src, 0, words, (w + 1) * 4, payload)) return false;
        break;
      case 4: // RTA_OIF
        if (payload < 4) return false;
        oif = words[w + 1]!;
        break;
      case 5: // RTA_GATEWAY
        gateway = w + 1;
        gatewayLen = payload;
        break;
      case 6: // RTA_PRIORITY
        if (payload < 4) return false;
        row.priority = words[w + 1]! >>> 0;
        break;
      case 7: // RTA_PREFSRC
        if (!copyAddress(prefsrc, 0, words, (w + 1) * 4, payload)) return false;
        row.hasPrefsrc = 1;
        break;
      case 8: // RTA_METRICS
        if (!decodeMetrics(words, (w + 1) * 4, payload, row)) return false;
        break;
      case 9: // RTA_MULTIPATH
        if (!decodeLegs(words, bytes, (w + 1) * 4, payload, legs)) return false;
        multipath = true;
        break;
      case 12: // RTA_CACHEINFO: struct rta_cacheinfo, clntref | lastuse | expires...
        if (payload < 12) return false;
        row.expires = words[w + 3]!;
        break;
      case 15: // RTA_TABLE
        if (payload < 4) return false;
        row.table = words[w + 1]! >>> 0;
        break;
      case 18: // RTA_VIA
        via = w + 1;
        viaLen = payload;
        break;
      case 20: // RTA_PREF
        if (payload < 1) return false;
        row.pref = words[w + 1]! & 0xff;
        break;
      case 21: // RTA_ENCAP_TYPE
        encap = LEG_ENCAP;
        break;
      case 30: // RTA_NH_ID
        if (payload < 4) return false;
        row.nhid = words[w + 1]! >>> 0;
        break;
    }
    w += (length + 3) >> 2;
  }
  if (multipath || (oif === 0 && gateway === 0 && via === 0)) return true;
  legs.n = 1;
  legs.ifindex[0] = oif;
  legs.flags[0] = (flags & RTNH_F_MASK) | encap;
  legs.weight[0] = 1;
  legs.nhid[0] = 0;
  if (gateway !== 0) return setGateway(legs, 0, words, gateway * 4, gatewayLen);
  if (via !== 0) return setVia(legs, 0, bytes, via * 4, viaLen);
  legs.gatewayFamily[0] = 0;
  legs.gateway[0] = legs.gateway[1] = legs.gateway[2] = legs.gateway[3] = 0;
  return true;
}

/** RTA_GATEWAY: the route's own family, told by its length. */
export function setGateway(legs: Legs, leg: number, words: Int32Array, off: number, len: number): boolean {
  legs.gatewayFamily[leg] = len === 4 ? AF_INET : AF_INET6;
  return copyAddress(legs.gateway, leg * 4, words, off, len);
}

/** struct rtvia: u16 family | address, which is therefore not on 4 bytes. */
export function setVia(legs: Legs, leg: number, bytes: Uint8Array, off: number, len: number): boolean {
  if (len < 2) return false;
  const family = bytes[off]! | (bytes[off + 1]! << 8);
  const count = family === AF_INET ? 4 : family === AF_INET6 ? 16 : 0;
  if (count === 0 || len < 2 + count) return false;
  legs.gatewayFamily[leg] = family;
  legs.gateway.fill(0, leg * 4, leg * 4 + 4);
  for (let i = 0; i < count; i += 4) {
    const at = off + 2 + i;
    legs.gateway[leg * 4 + (i >> 2)] =
      bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
  }
  return true;
}

/** RTA_METRICS: a nest of RTAX_*. */
function decodeMetrics(words: Int32Array, off: number, len: number, row: RouteRow): boolean {
  const end = off + len;
  while (end - off >= 4) {
    const head = words[off >> 2]!;
    const length = head & 0xffff;
    if (length < 4 || length > end - off) return false;
    if (((head >>> 16) & NLA_TYPE_MASK) === 2 /* RTAX_MTU */) {
      if (length < 8) return false;
      row.mtu = words[(off >> 2) + 1]! >>> 0;
    }
    off += (length + 3) & ~3;
  }
  return true;
}

/** RTA_MULTIPATH: structs rtnexthop (u16 length | u8 flags | u8 weight - 1 | i32 ifindex), attributes in each. */
function decodeLegs(words: Int32Array, bytes: Uint8Array, off: number, len: number, legs: Legs): boolean {
  legs.n = 0;
  const end = off + len;
  while (end - off >= 8) {
    const head = words[off >> 2]!;
    const length = head & 0xffff;
    if (length < 8 || length > end - off) return false;
    const leg = legs.add();
    legs.flags[leg] = (head >>> 16) & RTNH_F_MASK;
    legs.weight[leg] = (head >>> 24) + 1;
    legs.ifindex[leg] = words[(off >> 2) + 1]!;
    const legEnd = off + length;
    for (let at = off + 8; legEnd - at >= 4; ) {
      const attribute = words[at >> 2]!;
      const attributeLen = attribute & 0xffff;
      if (attributeLen < 4 || attributeLen > legEnd - at) return false;
      const type = (attribute >>> 16) & NLA_TYPE_MASK;
      if (type === 5 /* RTA_GATEWAY */ && !setGateway(legs, leg, words, at + 4, attributeLen - 4))
        return false;
      if (type === 18 /* RTA_VIA */ && !setVia(legs, leg, bytes, at + 4, attributeLen - 4)) return false;
      if (type === 21 /* RTA_ENCAP_TYPE */) legs.flags[leg] = legs.flags[leg]! | LEG_ENCAP;
      at += (attributeLen + 3) & ~3;
    }
    off += (length + 3) & ~3;
  }
  return true;
}
