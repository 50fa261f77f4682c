// A client's frame: is it what that client may send, and where does it go? Nothing leaves that is not from the client's own
// link-layer address, address and port: a match's, or a claim's, which the first packet of a flow asks for and waits for.
//
//   other client | this host's kernel    if it is for one of them, or to the alias
//   the wire, routed                      if it is sent to the card's link-layer address, for somebody else
//   the wire, as it is                    else
import type { Recorder } from "../capture/recorder.ts";
import { Origin, Verdict } from "../capture/verdict.ts";
import { RTN_BROADCAST, RTN_LOCAL } from "../netlink/constants.ts";
import { AF_INET, isGroup } from "../wire/address.ts";
import {
  ETHERNET,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  etherType,
  isGroupMac,
} from "../wire/ether.ts";
import {
  ERROR,
  FIRST,
  LATER,
  NEIGHBOUR,
  P_BYTES,
  P_DST,
  P_FAMILY,
  P_FRAGMENT,
  P_IP,
  P_KIND,
  parseIp,
  WHOLE,
} from "../wire/packet.ts";
import { Answers } from "./answer.ts";
import { type Arp, ASKED } from "./arp.ts";
import { type Core, DONE, HELD, WIRE } from "./core.ts";
import type { Discovery } from "./discovery.ts";
import { Drop } from "./drops.ts";
import { Followers } from "./followers.ts";
import { fragmentBytes, Fragments } from "./fragment.ts";
import type { Held } from "./held.ts";
import { FROM_CLIENT, type Host } from "./host.ts";
import { makeTooLong } from "./icmp.ts";
import type { Members } from "./members.ts";
import { CLIENT_FLAGS, CLIENT_MTU, FILTERS_FROM } from "./table/layout.ts";
import { fold } from "./table/hash.ts";
import { Router } from "./route.ts";
import { Sources } from "./source.ts";
import { FIRST_TIME, type Waiting, WAITS } from "./waiting.ts";

const NOBODY = -1;
// Where the fragments of a packet go, beside a client's slot.
const TO_WIRE = -1;
const TO_KERNEL = -2;
const TO_NOBODY = -3;
const TO_ROUTE = -4;
const ECHOED = -5; // back to the client, as the answer of another's address
const TO_MANY = -6; // out of the card, to those of a group who got the first one (`more`), and to the kernel

export class Outbound {
  readonly fragments: Fragments;
  private readonly core: Core;
  private readonly router: Router;
  private readonly host: Host;
  private readonly members: Members;
  private readonly answers: Answers;
  /** Of clients' own packets to groups. */
  private readonly got = new Followers();
  private readonly arp: Arp;
  private readonly discovery: Discovery;
  private readonly sources: Sources;
  private readonly waiting: Waiting;
  private readonly recorder: Recorder;
  private readonly bytes: Uint8Array;
  private readonly alias4: Int32Array;
  private readonly alias6: Int32Array;
  /** Of hashes of destinations: nobody outside can choose whose are alike. */
  private readonly seed = crypto.getRandomValues(new Int32Array(1))[0]!;
  /** For captures. */
  private to = NOBODY;
  private verdict = 0;

  constructor(
    core: Core,
    host: Host,
    members: Members,
    arp: Arp,
    discovery: Discovery,
    held: Held,
    waiting: Waiting,
    recorder: Recorder,
    bytes: Uint8Array,
    alias4: Int32Array,
    alias6: Int32Array,
    firewall: boolean,
  ) {
    this.fragments = new Fragments([new ArrayBuffer(fragmentBytes)], 0, this.seed);
    this.router = new Router(core, bytes, alias4, alias6);
    this.core = core;
    this.host = host;
    this.members = members;
    this.answers = new Answers(core, firewall);
    this.arp = arp;
    this.discovery = discovery;
    this.sources = new Sources(core, host, held, waiting);
    this.waiting = waiting;
    this.recorder = recorder;
    this.bytes = bytes;
    this.alias4 = alias4;
    this.alias6 = alias6;
  }

  /**
   * The frame of client `slot` at `off`, 2 mod 4. Returns WIRE, DONE, HELD, or a drop reason.
   * @param time FIRST_TIME, AGAIN or WAITS
   */
  frame(slot: number, off: number, len: number, time: number): number {
    const { acks } = this.core;
    if (!acks.has(slot)) return this.watched(slot, off, len, time);
    if (time === FIRST_TIME) acks.begin(slot, off);
    const result = this.watched(slot, off, len, time);
    if (result !== HELD && result !== WIRE) acks.end(slot, off, result);
    return result;
  }

  private watched(slot: number, off: number, len: number, time: number): number {
    const { recorder } = this;
    if (recorder.on === 0) return this.decide(slot, off, len, time);
    recorder.begin(this.core.words, off, len, Origin.client);
    this.to = NOBODY;
    this.verdict = Verdict.answered;
    const result = this.decide(slot, off, len, time);
    const known = result === WIRE ? Verdict.sent : result === HELD ? Verdict.held : this.verdict;
    if (result !== HELD || time !== WAITS) recorder.end(result > 0 ? result : known, this.to, slot);
    return result;
  }

  private decide(slot: number, off: number, len: number, time: number): number {
    const { core } = this;
    const { words, packet: p } = core;
    const ip = (off + ETHERNET) >>> 2;
    if (len < ETHERNET + 20) return Drop.runt;
    if (!core.isFromClient(ip, slot)) return Drop.bad_mac;
    const type = etherType(words, ip);
    if (type === ETHERTYPE_ARP) {
      const result = this.arp.fromClient(slot, ip, off, len);
      return result === ASKED ? this.wait(slot, off, len, time, this.seed ^ words[ip + 6]!) : result;
    }
    if (type !== ETHERTYPE_IPV4 && type !== ETHERTYPE_IPV6) return Drop.not_carried;
    const mtu = core.table.words[core.table.client(slot) + CLIENT_MTU]!;
    const isLong = len > mtu + ETHERNET;
    if (!parseIp(words, p, type === ETHERTYPE_IPV6, ip, len - ETHERNET, isLong)) return Drop.bad_header;
    if (isLong || p[P_BYTES]! > mtu) return this.tooLong(slot, p, off, len, mtu);
    if (p[P_KIND] === NEIGHBOUR) {
      if (p[P_FRAGMENT] !== WHOLE) return Drop.bad_arp; // RFC 6980
      const result = this.discovery.fromClient(slot, p, off);
      return result === ASKED ? this.wait(slot, off, len, time, this.destination(p)) : result;
    }
    if (time === FIRST_TIME && p[P_FRAGMENT] !== LATER) {
      const refused = this.judge(slot, p, off, len);
      if (refused !== 0) {
        this.remember(slot, p, TO_NOBODY, 0);
        return refused;
      }
    }
    const toAlias = this.host.isToAlias(p) || this.host.isToItself(p);
    if (p[P_FRAGMENT] === LATER) return this.later(slot, p, off, len, time);
    const reason = this.sources.check(slot, p, off, len, time);
    if (reason !== 0) return reason;
    const toCard = core.isToUs(ip);
    if (isGroupMac(words, ip) || (toCard && isGroup(words, p[P_DST]!, p[P_FAMILY] !== AF_INET)))
      return this.many(slot, p, off, len, time, toCard);
    const target = p[P_KIND] === ERROR ? core.findSender(p) : core.findTarget(p);
    if (target >= 0 && (toAlias || toCard || (target !== slot && core.isToClient(ip, target)))) {
      core.touch();
      this.remember(slot, p, target, core.generation(target));
      return this.toClient(target, p, off, len);
    }
    const routeType = toCard ? core.routeType(p[P_FAMILY] === AF_INET, words, p[P_DST]!) : 0;
    if (toAlias || routeType === RTN_LOCAL) {
      this.remember(slot, p, TO_KERNEL, 0);
      return this.toKernel(p, off);
    }
    if (routeType === RTN_BROADCAST) return this.many(slot, p, off, len, time, toCard);
    this.remember(slot, p, toCard ? TO_ROUTE : TO_WIRE, 0);
    const bytes = this.answers.make(p, ip, len);
    if (bytes > 0) {
      if (p[P_FRAGMENT] === FIRST) this.fragments.change(this.answers.isEcho ? ECHOED : TO_NOBODY);
      return this.answered(slot, off, bytes);
    }
    return toCard ? this.route(slot, p, off, len, time) : WIRE;
  }

  /** To many hosts: the other clients of the group, the kernel, and out of the card. */
  private many(slot: number, p: Int32Array, off: number, len: number, time: number, routed: boolean): number {
    const { got } = this;
    if (time !== WAITS) {
      if (p[P_FRAGMENT] === FIRST) this.remember(slot, p, TO_MANY, got.begin());
      this.members.send(slot, p, off, len, got);
    }
    return routed ? this.route(slot, p, off, len, time) : WIRE;
  }

  /** Out of the card by the netbase. */
  private route(slot: number, p: Int32Array, off: number, len: number, time: number): number {
    const { core, router } = this;
    const port = core.deliver.ports.of(slot);
    const result = router.frame(p, port === undefined || !port.isIp);
    if (result === ASKED) return this.wait(slot, off, len, time, this.destination(p));
    if (result > 0) router.tell(slot, p, off, len, result);
    return result;
  }

  /** What filters say of a packet as the client sent it: 0, or the drop reason. */
  private judge(slot: number, p: Int32Array, off: number, len: number): number {
    const { table, judge } = this.core;
    const isJudged = (table.words[table.client(slot) + CLIENT_FLAGS]! & FILTERS_FROM) !== 0;
    return isJudged ? judge!.transmit(slot, p, off, len) : 0;
  }

  /** Says so to the client. It has learned what its frame cost, so this is counted as dropped. */
  private tooLong(slot: number, p: Int32Array, off: number, len: number, mtu: number): number {
    const { core, bytes } = this;
    const alias = p[P_FAMILY] === AF_INET ? this.alias4 : this.alias6;
    if (!isGroupMac(core.words, (off + ETHERNET) >>> 2)) {
      const answer = makeTooLong(core.words, bytes, p, len - ETHERNET, mtu, alias);
      core.deliver.queue(slot, off, answer);
    }
    return Drop.mtu;
  }

  /** Keeps a frame until its neighbour is known. @param destination a hash of where it goes */
  private wait(slot: number, off: number, len: number, time: number, destination: number): number {
    if (time === WAITS) return HELD; // it waits already
    const isKept = this.waiting.ask(slot, this.core.generation(slot), off, len, destination);
    return isKept ? HELD : Drop.no_neighbour;
  }

  private destination(p: Int32Array): number {
    const { seed } = this;
    const { words } = this.core;
    const dst = p[P_DST]!;
    if (p[P_FAMILY] === AF_INET) return fold(seed, words[dst]!, 0, 0, 0);
    return fold(seed, words[dst]!, words[dst + 1]!, words[dst + 2]!, words[dst + 3]!);
  }

  /** Now and then. */
  tick(milliseconds: number, second: number): void {
    this.fragments.tick(milliseconds, second);
    this.answers.tick(milliseconds);
  }

  /** The neighbour that a client's frame waited for does not answer: the client is told, if it was to be routed. */
  late(slot: number, off: number, len: number): void {
    const { words, packet: p } = this.core;
    const ip = (off + ETHERNET) >>> 2;
    const six = etherType(words, ip) === ETHERTYPE_IPV6;
    if ((six || etherType(words, ip) === ETHERTYPE_IPV4) && parseIp(words, p, six, ip, len - ETHERNET, false))
      this.router.tell(slot, p, off, len, Drop.no_neighbour);
  }

  private remember(slot: number, p: Int32Array, where: number, more: number): void {
    if (p[P_FRAGMENT] === FIRST) this.fragments.remember(p, this.core.words, slot, where, more);
  }

  /** The frame is the answer to itself, so long, for the client that sent it. */
  private answered(slot: number, off: number, bytes: number): number {
    this.to = this.answers.owner;
    this.core.deliver.queue(slot, off, bytes);
    return DONE;
  }

  /** A fragment without ports: where its first one went, if that is known. */
  private later(slot: number, p: Int32Array, off: number, len: number, time: number): number {
    const { core, fragments } = this;
    if (!fragments.find(p, core.words, slot))
      return fragments.wait(p, core.words, slot, core.generation(slot), off, len) ? HELD : Drop.bad_fragment;
    const where = fragments.value;
    if (where === TO_NOBODY) return Drop.bad_fragment;
    const refused = this.judge(slot, p, off, len);
    if (refused !== 0) return refused;
    if (where === TO_KERNEL) return this.toKernel(p, off);
    if (where === ECHOED) return this.answered(slot, off, this.answers.turn(p));
    if (where === TO_MANY) {
      if (time !== WAITS) this.members.sendLater(slot, p, off, len, this.got, fragments.more);
      return core.isToUs(p[P_IP]!) ? this.route(slot, p, off, len, time) : WIRE;
    }
    if (where === TO_WIRE) return WIRE;
    if (where === TO_ROUTE) return this.route(slot, p, off, len, time);
    if (!core.isLive(where, fragments.more)) return Drop.client_gone;
    return this.toClient(where, p, off, len);
  }

  private toClient(target: number, p: Int32Array, off: number, len: number): number {
    this.to = target;
    this.verdict = Verdict.toClient;
    const result = this.host.deliver(target, p, off, len, FROM_CLIENT);
    if (result > 0) this.core.accounts.drop(target, result);
    return result;
  }

  private toKernel(p: Int32Array, off: number): number {
    this.verdict = Verdict.toKernel;
    return this.host.toHost(p, off);
  }
}
