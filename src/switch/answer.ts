// What netd answers for an address that a client alone has, where no match of that client's does: echo, and that a port is
// closed, unless the firewall is on, with which closed ports are silent. Asked from the wire, by this host, or by another
// client. The answer is made in the frame that asked.
import { AF_INET } from "../wire/address.ts";
import { ETHERNET } from "../wire/ether.ts";
import { ECHO_REQUEST, P_BYTES, P_DST, P_FAMILY, P_KIND, PLAIN } from "../wire/packet.ts";
import type { Core } from "./core.ts";
import { answerEcho, turnPacket } from "./icmp.ts";
import { Refuser } from "./refuse.ts";

export class Answers {
  /** Whose the address is that the last answer is from. */
  owner = -1;
  /** Whether it is an echo's: then its later fragments are its answer's, each by `turn`. */
  isEcho = false;
  private readonly core: Core;
  private readonly refuser: Refuser;
  private readonly firewall: boolean;

  constructor(core: Core, firewall: boolean) {
    this.core = core;
    this.refuser = new Refuser(core.words);
    this.firewall = firewall;
  }

  tick(milliseconds: number): void {
    this.refuser.tick(milliseconds);
  }

  /**
   * Makes packet `p`, whole or its first fragment, the answer to it: returns its frame's length, or 0: it is at another
   * address, or there is nothing to say.
   */
  make(p: Int32Array, ip: number, len: number): number {
    const { core } = this;
    this.isEcho = p[P_KIND] === ECHO_REQUEST;
    if (!this.isEcho && (this.firewall || p[P_KIND] !== PLAIN)) return 0;
    this.owner = core.ownerOf(p[P_FAMILY] === AF_INET, core.words, p[P_DST]!);
    if (this.owner < 0 || (!core.isToCard(ip) && !core.isOurs(ip, this.owner))) return 0;
    if (!this.isEcho) return this.refuser.make(p, len - ETHERNET);
    answerEcho(core.words, p);
    return p[P_BYTES]! + ETHERNET;
  }

  /** Makes a later fragment of an echo request one of its answer; returns its frame's length. */
  turn(p: Int32Array): number {
    const { core } = this;
    this.owner = core.ownerOf(p[P_FAMILY] === AF_INET, core.words, p[P_DST]!);
    turnPacket(core.words, p);
    return p[P_BYTES]! + ETHERNET;
  }
}
