// The one switch of an interface that lookups follow: ignore_routes_with_linkdown (struct netconfmsg and NETCONFA_*,
// linux/netconf.h). Told per family for each interface, for "default" (what new interfaces begin with) and "all".
//   netconfmsg: u8 family, then on 4 bytes attributes of s32
import { LINK_IFINDEX } from "../netbase/layout.ts";
import type { NetbaseWriter } from "../netbase/netbase.ts";
import { AF_INET, NLM_F_DUMP, RTM_GETNETCONF } from "./constants.ts";
import type { Requests } from "./message.ts";

const NETCONFA_IFINDEX = 1;
const NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN = 6;
const DEFAULT = -2;

export function dumpNetconf(m: Requests, family: number): void {
  m.bytes[m.begin(RTM_GETNETCONF, NLM_F_DUMP, 4)] = family;
}

export class Netconf {
  private readonly writer: NetbaseWriter;
  /** By ifindex: 1 for IPv4, 2 for IPv6; those that are 0 are not in it. */
  private readonly ignoring = new Map<number, number>();

  constructor(writer: NetbaseWriter) {
    this.writer = writer;
  }

  /** Takes over one message; false if a length in it is wrong. */
  message(words: Int32Array, bytes: Uint8Array, off: number, len: number): boolean {
    const end = off + len;
    const bit = bytes[off + 16] === AF_INET ? 1 : 2;
    let ifindex = 0;
    let ignore = -1;
    for (let at = off + 20; end - at >= 4; ) {
      const head = words[at >> 2]!;
      const length = head & 0xffff;
      if (length < 4 || length > end - at) return false;
      const value = length >= 8 ? words[(at >> 2) + 1]! : 0;
      if (head >>> 16 === NETCONFA_IFINDEX) ifindex = value;
      if (head >>> 16 === NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN) ignore = value;
      at += (length + 3) & ~3;
    }
    if (ignore < 0) return true; // about another switch
    const before = this.ignoring.get(ifindex) ?? 0;
    this.set(ifindex, ignore > 0 ? before | bit : before & ~bit);
    return true;
  }

  /** A new interface: what "default" says holds for it, until something else is told. */
  added(ifindex: number): void {
    this.set(ifindex, this.ignoring.get(DEFAULT) ?? 0);
  }

  removed(ifindex: number): void {
    this.ignoring.delete(ifindex);
  }

  private set(ifindex: number, bits: number): void {
    if (bits === 0) this.ignoring.delete(ifindex);
    else this.ignoring.set(ifindex, bits);
    const slot = this.writer.links.find(ifindex);
    if (slot !== 0 && this.writer.words[slot + LINK_IFINDEX] === ifindex)
      this.writer.links.setIgnoreLinkdown(ifindex, (bits & 1) !== 0, (bits & 2) !== 0);
  }
}
