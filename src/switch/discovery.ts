// IPv6 neighbour discovery, RFC 4861: to IPv6 what arp.ts is to IPv4. A client's solicitation is answered here from the
// netbase; what it tells others goes out only if it is about an address that it alone has. It may ask for routers, not
// be one.
//
// A solicitation or advertisement at word `ip`, without extension headers:
//   0..9 IPv6 header | 10 type, code, checksum | 11 flags | 12..15 target | 16.. options of 8 bytes: type, length, mac
import { fold, sumBytes } from "../wire/checksum.ts";
import { setDst, setSrc } from "../wire/ether.ts";
import { IPPROTO_ICMPV6, P_IP, P_L4, P_L4_BYTES, swap16 } from "../wire/packet.ts";
import { pseudoSum } from "../wire/rewrite.ts";
import { ASKED } from "./arp.ts";
import { type Core, DONE, SEND, WIRE } from "./core.ts";
import { Drop } from "./drops.ts";
import { IN_USE, SOLICIT } from "./solicit.ts";
import { FRESH } from "./transmit.ts";

const ROUTER_SOLICITATION = 133;
const SOLICITATION = 135;
const ADVERTISEMENT = 136;
const SOURCE_LLADDR = 1;
const TARGET_LLADDR = 2;
const HEADER = 10; // words
const TARGET = 12;
const OPTIONS = 16;
const FRAME = 14 + 40 + 32;
const IS_ROUTER = 0x80;
const IS_SOLICITED = 0x40;
const OVERRIDES = 0x20;
const IS_V4 = false;

export class Discovery {
  private readonly core: Core;
  private readonly alias: Int32Array;
  /** How long the frame is that `outside` made for SEND. */
  readonly answerBytes: number = FRAME;

  constructor(core: Core, alias: Int32Array) {
    this.core = core;
    this.alias = alias;
  }

  /** A packet from the wire or the kernel: SEND, DONE, or 0 if it is not about a client's address. */
  outside(p: Int32Array, off: number, len: number): number {
    const { deliver } = this.core;
    const ip = p[P_IP]!;
    const type = this.type(p);
    if (type !== SOLICITATION && type !== ADVERTISEMENT) return 0;
    let owner = this.owner(ip + TARGET);
    if (type === ADVERTISEMENT && owner < 0) owner = this.owner(ip + 6); // an answer to the client's own question
    if (owner < 0 || !this.isRight(p)) return 0;
    if (type === SOLICITATION) {
      this.answer(ip, this.core.mac0(owner), this.core.mac1(owner), 0);
      return SEND;
    }
    deliver.queue(owner, off, len);
    return DONE;
  }

  /** A client's packet: DONE, WIRE, ASKED, or a drop reason. */
  fromClient(slot: number, p: Int32Array, off: number): number {
    const { core } = this;
    const { words, netbase, solicitor, transmit } = core;
    const ip = p[P_IP]!;
    const type = this.type(p);
    const unspecified = (words[ip + 2]! | words[ip + 3]! | words[ip + 4]! | words[ip + 5]!) === 0;
    const its = !unspecified && this.owner(ip + 2) === slot;
    if (!unspecified && !its && !core.isLocal(IS_V4, words, ip + 2)) return Drop.bad_arp;
    if (type === ROUTER_SOLICITATION)
      return this.tellsOwn(slot, p, ip + TARGET, SOURCE_LLADDR) ? WIRE : Drop.bad_arp;
    if (type === ADVERTISEMENT)
      return this.owner(ip + TARGET) === slot && this.tellsOwn(slot, p, ip + OPTIONS, TARGET_LLADDR)
        ? WIRE
        : Drop.bad_arp;
    if (type !== SOLICITATION || !this.tellsOwn(slot, p, ip + OPTIONS, SOURCE_LLADDR)) return Drop.bad_arp;
    if ((words[ip + TARGET]! & 0xff) === 0xff) return Drop.bad_arp;
    const owner = this.owner(ip + TARGET);
    if (owner === slot) return unspecified || its ? WIRE : DONE;
    if (owner >= 0) return this.tell(slot, ip, off, core.mac0(owner), core.mac1(owner), 0);
    if (unspecified) return DONE; // a shared address that is looked for: this host's already
    if (this.isAlias(ip + TARGET) || core.isLocal(IS_V4, words, ip + TARGET))
      return this.tell(slot, ip, off, core.cardMac0, core.cardMac1, 0);
    const { neigh6 } = netbase;
    const { ifindex } = transmit;
    const gateway = transmit.gateway6(words, ip + TARGET, ip + 2); // see arp.ts
    const hop = gateway === 0 ? words : netbase.words;
    const t = gateway === 0 ? ip + TARGET : gateway;
    const state = neigh6.find(hop[t]!, hop[t + 1]!, hop[t + 2]!, hop[t + 3]!, ifindex);
    if (state > 0) {
      if ((state & FRESH) === 0) solicitor.ask6(ifindex, hop, t, IN_USE);
      // Whether it is a router is not known here; a host that is taken for one does no harm, one that is no more would.
      return this.tell(slot, ip, off, neigh6.mac0, neigh6.mac1 & 0xffff, IS_ROUTER);
    }
    if (its) return WIRE;
    solicitor.ask6(ifindex, hop, t, SOLICIT);
    return ASKED;
  }

  /** Its type; 0 if it is none that a neighbour can have sent. */
  private type(p: Int32Array): number {
    const { words } = this.core;
    const ip = p[P_IP]!;
    if (p[P_L4] !== ip + HEADER || words[ip + 1]! >>> 24 !== 255 || (words[ip + HEADER]! & 0xff00) !== 0)
      return 0;
    const type = words[ip + HEADER]! & 0xff;
    return p[P_L4_BYTES]! >= (type === ROUTER_SOLICITATION ? 8 : 24) ? type : 0;
  }

  private owner(at: number): number {
    return this.core.ownerOf(IS_V4, this.core.words, at);
  }

  private isAlias(at: number): boolean {
    const { alias } = this;
    for (let i = 0; i < 4; i++) if (this.core.words[at + i] !== alias[i]) return false;
    return true;
  }

  private isRight(p: Int32Array): boolean {
    const sum = pseudoSum(this.core.words, p);
    return fold(sumBytes(this.core.words, p[P_L4]! << 2, p[P_L4_BYTES]!, sum)) === 0xffff;
  }

  /** Whether all link-layer addresses among the options from word `at` on are the client's own, and none is cut off. */
  private tellsOwn(slot: number, p: Int32Array, from: number, kind: number): boolean {
    const { core } = this;
    const { words } = core;
    const end = p[P_L4]! + (p[P_L4_BYTES]! >>> 2);
    let at = from;
    for (; at + 1 < end; at += ((words[at]! >>> 8) & 0xff) << 1) {
      const option = words[at]!;
      if ((option & 0xff00) === 0) return false;
      if ((option & 0xff) !== SOURCE_LLADDR && (option & 0xff) !== TARGET_LLADDR) continue;
      const mac0 = (option >>> 16) | (words[at + 1]! << 16);
      const its = mac0 === core.mac0(slot) && words[at + 1]! >>> 16 === core.mac1(slot);
      if ((option & 0xff) !== kind || !its) return false;
    }
    return at === end;
  }

  private tell(slot: number, ip: number, off: number, mac0: number, mac1: number, flags: number): number {
    this.answer(ip, mac0, mac1, flags);
    this.core.deliver.queue(slot, off, FRAME);
    return DONE;
  }

  /** Makes the solicitation its answer: FRAME bytes. */
  private answer(ip: number, mac0: number, mac1: number, flags: number): void {
    const { words } = this.core;
    const unspecified = (words[ip + 2]! | words[ip + 3]! | words[ip + 4]! | words[ip + 5]!) === 0;
    if (unspecified)
      setDst(words, ip, 0x0000_3333, 0x0100); // all nodes
    else setDst(words, ip, words[ip - 2]!, words[ip - 1]! & 0xffff);
    setSrc(words, ip, mac0, mac1);
    for (let i = 0; i < 4; i++) {
      const asker = words[ip + 2 + i]!;
      words[ip + 6 + i] = unspecified ? (i === 0 ? 0x02ff : i === 3 ? 0x0100_0000 : 0) : asker;
      words[ip + 2 + i] = words[ip + TARGET + i]!;
    }
    words[ip] = 0x60;
    words[ip + 1] = swap16(32) | (IPPROTO_ICMPV6 << 16) | (255 << 24);
    words[ip + HEADER] = ADVERTISEMENT;
    words[ip + HEADER + 1] = flags | OVERRIDES | (unspecified ? 0 : IS_SOLICITED);
    words[ip + OPTIONS] = TARGET_LLADDR | (1 << 8) | (mac0 << 16);
    words[ip + OPTIONS + 1] = (mac0 >>> 16) | (mac1 << 16);
    const sum = sumBytes(words, (ip + 2) << 2, 32 + 32, (IPPROTO_ICMPV6 << 8) + swap16(32));
    words[ip + HEADER] = ADVERTISEMENT | (~fold(sum) << 16);
  }
}
