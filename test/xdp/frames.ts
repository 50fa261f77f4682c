// Frames for the steering program, made of parts that a test may bend. Each function gives fresh bytes.
import { MAC, PEER_MAC } from "./card.ts";

export const ETH_P_IP = 0x0800;
export const ETH_P_IPV6 = 0x86dd;
export const ETH_P_8021Q = 0x8100;
export const ETH_P_8021AD = 0x88a8;
export const UDP = 17;
export const TCP = 6;

export const u16 = (n: number): number[] => [(n >> 8) & 0xff, n & 0xff];
export const concat = (...parts: ArrayLike<number>[]): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(parts.flatMap((part) => [...Array.from(part)]));

export const ADDRESS4 = [10, 77, 0, 1];
export const ADDRESS6 = [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

export const words = (bytes: number[]): Int32Array => new Int32Array(Uint8Array.from(bytes).buffer);

/** `tags`: [tpid, tci] pairs, outer first. */
export function ethernet(
  ethertype: number,
  payload: ArrayLike<number>,
  tags: [tpid: number, tci: number][] = [],
  dst: Uint8Array = MAC,
): Uint8Array<ArrayBuffer> {
  return concat(
    dst,
    PEER_MAC,
    ...tags.map(([tpid, tci]) => [...u16(tpid), ...u16(tci)]),
    u16(ethertype),
    payload,
  );
}

interface Ipv4 {
  version?: number;
  ihl?: number;
  total?: number;
  fragment?: number;
  proto?: number;
  dst?: number[];
}

/** With IHL over 5, options of NOPs lie between header and payload. */
export function ipv4(payload: ArrayLike<number>, fields: Ipv4 = {}): Uint8Array<ArrayBuffer> {
  const { version = 4, ihl = 5, fragment = 0, proto = UDP, dst = ADDRESS4 } = fields;
  const options = new Uint8Array(Math.max(0, ihl * 4 - 20)).fill(1);
  const total = fields.total ?? 20 + options.length + payload.length;
  const head = [(version << 4) | ihl, 0, ...u16(total), 0, 0, ...u16(fragment), 64, proto, 0, 0];
  return concat(head, [10, 77, 0, 2], dst, options, payload);
}

interface Ipv6 {
  version?: number;
  length?: number;
  next?: number;
  dst?: number[];
}

export function ipv6(payload: ArrayLike<number>, fields: Ipv6 = {}): Uint8Array<ArrayBuffer> {
  const { version = 6, length = payload.length, next = UDP, dst = ADDRESS6 } = fields;
  return concat([version << 4, 0, 0, 0, ...u16(length), next, 64], ADDRESS6.slice(0, 15), [2], dst, payload);
}

/** An extension header of `units` * 8 + 8 bytes in front of `payload`. */
export function extension(
  next: number,
  payload: ArrayLike<number>,
  units = 0,
  segmentsLeft = 0,
): Uint8Array<ArrayBuffer> {
  const rest = new Uint8Array(units * 8 + 8 - 4);
  return concat([next, units, 0, segmentsLeft], rest, payload);
}

export const udp = (
  port: number,
  data: ArrayLike<number> = [1, 2, 3, 4],
  length = 8 + data.length,
): Uint8Array<ArrayBuffer> => concat(u16(1000), u16(port), u16(length), [0, 0], data);

export const tcp = (port: number, data: ArrayLike<number> = [], dataOffset = 5): Uint8Array<ArrayBuffer> =>
  concat(
    u16(1000),
    u16(port),
    [0, 0, 0, 1, 0, 0, 0, 0, dataOffset << 4, 2, 0xff, 0xff, 0, 0, 0, 0],
    new Uint8Array(Math.max(0, dataOffset * 4 - 20)),
    data,
  );
