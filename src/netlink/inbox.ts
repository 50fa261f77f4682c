// Notifications between the socket and whoever decodes them. The kernel drops what does not fit into the socket's
// buffer, while memory of ours can wait: so a thread that does nothing else (wait.ts) moves them here as they come, and
// who asked for them decodes in place, when it gets to it.
//
//   word 0    bytes put in (free running)     by the reader
//   word 16   bytes taken out (free running)  by the decoder
//   word 32   who reads: NOBODY, THREAD or OWNER; only that one touches the socket and what is below
//   word 33   1: the decoder was told, and has not looked yet
//   word 34   1: there was no room, and the socket is not waited for until there is
//   word 35   1: closed, the socket too
//   word 36   the socket's fd
//   word 37   what the decoder's thread calls this
//   word 38   the socket's drop counter, as it was last seen
//   word 39   1: something was lost, but the socket has not been read empty since
//   word 40   -errno: the socket is of no more use
//   word 41   times that something was lost
//   word 42   1: the owner wants to read; the thread gives way
//   word 43   the position that is at the beginning; changes only while this is empty
//   word 44   1: the thread has begun with this
//   byte 4096.. messages, 4-byte aligned, their lengths in nlmsghdr. A length of 0: the next is at the beginning. A
//             type of NLMSG_OVERRUN: some were lost here.
import { libc } from "../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, unmap } from "../../ffi/memory.ts";
import { EAGAIN, ENOBUFS, NLMSG_OVERRUN } from "./constants.ts";
import { messageLength } from "./message.ts";
import { SLOT_BYTES, type Slots } from "./slots.ts";

const TAIL = 0;
const HEAD = 16;
const READER = 32;
const TOLD = 33;
const STALLED = 34;
const CLOSED = 35;
const FD = 36;
const TOKEN = 37;
const DROPS = 38;
const LOSING = 39;
const ERROR = 40;
const OVERRUNS = 41;
const WANTED = 42;
const BASE = 43;
const SERVED = 44;
const START = 4096;
/** Room for 600,000 notifications and more; what does not fit waits in the socket. */
const RING_BYTES = 64 << 20;
const MASK = RING_BYTES - 1;
const INBOX_BYTES = START + RING_BYTES;
/** An inbox that is empty begins at its beginning again, beyond this; and gives memory back, beyond that. */
const NEAR_BYTES = 1 << 20;
const KEPT_BYTES = 8 << 20;
const MADV_DONTNEED = 4;

/** Datagrams that one receive takes. */
export const DATAGRAMS = 32;
/** What one receive may take, and what is left over at the end of a lap. */
const MOST_BYTES = (DATAGRAMS + 1) * SLOT_BYTES;

const NOBODY = 0;
const THREAD = 1;
const OWNER = 2;

/** How `fill` ended: the socket is empty, or may hold more; there is no room here; the socket is of no more use. */
export type Filled = "empty" | "more" | "full" | "broken";

export type Visit = (type: number, words: Int32Array, bytes: Uint8Array, off: number, len: number) => void;

export class Inbox {
  readonly address: number;
  readonly words: Int32Array;
  readonly bytes: Uint8Array;

  /** One that another thread made. */
  constructor(address: number) {
    this.address = address;
    const buffer = bufferAt(address, INBOX_BYTES);
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
  }

  /** @throws SysError */
  static create(fd: number, token: number): Inbox {
    const inbox = new Inbox(mapPrivate(INBOX_BYTES, true));
    inbox.words[FD] = fd;
    inbox.words[TOKEN] = token;
    return inbox;
  }

  get fd(): number {
    return this.words[FD]!;
  }

  get token(): number {
    return this.words[TOKEN]!;
  }

  /** Thread: becomes the one who reads the socket; false if the owner does, or wants to. */
  claim(): boolean {
    const { words } = this;
    Atomics.store(words, SERVED, 1);
    return (
      Atomics.load(words, WANTED) === 0 && Atomics.compareExchange(words, READER, NOBODY, THREAD) === NOBODY
    );
  }

  /** Whether the thread has begun with this. */
  get served(): boolean {
    return Atomics.load(this.words, SERVED) === 1;
  }

  /** Owner: waits until the thread has let go of the socket, and becomes the one who reads it. */
  seize(): void {
    const { words } = this;
    Atomics.store(words, WANTED, 1);
    while (Atomics.compareExchange(words, READER, NOBODY, OWNER) !== NOBODY) libc.poll(null, 0, 1);
    Atomics.store(words, WANTED, 0);
  }

  yield(): void {
    Atomics.store(this.words, READER, NOBODY);
  }

  get closed(): boolean {
    return Atomics.load(this.words, CLOSED) === 1;
  }

  /** Owner, while it reads: the socket is closed next. */
  close(): void {
    Atomics.store(this.words, CLOSED, 1);
  }

  /** Owner: once no other thread will look at it any more. */
  free(): void {
    unmap(this.address, INBOX_BYTES);
  }

  get error(): number {
    return Atomics.load(this.words, ERROR);
  }

  get overruns(): number {
    return Atomics.load(this.words, OVERRUNS);
  }

  /** How far it was filled. */
  get position(): number {
    return Atomics.load(this.words, TAIL);
  }

  get empty(): boolean {
    return Atomics.load(this.words, TAIL) === Atomics.load(this.words, HEAD);
  }

  /** Reader: whether the decoder must be told now that there is something. */
  tell(): boolean {
    return Atomics.exchange(this.words, TOLD, 1) === 0;
  }

  /** Decoder: was told, and looks now. */
  heard(): void {
    Atomics.store(this.words, TOLD, 0);
  }

  /** Decoder: whether the reader waits for room that there is now, and the socket must be waited for again. */
  resume(): boolean {
    const { words } = this;
    if (Atomics.load(words, STALLED) === 0 || this.used > RING_BYTES / 2) return false;
    return Atomics.compareExchange(words, STALLED, 1, 0) === 1;
  }

  /**
   * Reader: takes what the socket holds, at most `receives` times. Gives way to an owner who wants to. A loss is told once the socket is empty: until then
   * the kernel adds nothing, and what is still queued is from before.
   */
  fill(slots: Slots, receives: number): Filled {
    const { words, fd } = this;
    for (let i = 0; i < receives; i++) {
      if (Atomics.load(words, WANTED) === 1) return "more";
      if (!this.roomy()) return "full";
      const n = slots.receiveFrom(fd, DATAGRAMS, false);
      if (slots.truncated > 0) {
        slots.truncated = 0;
        words[LOSING] = 1;
      }
      if (n === -EAGAIN) {
        this.settle(slots.dropsOf(fd));
        return "empty";
      }
      if (n === -ENOBUFS) words[LOSING] = 1;
      else if (n < 0) {
        Atomics.store(words, ERROR, n);
        return "broken";
      }
      let tail = words[TAIL]!;
      for (let k = 0; k < n; k++) tail = this.append(slots.words, slots.offset(k), slots.length(k), tail);
      Atomics.store(words, TAIL, tail);
    }
    return "more";
  }

  /**
   * Decoder: shows the oldest messages, some 64 KiB of them. Returns "messages", or "overrun" if some were lost before
   * all that are here, or "nothing".
   */
  take(visit: Visit): "messages" | "overrun" | "nothing" {
    const { words, bytes } = this;
    let head = words[HEAD]!;
    const tail = Atomics.load(words, TAIL);
    const base = words[BASE]!;
    const until = Math.min((tail - head) >>> 0, 64 << 10);
    const from = head;
    try {
      while ((head - from) >>> 0 < until) {
        const off = START + ((head - base) & MASK);
        const len = words[off >> 2]!;
        if (len === 0) {
          head = lap(head, base);
          continue;
        }
        const type = words[(off >> 2) + 1]! & 0xffff;
        if (type === NLMSG_OVERRUN && head !== from) break;
        head = (head + ((len + 3) & ~3)) | 0;
        if (type === NLMSG_OVERRUN) return "overrun";
        if (type > NLMSG_OVERRUN) visit(type, words, bytes, off, len);
      }
      return head === from ? "nothing" : "messages";
    } finally {
      Atomics.store(words, HEAD, head);
    }
  }

  /** Decoder: whether something that was not taken yet is a message whose type passes, or a loss. */
  holds(test: (type: number) => boolean): boolean {
    const { words } = this;
    const tail = Atomics.load(words, TAIL);
    const base = words[BASE]!;
    for (let head = words[HEAD]!; head !== tail; ) {
      const off = START + ((head - base) & MASK);
      const len = words[off >> 2]!;
      const type = words[(off >> 2) + 1]! & 0xffff;
      if (len > 0 && (type === NLMSG_OVERRUN || test(type))) return true;
      head = len === 0 ? lap(head, base) : (head + ((len + 3) & ~3)) | 0;
    }
    return false;
  }

  private get used(): number {
    return (Atomics.load(this.words, TAIL) - Atomics.load(this.words, HEAD)) >>> 0;
  }

  private get room(): boolean {
    return RING_BYTES - this.used >= MOST_BYTES;
  }

  /** Whether there is room for one more receive; if not, the decoder says when (`resume`). */
  private roomy(): boolean {
    const { words } = this;
    const tail = words[TAIL]!;
    const used = (tail - words[BASE]!) & MASK;
    if (used > NEAR_BYTES && this.empty) {
      if (used > KEPT_BYTES) this.forget();
      Atomics.store(words, BASE, tail);
    }
    if (this.room) return true;
    Atomics.store(words, STALLED, 1);
    // It may have been emptied just before.
    return this.room && Atomics.compareExchange(words, STALLED, 1, 0) === 1;
  }

  private forget(): void {
    libc.madvise((this.address + START + NEAR_BYTES) as Pointer, RING_BYTES - NEAR_BYTES, MADV_DONTNEED);
  }

  /** Copies the whole messages of `length` bytes at `off`; returns the tail behind them. */
  private append(from: Int32Array, off: number, length: number, tail: number): number {
    const { words } = this;
    const end = off + length;
    for (let len: number; (len = messageLength(from, off, end)) > 0; off += (len + 3) & ~3) {
      const n = (len + 3) >> 2;
      tail = this.fit(tail, n * 4);
      const to = this.wordOf(tail);
      const at = off >> 2;
      for (let i = 0; i < n; i++) words[to + i] = from[at + i]!;
      tail = (tail + n * 4) | 0;
    }
    return tail;
  }

  private wordOf(position: number): number {
    return (START + ((position - this.words[BASE]!) & MASK)) >> 2;
  }

  /** The position from `tail` on where `bytes` are in one piece. */
  private fit(tail: number, bytes: number): number {
    const base = this.words[BASE]!;
    if (((tail - base) & MASK) + bytes <= RING_BYTES) return tail;
    this.words[this.wordOf(tail)] = 0;
    return lap(tail, base);
  }

  /** The socket is empty: writes down whether something was lost until now. */
  private settle(drops: number): void {
    const { words } = this;
    if (words[LOSING] === 0 && drops === words[DROPS]! >>> 0) return;
    words[LOSING] = 0;
    words[DROPS] = drops;
    const tail = this.fit(words[TAIL]!, 16);
    const to = this.wordOf(tail);
    words[to] = 16;
    words[to + 1] = NLMSG_OVERRUN;
    Atomics.add(words, OVERRUNS, 1);
    Atomics.store(words, TAIL, (tail + 16) | 0);
  }
}

/** Where the lap after that of `position` begins. */
const lap = (position: number, base: number): number =>
  (position + RING_BYTES - ((position - base) & MASK)) | 0;
