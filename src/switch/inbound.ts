// A frame from the wire that the XDP program or a group's copy brought here, or one from this host's kernel: whose is it?
// A client's by the table, or by the packet that it quotes, or by its first fragment; answered for an address that a client
// alone has; else the kernel's.
import type { Recorder } from "../capture/recorder.ts";
import { Origin, Verdict } from "../capture/verdict.ts";
import {
  ETHERNET,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  etherType,
  isGroupMac,
} from "../wire/ether.ts";
import { AF_INET } from "../wire/address.ts";
import {
  ERROR,
  FIRST,
  IPPROTO_UDP,
  LATER,
  NEIGHBOUR,
  P_DST,
  P_FAMILY,
  P_FRAGMENT,
  P_KIND,
  P_L4,
  P_L4_BYTES,
  P_PORTS,
  P_PROTOCOL,
  parseIp,
  WHOLE,
} from "../wire/packet.ts";
import { Answers } from "./answer.ts";
import type { Arp } from "./arp.ts";
import { type Core, DONE, HELD, SEND } from "./core.ts";
import type { Discovery } from "./discovery.ts";
import { Drop } from "./drops.ts";
import { Followers } from "./followers.ts";
import { type Fragments, PENDING } from "./fragment.ts";
import { FROM_KERNEL, FROM_WIRE, type Host } from "./host.ts";
import type { Members } from "./members.ts";
import type { Stock } from "./stock.ts";
import type { Wire } from "./wire.ts";

const DHCP_ANSWER = 0x4400_4300; // ports' word: from 67 to 68
const DHCP_XID = 3; // words after the UDP header's begin
const NOBODY = -1;
// Where else the fragments of a packet go: nowhere, if the first one was refused; back, as an echo's answer; or to those of
// a group who got the first one, which this net Worker alone knows.
const REFUSED = -2;
const ECHOED = -3;
const GROUP = PENDING - 1;

export class Inbound {
  /** Length of the frame that the last SEND is about. */
  answerBytes = 0;
  /** Fragments whose first one is not here yet; their sender is nobody. */
  readonly fragments: Fragments;
  private readonly core: Core;
  private readonly host: Host;
  private readonly arp: Arp;
  private readonly discovery: Discovery;
  private readonly stock: Stock;
  private readonly recorder: Recorder;
  private readonly firewall: boolean;
  private readonly tally: Int32Array;
  private readonly answers: Answers;
  private readonly members: Members;
  private readonly got = new Followers();
  private readonly wire: Wire;
  /** What became of the last frame, for captures: a Verdict or a drop reason; and the client that got it, or -1. */
  verdict = 0;
  to: number = NOBODY;

  /** @param tally counts of drops by reason, for frames that waited here */
  constructor(
    core: Core,
    host: Host,
    arp: Arp,
    discovery: Discovery,
    members: Members,
    stock: Stock,
    wire: Wire,
    recorder: Recorder,
    firewall: boolean,
    tally: Int32Array,
    fragments: Fragments,
  ) {
    this.members = members;
    this.wire = wire;
    this.fragments = fragments;
    this.core = core;
    this.host = host;
    this.arp = arp;
    this.discovery = discovery;
    this.stock = stock;
    this.recorder = recorder;
    this.firewall = firewall;
    this.tally = tally;
    this.answers = new Answers(core, firewall);
  }

  /**
   * The frame at `off`, 2 mod 4, without VLAN tags. Returns DONE, HELD, SEND (answered in place, `answerBytes` long), or
   * a drop reason. @param origin FROM_WIRE or FROM_KERNEL
   */
  frame(off: number, len: number, origin: number): number {
    const { recorder, fragments } = this;
    const isWatched = recorder.on !== 0 && origin === FROM_KERNEL; // the loop watches what the card received
    if (isWatched) recorder.begin(this.core.words, off, len, Origin.host);
    this.to = NOBODY;
    this.verdict = Verdict.toClient;
    const result = this.decide(off, len, origin);
    if (result === SEND) this.verdict = Verdict.answered;
    else if (result === HELD) this.verdict = Verdict.held;
    else if (result > 0) this.verdict = result;
    if (isWatched) recorder.end(this.verdict, this.to, NOBODY);
    if (fragments.waiting > 0) {
      const { answerBytes, verdict, to } = this; // of this frame, not of those that it lets go
      this.follow();
      this.answerBytes = answerBytes;
      this.verdict = verdict;
      this.to = to;
    }
    return result;
  }

  /** Now and then: fragments whose first one did not come are the kernel's, which may have seen it. */
  tick(milliseconds: number): void {
    const { fragments, core } = this;
    fragments.tick(milliseconds, core.table.now);
    this.answers.tick(milliseconds);
    if (fragments.waiting > 0) this.follow();
    for (let i = fragments.late(); i >= 0; i = fragments.late()) {
      const off = fragments.off[i]!;
      const ip = (off + ETHERNET) >>> 2;
      fragments.leave(i);
      const four = etherType(core.words, ip) === ETHERTYPE_IPV4;
      core.packet[P_FRAGMENT] = LATER;
      const isKernels = core.isLocal(four, core.words, four ? ip + 4 : ip + 6);
      const origin = fragments.generation[i]!;
      const result = isKernels ? this.kernel(off, fragments.len[i]!, ip, origin) : Drop.bad_fragment;
      if (result > 0) this.tally[result] = this.tally[result]! + 1;
      this.stock.give(off);
    }
  }

  private decide(off: number, len: number, origin: number): number {
    const { core } = this;
    const { words, packet: p } = core;
    const ip = (off + ETHERNET) >>> 2;
    p[P_FRAGMENT] = WHOLE;
    if (len < ETHERNET) return Drop.runt;
    const type = etherType(words, ip);
    if (type === ETHERTYPE_ARP) {
      const result = this.arp.outside(ip, off, len);
      if (result === SEND) this.answerBytes = len;
      return result !== 0 ? result : this.kernel(off, len, ip, origin);
    }
    if (type !== ETHERTYPE_IPV4 && type !== ETHERTYPE_IPV6) return this.kernel(off, len, ip, origin);
    const isCut = origin === FROM_KERNEL && len === this.stock.longest; // read as far as there was room
    if (!parseIp(words, p, type === ETHERTYPE_IPV6, ip, len - ETHERNET, isCut)) return Drop.bad_header;
    if (p[P_FRAGMENT] === LATER) return this.later(p, off, len, ip, origin);
    if (p[P_KIND] === NEIGHBOUR) {
      const result = this.discovery.outside(p, off, len);
      if (result === SEND) this.answerBytes = this.discovery.answerBytes;
      if (result !== 0) return result;
    }
    const slot = this.owner(p, ip);
    const isFirst = p[P_FRAGMENT] === FIRST;
    if (slot >= 0) {
      if (origin === FROM_WIRE && !isGroupMac(words, ip) && !core.isToCard(ip) && !core.isOurs(ip, slot))
        return Drop.other_host;
      if (isFirst) this.fragments.remember(p, words, NOBODY, PENDING, core.generation(slot));
      this.to = slot;
      const result = this.deliver(slot, p, off, len, origin);
      if (isFirst) this.fragments.change(result > 0 ? REFUSED : slot);
      return result;
    }
    if (isGroupMac(words, ip)) {
      const { got } = this;
      if (isFirst) this.fragments.remember(p, words, NOBODY, GROUP, got.begin());
      const n = this.members.deliver(NOBODY, p, off, len, origin, got);
      if (isFirst && n > 0 && got.count(got.last) === 0) this.fragments.change(REFUSED);
      return this.group(n, off, len, ip, origin);
    }
    if (isFirst) this.fragments.remember(p, words, NOBODY, NOBODY, 0);
    const { answers } = this;
    const bytes = answers.make(p, ip, len);
    if (bytes === 0) return this.kernel(off, len, ip, origin);
    if (isFirst) this.fragments.change(answers.isEcho ? ECHOED : REFUSED);
    return this.answered(bytes);
  }

  /** Whose packet it is: a client's slot, or -1. */
  private owner(p: Int32Array, ip: number): number {
    const { core } = this;
    const { words, quoted: q } = core;
    let slot = -1;
    if (p[P_KIND] === ERROR) {
      const isWhole =
        p[P_FRAGMENT] === WHOLE &&
        parseIp(words, q, p[P_FAMILY] !== AF_INET, p[P_L4]! + 2, p[P_L4_BYTES]! - 8, true);
      if (isWhole && q[P_FRAGMENT] !== LATER) slot = core.findAnswers(q);
    } else slot = core.find(p);
    // A pattern that leaves bits of the destination out means this host's addresses: no group's, nor what the kernel is to route.
    if (
      slot >= 0 &&
      p[P_KIND] !== ERROR &&
      (isGroupMac(words, ip) ? !core.isFoundWhole(p) : this.isRouted(p, ip))
    )
      slot = -1;
    if (slot < 0 && p[P_PROTOCOL] === IPPROTO_UDP && p[P_PORTS] === DHCP_ANSWER && p[P_L4_BYTES]! >= 16)
      slot = core.table.findDhcp(words[p[P_L4]! + DHCP_XID]!);
    if (slot >= 0) core.touch();
    return slot;
  }

  /** Whether the entry found last, for packet `p`, is of any address, and the kernel has a route for this one: it is not this host's. */
  private isRouted(p: Int32Array, ip: number): boolean {
    const { core } = this;
    const four = p[P_FAMILY] === AF_INET;
    if (!core.isToCard(ip) || core.isFoundOurs(four, core.words, p[P_DST]!)) return false;
    return core.routeType(four, core.words, p[P_DST]!) !== 0;
  }

  /** A packet to a group of `n` clients, who have it. The kernel has its own copy, unless the XDP program sent this here alone. */
  private group(n: number, off: number, len: number, ip: number, origin: number): number {
    this.verdict = Verdict.toGroup;
    return n > 0 ? DONE : this.kernel(off, len, ip, origin);
  }

  private deliver(slot: number, p: Int32Array, off: number, len: number, origin: number): number {
    const result = this.host.deliver(slot, p, off, len, origin);
    if (result > 0) this.core.accounts.drop(slot, result);
    return result;
  }

  /** A fragment without ports: follows its first one, or waits for it. The kernel sends its own in order. */
  private later(p: Int32Array, off: number, len: number, ip: number, origin: number): number {
    const { core, fragments } = this;
    if (fragments.find(p, core.words, NOBODY)) {
      const slot = fragments.value;
      if (slot === REFUSED) return Drop.bad_fragment;
      if (slot === ECHOED) return this.answered(this.answers.turn(p));
      if (slot === GROUP) {
        const n = this.members.follow(p, off, len, origin, this.got, fragments.more);
        return n < 0 ? Drop.bad_fragment : this.group(n, off, len, ip, origin);
      }
      if (slot < 0) return this.kernel(off, len, ip, origin);
      if (!core.isLive(slot, fragments.more)) return Drop.client_gone;
      this.to = slot;
      return this.deliver(slot, p, off, len, origin);
    }
    const mayWait = origin === FROM_WIRE || isGroupMac(core.words, ip);
    return mayWait && fragments.wait(p, core.words, NOBODY, origin, off, len) ? HELD : Drop.bad_fragment;
  }

  /** Answered for a client, by a frame so long. */
  private answered(bytes: number): number {
    this.to = this.answers.owner;
    this.answerBytes = bytes;
    return SEND;
  }

  /** Fragments that waited for the packet just decided about. */
  private follow(): void {
    const { fragments, core, stock } = this;
    for (let i = fragments.follower(); i >= 0; i = fragments.follower()) {
      const off = fragments.off[i]!;
      const len = fragments.len[i]!;
      fragments.leave(i);
      const ip = (off + ETHERNET) >>> 2;
      const six = etherType(core.words, ip) === ETHERTYPE_IPV6;
      parseIp(core.words, core.packet, six, ip, len - ETHERNET, false); // as it did before
      let result = this.later(core.packet, off, len, ip, fragments.generation[i]!);
      if (result === SEND) result = this.wire.send(NOBODY, off, this.answerBytes) || HELD;
      if (result > 0) this.tally[result] = this.tally[result]! + 1;
      if (result !== HELD) stock.give(off);
    }
  }

  /**
   * Nobody's here: the kernel's, if it has not had it already. With the firewall on, only fragments: the XDP program sends
   * those that the firewall lets pass, and may not know better, but nothing else that is the kernel's.
   */
  private kernel(off: number, len: number, ip: number, origin: number): number {
    const isClosed = this.firewall && this.core.packet[P_FRAGMENT] === WHOLE;
    if (origin === FROM_KERNEL || isClosed) return Drop.no_match;
    if (!isGroupMac(this.core.words, ip) && !this.core.isToCard(ip)) return Drop.other_host;
    this.verdict = Verdict.toKernel;
    return this.host.giveBack(off, len);
  }
}
