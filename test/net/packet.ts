// Frames of the tests: made and checked byte by byte, with a checksum of their own that shares no code with netd's.

export interface Datagram {
  srcMac: string;
  dstMac: string;
  src: string;
  dst: string;
  sport: number;
  dport: number;
  payload: Uint8Array;
  /** [tpid, tci] pairs, outer first */
  tags?: readonly (readonly [number, number])[];
  /** a multiple of four bytes, after the IPv4 header's first 20 */
  options?: readonly number[];
  id?: number;
  dontFragment?: boolean;
  ttl?: number;
  tos?: number;
  /** of UDP; the right one if missing */
  checksum?: number;
}

const u16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff];
const mac = (text: string): number[] => text.split(":").map((part) => Number.parseInt(part, 16));
export const ip4 = (text: string): number[] => text.split(".").map(Number);

/** RFC 1071 over bytes. */
export function internetChecksum(bytes: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i]! << 8) | (bytes[i + 1] ?? 0)) >>> 0;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

/** The whole frame. */
export function frame(d: Datagram): Uint8Array<ArrayBuffer> {
  const { tags = [], options = [], id = 0, dontFragment = false, ttl = 64, tos = 0 } = d;
  const udpBytes = 8 + d.payload.length;
  const addresses = [...ip4(d.src), ...ip4(d.dst)];
  const udp = [...u16(d.sport), ...u16(d.dport), ...u16(udpBytes), 0, 0, ...d.payload];
  const sum = d.checksum ?? (internetChecksum([...addresses, 0, 17, ...u16(udpBytes), ...udp]) || 0xffff);
  udp.splice(6, 2, ...u16(sum));
  const head = [0x45 + options.length / 4, tos, ...u16(20 + options.length + udpBytes), ...u16(id)];
  head.push(...u16(dontFragment ? 0x4000 : 0), ttl, 17, 0, 0, ...addresses, ...options);
  head.splice(10, 2, ...u16(internetChecksum(head)));
  const vlan = tags.flatMap(([tpid, tci]) => [...u16(tpid), ...u16(tci)]);
  return Uint8Array.from([...mac(d.dstMac), ...mac(d.srcMac), ...vlan, 8, 0, ...head, ...udp]);
}

/** The echo service's answer to `question`: what netd must send, to the last byte. */
export const echoOf = (question: Datagram): Uint8Array<ArrayBuffer> =>
  frame({
    srcMac: question.dstMac,
    dstMac: question.srcMac,
    src: question.dst,
    dst: question.src,
    sport: question.dport,
    dport: question.sport,
    payload: question.payload,
    dontFragment: true,
  });

/** `length` bytes that differ from datagram to datagram. */
export const pattern = (length: number, seed: number): Uint8Array<ArrayBuffer> =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 31 + (i >> 8)) & 0xff);
