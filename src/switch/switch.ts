// A net Worker's switch: the parts put together, and what the loop calls of them. Per received frame that no service of
// ours takes: `other`. Per turn: `flush`, then `turn`. Now and then: `tick`.
import type { Recorder } from "../capture/recorder.ts";
import type { Batch, Link } from "../link/link.ts";
import { TapQueue } from "../link/tap.ts";
import { frameAddress } from "../mem/frames.ts";
import type { NetbaseReader } from "../netbase/netbase.ts";
import { ETHERNET, ETHERTYPE_IPV4, etherType } from "../wire/ether.ts";
import { IPPROTO_UDP } from "../wire/packet.ts";
import type { Accounts } from "./account.ts";
import { Arp } from "./arp.ts";
import { Channels } from "./channels.ts";
import { Core, HELD, SEND, WIRE } from "./core.ts";
import { Deliver } from "./deliver.ts";
import { Discovery } from "./discovery.ts";
import { Drop, dropNames } from "./drops.ts";
import type { TableReader } from "./table/find.ts";
import { H_SEED } from "./table/layout.ts";
import { Fragments } from "./fragment.ts";
import { Held } from "./held.ts";
import { Judge, type JudgeParts } from "./filters/judge.ts";
import type { Views } from "./forward/forward.ts";
import { FROM_WIRE, Host } from "./host.ts";
import { Inbound } from "./inbound.ts";
import type { MatchTable } from "./match.ts";
import { Members } from "./members.ts";
import { Outbound } from "./outbound.ts";
import { Ports } from "./ports.ts";
import type { Requests } from "./request.ts";
import type { Solicitor } from "./solicit.ts";
import { Stock } from "./stock.ts";
import type { Transmit } from "./transmit.ts";
import { AGAIN, Waiting, WAITS } from "./waiting.ts";
import { Wire } from "./wire.ts";

export interface SwitchParts {
  readonly link: Link;
  /** the embedded services' */
  readonly services: MatchTable;
  readonly netbase: NetbaseReader;
  readonly transmit: Transmit;
  readonly solicitor: Solicitor;
  readonly table: TableReader;
  readonly requests: Requests;
  /** this Worker's own: touches by entry, counters by client */
  readonly touches: Int32Array;
  readonly accounts: Accounts;
  readonly recorder: Recorder;
  /** what the control Worker says of clients by memif (link/memif/port.ts), and locks of rings that Workers share */
  readonly ports: ArrayBuffer;
  readonly locks: ArrayBuffer;
  /** of all net Workers, in their order: where fragments of packets go; this one's own is its to write */
  readonly fragments: readonly ArrayBuffer[];
  /** this Worker's number; 0 is the one that reads the tap */
  readonly worker: number;
  readonly epollFd: number;
  readonly tapFd: number;
  readonly tapIfindex: number;
  /** four words each; an IPv4 address in word 0 */
  readonly alias4: Int32Array;
  readonly alias6: Int32Array;
  /** further link-layer addresses that are ours, two words each */
  readonly macs: Int32Array;
  readonly firewall: boolean;
  /** what judges packets; missing: there are no filters, and no rules */
  readonly filters?: JudgeParts;
  readonly partialChecksums: boolean;
  /** netbase and table, if the frame memory has room for them (mem/views.ts): the pass over frames by memif needs them */
  readonly views?: Views | undefined;
  /** wakes the control Worker */
  wake(): void;
}

/** Between functions of filters that are made, each of which takes some tenths of one: whoever installs many slows nobody much. */
const MAKE_MS = 2;

export class Switch {
  /** Drops by reason, since the last look. */
  readonly tally: Int32Array = new Int32Array(dropNames.length);
  readonly ports: Ports;
  readonly deliver: Deliver;
  readonly host: Host;
  readonly wire: Wire;
  readonly channels: Channels;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  private readonly services: MatchTable;
  private readonly core: Core;
  private readonly stock: Stock;
  readonly inbound: Inbound;
  private readonly outbound: Outbound;
  private readonly held: Held;
  private readonly waiting: Waiting;
  private readonly requests: Requests;
  private readonly wake: () => void;
  private asked = 0;
  private second = 0;
  /** When the next function of a filter may be made: milliseconds. */
  private makeAt = 0;

  constructor(parts: SwitchParts) {
    const { link, table, accounts, netbase, transmit, solicitor, recorder, requests } = parts;
    const { alias4, alias6 } = parts;
    const base = frameAddress(link.memory);
    this.words = link.words;
    this.bytes = new Uint8Array(link.words.buffer, link.words.byteOffset, link.words.byteLength);
    this.services = parts.services;
    this.requests = requests;
    this.wake = () => parts.wake();
    const { clients } = table.layout.capacity;
    this.ports = new Ports(link.memory, parts.ports, parts.locks, clients, parts.worker);
    this.deliver = new Deliver(table, this.ports, accounts, base, (slot) => requests.gone(slot));
    this.stock = new Stock(link, this.deliver);
    const core = new Core(
      this.words,
      table,
      parts.touches,
      accounts,
      this.deliver,
      netbase,
      transmit,
      solicitor,
      parts.macs,
    );
    this.core = core;
    if (parts.filters) core.judge = new Judge(core, parts.filters);
    const tap = new TapQueue(parts.tapFd, base);
    this.host = new Host(core, tap, parts.tapIfindex, alias4, alias6, parts.partialChecksums);
    this.wire = new Wire(link, this.stock, this.deliver, accounts, core.acks, transmit.port);
    const arp = new Arp(core, alias4[0]!);
    const discovery = new Discovery(core, alias6);
    this.held = new Held(requests, clients);
    this.waiting = new Waiting(link.frames, clients);
    const members = new Members(core, this.host, this.tally, parts.firewall);
    this.inbound = new Inbound(
      core,
      this.host,
      arp,
      discovery,
      members,
      this.stock,
      this.wire,
      recorder,
      parts.firewall,
      this.tally,
      new Fragments(parts.fragments, parts.worker, table.words[H_SEED]!),
    );
    this.outbound = new Outbound(
      core,
      this.host,
      members,
      arp,
      discovery,
      this.held,
      this.waiting,
      recorder,
      this.bytes,
      alias4,
      alias6,
      parts.firewall,
    );
    this.channels = new Channels(
      core,
      this.stock,
      this.inbound,
      this.outbound,
      this.wire,
      this.ports,
      requests,
      tap,
      parts.epollFd,
      base,
      parts.worker === 0 ? parts.tapFd : -1,
      this.tally,
      recorder,
      alias4[0]!,
      parts.views,
    );
  }

  /**
   * What becomes of a received frame that the pass cannot take as it is: HELD, DONE, SEND (in place), a drop reason; or what
   * `decline` says, if it is for one of our own services.
   */
  other(batch: Batch, decline: (i: number) => number): (i: number) => number {
    const { words, services, inbound } = this;
    const isOurs = (off: number, len: number): boolean => {
      const ip = (off + ETHERNET) >>> 2;
      if (len < ETHERNET + 28 || etherType(words, ip) !== ETHERTYPE_IPV4) return false;
      const w0 = words[ip]!;
      const header = (w0 & 15) << 2;
      if ((words[ip + 2]! & 0xff00) !== IPPROTO_UDP << 8 || len < ETHERNET + header + 8) return false;
      if (((words[ip + 1]! >>> 16) & 0xff1f) !== 0) return false; // a later fragment: no ports
      const ports = words[ip + (header >>> 2)]!;
      return services.find(words[ip + 4]!, (ports >>> 16) | (IPPROTO_UDP << 16)) >= 0;
    };
    return (i) => {
      if ((batch.off[i]! & 3) !== 2 || this.hasTag(batch, i)) this.straighten(batch, i);
      const off = batch.off[i]!;
      const len = batch.len[i]!;
      if (isOurs(off, len)) return decline(i);
      this.core.hand = i;
      const result = inbound.frame(off, len, FROM_WIRE);
      if (result === SEND) batch.len[i] = inbound.answerBytes;
      return result;
    };
  }

  /** Before the pass over a batch. */
  ahead(batch: Batch): void {
    this.core.ahead(this.words, batch.off, batch.n, false);
  }

  private hasTag(batch: Batch, i: number): boolean {
    const off = batch.off[i]!;
    const type = batch.len[i]! < ETHERNET ? 0 : etherType(this.words, (off + ETHERNET) >>> 2);
    return type === 0x0081 || type === 0xa888;
  }

  /** Moves a frame forth to where IP lies in whole words, and takes priority tags (VLAN 0) off. */
  private straighten(batch: Batch, i: number): void {
    const { bytes } = this;
    let off = batch.off[i]!;
    const shift = (off & 3) === 2 ? 0 : ((off + 1) & ~3) - off + 2;
    if (shift !== 0) bytes.copyWithin(off + shift, off, off + batch.len[i]!);
    off += shift;
    batch.off[i] = off;
    for (let tags = 0; tags < 2 && this.hasTag(batch, i) && batch.len[i]! >= ETHERNET + 4; tags++) {
      if (bytes[off + 15] !== 0 || (bytes[off + 14]! & 0x0f) !== 0) break;
      bytes.copyWithin(off + 4, off, off + 12);
      off += 4;
      batch.off[i] = off;
      batch.len[i]! -= 4;
    }
  }

  /** After the pass over a batch, before its frames go back to the link. */
  flush(): void {
    this.deliver.flush();
  }

  /** Once a turn: what clients and the kernel sent, and what waited for an answer. Returns how many frames came. */
  turn(): number {
    this.ports.refresh();
    if (this.held.length > 0) this.answered();
    const received = this.channels.turn();
    if (this.outbound.fragments.waiting > 0) this.follow();
    if (this.requests.asked !== this.asked) {
      this.asked = this.requests.asked;
      this.wake();
    }
    this.settle();
    return received;
  }

  /** Every few turns. @param nanoseconds of any clock that never goes back */
  tick(nanoseconds: number): void {
    const milliseconds = Math.trunc(nanoseconds / 1e6);
    const { outbound } = this;
    this.core.tick();
    this.host.refresh();
    this.channels.tick(milliseconds);
    this.waiting.tick(milliseconds | 0);
    this.inbound.tick(milliseconds | 0);
    outbound.tick(milliseconds | 0, this.core.table.now);
    for (let i = outbound.fragments.late(); i >= 0; i = outbound.fragments.late()) {
      const slot = outbound.fragments.sender[i]!;
      this.stock.give(outbound.fragments.off[i]!);
      this.channels.drop(slot, Drop.bad_fragment);
      this.unsent(slot, outbound.fragments.off[i]!, Drop.bad_fragment);
      outbound.fragments.leave(i);
    }
    if (this.waiting.begin()) this.neighbours();
    if (milliseconds >= this.makeAt && this.core.judge?.programs.make()) this.makeAt = milliseconds + MAKE_MS;
    if (Math.trunc(milliseconds / 1000) !== this.second) {
      this.second = Math.trunc(milliseconds / 1000);
      this.held.tick();
    }
    this.settle();
  }

  /** Everything that is on its way goes there; frames that are not used any more are the link's. */
  private settle(): void {
    this.deliver.flush();
    this.wire.flush();
    this.core.acks.flush();
    this.stock.settle();
  }

  /** Whether an answer is due at once: the loop should not sleep. */
  get isDue(): boolean {
    return this.held.length > 0;
  }

  /** Whether something waits that no fd tells of: the loop should not sleep for long. */
  get waits(): boolean {
    return (
      this.waiting.asked > 0 ||
      this.inbound.fragments.waiting > 0 ||
      this.outbound.fragments.waiting > 0 ||
      this.core.judge?.programs.isDue === true
    );
  }

  /** Frames whose claims are answered. */
  private answered(): void {
    const { held, waiting } = this;
    for (let place = held.ready(); place >= 0; place = held.ready()) {
      const slot = held.owner(place);
      const off = waiting.off[place]!;
      waiting.off[place] = -1;
      held.release();
      this.resume(slot, waiting.generation[place]!, off, waiting.len[place]!);
    }
  }

  /** Frames whose neighbours may be known by now, or were asked for too long ago. */
  private neighbours(): void {
    const { waiting, core, outbound } = this;
    for (let i = 0; i < waiting.asked; i++) {
      const slot = waiting.askedSlot[i]!;
      const off = waiting.askedOff[i]!;
      const len = waiting.askedLen[i]!;
      const isLive = core.isLive(slot, waiting.askedGeneration[i]!);
      const isTried = isLive && waiting.isDue(i);
      const result = !isLive ? 0 : isTried ? outbound.frame(slot, off, len, WAITS) : HELD;
      if (result === HELD && !waiting.isLate(i)) {
        waiting.stay(i);
        continue;
      }
      waiting.leave(i);
      if (result === HELD) outbound.late(slot, off, len);
      if (result === HELD) this.unsent(slot, off, Drop.no_neighbour);
      this.finish(slot, off, len, result === HELD ? Drop.no_neighbour : result);
    }
    waiting.end();
  }

  /** Fragments of clients whose first ones came after them. */
  private follow(): void {
    const { fragments } = this.outbound;
    for (let i = fragments.follower(); i >= 0; i = fragments.follower()) {
      const slot = fragments.sender[i]!;
      const off = fragments.off[i]!;
      fragments.leave(i);
      this.resume(slot, fragments.generation[i]!, off, fragments.len[i]!);
    }
  }

  /** Takes up a client's frame that was kept. */
  private resume(slot: number, generation: number, off: number, len: number): void {
    const isLive = this.core.isLive(slot, generation);
    this.finish(slot, off, len, isLive ? this.outbound.frame(slot, off, len, AGAIN) : 0);
  }

  /** A frame that waited in vain: its client may want to hear of it. */
  private unsent(slot: number, off: number, reason: number): void {
    const { acks } = this.core;
    if (acks.has(slot)) acks.end(slot, off, reason);
  }

  private finish(slot: number, off: number, len: number, outcome: number): void {
    let result = outcome;
    if (result === WIRE) result = this.wire.send(slot, off, len) || HELD;
    if (result > 0) this.channels.drop(slot, result);
    if (result !== HELD) this.stock.give(off);
  }

  /** Gives back all frames. Nothing is sent any more. */
  close(): void {
    const { waiting, inbound, outbound, stock } = this;
    const asked = waiting.askedOff.subarray(0, waiting.asked);
    for (const frames of [waiting.off, asked, inbound.fragments.off, outbound.fragments.off])
      for (const off of frames) if (off !== -1) stock.give(off);
    this.channels.close();
    stock.settle();
    this.deliver.close();
    this.ports.close();
  }
}
