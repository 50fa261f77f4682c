// What dump() of the library returns: an AsyncIterable of objects that are decoded as they are asked for, from a dump
// that was received whole (pull.ts).
import { SysError } from "../../ffi/errno.ts";
import { messageLength } from "./message.ts";
import type { Blocks } from "./pull.ts";

const EBADMSG = 74;

export type Decode<T> = (words: Int32Array, bytes: Uint8Array, off: number, len: number) => T | undefined;

/** Objects of a dump. `for await` shows them one by one; toArray gives all of them at once, which is faster. */
export class Dump<T> implements AsyncIterable<T> {
  private readonly pull: () => Promise<Blocks[]>;
  private readonly decode: Decode<T>;
  private readonly matches: ((object: T) => boolean) | undefined;
  private readonly signal: AbortSignal | undefined;

  constructor(
    pull: () => Promise<Blocks[]>,
    decode: Decode<T>,
    matches: ((object: T) => boolean) | undefined,
    signal: AbortSignal | undefined,
  ) {
    this.pull = pull;
    this.decode = decode;
    this.matches = matches;
    this.signal = signal;
  }

  /** Asks the kernel anew each time. */
  [Symbol.asyncIterator](): AsyncIterator<T> {
    let objects: Iterator<T> | undefined;
    const { signal } = this;
    const started = async (): Promise<IteratorResult<T>> => {
      objects = this.objects(await this.pull());
      return objects.next();
    };
    return {
      async next() {
        if (objects === undefined) return started();
        signal?.throwIfAborted();
        return objects.next();
      },
      async return() {
        objects = [][Symbol.iterator]();
        return { done: true, value: undefined };
      },
    };
  }

  async toArray(): Promise<T[]> {
    const blocks = await this.pull();
    const all: T[] = [];
    for (const object of this.objects(blocks)) all.push(object);
    return all;
  }

  private *objects(dumps: Blocks[]): Generator<T> {
    const { decode, matches } = this;
    // What was decoded is given back to the collector.
    for (const { blocks } of dumps)
      for (let block = blocks.shift(); block; block = blocks.shift()) {
        const { words, bytes, length } = block;
        let off = 0;
        for (let len: number; (len = messageLength(words, off, length)) > 0; off += (len + 3) & ~3) {
          const object = decode(words, bytes, off, len);
          if (object === undefined) throw new SysError("decode netlink dump", EBADMSG);
          if (matches === undefined || matches(object)) yield object;
        }
      }
  }
}
