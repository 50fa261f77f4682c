// UDP packets made in place, whole and with right checksums: headers in front of a payload that lies there already. Hot:
// words of one memory, no allocation. Addresses are memory words; the ports' word is as packet.ts has it: source in the low
// half, destination in the high half.
//
//   IPv4 at word ip: 5 words, UDP 2 words, payload        IPv6: 10 words, UDP 2 words, payload
//
// Packets are never fragmented (DF; identification 0, RFC 6864). Sources: RFC 791, 768, 8200 sections 3 and 8.1.
import { fold, sumBytes } from "./checksum.ts";
import { IPPROTO_UDP, swap16 } from "./packet.ts";
import { SIMD_BYTES, simdSum } from "./simd.ts";

/** Bytes in front of the payload. */
export const UDP4_HEAD = 28;
export const UDP6_HEAD = 48;

const UDP = 8;
const TTL = 64;
const DONT_FRAGMENT = 0x0040_0000;

/** sumBytes over one memory. */
export type Sum = (off: number, bytes: number, sum: number) => number;

export function sumOf(memory: WebAssembly.Memory): Sum {
  const words = new Int32Array(memory.buffer);
  const wide = simdSum(memory);
  return (off, bytes, sum) =>
    bytes >= SIMD_BYTES ? wide(off, bytes, sum) : sumBytes(words, off, bytes, sum);
}

const halves = (word: number): number => (word & 0xffff) + (word >>> 16);

/** The field of a sum: 0 would say that there is none. */
const field = (sum: number): number => ~fold(sum) & 0xffff || 0xffff;

/** @param bytes of payload at word `ip` + 7 */
export function putUdp4(
  words: Int32Array,
  ip: number,
  src: number,
  dst: number,
  ports: number,
  bytes: number,
  sum: Sum,
): void {
  const length = swap16(UDP + bytes);
  const addresses = halves(src) + halves(dst);
  const w0 = 0x45 | (swap16(UDP4_HEAD + bytes) << 16);
  const w2 = TTL | (IPPROTO_UDP << 8);
  words[ip] = w0;
  words[ip + 1] = DONT_FRAGMENT;
  words[ip + 2] = w2 | (~fold(halves(w0) + halves(DONT_FRAGMENT) + w2 + addresses) << 16);
  words[ip + 3] = src;
  words[ip + 4] = dst;
  words[ip + 5] = ports;
  const head = addresses + (IPPROTO_UDP << 8) + length + length + halves(ports);
  words[ip + 6] = length | (field(sum((ip + 7) << 2, bytes, head)) << 16);
}

/** The addresses are there already, at words `ip` + 2 and `ip` + 6. @param bytes of payload at word `ip` + 12 */
export function putUdp6(words: Int32Array, ip: number, ports: number, bytes: number, sum: Sum): void {
  const length = swap16(UDP + bytes);
  words[ip] = 0x60;
  words[ip + 1] = length | (IPPROTO_UDP << 16) | (TTL << 24);
  words[ip + 10] = ports;
  words[ip + 11] = length;
  const head = (IPPROTO_UDP << 8) + length;
  words[ip + 11] = length | (field(sum((ip + 2) << 2, 32 + UDP + bytes, head)) << 16);
}
