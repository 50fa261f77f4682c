// Messages: how received ones are walked, and the buffer in which requests are written.
//   struct nlmsghdr: u32 length with these 16 bytes | u16 type | u16 flags | u32 seq | u32 portid (linux/netlink.h)
// then the kind's own fixed header, then attributes (attribute.ts). Everything starts on 4 bytes; host byte order.
import { NLA_F_NESTED } from "./attribute.ts";
import { NLM_F_REQUEST } from "./constants.ts";

/**
 * Length of the message at byte `off` of a datagram that ends at `end`, or 0 if none fits there.
 * The walk: `for (let len; (len = messageLength(words, off, end)) > 0; off += (len + 3) & ~3)`; what remains then
 * (`off < end`) is malformed.
 */
export function messageLength(words: Int32Array, off: number, end: number): number {
  if (end - off < 16) return 0;
  const len = words[off >> 2]!;
  return len >= 16 && len <= end - off ? len : 0;
}

export const messageType = (words: Int32Array, off: number): number => words[(off >> 2) + 1]! & 0xffff;
export const messageFlags = (words: Int32Array, off: number): number => words[(off >> 2) + 1]! >>> 16;
/** Who asked for it; 0: the kernel by itself. */
export const messagePort = (words: Int32Array, off: number): number => words[(off >> 2) + 3]!;
export const messageSeq = (words: Int32Array, off: number): number => words[(off >> 2) + 2]! >>> 0;

const FIRST_BYTES = 32 * 1024;

/**
 * A run of requests, in one buffer that grows, each with the next sequence number. `begin` starts a message and
 * whatever is added until the next `begin` is in it; its length is always right. The buffer may move in any call:
 * take `bytes` and `words` anew after each.
 */
export class Requests {
  words: Int32Array = new Int32Array(FIRST_BYTES / 4);
  bytes: Uint8Array = new Uint8Array(this.words.buffer);
  /** Bytes written. */
  length = 0;
  /** Messages written, and the sequence number of the first. */
  count = 0;
  firstSeq = 1;
  private start = 0;

  /** Forgets what was written; sequence numbers go on. */
  reset(): void {
    this.firstSeq = (this.firstSeq + this.count) >>> 0 || 1;
    this.length = this.count = this.start = 0;
  }

  /** Goes back to what there was: `length` bytes in `count` messages. */
  truncate(length: number, count: number): void {
    this.length = this.start = length;
    this.count = count;
  }

  /** A message of `type` with `headerBytes` zeroes after nlmsghdr; returns the byte offset of those. */
  begin(type: number, flags: number, headerBytes: number): number {
    const start = this.length;
    this.start = start;
    this.reserve(16 + headerBytes);
    const w = start >> 2;
    this.words[w + 1] = type | ((flags | NLM_F_REQUEST) << 16);
    this.words[w + 2] = this.firstSeq + this.count++;
    return start + 16;
  }

  u8(type: number, value: number): void {
    this.bytes[this.attribute(type, 1)] = value;
  }

  u16(type: number, value: number): void {
    this.words[this.attribute(type, 2) >> 2] = value & 0xffff;
  }

  u32(type: number, value: number): void {
    const off = this.attribute(type, 4);
    this.words[off >> 2] = value;
  }

  flag(type: number): void {
    this.attribute(type, 0);
  }

  raw(type: number, payload: ArrayLike<number>): void {
    const off = this.attribute(type, payload.length);
    this.bytes.set(payload, off);
  }

  /** A NUL-terminated string. */
  text(type: number, value: string): void {
    const encoded = new TextEncoder().encode(value);
    const off = this.attribute(type, encoded.length + 1);
    this.bytes.set(encoded, off);
  }

  /** The first `count` words: an address of 4 bytes (1) or 16 (4). */
  address(type: number, words: ArrayLike<number>, count: number): void {
    const off = this.attribute(type, count * 4);
    for (let i = 0; i < count; i++) this.words[(off >> 2) + i] = words[i]!;
  }

  /** Opens an attribute that holds what is added until `end(mark)`; older nests go without NLA_F_NESTED. */
  nest(type: number, flagged = true): number {
    return this.attribute(flagged ? type | NLA_F_NESTED : type, 0) - 4;
  }

  /** Closes the nest (or rtnexthop: any u16 length) at `mark`. @throws RangeError where 16 bits do not hold it */
  end(mark: number): void {
    const length = this.length - mark;
    if (length > 0xffff) throw new RangeError(`netlink attribute of ${length} bytes: at most 65535 fit`);
    const w = mark >> 2;
    this.words[w] = (this.words[w]! & ~0xffff) | length;
  }

  /** Zeroed room inside the message, for a struct that is no attribute; returns its byte offset. */
  room(bytes: number): number {
    const off = this.length;
    this.reserve(bytes);
    return off;
  }

  /** The attribute's head, and zeroed room for its payload, whose byte offset is returned. */
  private attribute(type: number, length: number): number {
    if (length > 0xffff - 4)
      throw new RangeError(`netlink attribute ${type & 0x3fff} of ${length} bytes: at most 65531 fit`);
    const off = this.length;
    this.reserve(4 + length);
    this.words[off >> 2] = (4 + length) | (type << 16);
    return off + 4;
  }

  private reserve(bytes: number): void {
    const off = this.length;
    const next = off + ((bytes + 3) & ~3);
    if (next > this.bytes.length) this.grow(next);
    const { words } = this;
    // A call of `fill` costs more than most attributes are long.
    if (bytes > 64) words.fill(0, off >> 2, next >> 2);
    else for (let w = off >> 2; w < next >> 2; w++) words[w] = 0;
    this.length = next;
    this.words[this.start >> 2] = next - this.start;
  }

  private grow(least: number): void {
    const words = new Int32Array((2 ** Math.ceil(Math.log2(least)) + FIRST_BYTES) / 4);
    words.set(this.words);
    this.words = words;
    this.bytes = new Uint8Array(words.buffer);
  }
}

/** Byte offset of the `index`th message of a run, counted from the one at `off`. */
export function messageAt(words: Int32Array, index: number, off = 0): number {
  while (index-- > 0) off += (words[off >> 2]! + 3) & ~3;
  return off;
}
