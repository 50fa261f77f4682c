// The channels by memif of one net Worker: their rings, by client. Made and dropped between two turns, as the control Worker
// says (link/memif/port.ts); a client with fewer rings than there are net Workers shares them among those, and then each
// batch to it takes a lock.
//
//   locks   16 words a client, a cache line, which all net Workers write: 0 taken by
import { libc } from "../../ffi/libc.ts";
import type { Batch } from "../link/link.ts";
import { Bell } from "../link/memif/bell.ts";
import { MODE_IP } from "../link/memif/message.ts";
import { type PortPlace, PortReader } from "../link/memif/port.ts";
import { frameBatch, makeReceive, makeTransmit, type Receive, type Transmit } from "../link/memif/batches.ts";
import { FromClient, type Mapped, ToClient } from "../link/memif/ring.ts";
import { etherType, ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6 } from "../wire/ether.ts";

const LOCK_WORDS = 16;
/** Whoever has a lock copies VECTOR frames at most, which these many tries outlast; or it has lost its CPU: it is given ours. */
const TRIES = 1000;
const YIELDS = 1000;
const SYS_SCHED_YIELD = process.arch === "x64" ? 24 : 124;

/** Bytes of the region of locks. */
export const lockBytes = (clients: number): number => clients * LOCK_WORDS * 4;

/** One client's channel. */
export class Port {
  readonly client: number;
  /** Packets without an Ethernet header, both ways. */
  readonly isIp: boolean;
  readonly from: readonly FromClient[];
  readonly to: readonly ToClient[];
  /** The number of the one ring that others write to as well; -1: nobody does. */
  readonly sharedRing: number;
  private readonly eventfds: readonly number[];

  constructor(memory: WebAssembly.Memory, place: PortPlace) {
    const mapped: Mapped = place;
    this.client = place.client;
    this.isIp = place.mode === MODE_IP;
    this.from = place.from.map((ring) => new FromClient(memory, mapped, ring));
    this.to = place.to.map((ring) => new ToClient(memory, mapped, ring));
    this.sharedRing = place.sharedRing;
    this.eventfds = place.to.map(({ fd }) => fd);
    this.interrupts(false);
  }

  /** What the client has done that it may not, or "". */
  get broken(): string {
    for (const ring of this.from) if (ring.broken !== "") return ring.broken;
    for (const ring of this.to) if (ring.broken !== "") return ring.broken;
    return "";
  }

  /** Whether the client is to write its eventfd when it sends. */
  interrupts(wanted: boolean): void {
    for (const ring of this.from) ring.interrupts(wanted);
  }

  get isWaiting(): boolean {
    for (const ring of this.from) if (ring.waiting) return true;
    return false;
  }

  /** Wakes a client that sleeps until something comes. */
  wake(ring: number, bell: Bell): void {
    if (this.to[ring]!.wantsInterrupt) bell.ring(this.eventfds[ring]!);
  }
}

export class Ports {
  /** Bytes of the frames that the last `deliver` handed over. */
  bytes = 0;
  /** Those that frames come from. */
  readonly all: Port[] = [];
  readonly receive: Receive;
  private readonly transmit: Transmit;
  private readonly reader: PortReader;
  readonly memory: WebAssembly.Memory;
  private readonly words: Int32Array;
  private readonly locks: Int32Array;
  private readonly mark: number;
  private readonly bySerial = new Map<number, Port>();
  private readonly bySlot: (Port | undefined)[];
  private readonly part: Batch;
  private version = 0;
  private bell: Bell | undefined;

  /** @param ports, locks regions' memory; @param worker this net Worker's number */
  constructor(
    memory: WebAssembly.Memory,
    ports: ArrayBuffer,
    locks: ArrayBuffer,
    clients: number,
    worker: number,
  ) {
    this.reader = new PortReader(ports);
    this.memory = memory;
    this.receive = makeReceive(memory);
    this.transmit = makeTransmit(memory);
    this.part = frameBatch(memory);
    this.words = new Int32Array(memory.buffer);
    this.locks = new Int32Array(locks);
    this.mark = worker + 1;
    this.bySlot = new Array<Port | undefined>(clients).fill(undefined);
  }

  /** Before a turn: takes over what has come and gone. Nothing of a port that went is touched from then on. */
  refresh(): void {
    if (this.reader.version !== this.version) this.follow();
  }

  private follow(): void {
    const { reader, bySerial, bySlot, all } = this;
    this.version = reader.version;
    const there = new Map(reader.ports());
    for (const [serial, port] of bySerial)
      if (!there.has(serial)) {
        bySerial.delete(serial);
        bySlot[port.client] = undefined;
      }
    for (const [serial, place] of there) {
      if (bySerial.has(serial)) continue;
      this.open();
      const port = new Port(this.memory, place);
      bySerial.set(serial, port);
      bySlot[port.client] = port;
    }
    all.splice(0, all.length, ...[...bySerial.values()].filter(({ from }) => from.length > 0));
  }

  /** Takes what waking clients needs: at the start, so that what is missing is said there. @throws SysError */
  open(): void {
    this.bell ??= new Bell();
  }

  close(): void {
    this.bell?.close();
  }

  /** The client's channel, if it has one here. */
  of(slot: number): Port | undefined {
    return this.bySlot[slot];
  }

  /** Copies a batch (frameBatch), of VECTOR at most, to the client; returns how many it had room for. Frames of one flow stay in order. */
  deliver(port: Port, batch: Batch): number {
    if (port.to.length === 0) return 0;
    if (port.isIp) this.strip(batch);
    this.bytes = 0;
    if (port.sharedRing >= 0) return this.locked(port, batch);
    return port.to.length === 1 ? this.hand(port, 0, batch) : this.spread(port, batch);
  }

  private hand(port: Port, ring: number, batch: Batch): number {
    const sent = this.transmit(port.to[ring]!, batch);
    for (let i = 0; i < sent; i++) this.bytes += batch.len[i]!;
    if (sent > 0) port.wake(ring, this.bell!);
    return sent;
  }

  /** Takes Ethernet headers off. What is not IP stays, with length 0: ring.ts skips it. */
  private strip(batch: Batch): void {
    for (let i = 0; i < batch.n; i++) {
      const type = etherType(this.words, (batch.off[i]! + ETHERNET) >>> 2);
      batch.off[i]! += ETHERNET;
      batch.len[i] = type === ETHERTYPE_IPV4 || type === ETHERTYPE_IPV6 ? batch.len[i]! - ETHERNET : 0;
    }
  }

  /** Several rings: by the flow. */
  private spread(port: Port, batch: Batch): number {
    const { part } = this;
    const rings = port.to.length;
    let sent = 0;
    for (let ring = 0; ring < rings; ring++) {
      part.n = 0;
      for (let i = 0; i < batch.n; i++) {
        if (this.flow(batch.off[i]!, port.isIp) % rings !== ring) continue;
        part.off[part.n] = batch.off[i]!;
        part.len[part.n++] = batch.len[i]!;
      }
      if (part.n > 0) sent += this.hand(port, ring, part);
    }
    return sent;
  }

  /** A number that a flow's frames have in common, of IPv4 or IPv6; 31 bits. */
  private flow(off: number, isIp: boolean): number {
    const { words } = this;
    const ip = (isIp ? off : off + ETHERNET) >>> 2;
    let mix = 0;
    if ((words[ip]! & 0xf0) === 0x40) mix = words[ip + 3]! ^ words[ip + 4]! ^ words[ip + 5]!;
    else for (let i = 2; i < 11; i++) mix ^= words[ip + i]!;
    mix = Math.imul(mix ^ (mix >>> 16), 0x45d9f3b);
    return (mix ^ (mix >>> 16)) & 0x7fffffff;
  }

  /** Its first ring, which other Workers write to. */
  private locked(port: Port, batch: Batch): number {
    const { locks, mark } = this;
    const at = port.client * LOCK_WORDS;
    for (let tries = 0; Atomics.compareExchange(locks, at, 0, mark) !== 0; ) {
      if (++tries === TRIES + YIELDS) return 0;
      if (tries > TRIES) libc.syscall(SYS_SCHED_YIELD, 0, 0, 0, 0, 0, 0);
    }
    const ring = port.to[0]!;
    ring.resume();
    const sent = this.hand(port, 0, batch);
    Atomics.store(locks, at, 0);
    return sent;
  }

  /** Before a sleep: clients are to wake us. False if one has sent meanwhile. */
  rest(): boolean {
    this.refresh();
    for (const port of this.all) port.interrupts(true);
    return !this.all.some((port) => port.isWaiting);
  }

  /** After it. */
  rise(): void {
    this.refresh();
    for (const port of this.all) port.interrupts(false);
  }
}
