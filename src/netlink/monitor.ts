// Notifications: a subscribed socket, read into memory as soon as it has something, and decoded when somebody asks.
// What the kernel had to drop (ENOBUFS) is told in its place in the order, and the subscription goes on.
import { SysError } from "../../ffi/errno.ts";
import {
  EAGAIN,
  ENOBUFS,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLMSG_OVERRUN,
} from "./constants.ts";
import { messageFlags, messageLength, messageType } from "./message.ts";
import type { Netns } from "./netns.ts";
import { Blocks } from "./pull.ts";
import { NetlinkSocket } from "./socket.ts";
import { type Watch, watch } from "./waiter.ts";

const SLOTS = 32;
const SLOT_BYTES = 64 << 10;
/** What is taken before others have their turn. */
const TURN = 256;
/** Of a block that is decoded at once. */
const LEAST_BYTES = 64 << 10;
/** Undecoded bytes that are kept; beyond that, events wait in the socket. */
const MOST_BYTES = 64 << 20;

export const RECEIVE_BYTES: number = 32 << 20;

export interface FeedOptions {
  netns?: Netns;
  protocol?: number;
  groups: readonly number[];
  /** of the socket; an event takes about 832 */
  receiveBytes?: number;
}

/** A socket's notifications, in order. `onData` is called when `take` has something, never inside of another call. */
export class Feed {
  readonly socket: NetlinkSocket;
  /** Times that events were lost. */
  overruns = 0;
  onData: () => void = () => {};
  /** Called when the socket is of no more use. */
  onError: (error: unknown) => void = () => {};
  private readonly watched: Watch;
  private readonly queue: (Blocks | "overrun")[] = [];
  private bytes = 0;
  private drops = 0;
  private losing = false;
  private closed = false;
  private full = false;

  /** Subscribed when this returns. @throws SysError */
  constructor({ netns, protocol, groups, receiveBytes = RECEIVE_BYTES }: FeedOptions) {
    this.socket = new NetlinkSocket({
      ...(netns && { netns }),
      ...(protocol !== undefined && { protocol }),
      receiveBuffer: receiveBytes,
      slots: SLOTS,
      slotBytes: SLOT_BYTES,
    });
    try {
      this.socket.join(...groups);
      this.watched = watch(this.socket.fd, () => this.readable());
    } catch (error) {
      this.socket.close();
      throw error;
    }
  }

  /**
   * Reads what the socket holds. True once it is empty: only then a loss is told, since until then the kernel adds
   * nothing, and what is still queued is from before. @throws SysError
   */
  drain(receives: number = Number.POSITIVE_INFINITY): boolean {
    const { socket } = this;
    for (let i = 0; i < receives; i++) {
      if (this.bytes > MOST_BYTES) {
        this.full = true;
        return false;
      }
      const n = socket.receive(SLOTS);
      if (n === -EAGAIN) {
        const drops = socket.drops();
        if (this.losing || socket.truncated > 0 || drops !== this.drops) {
          this.overruns++;
          this.queue.push("overrun");
          this.losing = false;
          socket.truncated = 0;
          this.drops = drops;
        }
        return true;
      }
      if (n === -ENOBUFS) this.losing = true;
      else if (n < 0) throw new SysError("receive netlink events", -n);
      for (let k = 0; k < n; k++) {
        this.append(socket.offset(k), socket.length(k));
        this.bytes += socket.length(k);
      }
    }
    return false;
  }

  /** The oldest messages that were read, about a MiB of them, or that some were lost here; undefined if there is nothing. */
  take(): Blocks | "overrun" | undefined {
    // A reader that never waits keeps the event loop, and so `readable`, from its turn: the socket must not fill meanwhile.
    if (!this.closed && this.queue.length > 0) this.drain(TURN);
    const next = this.queue.shift();
    if (next instanceof Blocks) this.bytes -= next.bytes;
    if (this.full && this.bytes < MOST_BYTES / 2) {
      this.full = false;
      queueMicrotask(() => this.readable());
    }
    return next;
  }

  /** Whether something that was not taken yet is a message whose type passes, or a loss. */
  holds(test: (type: number) => boolean): boolean {
    let found = false;
    for (const part of this.queue) {
      if (part === "overrun") return true;
      walk(part, (type) => {
        found ||= test(type);
      });
    }
    return found;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.watched.close();
    this.socket.close();
  }

  private append(off: number, length: number): void {
    let last = this.queue.at(-1);
    if (!(last instanceof Blocks) || last.blocks.length > 1)
      this.queue.push((last = new Blocks(LEAST_BYTES)));
    const before = last.bytes;
    last.append(this.socket.bytes, off, length);
    this.bytes += last.bytes - before;
  }

  private readable(): void {
    if (this.closed) return;
    let empty: boolean;
    try {
      empty = this.drain(TURN);
    } catch (error) {
      this.onError(error);
      return;
    }
    if (empty) this.watched.arm();
    else if (!this.full) setImmediate(() => this.readable());
    if (this.queue.length > 0) this.onData();
  }
}

/** How a notification's request said that it should be done. */
export interface ChangeFlags {
  replace?: true;
  create?: true;
  append?: true;
  exclusive?: true;
}

const FLAGS: readonly ChangeFlags[] = Array.from({ length: 16 }, (_, i) => {
  const flags = i << 8;
  return Object.freeze({
    ...(flags & NLM_F_REPLACE && { replace: true as const }),
    ...(flags & NLM_F_EXCL && { exclusive: true as const }),
    ...(flags & NLM_F_CREATE && { create: true as const }),
    ...(flags & NLM_F_APPEND && { append: true as const }),
  });
});

/** Shared objects: there are few different ones. */
export const changeFlags = (words: Int32Array, off: number): ChangeFlags =>
  FLAGS[(messageFlags(words, off) >>> 8) & 15]!;

/** Calls `visit` for every message of the blocks. */
export function walk(
  { blocks }: Blocks,
  visit: (type: number, words: Int32Array, bytes: Uint8Array, off: number, len: number) => void,
): void {
  for (const { words, bytes, length } of blocks) {
    let off = 0;
    for (let len: number; (len = messageLength(words, off, length)) > 0; off += (len + 3) & ~3) {
      const type = messageType(words, off);
      if (type > NLMSG_OVERRUN) visit(type, words, bytes, off, len);
    }
  }
}

/** Items as they come, for one reader; ends when the signal aborts, which is no error, or by `break`. */
export class Stream<T> implements AsyncIterable<T>, AsyncDisposable {
  private items: T[] = [];
  private at = 0;
  private waiting: ((result: IteratorResult<T>) => void) | undefined;
  private failure: unknown;
  private ended = false;
  /** Gives more items, if there are any: called when the last were read. */
  private readonly more: () => T[];
  private readonly closing: () => void;
  private readonly stop: () => void;
  private readonly signal: AbortSignal | undefined;

  constructor(more: () => T[], closing: () => void, signal: AbortSignal | undefined) {
    this.more = more;
    this.closing = closing;
    this.signal = signal;
    this.stop = () => this.close();
    if (signal?.aborted) this.close();
    else signal?.addEventListener("abort", this.stop, { once: true });
  }

  /** There may be more items. */
  wake(): void {
    const { waiting } = this;
    if (!waiting) return;
    const result = this.pop();
    if (!result) return;
    this.waiting = undefined;
    waiting(result);
  }

  /** Ends it with an error, after what there is. */
  fail(error: unknown): void {
    this.failure = error;
    this.close();
  }

  close(): void {
    if (this.ended) return;
    this.ended = true;
    this.signal?.removeEventListener("abort", this.stop);
    this.closing();
    this.waiting?.({ done: true, value: undefined });
    this.waiting = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    return {
      next: () => {
        const result = this.pop();
        if (result) return Promise.resolve(result);
        if (this.failure !== undefined) return Promise.reject(this.failure);
        if (this.ended) return Promise.resolve({ done: true, value: undefined });
        if (this.waiting) return Promise.reject(new Error("this stream is being read already"));
        return new Promise((resolve) => {
          this.waiting = resolve;
        });
      },
      return: async () => {
        this.close();
        return { done: true, value: undefined };
      },
    };
  }

  private pop(): IteratorResult<T> | undefined {
    if (this.at === this.items.length) {
      if (this.ended) return undefined;
      this.items = this.more();
      this.at = 0;
      if (this.items.length === 0) return undefined;
    }
    return { done: false, value: this.items[this.at++]! };
  }
}
