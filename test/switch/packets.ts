// Frames for the switch's tests, byte by byte from the RFCs' pictures, with right checksums unless told otherwise. None of
// the code under test makes them, but wire/address.ts, which has tests of its own.
import { parseAddress, parseLladdr } from "../../src/wire/address.ts";

export const CARD = "02:00:00:00:00:01";
export const PEER = "02:00:00:00:00:02";
export const US = "10.77.0.1";
export const THEM = "10.77.0.2";
export const US6 = "fd77::1";
export const THEM6 = "fd77::2";
export const TCP = 6;
export const UDP = 17;
export const ICMP = 1;
export const ICMPV6 = 58;

export const bytesOf = (address: string): Uint8Array => {
  const { family, words } = parseAddress(address)!;
  return new Uint8Array(words.buffer, 0, family === 2 ? 4 : 16).slice();
};

export const concat = (...parts: ArrayLike<number>[]): Uint8Array =>
  Uint8Array.from(parts.flatMap((part) => Array.from(part)));

export const u16 = (...values: number[]): number[] => values.flatMap((v) => [(v >> 8) & 255, v & 255]);

/** RFC 1071, as plainly as it can be written. */
export function internetChecksum(...parts: ArrayLike<number>[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let i = 0; i < part.length; i += 2) sum += (part[i]! << 8) | (part[i + 1] ?? 0);
    sum = (sum & 0xffff) + (sum >>> 16);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export interface Spec {
  dstMac?: string;
  srcMac?: string;
  src?: string;
  dst?: string;
  protocol?: number;
  /** what IP carries, whole */
  l4?: Uint8Array;
  ttl?: number;
  id?: number;
  /** flags and offset as the IPv4 header has them */
  fragment?: number;
  /** IPv6 extension headers, whole, and the first one's number */
  extensions?: { first: number; bytes: Uint8Array };
}

export const ether = (dstMac: string, srcMac: string, type: number, payload: Uint8Array): Uint8Array =>
  concat(parseLladdr(dstMac)!, parseLladdr(srcMac)!, u16(type), payload);

/** An IP packet in a frame from the peer to the card, unless told otherwise. */
export function packet(spec: Spec): Uint8Array {
  const { dstMac = CARD, srcMac = PEER, protocol = UDP, l4 = new Uint8Array(0), ttl = 64 } = spec;
  const { src = THEM, dst = US, id = 7, fragment = 0 } = spec;
  const [from, to] = [bytesOf(src), bytesOf(dst)];
  if (from.length === 4) {
    const header = concat([0x45, 0], u16(20 + l4.length, id, fragment), [ttl, protocol, 0, 0], from, to);
    const sum = internetChecksum(header);
    header[10] = sum >> 8;
    header[11] = sum & 255;
    return ether(dstMac, srcMac, 0x0800, concat(header, l4));
  }
  const extensions = spec.extensions?.bytes ?? new Uint8Array(0);
  const length = extensions.length + l4.length;
  const next = spec.extensions?.first ?? protocol;
  const header = concat([0x60, 0, 0, 0], u16(length), [next, ttl], from, to);
  return ether(dstMac, srcMac, 0x86dd, concat(header, extensions, l4));
}

const pseudo = (src: string, dst: string, protocol: number, length: number): Uint8Array =>
  concat(bytesOf(src), bytesOf(dst), u16(length >> 16, length & 0xffff), [0, protocol]);

const summed = (header: Uint8Array, at: number, ...pseudoHeader: Uint8Array[]): Uint8Array => {
  header[at] = header[at + 1] = 0;
  const sum = internetChecksum(...pseudoHeader, header);
  header[at] = sum >> 8;
  header[at + 1] = sum & 255;
  return header;
};

export interface L4 {
  src?: string;
  dst?: string;
  sport?: number;
  dport?: number;
  payload?: ArrayLike<number>;
}

export function udp({
  src = THEM,
  dst = US,
  sport = 4000,
  dport = 5000,
  payload = [1, 2, 3],
}: L4 = {}): Uint8Array {
  const bytes = concat(u16(sport, dport, 8 + payload.length, 0), payload);
  const out = summed(bytes, 6, pseudo(src, dst, UDP, bytes.length));
  if (out[6] === 0 && out[7] === 0) out[6] = out[7] = 255;
  return out;
}

export interface Segment extends L4 {
  seq?: number;
  ack?: number;
  flags?: number;
  window?: number;
  options?: ArrayLike<number>;
}

export function tcp({
  src = THEM,
  dst = US,
  sport = 4000,
  dport = 5000,
  payload = [1, 2, 3],
  seq = 1,
  ack = 2,
  flags = 0x10,
  window = 1000,
  options = [],
}: Segment = {}): Uint8Array {
  const numbers = u16(seq >>> 16, seq & 0xffff, ack >>> 16, ack & 0xffff);
  const length = 20 + options.length;
  const bytes = concat(u16(sport, dport), numbers, [length << 2, flags], u16(window, 0, 0), options, payload);
  return summed(bytes, 16, pseudo(src, dst, TCP, bytes.length));
}

/** ICMP of either family by its addresses. */
export function icmp(
  type: number,
  code: number,
  rest: ArrayLike<number>,
  { src = THEM, dst = US }: { src?: string; dst?: string } = {},
): Uint8Array {
  const bytes = concat([type, code, 0, 0], rest);
  return src.includes(":") ? summed(bytes, 2, pseudo(src, dst, ICMPV6, bytes.length)) : summed(bytes, 2);
}

export const echo = (type: number, id: number, ends: { src?: string; dst?: string } = {}): Uint8Array =>
  icmp(type, 0, concat(u16(id, 1), [9, 8, 7, 6]), ends);

export const udpPacket = (l4: L4 & Spec = {}): Uint8Array => packet({ ...l4, protocol: UDP, l4: udp(l4) });
export const tcpPacket = (l4: Segment & Spec = {}): Uint8Array =>
  packet({ ...l4, protocol: TCP, l4: tcp(l4) });
export const icmpPacket = (l4: Uint8Array, spec: Spec = {}): Uint8Array =>
  packet({ ...spec, l4, protocol: (spec.src ?? THEM).includes(":") ? ICMPV6 : ICMP });

export interface ArpSpec {
  op?: number;
  sha?: string;
  spa?: string;
  tha?: string;
  tpa?: string;
  srcMac?: string;
  dstMac?: string;
}

export function arp(spec: ArpSpec = {}): Uint8Array {
  const { op = 1, sha = CARD, spa = US, tha = "00:00:00:00:00:00", tpa = THEM } = spec;
  const { srcMac = sha, dstMac = "ff:ff:ff:ff:ff:ff" } = spec;
  const body = concat(
    u16(1, 0x0800),
    [6, 4],
    u16(op),
    parseLladdr(sha)!,
    bytesOf(spa),
    parseLladdr(tha)!,
    bytesOf(tpa),
  );
  return ether(dstMac, srcMac, 0x0806, body);
}

/** A neighbour solicitation or advertisement with one link-layer option. */
export function nd(
  type: 135 | 136,
  spec: {
    src?: string;
    dst?: string;
    target: string;
    lladdr?: string | undefined;
    flags?: number;
    srcMac?: string;
    dstMac?: string;
  },
): Uint8Array {
  const { src = US6, dst = "ff02::1:ff00:2", target, lladdr, flags = 0, srcMac = CARD } = spec;
  const option = lladdr === undefined ? [] : concat([type === 135 ? 1 : 2, 1], parseLladdr(lladdr)!);
  const body = icmp(type, 0, concat([flags, 0, 0, 0], bytesOf(target), option), { src, dst });
  const { dstMac = "33:33:ff:00:00:02" } = spec;
  return packet({ src, dst, srcMac, dstMac, ttl: 255, protocol: ICMPV6, l4: body });
}

export const hex = (frame: Uint8Array | undefined): string =>
  frame ? Buffer.from(frame).toString("hex") : "nothing";
