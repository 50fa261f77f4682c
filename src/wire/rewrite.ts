// Changing packets that lie in a frame: addresses, with the checksums that follow from them; and checksums that the
// sender's kernel left to a card that does not exist. Packets are told as wire/packet.ts parsed them.
// Sources: RFC 1624 (incremental update), RFC 768, 9293, 4340, 3828, 4443; partial checksums: Linux's CHECKSUM_PARTIAL.
import { AF_INET } from "./address.ts";
import { fold, sumBytes } from "./checksum.ts";
import { crc32c } from "./crc32c.ts";
import {
  IPPROTO_DCCP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
  LATER,
  P_FAMILY,
  P_FRAGMENT,
  P_IP,
  P_L4,
  P_L4_BYTES,
  P_PROTOCOL,
  P_SRC,
  swap16,
  WHOLE,
} from "./packet.ts";

const SCTP_CHECKSUM = 2; // words after its header's begin

/** The byte in its header where a protocol's checksum is that covers the addresses too; -1 if it has none. */
const checksumByte = (protocol: number): number => {
  switch (protocol) {
    case IPPROTO_TCP:
      return 16;
    case IPPROTO_UDP:
    case IPPROTO_UDPLITE:
    case IPPROTO_DCCP:
      return 6;
    case IPPROTO_ICMPV6:
      return 2;
    default:
      return -1;
  }
};

export const getHalf = (words: Int32Array, byte: number): number =>
  (words[byte >>> 2]! >>> ((byte & 2) << 3)) & 0xffff;

export const setHalf = (words: Int32Array, byte: number, value: number): void => {
  const shift = (byte & 2) << 3;
  const at = byte >>> 2;
  words[at] = (words[at]! & ~(0xffff << shift)) | ((value & 0xffff) << shift);
};

const halves = (word: number): number => (word & 0xffff) + (word >>> 16);

/** What a checksum has to take up when `count` words from `at` become those of `by` from `from`. */
function difference(words: Int32Array, at: number, by: Int32Array, from: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += halves(~words[at + i]!) + halves(by[from + i]!);
  return fold(sum);
}

/** Adds a difference to the checksum at `byte`: HC' = ~(~HC + ~m + m'). */
export function adjust(words: Int32Array, byte: number, change: number): void {
  setHalf(words, byte, ~fold((~getHalf(words, byte) & 0xffff) + change));
}

/** Puts the address in `by` from `from` on in the place of the packet's at word `at`; IP's and L4's checksums follow. */
export function setAddress(words: Int32Array, p: Int32Array, at: number, by: Int32Array, from: number): void {
  const four = p[P_FAMILY] === AF_INET;
  const count = four ? 1 : 4;
  const change = difference(words, at, by, from, count);
  for (let i = 0; i < count; i++) words[at + i] = by[from + i]!;
  if (four) adjust(words, (p[P_IP]! << 2) + 10, change);
  const byte = checksumByte(p[P_PROTOCOL]!);
  if (byte < 0 || p[P_FRAGMENT] === LATER || p[P_L4_BYTES]! < byte + 2) return;
  const at4 = (p[P_L4]! << 2) + byte;
  if (p[P_PROTOCOL] === IPPROTO_UDP && getHalf(words, at4) === 0) return; // it has none
  adjust(words, at4, change);
  if (p[P_PROTOCOL] === IPPROTO_UDP && getHalf(words, at4) === 0) setHalf(words, at4, 0xffff);
}

/**
 * Puts another address, in `by` from `from` on, into packet `q` that ICMP error `p` quotes: its IPv4 header's checksum follows, so that the error's
 * stays right by itself; ICMPv6's is changed. What the quoted packet's own checksum was is its sender's to know.
 */
export function setQuotedAddress(
  words: Int32Array,
  p: Int32Array,
  q: Int32Array,
  at: number,
  by: Int32Array,
  from: number,
): void {
  const four = q[P_FAMILY] === AF_INET;
  const count = four ? 1 : 4;
  const change = difference(words, at, by, from, count);
  for (let i = 0; i < count; i++) words[at + i] = by[from + i]!;
  if (four) adjust(words, (q[P_IP]! << 2) + 10, change);
  else adjust(words, (p[P_L4]! << 2) + 2, change);
}

/** The pseudo header's sum, not folded: addresses, protocol, length. */
export function pseudoSum(words: Int32Array, p: Int32Array): number {
  let sum = (p[P_PROTOCOL]! << 8) + swap16(p[P_L4_BYTES]!);
  const end = p[P_SRC]! + (p[P_FAMILY] === AF_INET ? 2 : 8);
  for (let at = p[P_SRC]!; at < end; at++) sum += halves(words[at]!);
  return sum;
}

/**
 * Completes a TCP or UDP checksum of which the sender's kernel wrote the pseudo header's part alone, or one of SCTP's that it
 * left zero. One that is whole stays as it is, right or wrong.
 */
export function completeChecksum(words: Int32Array, p: Int32Array): void {
  const protocol = p[P_PROTOCOL]!;
  if (p[P_FRAGMENT] !== WHOLE) return;
  if (protocol === IPPROTO_SCTP) {
    const field = p[P_L4]! + SCTP_CHECKSUM;
    if (words[field] === 0) words[field] = crc32c(words, p[P_L4]! << 2, p[P_L4_BYTES]!);
    return;
  }
  if (protocol !== IPPROTO_TCP && protocol !== IPPROTO_UDP) return;
  const byte = (p[P_L4]! << 2) + checksumByte(protocol);
  if (getHalf(words, byte) !== fold(pseudoSum(words, p))) return;
  const sum = ~fold(sumBytes(words, p[P_L4]! << 2, p[P_L4_BYTES]!, 0)) & 0xffff;
  setHalf(words, byte, protocol === IPPROTO_UDP && sum === 0 ? 0xffff : sum);
}
