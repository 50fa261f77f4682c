// memif's rings, from the server's side. The memory is the client's, and so are all words in it: every one is read once,
// checked, and used from a local; frames are copied before anybody looks at them.
//
//   byte 0 cookie u32 | 4 flags u16 (1: no interrupts wanted) | 6 head u16 | 64 tail u16 | 128 descriptors of 16 bytes:
//   flags u16 (1: the frame goes on in the next one) | region u16 | length u32 | offset u32 | metadata u32
//
//   S2M, client to server   the client writes head; we take descriptors from tail on, and write tail
//   M2S, server to client   the client offers empty buffers by head; we fill them from tail on, and write tail
// So the server writes tail, and the lengths and flags of M2S descriptors. Cursors are free-running u16.
// A ring whose cursors or descriptors cannot be true is `broken`: the client is sent away.
import type { Batch } from "../link.ts";
import type { RingPlace } from "./session.ts";

export const COOKIE = 0x3e31f20;
/** Word of a ring's first descriptor. */
export const DESCRIPTORS = 32;
const TAIL = 16;
const HEAD = 1; // in the upper half
const NEXT = 1;
const MASK_INTERRUPTS = 1;
/** Descriptors a frame at most: 2^14 slots of a byte each are no frame, but work. */
const CHAIN = 64;
/** And at one time, about: a ring full of frames that are none is no turn's work. */
const LOOKS = 256;

/** A client's regions as they are mapped. */
export interface Mapped {
  /** Offset of each region in the frame memory, -1 where there is none; by index, 256 of them. */
  readonly offs: Int32Array;
  /** Bytes of each; 0 where there is none. */
  readonly bytes: Int32Array;
}

/** Before the client is told that it is connected: its ring begins empty. Returns what is wrong with it, or "". */
export function beginRing(words: Int32Array, mapped: Mapped, ring: RingPlace): string {
  const base = (mapped.offs[ring.region]! + ring.offset) >>> 2;
  if (words[base] !== COOKIE) return "a ring without its cookie";
  words[base + HEAD] = words[base + HEAD]! & 0xffff;
  words[base + TAIL] = 0;
  return "";
}

export class Side {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  /** What the client has done that it may not; empty as long as all is well. */
  broken = "";
  /** Word of the ring in the frame memory, and its slots. */
  readonly base: number;
  readonly size: number;
  readonly mapped: Mapped;
  /** The region that it lies in; most often its buffers do too. */
  readonly region: number;
  protected tail = 0;

  /** @param memory the frame memory that the client's regions are mapped into; the ring was begun (beginRing) */
  constructor(memory: WebAssembly.Memory, mapped: Mapped, ring: RingPlace) {
    this.words = new Int32Array(memory.buffer);
    this.bytes = new Uint8Array(memory.buffer);
    this.mapped = mapped;
    this.base = (mapped.offs[ring.region]! + ring.offset) >>> 2;
    this.size = 2 ** ring.log2;
    this.region = ring.region;
  }

  /** The next descriptor that is ours to take. */
  get cursor(): number {
    return this.tail;
  }

  /** Descriptors that the client has put there and we have not taken. */
  ready(): number {
    const { words } = this;
    const at = this.base + HEAD;
    // Loads are in order on x86; the Atomics one, which takes the line from the client, only where there seems to be nothing.
    let n = ((words[at]! >>> 16) - this.tail) & 0xffff;
    if (n === 0) n = ((Atomics.load(words, at) >>> 16) - this.tail) & 0xffff;
    if (n <= this.size) return n;
    this.broken = `a ring of ${this.size} slots with ${n} in it`;
    return 0;
  }

  /** Word of descriptor `cursor`. */
  protected descriptor(cursor: number): number {
    return this.base + DESCRIPTORS + ((cursor & (this.size - 1)) << 2);
  }

  /** Where the `length` bytes at `offset` of a region are, or -1. */
  protected place(region: number, offset: number, length: number): number {
    const at =
      region < 256 && offset + length <= this.mapped.bytes[region]! ? this.mapped.offs[region]! + offset : -1;
    if (at < 0) this.broken = `a descriptor of ${length} bytes at ${offset} of region ${region}`;
    return at;
  }

  /** All descriptors before `cursor` are the client's again. */
  publish(cursor: number): void {
    this.tail = cursor & 0xffff;
    // A fence as well: who goes to sleep says so before it looks at this, and we look whether it does after it.
    Atomics.store(this.words, this.base + TAIL, this.tail);
  }
}

export class FromClient extends Side {
  /** Frames without a byte, and those that were too long for one of ours; whoever counts them sets it back. */
  dropped = 0;

  /** While we poll, the client need not wake us. */
  interrupts(wanted: boolean): void {
    const at = this.base + HEAD;
    if (wanted) Atomics.and(this.words, at, ~MASK_INTERRUPTS);
    else Atomics.or(this.words, at, MASK_INTERRUPTS);
  }

  /** Whether frames wait. */
  get waiting(): boolean {
    return this.broken === "" && this.ready() > 0;
  }

  /**
   * Copies up to `max` frames, of the next `ready` descriptors, to `skip` bytes behind where `batch.off[n..max)` says, at most `room`
   * bytes each; sets `batch.len` and adds to `batch.n`. Frames that do not fit are dropped and counted.
   */
  rest(batch: Batch, max: number, room: number, skip: number, ready: number): void {
    const { words, bytes } = this;
    let left = ready;
    let cursor = this.tail;
    while (left > 0 && batch.n < max && ready - left < LOOKS) {
      const start = batch.off[batch.n]! + skip;
      let len = 0;
      let parts = 0;
      let more = true;
      while (more) {
        if (parts++ === CHAIN || left === 0) {
          // A frame is put there whole, head behind its last part: half a one is never on its way.
          this.broken =
            left === 0 ? "a frame that goes on behind the ring's head" : `a frame of over ${CHAIN} parts`;
          this.publish(cursor);
          return;
        }
        const d = this.descriptor(cursor);
        const w0 = words[d]!;
        const length = words[d + 1]! >>> 0;
        const at = this.place(w0 >>> 16, words[d + 2]! >>> 0, length);
        if (at < 0) return;
        if (len + length <= room) bytes.copyWithin(start + len, at, at + length);
        len += length;
        cursor = (cursor + 1) & 0xffff;
        left--;
        more = (w0 & NEXT) !== 0;
      }
      if (len > room || len === 0) this.dropped++;
      else batch.len[batch.n++] = len;
    }
    this.publish(cursor);
  }
}

export class ToClient extends Side {
  /** Others may have written meanwhile: goes on where the ring says. A client that changes that spoils its own frames. */
  resume(): void {
    this.tail = this.words[this.base + TAIL]! & 0xffff;
  }

  /** Whether the client wants to be woken for what it has got. */
  get wantsInterrupt(): boolean {
    return (Atomics.load(this.words, this.base + HEAD) & MASK_INTERRUPTS) === 0;
  }

  /**
   * Copies `batch.off/len[from..n)` into the client's buffers, of the next `space` descriptors; returns how many frames of the batch are
   * there then: there is no room for more.
   */
  rest(batch: Batch, from: number, space: number): number {
    const { words, bytes } = this;
    let left = space;
    let cursor = this.tail;
    let done = from;
    for (; done < batch.n && left > 0; done++) {
      const first = cursor;
      let off = batch.off[done]!;
      let rest = batch.len[done]!;
      while (rest > 0 && left > 0) {
        const d = this.descriptor(cursor);
        const room = words[d + 1]! >>> 0;
        const to = this.place((words[d]! >>> 16) & 0xffff, words[d + 2]! >>> 0, room);
        if (to < 0 || room === 0) {
          this.broken ||= "an empty buffer of no bytes";
          return done;
        }
        const part = Math.min(room, rest);
        bytes.copyWithin(to, off, off + part);
        off += part;
        rest -= part;
        words[d + 1] = part;
        words[d] = (words[d]! & ~0xffff) | (rest > 0 ? NEXT : 0);
        cursor = (cursor + 1) & 0xffff;
        left--;
      }
      if (rest > 0) {
        cursor = first; // the client sees none of it: tail stays where it was
        break;
      }
    }
    if (done > from) this.publish(cursor);
    return done;
  }
}
