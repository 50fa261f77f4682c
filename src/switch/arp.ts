// ARP, RFC 826. Clients' requests are answered here, from the netbase: no client's ARP goes to the wire unless the address
// that it tells is that client's alone, so nobody can tell others a wrong one. Requests from the wire or this host's
// kernel for an address that a client alone has are answered for it.
//
// The packet at word `ip`:  0 hardware, protocol type | 1 lengths, operation | 2 sender's mac 0..3 | 3 mac 4, 5, ip 0, 1
//                           4 ip 2, 3, target's mac 0, 1 | 5 mac 2..5 | 6 target's ip
import { setDst, setSrc } from "../wire/ether.ts";
import { type Core, DONE, SEND, WIRE } from "./core.ts";
import { Drop } from "./drops.ts";
import { IN_USE, SOLICIT } from "./solicit.ts";
import { FRESH } from "./transmit.ts";

const ETHERNET_IPV4 = 0x0008_0100;
const LENGTHS = 0x0406;
const REQUEST = 0x0100;
const REPLY = 0x0200;
const FRAME = 42;
const IS_V4 = true;

/** Verdict: the neighbour is not known yet, and asked for. */
export const ASKED = -5;

export class Arp {
  private readonly core: Core;
  private readonly alias: number;

  /** @param alias the address under which clients see this host's kernel */
  constructor(core: Core, alias: number) {
    this.core = core;
    this.alias = alias;
  }

  /** A frame from the wire or the kernel: SEND, DONE, or 0 if it is not about a client's address. */
  outside(ip: number, off: number, len: number): number {
    const { words, table, deliver } = this.core;
    if (!this.isWhole(ip, len)) return 0;
    const target = words[ip + 6]!;
    const owner = table.owner4(target);
    if (owner < 0 || (words[ip + 2]! & 1) !== 0) return 0;
    if (words[ip + 1]! >>> 16 === REQUEST && this.sender(ip) !== target) {
      this.answer(ip, this.core.mac0(owner), this.core.mac1(owner));
      return SEND;
    }
    deliver.queue(owner, off, len); // an answer to it, or somebody else who says that he has its address
    return DONE;
  }

  /** A client's frame: DONE, WIRE, ASKED, or a drop reason. */
  fromClient(slot: number, ip: number, off: number, len: number): number {
    const { core, alias } = this;
    const { words, table, netbase, solicitor, transmit } = core;
    if (!this.isWhole(ip, len)) return Drop.bad_arp;
    if (words[ip + 2] !== core.mac0(slot) || (words[ip + 3]! & 0xffff) !== core.mac1(slot))
      return Drop.bad_arp;
    const sender = this.sender(ip);
    const target = words[ip + 6]!;
    const its = sender !== 0 && table.owner4(sender) === slot;
    if (words[ip + 1]! >>> 16 === REPLY) return its ? WIRE : Drop.bad_arp;
    if (words[ip + 1]! >>> 16 !== REQUEST) return Drop.bad_arp;
    if (sender !== 0 && !its && !this.isLocal(sender)) return Drop.bad_arp;
    const owner = table.owner4(target);
    if (owner === slot) return its || sender === 0 ? WIRE : DONE;
    if (owner >= 0) return this.tell(slot, ip, off, core.mac0(owner), core.mac1(owner));
    // A shared address that is announced or probed: it is this host's already, and nobody need hear it.
    if (sender === 0 || sender === target) return DONE;
    if (target === alias || this.isLocal(target))
      return this.tell(slot, ip, off, core.cardMac0, core.cardMac1);
    const { neigh4 } = netbase;
    // A client that has no routes of its own asks for far addresses too: their gateway's is the answer.
    const hop = transmit.gateway4(target, sender);
    const state = neigh4.find(hop, transmit.ifindex);
    if (state > 0) {
      if ((state & FRESH) === 0) solicitor.ask4(transmit.ifindex, hop, IN_USE);
      return this.tell(slot, ip, off, neigh4.mac0, neigh4.mac1 & 0xffff);
    }
    if (its) return WIRE; // may be of a subnet that the kernel knows nothing of
    solicitor.ask4(transmit.ifindex, hop, SOLICIT);
    return ASKED;
  }

  private isWhole(ip: number, len: number): boolean {
    const { words } = this.core;
    return len >= FRAME && words[ip] === ETHERNET_IPV4 && (words[ip + 1]! & 0xffff) === LENGTHS;
  }

  private sender(ip: number): number {
    const { words } = this.core;
    return (words[ip + 3]! >>> 16) | (words[ip + 4]! << 16);
  }

  private readonly one = new Int32Array(1);
  private isLocal(address: number): boolean {
    this.one[0] = address;
    return this.core.isLocal(IS_V4, this.one, 0);
  }

  private tell(slot: number, ip: number, off: number, mac0: number, mac1: number): number {
    this.answer(ip, mac0, mac1);
    this.core.deliver.queue(slot, off, FRAME);
    return DONE;
  }

  /** Makes the request its answer. */
  private answer(ip: number, mac0: number, mac1: number): void {
    const { words } = this.core;
    const target = words[ip + 6]!;
    const sender = this.sender(ip);
    const sha0 = words[ip + 2]!;
    const sha1 = words[ip + 3]! & 0xffff;
    words[ip + 1] = LENGTHS | (REPLY << 16);
    words[ip + 2] = mac0;
    words[ip + 3] = (mac1 & 0xffff) | (target << 16);
    words[ip + 4] = (target >>> 16) | (sha0 << 16);
    words[ip + 5] = (sha0 >>> 16) | (sha1 << 16);
    words[ip + 6] = sender;
    setDst(words, ip, sha0, sha1);
    setSrc(words, ip, mac0, mac1);
  }
}
