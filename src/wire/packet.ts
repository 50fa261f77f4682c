// What a packet is to a switch: addresses, protocol, ports, and whether it is a fragment, an echo or an error about another
// packet. One parser for IPv4 and IPv6, for packets as they lie in a frame and as ICMP errors quote them.
//
// The IP header begins at a whole word, so that everything after it does too. The result is a private record of words
// (P_*), overwritten by the next call; addresses are told by their place in `words`. Nothing is verified but lengths.
//
// Ports are a word as TCP's and UDP's headers have it: source in the low half, destination in the high half. ICMP echo, asked
// or answered, has its identifier as destination and source 0; other ICMP has 0.
// Sources: RFC 791, 8200 section 4, 768, 9293, 9260, 4340, 3828, 792, 4443, 4861.
import { AF_INET, AF_INET6 } from "./address.ts";

export const P_FAMILY = 0; // AF_INET or AF_INET6
export const P_PROTOCOL = 1;
export const P_SRC = 2; // word of the source address
export const P_DST = 3;
export const P_L4 = 4; // word of what IP carries
export const P_L4_BYTES = 5;
export const P_PORTS = 6;
export const P_FRAGMENT = 7; // WHOLE, FIRST or LATER
export const P_ID = 8; // of a fragment
export const P_KIND = 9; // PLAIN...
export const P_BYTES = 10; // of the packet, IP header included
export const P_IP = 11; // word of the IP header
export const P_WORDS = 12;

export const WHOLE = 0;
export const FIRST = 1;
export const LATER = 2;

export const PLAIN = 0; // has ports, or ICMP that is none of these
export const ECHO_REQUEST = 1;
export const ECHO_REPLY = 2;
export const ERROR = 3; // quotes a packet, 8 bytes after P_L4
export const NEIGHBOUR = 4; // ICMPv6 133 to 137
export const OTHER = 5; // a protocol without ports

export const IPPROTO_ICMP = 1;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_DCCP = 33;
export const IPPROTO_ICMPV6 = 58;
export const IPPROTO_SCTP = 132;
export const IPPROTO_UDPLITE = 136;

const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const DESTINATION = 60;
const EXTENSIONS = 8;

/** Ports' word the other way round, as an answer has it. */
export const swapPorts = (ports: number): number => (ports >>> 16) | (ports << 16);

export const swap16 = (half: number): number => ((half & 0xff) << 8) | ((half >>> 8) & 0xff);

/** Bytes of the shortest header of a protocol that has ports; 0 for others. */
const shortest = (protocol: number): number => {
  switch (protocol) {
    case IPPROTO_TCP:
      return 20;
    case IPPROTO_UDP:
    case IPPROTO_UDPLITE:
      return 8;
    case IPPROTO_SCTP:
    case IPPROTO_DCCP:
      return 12;
    default:
      return 0;
  }
};

/** What the header after IP's says, of `bytes` bytes at P_L4. False if it is cut off. */
function parseL4(words: Int32Array, p: Int32Array, quoted: boolean): boolean {
  const protocol = p[P_PROTOCOL]!;
  const at = p[P_L4]!;
  const bytes = p[P_L4_BYTES]!;
  const least = shortest(protocol);
  p[P_KIND] = PLAIN;
  p[P_PORTS] = 0;
  if (least !== 0) {
    if (bytes < (quoted ? 4 : least)) return false;
    p[P_PORTS] = words[at]!;
    return true;
  }
  if (protocol !== (p[P_FAMILY] === AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
    p[P_KIND] = OTHER;
    return true;
  }
  if (bytes < 8) return false;
  const type = words[at]! & 0xff;
  const four = protocol === IPPROTO_ICMP;
  if (type === (four ? 8 : 128)) p[P_KIND] = ECHO_REQUEST;
  else if (type === (four ? 0 : 129)) p[P_KIND] = ECHO_REPLY;
  else if (four ? type === 3 || type === 11 || type === 12 : type >= 1 && type <= 4) p[P_KIND] = ERROR;
  else if (!four && type >= 133 && type <= 137) p[P_KIND] = NEIGHBOUR;
  if (p[P_KIND] === ECHO_REQUEST || p[P_KIND] === ECHO_REPLY) p[P_PORTS] = words[at + 1]! << 16;
  return true;
}

/**
 * Parses the IPv4 packet at word `ip`, of which `bytes` bytes are there, into `p`. False if its headers contradict
 * themselves or go beyond its end. @param quoted in an ICMP error, where the rest of the packet is missing
 */
export function parseIp4(
  words: Int32Array,
  p: Int32Array,
  ip: number,
  bytes: number,
  quoted: boolean,
): boolean {
  if (bytes < 20) return false;
  const w0 = words[ip]!;
  const header = (w0 & 15) << 2;
  const total = swap16(w0 >>> 16);
  if ((w0 & 0xf0) !== 0x40 || header < 20 || header > bytes || total < header) return false;
  if (total > bytes && !quoted) return false;
  const w1 = words[ip + 1]!;
  const fragment = swap16(w1 >>> 16);
  p[P_FAMILY] = AF_INET;
  p[P_PROTOCOL] = (words[ip + 2]! >>> 8) & 0xff;
  p[P_SRC] = ip + 3;
  p[P_DST] = ip + 4;
  p[P_L4] = ip + (header >>> 2);
  p[P_L4_BYTES] = (total < bytes ? total : bytes) - header;
  p[P_ID] = w1 & 0xffff;
  p[P_BYTES] = total;
  p[P_IP] = ip;
  if ((fragment & 0x1fff) !== 0) {
    p[P_FRAGMENT] = LATER;
    p[P_KIND] = PLAIN;
    p[P_PORTS] = 0;
    return true;
  }
  p[P_FRAGMENT] = (fragment & 0x2000) !== 0 ? FIRST : WHOLE;
  return parseL4(words, p, quoted);
}

/** The same for IPv6: extension headers are passed over, as far as they are for the destination. */
export function parseIp6(
  words: Int32Array,
  p: Int32Array,
  ip: number,
  bytes: number,
  quoted: boolean,
): boolean {
  if (bytes < 40 || (words[ip]! & 0xf0) !== 0x60) return false;
  const w1 = words[ip + 1]!;
  const payload = swap16(w1);
  if (payload > bytes - 40 && !quoted) return false;
  let left = payload < bytes - 40 ? payload : bytes - 40;
  let next = (w1 >>> 16) & 0xff;
  let at = ip + 10;
  p[P_FAMILY] = AF_INET6;
  p[P_SRC] = ip + 2;
  p[P_DST] = ip + 6;
  p[P_BYTES] = payload + 40;
  p[P_IP] = ip;
  p[P_FRAGMENT] = WHOLE;
  for (let i = 0; i < EXTENSIONS; i++) {
    if (next !== HOP_BY_HOP && next !== ROUTING && next !== DESTINATION && next !== FRAGMENT) break;
    if (left < 8) return false;
    const w = words[at]!;
    let length = 8;
    if (next === FRAGMENT) {
      const place = swap16(w >>> 16);
      if (p[P_FRAGMENT] !== WHOLE) return false; // one is enough
      p[P_ID] = words[at + 1]!;
      if ((place & 0xfff8) !== 0) p[P_FRAGMENT] = LATER;
      else if ((place & 1) !== 0) p[P_FRAGMENT] = FIRST;
    } else {
      if (next === ROUTING && w >>> 24 !== 0) return false; // still on its way
      length = (((w >>> 8) & 0xff) + 1) << 3;
    }
    if (length > left) return false;
    next = w & 0xff;
    at += length >>> 2;
    left -= length;
    if (p[P_FRAGMENT] === LATER) break;
  }
  p[P_PROTOCOL] = next;
  p[P_L4] = at;
  p[P_L4_BYTES] = left;
  p[P_KIND] = PLAIN;
  p[P_PORTS] = 0;
  return p[P_FRAGMENT] === LATER || parseL4(words, p, quoted);
}

/** Either, by family. */
export const parseIp = (
  words: Int32Array,
  p: Int32Array,
  six: boolean,
  ip: number,
  bytes: number,
  quoted: boolean,
): boolean => (six ? parseIp6 : parseIp4)(words, p, ip, bytes, quoted);
