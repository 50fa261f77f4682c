// May this packet go on? Asked for each one to a client, and from one, whose row says that filters are about it: its own
// filters, its user's rules and the operator's. All must let it pass. Every frame from a client is judged, later fragments
// too; those for one go where the first one went.
import type { Core } from "../core.ts";
import { Drop } from "../drops.ts";
import { AF_INET } from "../../wire/address.ts";
import { etherType } from "../../wire/ether.ts";
import {
  ERROR,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  LATER,
  P_DST,
  P_FAMILY,
  P_FRAGMENT,
  P_IP,
  P_KIND,
  P_L4,
  P_L4_BYTES,
  P_PORTS,
  P_PROTOCOL,
  P_SRC,
  parseIp,
  swap16,
} from "../../wire/packet.ts";
import { CLIENT_GEN, CLIENT_UID, H_SEED } from "../table/layout.ts";
import { FOUND_ENTRY, FOUND_TOUCH } from "../table/search.ts";
import { type FilterAhead, makeFilterAhead } from "./ahead.ts";
import { Flows, HEARD, SENT } from "./flows.ts";
import { type Layer, layersOf } from "./layers.ts";
import { type FilterCapacity, type FilterLayout, filterLayout, RECEIVE, TRANSMIT } from "./layout.ts";
import { FilterOwn } from "./own.ts";
import { Plans } from "./plan.ts";
import { Programs } from "./programs.ts";
import type { Rule } from "./rule.ts";

const EVERYBODY = -1;
const UNKNOWN = -1;

/** Seconds that a flow is established after its last packet. */
export interface FlowSeconds {
  readonly tcp: number;
  readonly udp: number;
  readonly icmp: number;
  readonly other: number;
}

export interface JudgeParts {
  /** the filters' region, read-only, and the net Workers' own ones in their order */
  readonly filters: ArrayBuffer;
  readonly own: readonly ArrayBuffer[];
  readonly capacity: FilterCapacity;
  readonly worker: number;
  readonly rules: readonly Rule[];
  readonly flowSeconds: FlowSeconds;
  readonly ifindex: number;
  readonly queue: number;
}

export class Judge {
  readonly programs: Programs;
  /** Loads what judging a batch will look at, by the entries that its packets are for. */
  readonly ahead: FilterAhead;
  /** which members of a group a packet may be for */
  readonly plans: Plans;
  private readonly core: Core;
  private readonly words: Int32Array;
  private readonly layout: FilterLayout;
  private readonly flows: Flows;
  private readonly tracks: boolean;
  private readonly seconds: FlowSeconds;
  private readonly incoming: Map<number, Layer>;
  private readonly outgoing: Map<number, Layer>;
  private readonly hasIncoming: boolean;
  private readonly hasOutgoing: boolean;
  // The packet in hand, for `established`: whose, its record, which way, and the answer: 0, 1 or UNKNOWN.
  private slot = 0;
  private packet: Int32Array;
  private direction: number = RECEIVE;
  private isEstablished = UNKNOWN;
  private readonly established = (): boolean => {
    if (this.isEstablished === UNKNOWN) this.isEstablished = this.isKnown() ? 1 : 0;
    return this.isEstablished === 1;
  };

  constructor(core: Core, parts: JudgeParts) {
    const { capacity, worker, rules } = parts;
    const layout = filterLayout(capacity);
    const own = parts.own.map((buffer) => new FilterOwn(buffer, capacity.filters));
    const { counts } = own[worker]!;
    const bytes = new Uint8Array(core.words.buffer, core.words.byteOffset, core.words.byteLength);
    this.core = core;
    this.packet = core.packet;
    this.layout = layout;
    this.words = new Int32Array(parts.filters, 0, layout.end);
    this.programs = new Programs(this.words, layout, bytes, counts);
    this.ahead = makeFilterAhead(this.words, layout, counts);
    this.flows = new Flows(
      own.map(({ flows }) => flows),
      worker,
      core.table.words[H_SEED]!,
    );
    this.plans = new Plans(this.words, layout, core.table, core.words);
    const { meta } = this.programs;
    meta.ifindex = parts.ifindex;
    meta.queue = parts.queue;
    this.tracks = rules.some(({ established }) => established);
    this.seconds = parts.flowSeconds;
    this.incoming = layersOf(rules, false, bytes, meta, counts);
    this.outgoing = layersOf(rules, true, bytes, meta, counts);
    this.hasIncoming = this.incoming.size > 0;
    this.hasOutgoing = this.outgoing.size > 0;
  }

  /** Packet `p` for client `slot`, found in the table just now: 0, or the reason why it does not get it. */
  receive(slot: number, p: Int32Array, off: number, len: number): number {
    if (p[P_FRAGMENT] === LATER) return 0;
    const { words, layout, programs, core, incoming } = this;
    programs.meta.protocol = swap16(etherType(core.words, p[P_IP]!));
    if (this.hasIncoming) {
      this.take(slot, p, RECEIVE);
      if (!this.allows(incoming, EVERYBODY, off, len)) return Drop.rx_filtered_system;
      if (!this.allows(incoming, this.uid(slot), off, len)) return Drop.rx_filtered_user;
    }
    const row = words[layout.clients + slot * 2 + RECEIVE]!;
    if (row !== 0 && !programs.passes(row, off, len)) return Drop.rx_filtered_client;
    // An error is about a packet that was sent: no match gives it.
    const its = p[P_KIND] === ERROR ? 0 : words[layout.entries + core.table.found[FOUND_ENTRY]!]!;
    if (its !== 0 && !programs.passes(its, off, len)) return Drop.rx_filtered_client;
    if (this.tracks) this.track(slot, p, HEARD);
    return 0;
  }

  /** Packet `p` from client `slot`, as it sent it: 0, or the reason why it goes nowhere. */
  transmit(slot: number, p: Int32Array, off: number, len: number): number {
    const { words, layout, programs, core, outgoing } = this;
    const isLater = p[P_FRAGMENT] === LATER;
    programs.meta.protocol = swap16(etherType(core.words, p[P_IP]!));
    const row = words[layout.clients + slot * 2 + TRANSMIT]!;
    if (row !== 0 && !programs.passes(row, off, len)) return Drop.tx_filtered_client;
    if (this.hasOutgoing) {
      this.take(slot, p, TRANSMIT);
      if (isLater) this.isEstablished = 1; // its first one passed
      if (!this.allows(outgoing, this.uid(slot), off, len)) return Drop.tx_filtered_user;
      if (!this.allows(outgoing, EVERYBODY, off, len)) return Drop.tx_filtered_system;
    }
    if (this.tracks && !isLater) this.track(slot, p, SENT);
    return 0;
  }

  private take(slot: number, p: Int32Array, direction: number): void {
    this.slot = slot;
    this.packet = p;
    this.direction = direction;
    this.isEstablished = UNKNOWN;
  }

  private uid(slot: number): number {
    const { table } = this.core;
    return table.words[table.client(slot) + CLIENT_UID]!;
  }

  private allows(layers: Map<number, Layer>, uid: number, off: number, len: number): boolean {
    const layer = layers.get(uid);
    return layer === undefined || layer.allows(off, len, this.established);
  }

  /** Whether the packet in hand is of a flow that the other direction has had a packet of, or an error about one. */
  private isKnown(): boolean {
    const { core, packet, direction, slot } = this;
    const { found } = core.table;
    let p = packet;
    if (p[P_KIND] === ERROR) {
      p = core.quoted;
      const six = packet[P_FAMILY] !== AF_INET;
      if (!parseIp(core.words, p, six, packet[P_L4]! + 2, packet[P_L4_BYTES]! - 8, true)) return false;
      if (p[P_FRAGMENT] === LATER) return false;
      // The packet that it quotes went the other way.
      const owner = direction === RECEIVE ? core.findAnswers(p) : core.find(p);
      if (owner === slot && found[FOUND_TOUCH] !== 0) return true;
      this.setKey(p, direction === RECEIVE);
    } else {
      if (direction === TRANSMIT && core.findAnswers(p) !== slot) found[FOUND_TOUCH] = 0;
      if (found[FOUND_TOUCH] !== 0) return true;
      this.setKey(p, direction === TRANSMIT);
    }
    const last = this.flows.last(direction === RECEIVE ? SENT : HEARD);
    return last !== 0 && core.table.now - last <= this.secondsOf(p[P_PROTOCOL]!);
  }

  private track(slot: number, p: Int32Array, which: number): void {
    if (p[P_KIND] === ERROR) return;
    this.slot = slot;
    this.setKey(p, which === SENT);
    this.flows.add(which, this.core.table.now);
  }

  /** Makes the flow of packet `p` the one in question. */
  private setKey(p: Int32Array, fromClient: boolean): void {
    const { core, slot } = this;
    const { key } = this.flows;
    const four = p[P_FAMILY] === AF_INET;
    const own = p[fromClient ? P_SRC : P_DST]!;
    const other = p[fromClient ? P_DST : P_SRC]!;
    key[0] = slot;
    key[1] = core.table.words[core.table.client(slot) + CLIENT_GEN]!;
    key[2] = p[P_PROTOCOL]! | (p[P_FAMILY]! << 8);
    key[3] = fromClient ? core.answerPorts(p) : p[P_PORTS]!;
    for (let i = 0; i < 4; i++) {
      key[4 + i] = four && i > 0 ? 0 : core.words[own + i]!;
      key[8 + i] = four && i > 0 ? 0 : core.words[other + i]!;
    }
  }

  private secondsOf(protocol: number): number {
    const { tcp, udp, icmp, other } = this.seconds;
    if (protocol === IPPROTO_TCP) return tcp;
    if (protocol === IPPROTO_UDP) return udp;
    return protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6 ? icmp : other;
  }
}
