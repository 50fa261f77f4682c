// What all parts of a net Worker's switch share: the frames' memory, the packet in hand, whose it is, what was counted.
// One a Worker; the parts (inbound, outbound, responder...) are classes over it.
import type { NetbaseReader } from "../netbase/netbase.ts";
import { NH_TYPE } from "../netbase/layout.ts";
import { RTN_BROADCAST, RTN_LOCAL } from "../netlink/constants.ts";
import { AF_INET, isGroup } from "../wire/address.ts";
import { isFrom, isTo } from "../wire/ether.ts";
import {
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  P_DST,
  P_FAMILY,
  P_PORTS,
  P_PROTOCOL,
  P_SRC,
  P_WORDS,
  swapPorts,
} from "../wire/packet.ts";
import type { Accounts } from "./account.ts";
import { Acks } from "./acks.ts";
import type { Deliver } from "./deliver.ts";
import type { TableReader } from "./table/find.ts";
import { CLIENT_GEN, CLIENT_MAC0, CLIENT_MAC1 } from "./table/layout.ts";
import { type Ahead, makeAhead, UNKNOWN } from "./table/ahead.ts";
import { dstPrefixOf } from "./table/pattern.ts";
import { FOUND_META, FOUND_TOUCH } from "./table/search.ts";
import type { Judge } from "./filters/judge.ts";
import type { Solicitor } from "./solicit.ts";
import { PORT_SRC_HEAD, PORT_SRC_TAIL, type Transmit } from "./transmit.ts";

// What became of a frame beside a drop reason (drops.ts), which is over 0. The caller's frame is still the caller's, unless
// it is HELD.
/** It is the answer to what it was: goes back where it came from. */
export const SEND = -1;
/** Done with, once `Deliver.flush` has been called. */
export const DONE = -2;
/** Kept; the switch gives it back to the link itself. */
export const HELD = -3;
/** For the wire. */
export const WIRE = -4;

export class Core {
  readonly words: Int32Array;
  /** The packet in hand (wire/packet.ts), and the one that it quotes. */
  readonly packet: Int32Array = new Int32Array(P_WORDS);
  readonly quoted: Int32Array = new Int32Array(P_WORDS);
  readonly table: TableReader;
  readonly netbase: NetbaseReader;
  readonly transmit: Transmit;
  readonly solicitor: Solicitor;
  readonly deliver: Deliver;
  readonly accounts: Accounts;
  /** Says which packets may go on; there is one if any client's row says that filters are about it. */
  judge: Judge | undefined;
  /** Tells clients what became of their frames. */
  readonly acks: Acks;
  private readonly touches: Int32Array;
  /** Further link-layer addresses, two words each. */
  private readonly macs: Int32Array;
  /** Seconds, as the table counts them; what touches are measured in. */
  now = 0;
  private readonly searches: Ahead;
  /** The place in its batch that the frame in hand has; and how many of the batch were looked at ahead. */
  hand = 0;
  private known = 0;

  constructor(
    words: Int32Array,
    table: TableReader,
    touches: Int32Array,
    accounts: Accounts,
    deliver: Deliver,
    netbase: NetbaseReader,
    transmit: Transmit,
    solicitor: Solicitor,
    macs: Int32Array,
  ) {
    this.acks = new Acks(table, words.byteLength);
    this.macs = macs;
    this.words = words;
    this.table = table;
    this.touches = touches;
    this.searches = makeAhead(table);
    this.accounts = accounts;
    this.deliver = deliver;
    this.netbase = netbase;
    this.transmit = transmit;
    this.solicitor = solicitor;
  }

  /** Now and then: takes over the clock of touches. */
  tick(): void {
    this.now = this.table.now;
  }

  /** Looks ahead for a batch of frames: for the searches, and for filters of what they find. Then `hand` says which is in hand. */
  ahead(words: Int32Array, offs: Int32Array, n: number, sent: boolean): void {
    const { searches } = this;
    this.known = searches.look(words, offs, n, sent);
    if (this.known > 0 && !sent && this.judge !== undefined) this.judge.ahead(searches.entries, this.known);
  }

  /** Whose packet `p` is by the table: a client's slot, or -1. */
  find(p: Int32Array): number {
    return this.search(p, p[P_DST]!, p[P_SRC]!, p[P_PORTS]!);
  }

  /** The same for a packet that most often is nobody's here. */
  findTarget(p: Int32Array): number {
    const { table, words } = this;
    const dst = p[P_DST]!;
    const may = p[P_FAMILY] === AF_INET ? table.mayHave4(words[dst]!) : table.mayHave6(words, dst);
    return may ? this.ifOurs(this.find(p), p) : -1;
  }

  /** Who sent what ICMP error `p` quotes. */
  findSender(p: Int32Array): number {
    return this.ifOurs(this.findAnswers(this.quoted), p);
  }

  /** The client just found, if that is about the destination of packet `p`; else -1. */
  private ifOurs(slot: number, p: Int32Array): number {
    return slot >= 0 && this.isFoundOurs(p[P_FAMILY] === AF_INET, this.words, p[P_DST]!) ? slot : -1;
  }

  /** Whether the entry found last is about the address at word `at`: one for any address is about those of this host alone. */
  isFoundOurs(four: boolean, words: Int32Array, at: number): boolean {
    return this.foundPrefix() > 0 || this.isLocal(four, words, at) || this.ownerOf(four, words, at) >= 0;
  }

  /** Whose the answers to packet `p` are. */
  findAnswers(p: Int32Array): number {
    return this.search(p, p[P_SRC]!, p[P_DST]!, this.answerPorts(p));
  }

  private search(p: Int32Array, dst: number, src: number, ports: number): number {
    const { table, words, searches, hand } = this;
    const protocol = p[P_PROTOCOL]!;
    if (p[P_FAMILY] === AF_INET) return this.find4(protocol, words[dst]!, words[src]!, ports);
    const slot = hand < this.known ? searches.find6(hand, words, dst, src, protocol, ports) : UNKNOWN;
    return slot === UNKNOWN ? table.find6(words, dst, src, protocol, ports) : slot;
  }

  /** What the table's own finds, for the frame in hand. */
  find4(protocol: number, dst: number, src: number, ports: number): number {
    const { table, searches, hand } = this;
    const slot = hand < this.known ? searches.find4(hand, protocol, dst, src, ports) : UNKNOWN;
    return slot === UNKNOWN ? table.find4(protocol, dst, src, ports) : slot;
  }

  /** The ports' word that the answers to `p` have: ICMP echo keeps its identifier where it is. */
  answerPorts(p: Int32Array): number {
    const protocol = p[P_PROTOCOL]!;
    const ports = p[P_PORTS]!;
    return protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6 ? ports : swapPorts(ports);
  }

  /** The entry found last has a frame: it does not expire. */
  touch(): void {
    const { touches, now } = this;
    const entry = this.table.found[FOUND_TOUCH]!;
    // What is not written need not be written back from the cache.
    if (touches[entry] !== now) touches[entry] = now;
  }

  /** How many bits of the destination the entry found last gives. */
  foundPrefix(): number {
    return dstPrefixOf(this.table.found[FOUND_META]!);
  }

  /** Whether the entry found last, for packet `p`, gives all of the destination. */
  isFoundWhole(p: Int32Array): boolean {
    return this.foundPrefix() === (p[P_FAMILY] === AF_INET ? 32 : 128);
  }

  /** Whose alone the address at word `at` is: a client's slot, or -1. */
  ownerOf(four: boolean, words: Int32Array, at: number): number {
    return four ? this.table.owner4(words[at]!) : this.table.owner6(words, at);
  }

  /** Whether this host's kernel has the address at word `at`. */
  isLocal(four: boolean, words: Int32Array, at: number): boolean {
    return this.routeType(four, words, at) === RTN_LOCAL;
  }

  /** What the kernel's routes say that the address at word `at` is: an RTN_*, 0 where they say nothing. */
  routeType(four: boolean, words: Int32Array, at: number): number {
    const { fib4, fib6, words: base } = this.netbase;
    const nh = four
      ? fib4.lookup(words[at]!)
      : fib6.lookup(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
    return nh === 0 ? 0 : base[nh + NH_TYPE]! & 0xff;
  }

  /** Whether packet `p` is to many hosts: a group, or a broadcast address. */
  isToMany(p: Int32Array): boolean {
    const { words } = this;
    const four = p[P_FAMILY] === AF_INET;
    const dst = p[P_DST]!;
    return isGroup(words, dst, !four) || (four && this.routeType(four, words, dst) === RTN_BROADCAST);
  }

  /** Whether it is there, and the same as it was with this generation. */
  isLive(slot: number, generation: number): boolean {
    return (generation & 1) === 1 && this.table.words[this.table.client(slot) + CLIENT_GEN] === generation;
  }

  generation(slot: number): number {
    return this.table.words[this.table.client(slot) + CLIENT_GEN]!;
  }

  mac0(slot: number): number {
    return this.table.words[this.table.client(slot) + CLIENT_MAC0]!;
  }

  mac1(slot: number): number {
    return this.table.words[this.table.client(slot) + CLIENT_MAC1]!;
  }

  get cardMac0(): number {
    return this.transmit.port[PORT_SRC_HEAD]!;
  }

  get cardMac1(): number {
    return this.transmit.port[PORT_SRC_TAIL]! & 0xffff;
  }

  isToCard(ip: number): boolean {
    return isTo(this.words, ip, this.cardMac0, this.cardMac1);
  }

  /** Whether it is to the client's own link-layer address, or to one that the configuration adds to the card's. */
  isOurs(ip: number, slot: number): boolean {
    return this.isToClient(ip, slot) || this.isToAdded(ip);
  }

  /** Whether it is to the card, by any of its link-layer addresses. */
  isToUs(ip: number): boolean {
    return this.isToCard(ip) || this.isToAdded(ip);
  }

  private isToAdded(ip: number): boolean {
    const { macs, words } = this;
    for (let i = 0; i < macs.length; i += 2) if (isTo(words, ip, macs[i]!, macs[i + 1]!)) return true;
    return false;
  }

  isToClient(ip: number, slot: number): boolean {
    return isTo(this.words, ip, this.mac0(slot), this.mac1(slot));
  }

  isFromClient(ip: number, slot: number): boolean {
    return isFrom(this.words, ip, this.mac0(slot), this.mac1(slot));
  }
}
