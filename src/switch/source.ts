// Whether a client's packet is from what the client owns: an address and port of a match's, or of a claim's, which the first
// packet of a flow asks for and waits for; or an ICMP error about a packet that it has got.
import { AF_INET } from "../wire/address.ts";
import {
  ECHO_REQUEST,
  ERROR,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_UDP,
  LATER,
  P_DST,
  P_FAMILY,
  P_FRAGMENT,
  P_KIND,
  P_L4,
  P_L4_BYTES,
  P_PORTS,
  P_PROTOCOL,
  P_SRC,
  parseIp,
  PLAIN,
  WHOLE,
} from "../wire/packet.ts";
import { type Core, HELD } from "./core.ts";
import { Drop } from "./drops.ts";
import type { Held } from "./held.ts";
import type { Host } from "./host.ts";
import { FIRST_TIME, type Waiting } from "./waiting.ts";

const DHCP_QUESTION = 0x4300_4400; // ports' word: from 68 to 67
const DHCP_XID = 3; // words after the UDP header's begin

export class Sources {
  private readonly core: Core;
  private readonly host: Host;
  private readonly held: Held;
  private readonly waiting: Waiting;

  constructor(core: Core, host: Host, held: Held, waiting: Waiting) {
    this.core = core;
    this.host = host;
    this.held = held;
    this.waiting = waiting;
  }

  /** 0 if the packet is from what the client owns, or HELD, or the drop reason. */
  check(slot: number, p: Int32Array, off: number, len: number, time: number): number {
    const { core } = this;
    const { words } = core;
    if (this.host.isFromAlias(p)) return Drop.not_owner;
    if (p[P_KIND] === ERROR) return this.isItsError(slot, p) ? 0 : Drop.not_owner;
    const four = p[P_FAMILY] === AF_INET;
    const owner = core.findAnswers(p);
    if (owner === slot && core.isFoundOurs(four, words, p[P_SRC]!)) {
      core.touch();
      return 0;
    }
    if (owner >= 0 && owner !== slot) return time !== FIRST_TIME ? Drop.claim_refused : Drop.not_owner;
    if (!this.mayClaim(p)) return Drop.not_owner;
    const isDhcp =
      four && p[P_PROTOCOL] === IPPROTO_UDP && p[P_PORTS] === DHCP_QUESTION && words[p[P_SRC]!] === 0;
    const xid = isDhcp && p[P_L4_BYTES]! >= 16 ? words[p[P_L4]! + DHCP_XID]! : 0;
    if (isDhcp ? words[p[P_DST]!] !== -1 : owner === slot) return Drop.not_owner;
    if (isDhcp && core.table.findDhcp(xid) === slot) {
      core.touch();
      return 0;
    }
    if (time !== FIRST_TIME) return Drop.claim_refused;
    const { held } = this;
    const src = p[P_SRC]!;
    const dst = p[P_DST]!;
    const ports = core.answerPorts(p);
    const place = isDhcp
      ? held.claimDhcp(slot, xid)
      : four
        ? held.claim4(slot, p[P_PROTOCOL]!, words[src]!, words[dst]!, ports)
        : held.claim6(slot, p[P_PROTOCOL]!, words, src, dst, ports);
    if (place < 0) return Drop.claim_crowded;
    this.waiting.keep(place, core.generation(slot), off, len);
    return HELD;
  }

  /** Whether the first packet of a flow can be of this kind. */
  private mayClaim(p: Int32Array): boolean {
    const protocol = p[P_PROTOCOL];
    if (p[P_KIND] === ECHO_REQUEST) return true;
    return p[P_KIND] === PLAIN && protocol !== IPPROTO_ICMP && protocol !== IPPROTO_ICMPV6;
  }

  /** Whether an ICMP error is about a packet that the client has got, and goes to who sent it: known by the alias, or not. */
  private isItsError(slot: number, p: Int32Array): boolean {
    const { core } = this;
    const { words, quoted: q } = core;
    if (p[P_FRAGMENT] !== WHOLE) return false;
    if (!parseIp(words, q, p[P_FAMILY] !== AF_INET, p[P_L4]! + 2, p[P_L4_BYTES]! - 8, true)) return false;
    if (q[P_FRAGMENT] === LATER) return false;
    if (this.host.isToItself(p)) this.host.quoteItself(p, q);
    for (let i = 0; i < (p[P_FAMILY] === AF_INET ? 1 : 4); i++)
      if (words[p[P_SRC]! + i] !== words[q[P_DST]! + i] || words[p[P_DST]! + i] !== words[q[P_SRC]! + i])
        return false;
    return core.find(q) === slot && core.isFoundOurs(p[P_FAMILY] === AF_INET, words, q[P_DST]!);
  }
}
