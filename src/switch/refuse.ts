// What a closed port of an address that a client alone has answers, as the kernel's closed ports do: TCP with a reset (RFC
// 9293 section 3.10.7.1), UDP and UDP-Lite with "port unreachable" (RFC 1122 section 4.1.3.1, RFC 4443 section 3.1), SCTP and
// DCCP as a host without them (RFC 1122 section 3.2.2.1, RFC 4443 section 3.4). All are made in the frame that caused them. A
// Worker sends so many a second and no more: a scan costs little, and floods nobody with a forged source.
import { AF_INET, swap32 } from "../wire/address.ts";
import { fold, sumBytes } from "../wire/checksum.ts";
import { ETHERNET } from "../wire/ether.ts";
import {
  IPPROTO_DCCP,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
  P_DST,
  P_FAMILY,
  P_FRAGMENT,
  P_IP,
  P_KIND,
  P_L4,
  P_L4_BYTES,
  P_PROTOCOL,
  P_SRC,
  PLAIN,
  swap16,
  swapPorts,
  WHOLE,
} from "../wire/packet.ts";
import { makeError, sumHeader, turnBack } from "./icmp.ts";

export const REFUSALS_A_SECOND = 1000;
const TTL = 64;
// Type | code << 8, of IPv4 and IPv6.
const PORT = [3 | (3 << 8), 1 | (4 << 8)];
const PROTOCOL = [3 | (2 << 8), 4 | (1 << 8)];
/** Where an IPv6 header says what comes next: bytes. */
const NEXT_HEADER = 6;
const HEADER6_WORDS = 10;
// The fourth word of a TCP header: its length in words at bits 4..7, flags from bit 8 on.
const FIN = 1 << 8;
const SYN = 2 << 8;
const RST = 4 << 8;
const ACK = 16 << 8;
const TCP_BYTES = 20;

export class Refuser {
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  private readonly from = new Int32Array(4);
  private left = REFUSALS_A_SECOND;
  private second = 0;

  constructor(words: Int32Array) {
    this.words = words;
    this.bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  }

  tick(milliseconds: number): void {
    const second = Math.floor(milliseconds / 1000);
    if (second !== this.second) this.left = REFUSALS_A_SECOND;
    this.second = second;
  }

  /**
   * Makes packet `p`, or its first fragment, its refusal: the frame's length; 0 if it gets none. @param there its bytes in the
   * frame
   */
  make(p: Int32Array, there: number): number {
    const { words, bytes, from } = this;
    if (p[P_KIND] !== PLAIN || this.left === 0) return 0;
    const four = p[P_FAMILY] === AF_INET;
    if (p[P_PROTOCOL] === IPPROTO_TCP) {
      if (p[P_FRAGMENT] !== WHOLE || (words[p[P_L4]! + 3]! & RST) !== 0) return 0;
      this.left--;
      return makeReset(words, p);
    }
    const hasPorts = p[P_PROTOCOL] === IPPROTO_UDP || p[P_PROTOCOL] === IPPROTO_UDPLITE;
    const isPlain = four || p[P_L4] === p[P_IP]! + HEADER6_WORDS;
    if (!hasPorts && (!isPlain || (p[P_PROTOCOL] !== IPPROTO_SCTP && p[P_PROTOCOL] !== IPPROTO_DCCP)))
      return 0;
    this.left--;
    for (let i = 0; i < (four ? 1 : 4); i++) from[i] = words[p[P_DST]! + i]!;
    const kind = (hasPorts ? PORT : PROTOCOL)[four ? 0 : 1]!;
    return makeError(words, bytes, p, there, kind, hasPorts || four ? 0 : NEXT_HEADER, from);
  }
}

/** Makes a TCP segment its reset, without options; link-layer addresses are swapped. Returns the frame's length. */
function makeReset(words: Int32Array, p: Int32Array): number {
  const ip = p[P_IP]!;
  const four = p[P_FAMILY] === AF_INET;
  const size = four ? 1 : 4;
  const at = p[P_L4]!;
  const ports = words[at]!;
  const sequence = words[at + 1]!;
  const acknowledged = words[at + 2]!;
  const flags = words[at + 3]!;
  const held = p[P_L4_BYTES]! - ((flags >>> 2) & 0x3c) + ((flags & SYN) >>> 9) + ((flags & FIN) >>> 8);
  const source = ip + (four ? 3 : 2);
  for (let i = 0; i < size; i++) {
    const src = words[p[P_SRC]! + i]!;
    words[source + i] = words[p[P_DST]! + i]!;
    words[source + size + i] = src;
  }
  const tcp = source + size * 2;
  const isAnswer = (flags & ACK) !== 0;
  words[tcp] = swapPorts(ports);
  words[tcp + 1] = isAnswer ? acknowledged : 0;
  words[tcp + 2] = isAnswer ? 0 : swap32(swap32(sequence) + held);
  words[tcp + 3] = 0x50 | RST | (isAnswer ? 0 : ACK);
  words[tcp + 4] = 0;
  const pseudo = (IPPROTO_TCP << 8) + swap16(TCP_BYTES);
  words[tcp + 4] = ~fold(sumBytes(words, source << 2, size * 8 + TCP_BYTES, pseudo)) & 0xffff;
  if (four) {
    words[ip] = 0x45 | (swap16(20 + TCP_BYTES) << 16);
    words[ip + 1] = 0x40 << 16; // RFC 6864: "don't fragment", so its id says nothing
    words[ip + 2] = TTL | (IPPROTO_TCP << 8);
    sumHeader(words, ip);
  } else {
    words[ip] = 0x60;
    words[ip + 1] = swap16(TCP_BYTES) | (IPPROTO_TCP << 16) | (TTL << 24);
  }
  turnBack(words, ip);
  return ETHERNET + (four ? 20 : 40) + TCP_BYTES;
}
