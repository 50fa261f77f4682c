// One AF_XDP queue as a link: the four rings of a socket that src/xdp/socket.ts made, and its UMEM.
// Kernel and loop each own one cursor of every ring (linux/if_xdp.h, Documentation/networking/af_xdp.rst):
//   fill        loop -> kernel  frames to receive into         u64 offset a slot
//   rx          kernel -> loop  received                       struct xdp_desc
//   tx          loop -> kernel  to send                        struct xdp_desc
//   completion  kernel -> loop  sent, the frame is ours again  u64 offset a slot
// A frame is in exactly one of: fill or rx ring, the loop's batch, tx or completion ring, the free stack.
import { errno } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt } from "../../ffi/memory.ts";
import type { Batch, Link } from "./link.ts";

const XDP_RING_NEED_WAKEUP = 1;
const MSG_DONTWAIT = 0x40;
const ENETDOWN = 100;

/** Addresses of one mapped ring, as the socket's maker found them. */
export interface RingRef {
  readonly producer: number;
  readonly consumer: number;
  readonly flags: number;
  readonly ring: number;
  /** slots, a power of two */
  readonly size: number;
}

/** What a net Worker needs of a socket: numbers, to post in a message. */
export interface SocketRef {
  readonly fd: number;
  readonly ifindex: number;
  readonly queue: number;
  readonly umem: {
    readonly memory: WebAssembly.Memory;
    readonly frameBytes: number;
    readonly frames: number;
  };
  readonly rx: RingRef;
  readonly tx: RingRef;
  readonly fill: RingRef;
  readonly completion: RingRef;
  readonly zerocopy: boolean;
  readonly needWakeup: boolean;
}

/** Views of a ring; slot words: 4 for rx and tx, 2 for fill and completion. */
class RingView {
  readonly producer: Int32Array;
  readonly consumer: Int32Array;
  readonly flags: Int32Array;
  readonly slots: Int32Array;
  readonly size: number;
  readonly mask: number;

  constructor(ref: RingRef, slotWords: number) {
    this.producer = new Int32Array(bufferAt(ref.producer, 4));
    this.consumer = new Int32Array(bufferAt(ref.consumer, 4));
    this.flags = new Int32Array(bufferAt(ref.flags, 4));
    this.slots = new Int32Array(bufferAt(ref.ring, ref.size * slotWords * 4));
    this.size = ref.size;
    this.mask = ref.size - 1;
  }
}

export class XdpLink implements Link {
  readonly memory: WebAssembly.Memory;
  readonly words: Int32Array;
  readonly fd: number;
  private readonly rx: RingView;
  private readonly tx: RingView;
  private readonly fill: RingView;
  private readonly completion: RingView;
  readonly frames: number;
  readonly frameBytes: number;
  private readonly frameMask: number;
  // Our own cursors, kept here so that only the kernel's are read from shared memory.
  private rxCons: number;
  private txProd: number;
  private fillProd: number;
  private compCons: number;
  /** Frames in the tx ring or on their way to the completion ring. */
  private outstanding = 0;
  private readonly free: Int32Array;
  private freeCount = 0;

  constructor(ref: SocketRef) {
    this.fd = ref.fd;
    this.memory = ref.umem.memory;
    this.words = new Int32Array(this.memory.buffer);
    this.rx = new RingView(ref.rx, 4);
    this.tx = new RingView(ref.tx, 4);
    this.fill = new RingView(ref.fill, 2);
    this.completion = new RingView(ref.completion, 2);
    this.frames = ref.umem.frames;
    this.frameBytes = ref.umem.frameBytes;
    this.frameMask = -ref.umem.frameBytes;
    this.rxCons = this.rx.consumer[0]!;
    this.txProd = this.tx.producer[0]!;
    this.fillProd = this.fill.producer[0]!;
    this.compCons = this.completion.consumer[0]!;
    const { frames } = this;
    this.free = new Int32Array(frames);
    for (let i = 0; i < frames; i++) this.free[this.freeCount++] = i * ref.umem.frameBytes;
    this.refill();
  }

  receive(batch: Batch, max: number): void {
    const { rx, rxCons } = this;
    let n = (Atomics.load(rx.producer, 0) - rxCons) | 0;
    if (n > max) n = max;
    batch.n = n;
    if (n === 0) return;
    const { slots, mask } = rx;
    const { off, len } = batch;
    for (let i = 0; i < n; i++) {
      const d = ((rxCons + i) & mask) << 2;
      off[i] = slots[d]!;
      len[i] = slots[d + 2]!;
    }
    this.rxCons = (rxCons + n) | 0;
    Atomics.store(rx.consumer, 0, this.rxCons);
  }

  transmit(batch: Batch): number {
    const { tx, txProd } = this;
    const room = (tx.size - (txProd - Atomics.load(tx.consumer, 0))) | 0;
    const n = Math.min(batch.n, room);
    const { slots, mask } = tx;
    const { off, len } = batch;
    for (let i = 0; i < n; i++) {
      const d = ((txProd + i) & mask) << 2;
      slots[d] = off[i]!;
      slots[d + 1] = 0;
      slots[d + 2] = len[i]!;
      slots[d + 3] = 0;
    }
    if (n > 0) {
      this.txProd = (txProd + n) | 0;
      Atomics.store(tx.producer, 0, this.txProd);
      this.outstanding += n;
    }
    return n;
  }

  release(batch: Batch): void {
    const { free, frameMask } = this;
    let n = this.freeCount;
    for (let i = 0; i < batch.drops; i++) free[n++] = batch.dropped[i]! & frameMask;
    this.freeCount = n;
  }

  take(): number {
    return this.freeCount > 0 ? this.free[--this.freeCount]! : -1;
  }

  takeMany(off: Int32Array, from: number, start: number): number {
    const { free } = this;
    let top = this.freeCount;
    let i = from;
    for (; i < off.length && top > 0; i++) off[i] = free[--top]! + start;
    this.freeCount = top;
    return i;
  }

  maintain(): boolean {
    let stuck = false;
    if (this.outstanding > 0) {
      // A kick moves at most 32 frames in copy mode, and EAGAIN is no fault: the next turn kicks again.
      if (
        (Atomics.load(this.tx.flags, 0) & XDP_RING_NEED_WAKEUP) !== 0 &&
        Atomics.load(this.tx.consumer, 0) !== this.txProd
      )
        stuck = libc.sendto(this.fd, null, 0, MSG_DONTWAIT, null, 0) < 0 && errno() === ENETDOWN;
      this.complete();
    }
    if (this.freeCount > 0) this.refill();
    if ((Atomics.load(this.fill.flags, 0) & XDP_RING_NEED_WAKEUP) !== 0)
      libc.recvfrom(this.fd, null, 0, MSG_DONTWAIT, null, null);
    return this.outstanding > 0 && !stuck; // while the card is down nothing moves, and there is nothing to stay awake for
  }

  /** Sent frames are free again. */
  private complete(): void {
    const { completion, compCons, free, frameMask } = this;
    const n = (Atomics.load(completion.producer, 0) - compCons) | 0;
    if (n === 0) return;
    let top = this.freeCount;
    for (let i = 0; i < n; i++)
      free[top++] = completion.slots[((compCons + i) & completion.mask) << 1]! & frameMask;
    this.freeCount = top;
    this.compCons = (compCons + n) | 0;
    Atomics.store(completion.consumer, 0, this.compCons);
    this.outstanding -= n;
  }

  /** Free frames go to the kernel, as many as the fill ring takes. */
  private refill(): void {
    const { fill, fillProd, free } = this;
    const room = (fill.size - (fillProd - Atomics.load(fill.consumer, 0))) | 0;
    const n = Math.min(this.freeCount, room);
    if (n === 0) return;
    let top = this.freeCount;
    for (let i = 0; i < n; i++) {
      const d = ((fillProd + i) & fill.mask) << 1;
      fill.slots[d] = free[--top]!;
      fill.slots[d + 1] = 0;
    }
    this.freeCount = top;
    this.fillProd = (fillProd + n) | 0;
    Atomics.store(fill.producer, 0, this.fillProd);
  }
}
