// A ring: fixed-size messages from one producer thread to one consumer thread, in shared memory.
//
//   byte 0    producer cursor (u32, free running)   written by the producer
//   byte 64   consumer cursor (u32, free running)   written by the consumer
//   byte 128  slots, 32 bytes each: 8 words, meaning given by who uses the ring
//
// Legal transitions: the producer writes slot `prod % slots` while prod - cons < slots, then prod + 1;
// the consumer reads slot `cons % slots` while cons != prod, then cons + 1. A full ring refuses: the caller counts.

const WORDS = 8;
const HEAD = 32; // words before the first slot
const CONS = 16; // word of the consumer cursor

export class Ring {
  private readonly words: Int32Array;
  private readonly mask: number;

  /** Bytes that a ring of `slots` messages takes; `slots` is a power of two. */
  static bytes(slots: number): number {
    return (HEAD + slots * WORDS) * 4;
  }

  /** A view of the ring at `byteOffset` (a multiple of 4) of zeroed or already used shared memory. */
  constructor(buffer: ArrayBuffer, byteOffset: number, slots: number) {
    if (slots <= 0 || (slots & (slots - 1)) !== 0)
      throw new RangeError(`ring of ${slots} slots: not a power of two`);
    this.words = new Int32Array(buffer, byteOffset, HEAD + slots * WORDS);
    this.mask = slots - 1;
  }

  /** Messages waiting. */
  get length(): number {
    return (Atomics.load(this.words, 0) - Atomics.load(this.words, CONS)) >>> 0;
  }

  /** Producer: appends one message; false (and nothing written) if the ring is full. */
  push(w0: number, w1: number, w2 = 0, w3 = 0, w4 = 0, w5 = 0, w6 = 0, w7 = 0): boolean {
    const { words } = this;
    const prod = Atomics.load(words, 0);
    if ((prod - Atomics.load(words, CONS)) >>> 0 > this.mask) return false;
    const at = HEAD + (prod & this.mask) * WORDS;
    words[at] = w0;
    words[at + 1] = w1;
    words[at + 2] = w2;
    words[at + 3] = w3;
    words[at + 4] = w4;
    words[at + 5] = w5;
    words[at + 6] = w6;
    words[at + 7] = w7;
    Atomics.store(words, 0, prod + 1);
    return true;
  }

  /** Consumer: copies the oldest message into `out[0..7]`; false if there is none. */
  pop(out: Int32Array): boolean {
    const { words } = this;
    const cons = Atomics.load(words, CONS);
    if (cons === Atomics.load(words, 0)) return false;
    const at = HEAD + (cons & this.mask) * WORDS;
    for (let i = 0; i < WORDS; i++) out[i] = words[at + i]!;
    Atomics.store(words, CONS, cons + 1);
    return true;
  }
}
