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
  ECHO_REQUEST,
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
  P_BYTES,
  parseIp,
  PLAIN,
  WHOLE,
} from "../wire/packet.ts";
import type { Arp } from "./arp.ts";
import { type Core, DONE, HELD, SEND } from "./core.ts";
import type { Discovery } from "./discovery.ts";
import { Drop } from "./drops.ts";
import { type Fragments, PENDING } from "./fragment.ts";
import { FROM_KERNEL, FROM_WIRE, type Host } from "./host.ts";
import { answerEcho } from "./icmp.ts";
import { Refuser } from "./refuse.ts";
import type { Stock } from "./stock.ts";
import { FOUND_ENTRY, FOUND_TOUCH } from "./table/search.ts";

const DHCP_ANSWER = 0x4400_4300; // ports' word: from 67 to 68
const DHCP_XID = 3; // words after the UDP header's begin
const MEMBERS = 4096;
const NOBODY = -1;
const REFUSED = -2; // where the fragments of a packet go whose first one was

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
  private readonly refuser: Refuser;
  private readonly members = new Int32Array(MEMBERS);
  private readonly entries = new Int32Array(MEMBERS);
  /** What became of the last frame, for captures: a Verdict or a drop reason; and the client that got it, or -1. */
  verdict = 0;
  to: number = NOBODY;

  /** @param tally counts of drops by reason, for frames that waited here */
  constructor(
    core: Core,
    host: Host,
    arp: Arp,
    discovery: Discovery,
    stock: Stock,
    recorder: Recorder,
    firewall: boolean,
    tally: Int32Array,
    fragments: Fragments,
  ) {
    this.fragments = fragments;
    this.core = core;
    this.host = host;
    this.arp = arp;
    this.discovery = discovery;
    this.stock = stock;
    this.recorder = recorder;
    this.firewall = firewall;
    this.tally = tally;
    this.refuser = new Refuser(core.words);
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
    if (fragments.waiting > 0) this.follow();
    return result;
  }

  /** Now and then: fragments whose first one did not come are the kernel's, which may have seen it. */
  tick(milliseconds: number): void {
    const { fragments, core } = this;
    fragments.tick(milliseconds, core.table.now);
    this.refuser.tick(milliseconds);
    if (fragments.waiting > 0) this.follow();
    for (let i = fragments.late(); i >= 0; i = fragments.late()) {
      const off = fragments.off[i]!;
      const ip = (off + ETHERNET) >>> 2;
      fragments.leave(i);
      const four = etherType(core.words, ip) === ETHERTYPE_IPV4;
      core.packet[P_FRAGMENT] = LATER;
      const isKernels = core.isLocal(four, core.words, four ? ip + 4 : ip + 6);
      const result = isKernels ? this.kernel(off, fragments.len[i]!, ip, FROM_WIRE) : Drop.bad_fragment;
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
    const slot = this.owner(p);
    if (slot >= 0) {
      if (origin === FROM_WIRE && !isGroupMac(words, ip) && !core.isToCard(ip) && !core.isOurs(ip, slot))
        return Drop.other_host;
      if (p[P_FRAGMENT] === FIRST) this.fragments.remember(p, words, NOBODY, PENDING, core.generation(slot));
      this.to = slot;
      const result = this.deliver(slot, p, off, len, origin);
      if (p[P_FRAGMENT] === FIRST) this.fragments.change(result > 0 ? REFUSED : slot);
      return result;
    }
    if (isGroupMac(words, ip)) return this.group(p, off, len, ip, origin);
    if (p[P_FRAGMENT] === FIRST) this.fragments.remember(p, words, NOBODY, NOBODY, 0);
    if (p[P_FRAGMENT] === WHOLE) {
      const answer = this.answer(p, len, ip);
      if (answer !== 0) return answer;
    }
    return this.kernel(off, len, ip, origin);
  }

  /**
   * What nobody asked for at an address that a client alone has: an echo is answered; another is refused, unless the firewall
   * is on, with which closed ports are silent. SEND, or 0: it is at another address, or there is nothing to say.
   */
  private answer(p: Int32Array, len: number, ip: number): number {
    const { core, refuser } = this;
    const isEcho = p[P_KIND] === ECHO_REQUEST;
    if (!isEcho && (this.firewall || p[P_KIND] !== PLAIN)) return 0;
    const owner = core.ownerOf(p[P_FAMILY] === AF_INET, core.words, p[P_DST]!);
    if (owner < 0 || (!core.isToCard(ip) && !core.isOurs(ip, owner))) return 0;
    const bytes = isEcho ? p[P_BYTES]! + ETHERNET : refuser.make(p, len - ETHERNET);
    if (bytes === 0) return 0;
    if (isEcho) answerEcho(core.words, p);
    this.to = owner;
    this.answerBytes = bytes;
    return SEND;
  }

  /** Whose packet it is: a client's slot, or -1. */
  private owner(p: Int32Array): number {
    const { core } = this;
    const { words, quoted: q } = core;
    let slot = -1;
    if (p[P_KIND] === ERROR) {
      const isWhole =
        p[P_FRAGMENT] === WHOLE &&
        parseIp(words, q, p[P_FAMILY] !== AF_INET, p[P_L4]! + 2, p[P_L4_BYTES]! - 8, true);
      if (isWhole && q[P_FRAGMENT] !== LATER) slot = core.findAnswers(q);
    } else slot = core.find(p);
    if (slot < 0 && p[P_PROTOCOL] === IPPROTO_UDP && p[P_PORTS] === DHCP_ANSWER && p[P_L4_BYTES]! >= 16)
      slot = core.table.findDhcp(words[p[P_L4]! + DHCP_XID]!);
    if (slot >= 0) core.touch();
    return slot;
  }

  /** To every client that asked for the group. The kernel has its own copy, unless the XDP program sent this here alone. */
  private group(p: Int32Array, off: number, len: number, ip: number, origin: number): number {
    const n = this.toMembers(NOBODY, p, off, len, origin);
    this.verdict = Verdict.toGroup;
    return n > 0 ? DONE : this.kernel(off, len, ip, origin);
  }

  /** Delivers to the clients in the packet's group, but for one that sent it. Returns how many are in the group. */
  private toMembers(sender: number, p: Int32Array, off: number, len: number, origin: number): number {
    const { members, entries, tally } = this;
    const { table, judge } = this.core;
    let n = judge === undefined ? -1 : judge.plans.find(p, off, len, members, entries);
    const ruledOut = n < 0 ? 0 : judge!.plans.ruledOut;
    tally[Drop.rx_filtered_client] = tally[Drop.rx_filtered_client]! + ruledOut;
    if (n < 0) n = this.everyMember(p);
    for (let i = 0; i < n; i++) {
      if (members[i] === sender) continue;
      table.found[FOUND_ENTRY] = entries[i]!;
      table.found[FOUND_TOUCH] = 0;
      const result = this.deliver(members[i]!, p, off, len, origin);
      if (result > 0) tally[result] = tally[result]! + 1;
    }
    return n + ruledOut;
  }

  private everyMember(p: Int32Array): number {
    const { members, entries } = this;
    const { table, words } = this.core;
    const dst = p[P_DST]!;
    if (p[P_FAMILY] === AF_INET)
      return table.groups4(p[P_PROTOCOL]!, words[dst]!, p[P_PORTS]!, members, entries);
    return table.groups6(words, dst, p[P_PROTOCOL]!, p[P_PORTS]!, members, entries);
  }

  private deliver(slot: number, p: Int32Array, off: number, len: number, origin: number): number {
    const result = this.host.deliver(slot, p, off, len, origin);
    if (result > 0) this.core.accounts.drop(slot, result);
    return result;
  }

  /** A client's packet to a group: the other clients that asked for it have it too. */
  groupFrom(slot: number, p: Int32Array, off: number, len: number, origin: number): void {
    this.toMembers(slot, p, off, len, origin);
  }

  /** A fragment without ports: follows its first one, or waits for it. */
  private later(p: Int32Array, off: number, len: number, ip: number, origin: number): number {
    const { core, fragments } = this;
    if (fragments.find(p, core.words, NOBODY)) {
      const slot = fragments.value;
      if (slot === REFUSED) return Drop.bad_fragment;
      if (slot < 0) return this.kernel(off, len, ip, origin);
      if (!core.isLive(slot, fragments.more)) return Drop.client_gone;
      this.to = slot;
      return this.deliver(slot, p, off, len, origin);
    }
    if (origin === FROM_WIRE && fragments.wait(p, core.words, NOBODY, 0, off, len)) return HELD;
    return Drop.bad_fragment;
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
      const result = this.later(core.packet, off, len, ip, FROM_WIRE);
      if (result > 0) this.tally[result] = this.tally[result]! + 1;
      stock.give(off);
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
