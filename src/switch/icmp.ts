// ICMP that the switch itself sends: echo answered for an address that a client alone has, and "too long" to who sent what
// the interface does not take (RFC 792, 1191, 4443). Both are made in the frame that caused them.
import { AF_INET } from "../wire/address.ts";
import { fold, sumBytes } from "../wire/checksum.ts";
import { ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, setDst, setSrc } from "../wire/ether.ts";
import {
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  P_BYTES,
  P_DST,
  P_FAMILY,
  P_IP,
  P_L4,
  P_SRC,
  swap16,
} from "../wire/packet.ts";
import { adjust } from "../wire/rewrite.ts";

const TTL = 64;
const ECHO_REPLY4 = 0;
const ECHO_REPLY6 = 129;
const UNREACHABLE_LONG = 3 | (4 << 8);
const PACKET_TOO_BIG = 2;
/** An error is at most so long: any host takes that. */
const LONGEST4 = 576;
const LONGEST6 = 1280;

/** The IPv4 header's checksum of 20 bytes or more. */
export function sumHeader(words: Int32Array, ip: number): void {
  words[ip + 2] = words[ip + 2]! & 0xffff;
  words[ip + 2] = words[ip + 2]! | (~fold(sumBytes(words, ip << 2, (words[ip]! & 15) << 2, 0)) << 16);
}

/** Swaps a frame's link-layer addresses. */
export function turnBack(words: Int32Array, ip: number): void {
  const mac0 = words[ip - 2]!;
  const mac1 = words[ip - 1]! & 0xffff;
  setSrc(words, ip, (words[ip - 4]! >>> 16) | (words[ip - 3]! << 16), words[ip - 3]! >>> 16);
  setDst(words, ip, mac0, mac1);
}

/** Sends a packet back as from whom it was for, link-layer addresses included. L4's checksum stays right. */
export function turnPacket(words: Int32Array, p: Int32Array): void {
  const ip = p[P_IP]!;
  const four = p[P_FAMILY] === AF_INET;
  for (let i = 0, n = four ? 1 : 4; i < n; i++) {
    const src = words[p[P_SRC]! + i]!;
    words[p[P_SRC]! + i] = words[p[P_DST]! + i]!;
    words[p[P_DST]! + i] = src;
  }
  if (four) {
    words[ip + 2] = (words[ip + 2]! & ~0xff) | TTL;
    sumHeader(words, ip);
  } else words[ip + 1] = (words[ip + 1]! & 0xffffff) | (TTL << 24);
  turnBack(words, ip);
}

/** Makes an echo request, or its first fragment, its answer. */
export function answerEcho(words: Int32Array, p: Int32Array): void {
  const at = p[P_L4]!;
  const before = words[at]! & 0xffff;
  words[at] = (words[at]! & ~0xff) | (p[P_FAMILY] === AF_INET ? ECHO_REPLY4 : ECHO_REPLY6);
  adjust(words, (at << 2) + 2, (~before & 0xffff) + (words[at]! & 0xffff));
  turnPacket(words, p);
}

/** Makes a packet that is too long the error about it, which says how long one may be; as makeError. */
export function makeTooLong(
  words: Int32Array,
  bytes: Uint8Array,
  p: Int32Array,
  there: number,
  mtu: number,
  from: Int32Array,
): number {
  const kind = p[P_FAMILY] === AF_INET ? UNREACHABLE_LONG : PACKET_TOO_BIG;
  return makeError(words, bytes, p, there, kind, mtu, from);
}

/**
 * Makes a packet the error about it, addressed to its sender; returns the frame's length. Link-layer addresses are
 * swapped. @param there bytes of the packet that are in the frame; @param kind type | code << 8; @param mtu or where in the
 * packet the fault is, 0 where the error has neither; @param from the address that sends the error: one word, or four
 */
export function makeError(
  words: Int32Array,
  bytes: Uint8Array,
  p: Int32Array,
  there: number,
  kind: number,
  mtu: number,
  from: Int32Array,
): number {
  const ip = p[P_IP]!;
  const four = p[P_FAMILY] === AF_INET;
  const header = four ? 20 + 8 : 40 + 8;
  const whole = p[P_BYTES]! < there ? p[P_BYTES]! : there;
  const longest = (four ? LONGEST4 : LONGEST6) - header;
  const quoted = whole < longest ? whole : longest;
  const at = ip << 2;
  bytes.copyWithin(at + header, at, at + quoted);
  turnBack(words, ip);
  const old = ip + (header >> 2); // where the packet's header is now
  const icmp = old - 2;
  const total = header + quoted;
  words[ip - 1] = (words[ip - 1]! & 0xffff) | ((four ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6) << 16);
  if (four) {
    words[ip] = 0x45 | (swap16(total) << 16);
    words[ip + 1] = 0;
    words[ip + 2] = TTL | (IPPROTO_ICMP << 8);
    words[ip + 3] = from[0]!;
    words[ip + 4] = words[old + 3]!;
    sumHeader(words, ip);
    words[icmp] = kind;
    words[icmp + 1] = swap16(mtu) << 16;
    words[icmp] = kind | (~fold(sumBytes(words, icmp << 2, 8 + quoted, 0)) << 16);
  } else {
    words[ip] = 0x60;
    words[ip + 1] = swap16(8 + quoted) | (IPPROTO_ICMPV6 << 16) | (TTL << 24);
    for (let i = 0; i < 4; i++) {
      words[ip + 2 + i] = from[i]!;
      words[ip + 6 + i] = words[old + 2 + i]!;
    }
    words[icmp] = kind;
    words[icmp + 1] = swap16(mtu) << 16;
    const pseudo = (IPPROTO_ICMPV6 << 8) + swap16(8 + quoted);
    words[icmp] = kind | (~fold(sumBytes(words, (ip + 2) << 2, 32 + 8 + quoted, pseudo)) << 16);
  }
  return ETHERNET + total;
}
