// A link in memory, for tests and benches without root or kernel: frames are put in by inject() and read from sent(),
// or, as a hairpin, everything sent comes in again. It moves frames through descriptor rings laid out as AF_XDP's
// (struct xdp_desc: u64 offset, u32 length, u32 options; cursors free-running u32), so that a loop over it pays what
// a ring costs, and a C program can run over the very same memory.
//
//   byte 0    producer   byte 64  consumer   byte 128  `size` descriptors of 16 bytes
//
// Cursors are loaded and stored plainly: on x86 loads are not reordered with loads, nor stores with stores, nor a store
// with earlier loads, and the compiler keeps typed arrays' accesses in order. An Atomics call costs 5 ns.
import { releaseFrames } from "../mem/frames.ts";
import { type FramePlace, placeFrames } from "../mem/views.ts";
import type { Batch, Link } from "./link.ts";

const DESC = 32; // word of the first descriptor
const PRODUCER = 0; // words of the cursors
const CONSUMER = 16;

export class SimRing {
  readonly words: Int32Array;
  /** Takes up to `max` descriptors; returns how many. */
  readonly take: (off: Int32Array, len: Int32Array, max: number) => number;
  /** Puts `n` descriptors as far as there is room; returns how many. */
  readonly put: (off: Int32Array, len: Int32Array, n: number) => number;

  constructor(buffer: ArrayBufferLike, byteOffset: number, size: number) {
    const words = new Int32Array(buffer, byteOffset, DESC + size * 4);
    const mask = size - 1;
    this.words = words;

    this.take = (off, len, max) => {
      const consumer = words[CONSUMER]!;
      const ready = (words[PRODUCER]! - consumer) | 0;
      const n = ready < max ? ready : max;
      for (let i = 0; i < n; i++) {
        const d = (DESC + (((consumer + i) & mask) << 2)) | 0;
        len[i] = words[d + 2]!;
        off[i] = words[d]!;
      }
      words[CONSUMER] = (consumer + n) | 0;
      return n;
    };

    this.put = (off, len, n) => {
      const producer = words[PRODUCER]!;
      const room = (size - (producer - words[CONSUMER]!)) | 0;
      const m = n < room ? n : room;
      for (let i = 0; i < m; i++) {
        const d = (DESC + (((producer + i) & mask) << 2)) | 0;
        words[d + 2] = len[i]!;
        words[d] = off[i]!;
      }
      words[PRODUCER] = (producer + m) | 0;
      return m;
    };
  }

  static bytes(size: number): number {
    return (DESC + size * 4) * 4;
  }
}

export class SimLink implements Link {
  readonly memory: WebAssembly.Memory;
  readonly place: FramePlace;
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  readonly fd: number = -1;
  readonly rx: SimRing;
  readonly tx: SimRing;
  readonly framesOff: number;
  readonly frames: number;
  readonly frameBytes: number;
  private readonly free: number[] = [];

  /**
   * @param size frames, and slots of each ring: a power of two; @param hairpin what is sent is received again
   * @param room bytes behind the frames, for clients' memory; @param regions and of regions behind that (mem/views.ts)
   */
  constructor(size = 1024, frameBytes = 2048, hairpin = false, room = 0, regions: readonly number[] = []) {
    const ring = SimRing.bytes(size);
    this.framesOff = Math.ceil((2 * ring) / 4096) * 4096;
    this.frames = size;
    this.frameBytes = frameBytes;
    const bytes = this.framesOff + size * frameBytes;
    this.place = placeFrames(bytes, room, regions);
    this.memory = this.place.memory;
    const { buffer } = this.memory;
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.rx = new SimRing(buffer, 0, size);
    this.tx = hairpin ? this.rx : new SimRing(buffer, ring, size);
    for (let i = size - 1; i >= 0; i--) this.free.push(this.framesOff + i * frameBytes);
  }

  receive(batch: Batch, max: number): void {
    batch.n = this.rx.take(batch.off, batch.len, max);
  }

  transmit(batch: Batch): number {
    return this.tx.put(batch.off, batch.len, batch.n);
  }

  release(batch: Batch): void {
    for (let i = 0; i < batch.drops; i++) this.recycle(batch.dropped[i]!);
  }

  take(): number {
    return this.free.pop() ?? -1;
  }

  takeMany(off: Int32Array, from: number, start: number): number {
    let i = from;
    for (; i < off.length && this.free.length > 0; i++) off[i] = this.free.pop()! + start;
    return i;
  }

  maintain(): boolean {
    return false;
  }

  /** Test side: one frame arrives. False if no frame or slot is free. `at` is where it starts: at 2 mod 4, IPv4 lies in whole words. */
  inject(frame: Uint8Array, at = 2): boolean {
    const base = this.free.pop();
    if (base === undefined) return false;
    this.bytes.set(frame, base + at);
    if (this.rx.put(Int32Array.of(base + at), Int32Array.of(frame.length), 1) === 1) return true;
    this.free.push(base);
    return false;
  }

  /** Test side: takes what was transmitted, as copies. */
  sent(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    const off = new Int32Array(1);
    const len = new Int32Array(1);
    while (this.tx.take(off, len, 1) === 1) {
      frames.push(this.bytes.slice(off[0], off[0]! + len[0]!));
      this.recycle(off[0]!);
    }
    return frames;
  }

  /** Frames that neither ring nor loop holds. */
  get freeFrames(): number {
    return this.free.length;
  }

  recycle(off: number): void {
    this.free.push(off - ((off - this.framesOff) % this.frameBytes));
  }

  close(): void {
    releaseFrames(this.memory);
  }
}
