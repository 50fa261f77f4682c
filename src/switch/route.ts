// Clients' packets that are sent to the card's own link-layer address, but are not for this host: routed out of the card by
// the netbase, as the kernel would. One whose client is in IP mode (memif) is sent as from this host itself; any other
// is forwarded, and loses a hop. What cannot go on is told its sender by ICMP (RFC 792, 1812 section 5.2.7, 4443).
import { NH_ENCAP, NH_GATEWAY, NH_LINK, NH_MTU, NH_OIF, NH_SPECIAL, NH_TYPE } from "../netbase/layout.ts";
import { AF_INET } from "../wire/address.ts";
import { fold, sumBytes } from "../wire/checksum.ts";
import { ETHERNET, ETHERTYPE_IPV6, setDst, setSrc } from "../wire/ether.ts";
import {
  ERROR,
  LATER,
  P_BYTES,
  P_DST,
  P_FAMILY,
  P_FRAGMENT,
  P_IP,
  P_KIND,
  P_PORTS,
  P_PROTOCOL,
  P_SRC,
  PLAIN,
  WHOLE,
} from "../wire/packet.ts";
import { ASKED } from "./arp.ts";
import { type Core, WIRE } from "./core.ts";
import { Drop } from "./drops.ts";
import { makeError } from "./icmp.ts";
import { IN_USE, SOLICIT } from "./solicit.ts";
import { FRESH, PORT_LONGEST, REFUSED } from "./transmit.ts";

const RTN_UNICAST = 1;
const FE80 = 0x80fe; // fe80::/16 of fe80::/10, as the low half of a memory word
const MULTICAST6 = 0x3333;

/** [IPv4, IPv6] type | code << 8 of the error about a reason. */
const ERRORS: Readonly<Record<number, readonly [number, number]>> = {
  [Drop.ttl]: [11, 3],
  [Drop.no_route]: [3 | (0 << 8), 1 | (0 << 8)],
  [Drop.unreachable]: [3 | (1 << 8), 1 | (3 << 8)],
  [Drop.no_neighbour]: [3 | (1 << 8), 1 | (3 << 8)],
  [Drop.prohibit]: [3 | (13 << 8), 1 | (1 << 8)],
  [Drop.mtu]: [3 | (4 << 8), 2],
};

export class Router {
  private readonly core: Core;
  private readonly bytes: Uint8Array;
  private readonly alias4: Int32Array;
  private readonly alias6: Int32Array;
  private readonly flow6 = new Int32Array(8);
  /** The MTU that the last packet was too long for. */
  private mtu = 0;

  /** @param bytes the frames' memory; @param alias4, alias6 where errors come from */
  constructor(core: Core, bytes: Uint8Array, alias4: Int32Array, alias6: Int32Array) {
    this.core = core;
    this.bytes = bytes;
    this.alias4 = alias4;
    this.alias6 = alias6;
  }

  /**
   * Packet `p`, in the frame at `off`: WIRE with the frame ready to send, ASKED where the neighbour is not known yet, or a
   * drop reason. @param isForwarded it is not this host's own: it loses a hop, and goes to one host only
   */
  frame(p: Int32Array, isForwarded: boolean): number {
    const { words } = this.core;
    const ip = p[P_IP]!;
    const four = p[P_FAMILY] === AF_INET;
    const hops = four ? words[ip + 2]! & 0xff : words[ip + 1]! >>> 24;
    // RFC 1812 section 5.2.2: a router looks at the header's checksum.
    if (four && fold(sumBytes(words, ip << 2, (words[ip]! & 15) << 2, 0)) !== 0xffff)
      return Drop.bad_ip_checksum;
    if (isForwarded && hops <= 1) return Drop.ttl;
    const reason = four ? this.four(p, isForwarded) : this.six(p, isForwarded);
    if (reason !== 0) return reason;
    if (isForwarded) this.hop(ip, four);
    return WIRE;
  }

  /** Tells a client why its packet does not go on, where there is something to tell. */
  tell(slot: number, p: Int32Array, off: number, len: number, reason: number): void {
    const kinds = ERRORS[reason];
    if (kinds === undefined || p[P_KIND] === ERROR || p[P_FRAGMENT] === LATER) return;
    const { core } = this;
    const four = p[P_FAMILY] === AF_INET;
    if (core.isToMany(p)) return;
    const kind = kinds[four ? 0 : 1];
    const rest = reason === Drop.mtu ? this.mtu : 0;
    const alias = four ? this.alias4 : this.alias6;
    core.deliver.queue(slot, off, makeError(core.words, this.bytes, p, len - ETHERNET, kind, rest, alias));
  }

  private four(p: Int32Array, isForwarded: boolean): number {
    const { words, netbase, transmit } = this.core;
    const dst = words[p[P_DST]!]!;
    const ip = p[P_IP]!;
    if (isForwarded && (dst & 0xff) >= 0xe0) return Drop.no_route; // a group is not by this table
    const nh = netbase.fib4.lookup(dst);
    const leg = nh === 0 ? 0 : transmit.leg(ip, dst, nh);
    const reason = this.refusal(leg, p[P_BYTES]!, isForwarded);
    if (reason !== 0) return reason;
    const result = transmit.resolve(ip, dst, leg);
    return result === Drop.no_neighbour ? ASKED : result;
  }

  private six(p: Int32Array, isForwarded: boolean): number {
    const { core, flow6 } = this;
    const { words, netbase } = core;
    const dst = p[P_DST]!;
    if ((words[dst]! & 0xff) === 0xff && !isForwarded) return this.group6(p);
    if ((words[dst]! & 0xc0ff) === FE80) return isForwarded ? Drop.no_route : this.neighbour6(p, words, dst);
    for (let i = 0; i < 4; i++) {
      flow6[i] = words[dst + i]!;
      flow6[4 + i] = words[p[P_SRC]! + i]!;
    }
    const nh = netbase.fib6.lookup(flow6[0]!, flow6[1]!, flow6[2]!, flow6[3]!);
    const special = nh !== 0 && (netbase.words[nh + NH_TYPE]! & NH_SPECIAL) !== 0;
    const label = words[p[P_IP]!]! & 0xffff_0f00;
    // All fragments take one leg, and so do all pings: as for IPv4.
    const ports = p[P_FRAGMENT] === WHOLE && p[P_KIND] === PLAIN ? p[P_PORTS]! : 0;
    const leg = special ? netbase.select6(nh, flow6, 0, p[P_PROTOCOL]!, ports, label) : nh;
    const reason = this.refusal(leg, p[P_BYTES]!, isForwarded);
    if (reason !== 0) return reason;
    const isOnLink = (netbase.words[leg + NH_LINK]! & 0xff) === 0;
    return this.neighbour6(p, isOnLink ? words : netbase.words, isOnLink ? dst : leg + NH_GATEWAY);
  }

  /** Why a packet of `bytes` does not go by this leg; 0 if it does. */
  private refusal(leg: number, bytes: number, isForwarded: boolean): number {
    const { netbase, transmit } = this.core;
    const base = netbase.words;
    if (leg === 0) return Drop.no_route;
    const type = base[leg + NH_TYPE]! & 0xff;
    const reason = REFUSED[type] ?? Drop.no_route;
    if (reason !== 0) return reason;
    if (isForwarded && type !== RTN_UNICAST) return Drop.no_route;
    if ((base[leg + NH_TYPE]! & NH_ENCAP) !== 0) return Drop.encap;
    if (base[leg + NH_OIF] !== transmit.ifindex) return Drop.other_interface;
    if (transmit.port[PORT_LONGEST] === 0) return Drop.link_down;
    const own = transmit.port[PORT_LONGEST]! - ETHERNET;
    const route = base[leg + NH_MTU]!;
    this.mtu = route !== 0 && route < own ? route : own;
    return bytes > this.mtu ? Drop.mtu : 0;
  }

  /** To the IPv6 neighbour whose address is at word `at`. */
  private neighbour6(p: Int32Array, from: Int32Array, at: number): number {
    const { netbase, solicitor, transmit } = this.core;
    const { neigh6 } = netbase;
    const { ifindex } = transmit;
    const state = neigh6.find(from[at]!, from[at + 1]!, from[at + 2]!, from[at + 3]!, ifindex);
    if ((state & FRESH) === 0) solicitor.ask6(ifindex, from, at, state > 0 ? IN_USE : SOLICIT);
    if (state <= 0) return ASKED;
    this.header6(p[P_IP]!, neigh6.mac0, neigh6.mac1);
    return 0;
  }

  /** To a group's link-layer address (RFC 2464 section 7). */
  private group6(p: Int32Array): number {
    const { words, transmit } = this.core;
    if (transmit.port[PORT_LONGEST] === 0) return Drop.link_down;
    const last = words[p[P_DST]! + 3]!;
    this.header6(p[P_IP]!, MULTICAST6 | (last << 16), last >>> 16);
    return 0;
  }

  private header6(ip: number, mac0: number, mac1: number): void {
    const { core } = this;
    setDst(core.words, ip, mac0, mac1);
    setSrc(core.words, ip, core.cardMac0, core.cardMac1);
    core.words[ip - 1] = (core.words[ip - 1]! & 0xffff) | (ETHERTYPE_IPV6 << 16);
  }

  /** One hop less; IPv4's checksum follows (RFC 1624): its high byte, over the TTL's, is one more. */
  private hop(ip: number, four: boolean): void {
    const { words } = this.core;
    if (!four) {
      words[ip + 1] = words[ip + 1]! - 0x0100_0000;
      return;
    }
    const w = words[ip + 2]!;
    const sum = (w >>> 16) + 1;
    words[ip + 2] = ((w & 0xffff) - 1) | ((sum >= 0xffff ? sum + 1 : sum) << 16); // never -0
  }
}
