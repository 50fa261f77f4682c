// A link is what frames come from and go to: an AF_XDP queue, later a client's channel, or memory (sim).
// The net loop knows no other shape. Frames lie in `words`, each at a 4-byte aligned offset; a Batch carries
// where. A frame belongs to the loop from receive() until it goes back by transmit() or release().

/** Frames per batch at most, unless a loop is made for another number: 64 keeps descriptors and headers of one batch in the first-level cache. */
export const BATCH = 64;
/** Frames that a client by memif is asked for at once: what that costs beside them is 1 ns a frame then. As many as VPP's. */
export const VECTOR = 256;

/** Private to the loop: what the rings hold is copied here once, so that nobody can change it afterwards. */
export class Batch {
  /** Frames received, then those to transmit: byte offset into the link's memory, length in bytes. */
  readonly off: Int32Array;
  readonly len: Int32Array;
  n = 0;
  /** Frames dropped: their offsets, to be given back. */
  readonly dropped: Int32Array;
  drops = 0;

  /** @param off, len arrays of that size, where they are not to be its own */
  constructor(size: number = BATCH, off = new Int32Array(size), len = new Int32Array(size)) {
    this.off = off;
    this.len = len;
    this.dropped = new Int32Array(size);
  }
}

export interface Link {
  /** The memory that frames lie in (src/mem/frames.ts), and its words. */
  readonly memory: WebAssembly.Memory;
  readonly words: Int32Array;
  /** Takes up to `max` received frames into `batch.off/len`, sets `batch.n`. */
  receive(batch: Batch, max: number): void;
  /** Sends `batch.off/len[0..n)`; returns how many were accepted, from the front. The rest are given back. */
  transmit(batch: Batch): number;
  /** Gives `batch.dropped[0..drops)` back. */
  release(batch: Batch): void;
  /** Where a free frame begins, to fill and transmit or release; -1 if there is none. For what goes out without having come in. */
  take(): number;
  /** Puts where free frames begin, plus `start`, into `off[from..)`, as many as there are; returns where it ended. */
  takeMany(off: Int32Array, from: number, start: number): number;
  /** How many frames there are, and bytes of a frame's memory. */
  readonly frames: number;
  readonly frameBytes: number;
  /** Once per turn of the loop: completions, refill, kicks. True while frames are on their way out. */
  maintain(): boolean;
  /** The fd that becomes readable when frames arrive, or -1 where there is nothing to wait on. */
  readonly fd: number;
}
