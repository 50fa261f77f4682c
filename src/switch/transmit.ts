// The way out for IPv4: what the pass (pass.ts) needs besides its fast path. The card's own state, taken over between
// batches; and the rare answers: several legs, a route that is none, a neighbour that is not resolved.
// Everything comes from the netbase, so netd sends what the kernel would send, and where.
import { fence } from "../netbase/fence.ts";
import {
  LINK_FLAGS,
  LINK_LLADDR,
  LINK_MTU,
  LINK_SEQ,
  LINK_SRC_HEAD,
  LINK_SRC_TAIL,
  NH_ENCAP,
  NH_GATEWAY,
  NH_LINK,
  NH_MTU,
  NH_OIF,
  NH_SPECIAL,
  NH_TYPE,
} from "../netbase/layout.ts";
import type { NetbaseReader } from "../netbase/netbase.ts";
import { RTN_BROADCAST, RTN_MULTICAST, RTN_UNICAST } from "../netlink/constants.ts";
import { AF_INET, AF_INET6 } from "../wire/address.ts";
import { Drop } from "./drops.ts";
import { IN_USE, SOLICIT, type Solicitor } from "./solicit.ts";

const ETHERNET = 14;
const ETHERTYPE_IPV4 = 0x0008_0000;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const FRAGMENT = 0xff3f << 16; // of an IPv4 header's word 1: an offset, or more to come
const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;
const NUD_REACHABLE = 0x02;
const NUD_NOARP = 0x40;
const NUD_PERMANENT = 0x80;

/** Neighbour states that need no word to the kernel: confirmed, or never to be. Others are reported as in use. */
export const FRESH: number = NUD_REACHABLE | NUD_NOARP | NUD_PERMANENT;

// Words of `port`, the card as the pass needs it. All 0 while it is down: then nothing is short enough to be sent.
export const PORT_DST_HEAD = 0; // words -4 and -3 of a frame to it (pass.ts has the picture), the first without its low half
export const PORT_DST_TAIL = 1;
export const PORT_SRC_HEAD = 2; // words -2 and -1 of an IPv4 frame from it
export const PORT_SRC_TAIL = 3;
export const PORT_LONGEST = 4; // longest frame that it takes

/** Why a packet with a route of this type (RTN_*) is not sent; 0 where it is. */
export const REFUSED: readonly number[] = [
  Drop.no_route,
  0, // unicast
  Drop.to_kernel, // local
  0, // broadcast
  Drop.to_kernel, // anycast
  0, // multicast
  Drop.blackhole,
  Drop.unreachable,
  Drop.prohibit,
  Drop.no_route, // throw, and no table left
];

export class Transmit {
  readonly ifindex: number;
  readonly port: Int32Array = new Int32Array(8);
  private readonly words: Int32Array;
  private readonly netbase: NetbaseReader;
  private readonly base: Int32Array;
  private readonly solicitor: Solicitor;
  /** Two IPv6 addresses for a lookup: to, from. */
  private readonly both = new Int32Array(8);
  private linkSeq = -1;

  /** @param words the link's memory; @param ifindex the link's: packets that lead elsewhere are dropped */
  constructor(words: Int32Array, netbase: NetbaseReader, solicitor: Solicitor, ifindex: number) {
    this.words = words;
    this.netbase = netbase;
    this.base = netbase.words;
    this.solicitor = solicitor;
    this.ifindex = ifindex;
  }

  /** Between batches: takes over the card's address, MTU and state if they changed. */
  refresh(): void {
    const { base, port } = this;
    const link = this.netbase.links.find(this.ifindex);
    const seq = link === 0 ? 0 : base[link + LINK_SEQ]!;
    if (seq === this.linkSeq || (seq & 1) !== 0) return; // while it changes, the old values stand
    const running =
      link !== 0 && (base[link + LINK_FLAGS]! & (IFF_UP | IFF_RUNNING)) === (IFF_UP | IFF_RUNNING);
    const longest = running ? base[link + LINK_MTU]! + ETHERNET : 0;
    const dstHead = base[link + LINK_SRC_HEAD]!;
    const dstTail = base[link + LINK_SRC_TAIL]!;
    const srcHead = base[link + LINK_LLADDR]!;
    const srcTail = (base[link + LINK_LLADDR + 1]! & 0xffff) | ETHERTYPE_IPV4;
    if (link !== 0 && !(fence() && base[link + LINK_SEQ] === seq)) return;
    this.linkSeq = seq;
    port[PORT_DST_HEAD] = dstHead;
    port[PORT_DST_TAIL] = dstTail;
    port[PORT_SRC_HEAD] = srcHead;
    port[PORT_SRC_TAIL] = srcTail;
    port[PORT_LONGEST] = longest;
  }

  /**
   * The whole way out of an answer of `len` bytes to `dst` by next hop `nh` (0: none), IPv4 header at word `ip`, for what is
   * not the pass's usual case. Writes the Ethernet header and returns 0, or the drop reason.
   */
  unusual(ip: number, dst: number, nh: number, len: number): number {
    const leg = nh === 0 ? 0 : this.leg(ip, dst, nh);
    if (leg === 0) return Drop.no_route;
    const reason = this.refusal(leg, len);
    if (reason !== 0) return reason;
    return (this.base[leg + NH_TYPE]! & 0xff) === RTN_UNICAST ? this.resolve(ip, dst, leg) : Drop.bad_source;
  }

  /** Whom a client's packet to `dst` goes to first: its gateway, or `dst` itself. */
  gateway4(dst: number, src: number): number {
    const { base, netbase } = this;
    const nh = netbase.fib4.lookup(dst);
    const special = nh !== 0 && (base[nh + NH_TYPE]! & NH_SPECIAL) !== 0;
    const leg = special ? netbase.select4(nh, dst, src, 0, 0, 0) : nh;
    return leg !== 0 && this.isVia(leg, AF_INET) ? base[leg + NH_GATEWAY]! : dst;
  }

  /** The same for the IPv6 address at word `at`: where in netbase's words the gateway's is, or 0. */
  gateway6(words: Int32Array, at: number, src: number): number {
    const { base, netbase, both } = this;
    for (let i = 0; i < 4; i++) {
      both[i] = words[at + i]!;
      both[i + 4] = words[src + i]!;
    }
    const nh = netbase.fib6.lookup(both[0]!, both[1]!, both[2]!, both[3]!);
    const special = nh !== 0 && (base[nh + NH_TYPE]! & NH_SPECIAL) !== 0;
    const leg = special ? netbase.select6(nh, both, 0, 0, 0, 0) : nh;
    return leg !== 0 && this.isVia(leg, AF_INET6) ? leg + NH_GATEWAY : 0;
  }

  private isVia(leg: number, family: number): boolean {
    return this.refusal(leg, 0) === 0 && (this.base[leg + NH_LINK]! & 0xff) === family;
  }

  /**
   * The leg of next hop `nh` that the packet at word `ip` to `dst` takes: of several, or by its TOS. 0 if no route is left.
   * All fragments take one: as the kernel has it (skb_flow_dissect_flow_keys), the ports of none count.
   */
  leg(ip: number, dst: number, nh: number): number {
    const { words } = this;
    if ((this.base[nh + NH_TYPE]! & NH_SPECIAL) === 0) return nh;
    const first = words[ip]!;
    const protocol = (words[ip + 2]! >>> 8) & 0xff;
    const hasPorts =
      (protocol === IPPROTO_UDP || protocol === IPPROTO_TCP) && (words[ip + 1]! & FRAGMENT) === 0;
    const ports = hasPorts ? words[ip + (first & 0xf)]! : 0;
    return this.netbase.select4(nh, dst, words[ip + 3]!, protocol, ports, (first >>> 8) & 0xff);
  }

  /** Why a frame of `len` bytes is not sent by this next hop; 0 if it is after all. */
  private refusal(nh: number, len: number): number {
    const { base } = this;
    const reason = REFUSED[base[nh + NH_TYPE]! & 0xff] ?? Drop.no_route;
    if (reason !== 0) return reason;
    if ((base[nh + NH_TYPE]! & NH_ENCAP) !== 0) return Drop.encap;
    if (base[nh + NH_OIF] !== this.ifindex) return Drop.other_interface;
    if (this.port[PORT_LONGEST] === 0) return Drop.link_down;
    const mtu = base[nh + NH_MTU]!;
    return len > this.port[PORT_LONGEST]! || (mtu !== 0 && len > mtu + ETHERNET) ? Drop.mtu : 0;
  }

  /**
   * The next hop's address: of an IPv4 neighbour, an IPv6 gateway (RTA_VIA, RFC 5549), or a group, whose address follows
   * from its own (RFC 1112 section 6.4). Asks for what is missing, and tells what is in use but not confirmed lately.
   */
  resolve(ip: number, dst: number, nh: number): number {
    const { base, ifindex } = this;
    const { neigh4, neigh6 } = this.netbase;
    const via = base[nh + NH_LINK]! & 0xff;
    const at = nh + NH_GATEWAY;
    if (via === AF_INET6) {
      const state = neigh6.find(base[at]!, base[at + 1]!, base[at + 2]!, base[at + 3]!, ifindex);
      if ((state & FRESH) === 0) this.solicitor.ask6(ifindex, base, at, state > 0 ? IN_USE : SOLICIT);
      return state > 0 ? this.header(ip, neigh6.mac0, neigh6.mac1) : Drop.no_neighbour;
    }
    const address = via === 0 ? dst : base[at]!;
    const state = neigh4.find(address, ifindex);
    if (state > 0) {
      if ((state & FRESH) === 0) this.solicitor.ask4(ifindex, address, IN_USE);
      return this.header(ip, neigh4.mac0, neigh4.mac1);
    }
    const type = base[nh + NH_TYPE]! & 0xff;
    if (type === RTN_BROADCAST) return this.header(ip, -1, -1);
    if (type === RTN_MULTICAST || (dst & 0xf0) === 0xe0)
      return this.header(ip, 0x005e0001 | (((dst >>> 8) & 0x7f) << 24), dst >>> 16);
    this.solicitor.ask4(ifindex, address, SOLICIT);
    return Drop.no_neighbour;
  }

  /** @param mac0 the next hop's bytes 0..3; @param mac1 bytes 4 and 5 in the low half */
  private header(ip: number, mac0: number, mac1: number): number {
    const { words, port } = this;
    words[ip - 4] = mac0 << 16;
    words[ip - 3] = (mac0 >>> 16) | (mac1 << 16);
    words[ip - 2] = port[PORT_SRC_HEAD]!;
    words[ip - 1] = port[PORT_SRC_TAIL]!;
    return 0;
  }
}
