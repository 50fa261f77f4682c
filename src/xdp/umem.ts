// The free frames of one UMEM: a stack of byte offsets, so that the frame used last, and still in the cache, goes out next.
// Owned by one net Worker. Nothing here checks for a frame that is released twice: the loop's tests do.
//
//   offset 0      frameBytes    2*frameBytes
//   | frame 0     | frame 1     | ...          a desc's address points into a frame; its low bits are the position there

/** Asked for in front of what is received, so that a frame starts at 2 mod 4 and its IPv4 header lies in whole words. */
export const FRAME_HEADROOM = 2;

/** The room in front of what is received: that, and what the kernel always leaves (XDP_PACKET_HEADROOM). */
export const RX_HEADROOM: number = 256 + FRAME_HEADROOM;

export class FrameStack {
  readonly frameBytes: number;
  readonly #offsets: Int32Array;
  readonly #mask: number;
  #n: number;

  /** All `frames` frames are free. @param frameBytes a power of two; frames * frameBytes at most 2 GiB */
  constructor(frames: number, frameBytes: number) {
    if (!isPowerOfTwo(frameBytes) || frames * frameBytes > 2 ** 31)
      throw new RangeError(
        `${frames} frames of ${frameBytes} bytes: a power of two, and at most 2 GiB in all`,
      );
    this.frameBytes = frameBytes;
    this.#mask = -frameBytes;
    this.#offsets = new Int32Array(frames);
    // Downwards, so that the first frames are handed out first.
    for (let i = 0; i < frames; i++) this.#offsets[i] = (frames - 1 - i) * frameBytes;
    this.#n = frames;
  }

  get free(): number {
    return this.#n;
  }

  /** The offset of a frame that is now the caller's, or -1 if none is free. */
  take(): number {
    return this.#n > 0 ? this.#offsets[--this.#n]! : -1;
  }

  /** Gives back the frame that contains `address`, an offset into the UMEM. */
  release(address: number): void {
    this.#offsets[this.#n++] = address & this.#mask;
  }
}

const isPowerOfTwo = (n: number): boolean => n > 0 && (n & (n - 1)) === 0;
