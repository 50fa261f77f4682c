// Notifications: a subscribed socket, read into memory as soon as it has something (wait.ts), and decoded when somebody
// asks. What the kernel had to drop (ENOBUFS) is told in its place in the order, and the subscription goes on.
import { SysError } from "../../ffi/errno.ts";
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "./constants.ts";
import type { Visit } from "./inbox.ts";
import { messageFlags } from "./message.ts";
import type { Netns } from "./netns.ts";
import { NetlinkSocket } from "./socket.ts";
import { type Watch, watch } from "./waiter.ts";

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
  onData: () => void = () => {};
  /** Called when the socket is of no more use. */
  onError: (error: unknown) => void = () => {};
  private readonly socket: NetlinkSocket;
  private readonly watched: Watch;
  private closed = false;

  /** Subscribed when this returns. @throws SysError */
  constructor({ netns, protocol, groups, receiveBytes = RECEIVE_BYTES }: FeedOptions) {
    this.socket = new NetlinkSocket({
      ...(netns && { netns }),
      ...(protocol !== undefined && { protocol }),
      receiveBuffer: receiveBytes,
      slots: 1,
      slotBytes: 64,
    });
    try {
      this.socket.join(...groups);
      this.watched = watch(this.socket.fd, () => this.readable());
    } catch (error) {
      this.socket.close();
      throw error;
    }
  }

  /** Times that events were lost. */
  get overruns(): number {
    return this.closed ? 0 : this.watched.inbox.overruns;
  }

  /**
   * Reads what the socket holds, now. False if it could not be read empty: something must be taken first.
   * @throws SysError
   */
  drain(): boolean {
    if (this.closed || this.watched.drain()) return true;
    const { error } = this.watched.inbox;
    if (error !== 0) throw new SysError("receive netlink events", -error);
    return false;
  }

  /** Shows the oldest messages, some of them; or says that some were lost here, or that there is nothing. */
  take(visit: Visit): "messages" | "overrun" | "nothing" {
    return this.closed ? "nothing" : this.watched.take(visit);
  }

  /** Whether something that was not taken yet is a message whose type passes, or a loss. */
  holds(test: (type: number) => boolean): boolean {
    return !this.closed && this.watched.inbox.holds(test);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.watched.close();
    this.socket.close();
  }

  private readable(): void {
    if (this.closed) return;
    const { error } = this.watched.inbox;
    if (error !== 0) this.onError(new SysError("receive netlink events", -error));
    else this.onData();
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
