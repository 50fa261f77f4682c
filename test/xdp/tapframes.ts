// The tap as a test sees it: frames that the kernel sent to a client, and frames back. And what is in a UDP frame.
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import type { Tap } from "../../src/xdp/tap.ts";
import { internetChecksum } from "../net/packet.ts";
import { until } from "../net/wait.ts";

const buffer = new Uint8Array(new ArrayBuffer(65536));

/** The next frame that came out, or undefined. */
export function receive(tap: Tap): Uint8Array<ArrayBuffer> | undefined {
  const length = Number(libc.read(tap.fd, ptr(buffer), buffer.length));
  return length < 0 ? undefined : buffer.slice(0, length);
}

/** All that came out and was not taken yet. */
export function drain(tap: Tap): Uint8Array<ArrayBuffer>[] {
  const frames: Uint8Array<ArrayBuffer>[] = [];
  for (let next: Uint8Array<ArrayBuffer> | undefined; (next = receive(tap)); ) frames.push(next);
  return frames;
}

/** Waits for a frame that `wanted` likes; others are thrown away. */
export const next = (tap: Tap, what: string, wanted: (frame: Uint8Array) => unknown) =>
  until(what, () => drain(tap).find(wanted));

export function send(tap: Tap, frame: Uint8Array<ArrayBuffer>): void {
  if (Number(libc.write(tap.fd, ptr(frame), frame.length)) !== frame.length) throw new Error("write to tap");
}

export interface Udp {
  family: 4 | 6;
  src: string;
  dst: string;
  sport: number;
  dport: number;
  payload: Buffer;
  checksumRight: boolean;
}

/** An untagged, unfragmented UDP frame taken apart; undefined if it is something else. */
export function udpOf(frame: Uint8Array): Udp | undefined {
  const bytes = Buffer.from(frame);
  const type = bytes.readUInt16BE(12);
  const family = type === 0x0800 ? 4 : type === 0x86dd ? 6 : 0;
  if (family === 0 || bytes[family === 4 ? 23 : 20] !== 17) return undefined;
  const l4 = family === 4 ? 14 + (bytes[14]! & 15) * 4 : 54;
  const length = bytes.readUInt16BE(l4 + 4);
  const addresses = family === 4 ? bytes.subarray(26, 34) : bytes.subarray(22, 54);
  const size = addresses.length / 2;
  const segment = bytes.subarray(l4, l4 + length);
  const pseudo = [...addresses, 0, 17, length >> 8, length & 255, ...segment];
  return {
    family,
    src: addresses.subarray(0, size).toString("hex"),
    dst: addresses.subarray(size).toString("hex"),
    sport: bytes.readUInt16BE(l4),
    dport: bytes.readUInt16BE(l4 + 2),
    payload: segment.subarray(8),
    checksumRight: internetChecksum(pseudo) === 0,
  };
}

export const isArp = (frame: Uint8Array): boolean => frame[12] === 8 && frame[13] === 6;
