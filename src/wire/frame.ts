// Frames made from plain values, whole and with right checksums: for tests, benches and the lab, never per packet.
import { fold, sumBytes } from "./checksum.ts";

export interface UdpFrame {
  /** link-layer addresses, 6 bytes */
  dstMac: Uint8Array;
  srcMac: Uint8Array;
  /** IPv4 addresses as memory words */
  src: number;
  dst: number;
  sport: number;
  dport: number;
  payload: Uint8Array;
  /** IPv4 options, a multiple of 4 bytes up to 40 */
  options?: Uint8Array;
  ttl?: number;
  tos?: number;
  id?: number;
  /** flags and fragment offset, host order: 0x4000 is "don't fragment" */
  fragment?: number;
}

/** The checksum field of `bytes` bytes from even `off` on, with the pseudo header's `sum`, in host order. */
export function checksum(frame: Uint8Array, off: number, bytes: number, sum = 0): number {
  const copy = new Uint8Array((bytes + 3) & ~3);
  copy.set(frame.subarray(off, off + bytes));
  const half = ~fold(sumBytes(new Int32Array(copy.buffer), 0, bytes, sum)) & 0xffff;
  return ((half & 0xff) << 8) | (half >>> 8);
}

/** Ethernet, IPv4 and UDP around a payload. */
export function udpFrame(spec: UdpFrame): Uint8Array {
  const options = spec.options ?? new Uint8Array(0);
  const header = 20 + options.length;
  const frame = new Uint8Array(14 + header + 8 + spec.payload.length);
  const view = new DataView(frame.buffer);
  frame.set(spec.dstMac, 0);
  frame.set(spec.srcMac, 6);
  view.setUint16(12, 0x0800);
  view.setUint8(14, 0x40 | (header / 4));
  view.setUint8(15, spec.tos ?? 0);
  view.setUint16(16, header + 8 + spec.payload.length);
  view.setUint16(18, spec.id ?? 0);
  view.setUint16(20, spec.fragment ?? 0);
  view.setUint8(22, spec.ttl ?? 64);
  view.setUint8(23, 17);
  view.setInt32(26, spec.src, true);
  view.setInt32(30, spec.dst, true);
  frame.set(options, 34);
  view.setUint16(24, checksum(frame, 14, header));
  const udp = 14 + header;
  const length = 8 + spec.payload.length;
  view.setUint16(udp, spec.sport);
  view.setUint16(udp + 2, spec.dport);
  view.setUint16(udp + 4, length);
  frame.set(spec.payload, udp + 8);
  view.setUint16(udp + 6, checksum(frame, udp, length, pseudo(frame, length)) || 0xffff);
  return frame;
}

/** The UDP pseudo header's sum, not folded: addresses from bytes 26 to 33, protocol, length (RFC 768). */
export function pseudo(frame: Uint8Array, udpLength: number): number {
  const view = new DataView(frame.buffer, frame.byteOffset);
  const half = (off: number) => view.getUint16(off, true);
  const length = ((udpLength & 0xff) << 8) | (udpLength >>> 8);
  return half(26) + half(28) + half(30) + half(32) + (17 << 8) + length;
}
