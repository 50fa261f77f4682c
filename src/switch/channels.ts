// The receiving end of the channels: up to VECTOR frames of each ring and BATCH of each socket, straight into frames of the
// link. Those by memif are looked at one after another; of those by Unix socket whose home this net Worker is, one epoll_wait
// tells which have something, at most CLIENTS of them a turn, in turn: who floods gets no more than the others, and waits with
// its own frames in its own queue. The tap is one of them, in Worker 0.
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import type { Recorder } from "../capture/recorder.ts";
import { BATCH, type Batch, VECTOR } from "../link/link.ts";
import { frameBatch } from "../link/memif/batches.ts";
import type { FromClient } from "../link/memif/ring.ts";
import { Receiver } from "../link/uds.ts";
import type { TapQueue } from "../link/tap.ts";
import { FROM_BYTES, FROM_PACKETS } from "./account.ts";
import { type Core, HELD, SEND, WIRE } from "./core.ts";
import { Drop } from "./drops.ts";
import { ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, setDst, setSrc } from "../wire/ether.ts";
import { FROM_KERNEL } from "./host.ts";
import { type Forward, makeForward, type Views } from "./forward/forward.ts";
import { MORE } from "./forward/places.ts";
import type { Inbound } from "./inbound.ts";
import type { Port, Ports } from "./ports.ts";
import { CLIENT_FD, CLIENT_FLAGS, CLIENT_GEN, CLIENT_RATE_PPS } from "./table/layout.ts";
import type { Outbound } from "./outbound.ts";
import type { Requests } from "./request.ts";
import type { Stock } from "./stock.ts";
import { FIRST_TIME } from "./waiting.ts";
import type { Wire } from "./wire.ts";

const CLIENTS = 8;
/** While memif channels are busy, the others are asked after once in so many frames: that is a system call. */
const PATIENCE = 1024;
const EVENT_WORDS = process.arch === "x64" ? 3 : 4; // struct epoll_event is packed on x86-64 alone
const EVENT_DATA = process.arch === "x64" ? 1 : 2;
// Event data beside a client's slot.
const TAP = -1;
/**
 * A client by memif has rung its eventfd while we slept. Edge-triggered, and never read: with a client that reads it first, and
 * has made it blocking, we would wait.
 */
export const MEMIF = -2;
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
  private readonly ports: Ports;
  private readonly requests: Requests;
  private readonly tap: TapQueue;
  private readonly epollFd: number;
  private readonly tally: Int32Array;
  private readonly receiver: Receiver;
  private readonly events = new Int32Array(new ArrayBuffer(CLIENTS * EVENT_WORDS * 4));
  /** Frames to receive into: `frames.off`, the first `filled` are there; and their lengths. */
  private readonly frames: Batch;
  private filled = 0;
  /** The part of them that is kept filled: BATCH, or as many as there may be while somebody has a ring. */
  private places: Int32Array;
  private readonly few: Int32Array;
  private readonly many: Int32Array;
  /** Frames by memif since the others were asked after. */
  private since = 0;
  private readonly forward: Forward | undefined;
  private readonly recorder: Recorder;
  // Rates: frames that a client may still send, and when that was worked out, in milliseconds; and for which client in its place.
  private readonly allowance: Float64Array;
  private readonly when: Float64Array;
  private readonly generations: Int32Array;
  private now = 0;

  /** @param base address of frame offset 0; @param tapFd the tap's fd if it is this Worker's to read, else -1 */
  constructor(
    core: Core,
    stock: Stock,
    inbound: Inbound,
    outbound: Outbound,
    wire: Wire,
    ports: Ports,
    requests: Requests,
    tap: TapQueue,
    epollFd: number,
    base: number,
    tapFd: number,
    tally: Int32Array,
    recorder: Recorder,
    alias4: number,
    views: Views | undefined,
  ) {
    this.recorder = recorder;
    this.frames = frameBatch(ports.memory, MORE);
    this.forward =
      views &&
      makeForward(
        core,
        wire,
        ports.memory,
        views,
        this.frames,
        alias4,
        (slot, n, bytes) => this.count(slot, n, bytes),
        (slot, i) => this.one(slot, i),
      );
    const { clients } = core.table.layout.capacity;
    this.core = core;
    this.stock = stock;
    this.inbound = inbound;
    this.outbound = outbound;
    this.wire = wire;
    this.ports = ports;
    this.requests = requests;
    this.tap = tap;
    this.epollFd = epollFd;
    this.tally = tally;
    this.receiver = new Receiver(BATCH, base);

    this.allowance = new Float64Array(clients);
    this.when = new Float64Array(clients);
    this.generations = new Int32Array(clients);
    const { off } = this.frames;
    this.few = off.subarray(0, BATCH);
    this.many = off.subarray(0, Math.max(BATCH, Math.min(VECTOR, stock.share)));
    this.places = this.few;
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
    const { events, ports } = this;
    this.places = ports.all.length > 0 ? this.many : this.few;
    if (this.filled < this.places.length) this.refill();
    this.isLimited = false;
    let received = 0;
    for (let i = 0; i < ports.all.length; i++) received += this.fromPort(ports.all[i]!);
    this.since += received;
    if (received > 0 && this.since < PATIENCE) return received;
    this.since = 0;
    const n = libc.epoll_wait(this.epollFd, ptr(events), CLIENTS, 0);
    for (let i = 0; i < n; i++) {
      const at = i * EVENT_WORDS;
      const who = events[at + EVENT_DATA]!;
      if (who === TAP) received += this.fromTap();
      else if (who !== MEMIF) received += this.fromClient(who, events[at]!);
    }
    return received;
  }

  /** By memif. */
  private fromPort(port: Port): number {
    const slot = port.client;
    let received = 0;
    for (let i = 0; i < port.from.length; i++) {
      const most = this.most(slot, VECTOR);
      if (most > 0) received += this.fromRing(port, port.from[i]!, most);
    }
    if (port.broken !== "") this.requests.gone(slot);
    return received;
  }

  private fromRing(port: Port, ring: FromClient, most: number): number {
    const { frames, stock } = this;
    const skip = port.isIp ? ETHERNET : 0;
    this.ports.receive(ring, frames, most, stock.longest - skip, skip);
    if (ring.dropped > 0) this.useless(port.client, ring);
    if (frames.n === 0) return 0;
    if (port.isIp) this.dress(port.client, frames.n);
    return this.take(port.client, frames.n, true);
  }

  /** A client has sent what is no frame, or too long a one: it counts as others do. */
  private useless(slot: number, ring: FromClient): void {
    const n = ring.dropped;
    ring.dropped = 0;
    this.count(slot, n, 0);
    for (let i = 0; i < n; i++) this.drop(slot, Drop.mtu);
  }

  /** Gives packets of a client in IP mode an Ethernet header: from the client, to the card, which routes them. */
  private dress(slot: number, n: number): void {
    const { core, frames } = this;
    const { words } = core;
    for (let i = 0; i < n; i++) {
      const ip = (frames.off[i]! + ETHERNET) >>> 2;
      frames.len[i]! += ETHERNET;
      setDst(words, ip, core.cardMac0, core.cardMac1);
      setSrc(words, ip, core.mac0(slot), core.mac1(slot));
      const type = (words[ip]! & 0xf0) === 0x60 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
      words[ip - 1] = (words[ip - 1]! & 0xffff) | (type << 16);
    }
  }

  /** By its Unix socket. */
  private fromClient(slot: number, flags: number): number {
    const { core, receiver, frames, stock } = this;
    const { words } = core.table;
    const row = core.table.client(slot);
    if ((words[row + CLIENT_GEN]! & 1) === 0) return 0; // it leaves
    const most = this.most(slot, BATCH);
    for (let i = 0; i < most; i++) receiver.set(i, frames.off[i]!, stock.longest);
    const n = most === 0 ? 0 : receiver.receive(words[row + CLIENT_FD]!, most);
    if (n === 0) {
      if ((flags & EPOLLERR_HUP) !== 0) this.requests.gone(slot);
      return 0;
    }
    for (let i = 0; i < n; i++) frames.len[i] = receiver.truncated(i) ? stock.longest + 1 : receiver.bytes(i);
    return this.take(slot, n, false);
  }

  /** The first `n` of `frames` are what a client has sent. @param memif with the pass for many (forward/forward.ts) */
  private take(slot: number, n: number, memif: boolean): number {
    const { core, frames, wire, recorder, stock, forward } = this;
    const { table } = core;
    if (
      forward !== undefined &&
      memif &&
      recorder.on === 0 &&
      table.words[table.client(slot) + CLIENT_FLAGS] === 0
    ) {
      const gone = forward(slot, n);
      if (gone === 0) return n;
      if (gone === n) {
        if (n < this.filled) frames.off.copyWithin(0, n, this.filled);
        this.filled = stock.fill(this.places, this.filled - n);
        return n;
      }
    } else {
      core.ahead(core.words, frames.off, n, true);
      let bytes = 0;
      for (let i = 0; i < n; i++) bytes += frames.len[i]!;
      this.count(slot, n, bytes);
      for (let i = 0; i < n; i++) this.one(slot, i);
    }
    core.deliver.flush();
    wire.flush(); // before anybody else's: who floods fills its own batch
    this.refill();
    return n;
  }

  /** Frame `i` of a client's. */
  private one(slot: number, i: number): void {
    const { core, frames, outbound, wire } = this;
    core.hand = i;
    const off = frames.off[i]!;
    const len = frames.len[i]!;
    let result = outbound.frame(slot, off, len, FIRST_TIME);
    if (result === WIRE) result = wire.send(slot, off, len) || HELD;
    if (result === HELD) frames.off[i] = -1;
    else if (result > 0) this.drop(slot, result);
  }

  private count(slot: number, n: number, bytes: number): void {
    const { accounts, table } = this.core;
    accounts.add(slot, FROM_PACKETS, n);
    accounts.add(slot, FROM_BYTES, bytes);
    if (table.words[table.client(slot) + CLIENT_RATE_PPS] !== 0) this.allowance[slot]! -= n;
    this.fromClients += n;
  }

  private fromTap(): number {
    const { tap, frames, stock, inbound, tally, core } = this;
    let n = 0;
    for (const most = Math.min(this.filled, BATCH); n < most; n++) {
      const off = frames.off[n]!;
      const len = tap.read(off, stock.longest);
      if (len === 0) break;
      const result = inbound.frame(off, len, FROM_KERNEL);
      if (result === HELD) frames.off[n] = -1;
      else if (result > 0) tally[result] = tally[result]! + 1;
      else if (result === SEND && !tap.write(off, inbound.answerBytes))
        tally[Drop.kernel_full] = tally[Drop.kernel_full]! + 1;
    }
    this.fromKernel += n;
    core.deliver.flush();
    this.refill();
    return n;
  }

  drop(slot: number, reason: number): void {
    this.core.accounts.drop(slot, reason);
    this.tally[reason] = this.tally[reason]! + 1;
  }

  /** How many frames a client may send now, `burst` at most. */
  private most(slot: number, burst: number): number {
    const { table } = this.core;
    const rate = table.words[table.client(slot) + CLIENT_RATE_PPS]!;
    const room = this.filled < burst ? this.filled : burst;
    const most = rate === 0 ? room : this.allowed(slot, rate, room);
    if (most === 0) this.isLimited = true;
    return most;
  }

  /** The same of one with a rate. What counts and is no frame may make its allowance less than none. */
  private allowed(slot: number, rate: number, room: number): number {
    const { allowance, when, generations, now } = this;
    const generation = this.core.generation(slot);
    if (generations[slot] !== generation) {
      generations[slot] = generation;
      allowance[slot] = 0;
      when[slot] = Number.NEGATIVE_INFINITY; // it may begin with a burst
    }
    const burst = Math.max((rate * RATE_MS) / 1000, BATCH);
    const more = allowance[slot]! + ((now - when[slot]!) * rate) / 1000;
    allowance[slot] = more < burst ? more : burst;
    when[slot] = now;
    const whole = allowance[slot]! | 0;
    return whole < 0 ? 0 : whole < room ? whole : room;
  }

  /** Puts new frames where others went. */
  private refill(): void {
    const { off } = this.frames;
    for (let i = this.filled - 1; i >= 0; i--) if (off[i] === -1) off[i] = off[--this.filled]!;
    this.filled = this.stock.fill(this.places, this.filled);
  }

  /** Gives back all frames. */
  close(): void {
    for (let i = 0; i < this.filled; i++) this.stock.give(this.frames.off[i]!);
    this.filled = 0;
    this.receiver.close();
  }
}
