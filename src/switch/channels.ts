// The receiving end of the channels whose home this net Worker is: which of them have something (one epoll_wait), and up
// to BURST frames of each (one recvmmsg), straight into frames of the link. At most CLIENTS of them a turn, in turn: who
// floods gets no more than the others, and waits with its own frames in its own queue. The tap is one of them, in Worker 0.
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Receiver } from "../link/uds.ts";
import type { TapQueue } from "../link/tap.ts";
import { FROM_BYTES, FROM_PACKETS } from "./account.ts";
import { type Core, HELD, SEND, WIRE } from "./core.ts";
import { Drop } from "./drops.ts";
import { FROM_KERNEL } from "./host.ts";
import type { Inbound } from "./inbound.ts";
import { CLIENT_FD, CLIENT_GEN, CLIENT_RATE_PPS } from "./table/layout.ts";
import { FIRST_TIME, type Outbound } from "./outbound.ts";
import type { Requests } from "./request.ts";
import type { Stock } from "./stock.ts";
import type { Wire } from "./wire.ts";

const BURST = 32;
const CLIENTS = 8;
const EVENT_WORDS = process.arch === "x64" ? 3 : 4; // struct epoll_event is packed on x86-64 alone
const EVENT_DATA = process.arch === "x64" ? 1 : 2;
const TAP = -1; // event data
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const EPOLLERR_HUP = 0x8 | 0x10;
/** A client with a rate may send as much at once as it may in so many milliseconds. */
const RATE_MS = 100;

export class Channels {
  /** Frames from clients, and from the kernel, since the last look. */
  fromClients = 0;
  fromKernel = 0;
  /** Whether a client has more to say than its rate lets it: its channel stays readable. */
  isLimited = false;
  private readonly core: Core;
  private readonly stock: Stock;
  private readonly inbound: Inbound;
  private readonly outbound: Outbound;
  private readonly wire: Wire;
  private readonly requests: Requests;
  private readonly tap: TapQueue;
  private readonly epollFd: number;
  private readonly tally: Int32Array;
  private readonly receiver: Receiver;
  private readonly events = new Int32Array(new ArrayBuffer(CLIENTS * EVENT_WORDS * 4));
  /** Frames to receive into: the first `filled` are there. */
  private readonly frames = new Int32Array(BURST);
  private filled = 0;
  // Rates: frames that a client may still send, and when that was worked out, in milliseconds.
  private readonly allowance: Float64Array;
  private readonly when: Float64Array;
  private now = 0;

  /** @param base address of frame offset 0; @param tapFd the tap's fd if it is this Worker's to read, else -1 */
  constructor(
    core: Core,
    stock: Stock,
    inbound: Inbound,
    outbound: Outbound,
    wire: Wire,
    requests: Requests,
    tap: TapQueue,
    epollFd: number,
    base: number,
    tapFd: number,
    tally: Int32Array,
  ) {
    const { clients } = core.table.layout.capacity;
    this.core = core;
    this.stock = stock;
    this.inbound = inbound;
    this.outbound = outbound;
    this.wire = wire;
    this.requests = requests;
    this.tap = tap;
    this.epollFd = epollFd;
    this.tally = tally;
    this.receiver = new Receiver(BURST, base);
    this.allowance = new Float64Array(clients);
    this.when = new Float64Array(clients);
    this.refill();
    if (tapFd < 0) return;
    this.events[0] = EPOLLIN;
    this.events.fill(TAP, EVENT_DATA, EVENT_DATA + 2);
    check("epoll_ctl tap", libc.epoll_ctl(epollFd, EPOLL_CTL_ADD, tapFd, ptr(this.events)));
  }

  tick(milliseconds: number): void {
    this.now = milliseconds;
  }

  /** Takes what clients and the kernel sent; returns how many frames. */
  turn(): number {
    const { events } = this;
    if (this.filled < BURST) this.refill();
    const n = libc.epoll_wait(this.epollFd, ptr(events), CLIENTS, 0);
    let received = 0;
    this.isLimited = false;
    for (let i = 0; i < n; i++) {
      const slot = events[i * EVENT_WORDS + EVENT_DATA]!;
      received += slot === TAP ? this.fromTap() : this.fromClient(slot, events[i * EVENT_WORDS]!);
    }
    return received;
  }

  private fromClient(slot: number, flags: number): number {
    const { core, receiver, frames, outbound, wire } = this;
    const { words } = core.table;
    const row = core.table.client(slot);
    if ((words[row + CLIENT_GEN]! & 1) === 0) return 0; // it leaves
    const rate = words[row + CLIENT_RATE_PPS]!;
    const most = rate === 0 ? this.filled : this.allowed(slot, rate);
    if (most === 0) this.isLimited = true;
    const n = most === 0 ? 0 : receiver.receive(words[row + CLIENT_FD]!, most);
    if (n === 0) {
      if ((flags & EPOLLERR_HUP) !== 0) this.requests.gone(slot);
      return 0;
    }
    core.table.ahead(core.words, frames, n, true);
    let bytes = 0;
    for (let i = 0; i < n; i++) {
      const off = frames[i]!;
      const len = receiver.truncated(i) ? this.stock.longest + 1 : receiver.bytes(i);
      bytes += len;
      let result = outbound.frame(slot, off, len, FIRST_TIME);
      if (result === WIRE) result = wire.send(slot, off, len) || HELD;
      if (result === HELD) frames[i] = -1;
      else if (result > 0) this.drop(slot, result);
    }
    core.accounts.add(slot, FROM_PACKETS, n);
    core.accounts.add(slot, FROM_BYTES, bytes);
    if (rate !== 0) this.allowance[slot]! -= n;
    this.fromClients += n;
    core.deliver.flush();
    wire.flush(); // before anybody else's: who floods fills its own batch
    this.refill();
    return n;
  }

  private fromTap(): number {
    const { tap, frames, stock, inbound, tally, core } = this;
    let n = 0;
    for (; n < this.filled; n++) {
      const off = frames[n]!;
      const len = tap.read(off, stock.longest);
      if (len === 0) break;
      const result = inbound.frame(off, len, FROM_KERNEL);
      if (result > 0) tally[result] = tally[result]! + 1;
      else if (result === SEND && !tap.write(off, inbound.answerBytes))
        tally[Drop.kernel_full] = tally[Drop.kernel_full]! + 1;
    }
    this.fromKernel += n;
    core.deliver.flush();
    return n;
  }

  drop(slot: number, reason: number): void {
    this.core.accounts.drop(slot, reason);
    this.tally[reason] = this.tally[reason]! + 1;
  }

  /** How many frames a client with a rate may send now. */
  private allowed(slot: number, rate: number): number {
    const { allowance, when, now } = this;
    const burst = Math.max((rate * RATE_MS) / 1000, BURST);
    const more = allowance[slot]! + ((now - when[slot]!) * rate) / 1000;
    allowance[slot] = more < burst ? more : burst;
    when[slot] = now;
    const whole = allowance[slot]! | 0;
    return whole < this.filled ? whole : this.filled;
  }

  /** Puts new frames where others went. */
  private refill(): void {
    const { frames, receiver, stock } = this;
    for (let i = this.filled - 1; i >= 0; i--) {
      if (frames[i] !== -1) continue;
      const last = --this.filled;
      frames[i] = frames[last]!;
      receiver.set(i, frames[i]!, stock.longest);
    }
    while (this.filled < BURST) {
      const off = stock.take();
      if (off < 0) return;
      receiver.set(this.filled, off, stock.longest);
      frames[this.filled++] = off;
    }
  }

  /** Gives back all frames. */
  close(): void {
    for (let i = 0; i < this.filled; i++) this.stock.give(this.frames[i]!);
    this.filled = 0;
    this.receiver.close();
  }
}
