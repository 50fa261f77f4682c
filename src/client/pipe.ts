// A client's way to and from the daemon, in one shape for both kinds: shared memory (memifpipe.ts) and a Unix socket
// (unixpipe.ts). All frames lie in one memory, each at an even offset; an IP header always begins at a whole word.
//
//   receive -> frames 0..n of a Frames: looked at and changed where they lie -> reply (some) -> release
//   take -> a free buffer is filled -> push                                  -> flush sends replies and pushed frames
//
// A reply costs no copy: its buffer goes to the sending side, which gives a free one for it.
import { Batch } from "../link/link.ts";

export interface Pipe {
  readonly kind: "memif" | "unix";
  /** Where the IP header begins in a frame: 14, or 0 where packets come bare. */
  readonly head: number;
  readonly memory: WebAssembly.Memory;
  /** Longest frame that fits. */
  readonly longest: number;
  /** An epoll's. After `arm`: readable when frames have come, or the daemon has gone; once it is waited for, until more come. */
  readonly fd: number;
  /** Takes what has come into `batch.off/len/n`; it stays there until `release`. */
  receive(batch: Batch): void;
  /** Received frame `i`, as it is now, is to be sent, `len` bytes of it. False if there is no room. */
  reply(i: number, len: number): boolean;
  /** Gives the received frames back. */
  release(): void;
  /** Offset of a free buffer, or -1; the same one until `push`. */
  take(): number;
  /** What `take` gave holds a frame of `len` bytes. */
  push(len: number): void;
  /** Sends replies and pushed frames. What the daemon has no room for stays, and goes with the next flush. */
  flush(): void;
  /** Frames that wait for `flush`. */
  readonly staged: number;
  /** Asks to be woken. False if frames have come already, or the daemon is gone: nobody will be. */
  arm(): boolean;
  /** No more. */
  disarm(): void;
  /** Whether frames have come, as far as that can be seen without a system call. */
  readonly hasFrames: boolean;
  /** Why the daemon is gone, or empty. A system call. */
  gone(): string;
  close(): void;
}

/** Frames as they have come. Good until the callback that was given them returns. */
export class Frames extends Batch {
  /** All memory: frame `i` is the `len[i]` bytes at `off[i]`. */
  readonly bytes: Uint8Array<ArrayBufferLike>;
  readonly words: Int32Array<ArrayBufferLike>;
  private readonly pipe: Pipe;

  constructor(pipe: Pipe) {
    super();
    this.pipe = pipe;
    this.bytes = new Uint8Array(pipe.memory.buffer);
    this.words = new Int32Array(pipe.memory.buffer);
  }

  /** Frame `i` in place: a view, which is made anew each time. */
  frame(i: number): Uint8Array<ArrayBufferLike> {
    const off = this.off[i]!;
    return this.bytes.subarray(off, off + this.len[i]!);
  }

  /**
   * Sends frame `i`, as it is now, `len` bytes of it. Once a frame. False where the daemon does not keep up: it is lost.
   */
  reply(i: number, len: number = this.len[i]!): boolean {
    return this.pipe.reply(i, len);
  }
}
