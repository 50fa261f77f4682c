// What the solicitor must know of the network, from the netbase, and how it asks the kernel: requests are collected,
// and go out together once a turn on the event socket (errors come back among the events, and are counted there).
import { Fib4 } from "../netbase/fib.ts";
import { Fib6 } from "../netbase/fib6.ts";
import { NeighReader4, NeighReader6 } from "../netbase/find.ts";
import {
  type Capacity,
  type Layout,
  LINE_WORDS,
  LINK_FLAGS,
  layout,
  NH_DEAD,
  NH_GATEWAY,
  NH_LINK,
  NH_OIF,
  NH_SLOW,
  NH_TYPE,
} from "../netbase/layout.ts";
import type { NetbaseWriter } from "../netbase/netbase.ts";
import { Rib } from "../netbase/rib.ts";
import { AF_INET, IFF_LOOPBACK, IFF_NOARP, IFF_UP, RTN_UNICAST } from "./constants.ts";
import { Requests } from "./message.ts";
import { delNeigh, useNeigh } from "./neigh.ts";
import type { NetlinkSocket } from "./socket.ts";
import { type Neighbourhood, Verdict } from "./solicit.ts";

const GATEWAYS_MS = 1000;

export class Around implements Neighbourhood {
  private readonly words: Int32Array;
  private readonly at: Layout;
  private readonly links: NetbaseWriter["links"];
  private readonly fib4: Fib4;
  private readonly fib6: Fib6;
  private readonly rib4: Rib;
  private readonly rib6: Rib;
  private readonly neigh4: NeighReader4;
  private readonly neigh6: NeighReader6;
  private readonly socket: NetlinkSocket;
  private readonly wanted: ReadonlySet<number> | undefined;
  private readonly requests = new Requests();
  /** Hashes of the gateways that routes name, as they were a second ago at most. */
  private readonly gateways = new Set<number>();
  private gatewaysAt = Number.NEGATIVE_INFINITY;

  constructor(
    writer: NetbaseWriter,
    capacity: Capacity,
    socket: NetlinkSocket,
    wanted: ReadonlySet<number> | undefined,
  ) {
    const { words } = writer;
    const at = layout(capacity);
    this.words = words;
    this.at = at;
    this.links = writer.links;
    this.fib4 = new Fib4(words, at);
    this.fib6 = new Fib6(words, at);
    this.rib4 = new Rib(words, at, false);
    this.rib6 = new Rib(words, at, true);
    this.neigh4 = new NeighReader4(words, at);
    this.neigh6 = new NeighReader6(words, at);
    this.socket = socket;
    this.wanted = wanted;
  }

  verdict(ifindex: number, family: number, a: Int32Array, at: number): number {
    const slot = this.links.find(ifindex);
    if (slot === 0 || (this.wanted !== undefined && !this.wanted.has(ifindex))) return Verdict.interface;
    const flags = this.words[slot + LINK_FLAGS]!;
    if ((flags & IFF_UP) === 0 || (flags & (IFF_LOOPBACK | IFF_NOARP)) !== 0) return Verdict.interface;
    if (!isHost(family, a, at)) return Verdict.address;
    const four = family === AF_INET;
    const reach = four ? this.reach4(a[at]!, ifindex) : this.reach6(a, at, ifindex);
    if (reach === Verdict.address) return reach;
    if (this.isGateway(ifindex, family, a, at)) return Verdict.gateway;
    return reach;
  }

  state(ifindex: number, family: number, a: Int32Array, at: number): number {
    return family === AF_INET
      ? this.neigh4.find(a[at]!, ifindex)
      : this.neigh6.find(a[at]!, a[at + 1]!, a[at + 2]!, a[at + 3]!, ifindex);
  }

  use(ifindex: number, family: number, a: Int32Array, at: number): void {
    useNeigh(this.requests, ifindex, family, a, at);
  }

  forget(ifindex: number, family: number, a: Int32Array, at: number): void {
    delNeigh(this.requests, { ifindex, dst: { family, words: a.slice(at, at + 4) } });
  }

  /** Sends what was collected. False if that failed: who waits for it asks again. */
  flush(): boolean {
    const { requests } = this;
    if (requests.length === 0) return true;
    const error = this.socket.send(requests.bytes, 0, requests.length);
    requests.reset();
    return error === 0;
  }

  private reach4(dst: number, ifindex: number): number {
    let nh = this.fib4.lookup(dst);
    if (nh !== 0 && (this.words[nh + NH_TYPE]! & (NH_SLOW | NH_DEAD)) !== 0)
      nh = this.recordOf(this.rib4, this.rib4.match(dst, 0, 0, 0, 0));
    return this.onLink(nh, ifindex);
  }

  private reach6(a: Int32Array, at: number, ifindex: number): number {
    if ((a[at]! & 0xc0ff) === 0x80fe) return Verdict.ok; // fe80::/10 is on every link
    const [w0, w1, w2, w3] = [a[at]!, a[at + 1]!, a[at + 2]!, a[at + 3]!];
    let nh = this.fib6.lookup(w0, w1, w2, w3);
    if (nh !== 0 && (this.words[nh + NH_TYPE]! & (NH_SLOW | NH_DEAD)) !== 0)
      nh = this.recordOf(this.rib6, this.rib6.match(w0, w1, w2, w3, 0));
    return this.onLink(nh, ifindex);
  }

  private recordOf(rib: Rib, row: number): number {
    return row === 0 ? 0 : rib.record(row);
  }

  /** Whether the record says that its destinations are on this link. */
  private onLink(nh: number, ifindex: number): number {
    const { words } = this;
    if (nh === 0) return Verdict.offlink;
    const type = words[nh + NH_TYPE]!;
    // Our own, broadcast, multicast, anycast: nobody to ask. What is blackholed has nobody either.
    if ((type & 0xff) !== RTN_UNICAST) return Verdict.address;
    for (let i = 0, leg = nh; i < type >>> 16; i++, leg += LINE_WORDS)
      if (words[leg + NH_OIF] === ifindex && (words[leg + NH_LINK]! & 0xff) === 0) return Verdict.ok;
    return Verdict.offlink;
  }

  private isGateway(ifindex: number, family: number, a: Int32Array, at: number): boolean {
    const now = performance.now();
    if (now - this.gatewaysAt > GATEWAYS_MS) {
      this.gatewaysAt = now;
      this.collect();
    }
    return this.gateways.has(hash(ifindex, family, a, at));
  }

  private collect(): void {
    const { words, gateways } = this;
    gateways.clear();
    const { nhIndex, capacity } = this.at;
    for (let id = 1; id < capacity.nexthops + 2; id++) {
      const record = words[nhIndex + id]!;
      if (record === 0) continue;
      for (let i = 0, leg = record; i < words[record + NH_TYPE]! >>> 16; i++, leg += LINE_WORDS) {
        const family = words[leg + NH_LINK]! & 0xff;
        if (family !== 0) gateways.add(hash(words[leg + NH_OIF]!, family, words, leg + NH_GATEWAY));
      }
    }
  }
}

function hash(ifindex: number, family: number, a: Int32Array, at: number): number {
  let h = Math.imul(ifindex ^ (family << 24), 0x9e3779b1);
  for (let i = 0; i < (family === AF_INET ? 1 : 4); i++)
    h = Math.imul(h ^ (h >>> 15) ^ a[at + i]!, 0x85ebca6b);
  return h ^ (h >>> 13);
}

/** Whether an address can be one host's: not this net, loopback, multicast, reserved, or IPv4 in IPv6's clothes. */
function isHost(family: number, a: Int32Array, at: number): boolean {
  const first = a[at]! & 0xff;
  if (family === AF_INET) return first !== 0 && first !== 127 && first < 224;
  if (first === 0xff) return false;
  return a[at] !== 0 || a[at + 1] !== 0 || (a[at + 2] !== 0 && a[at + 2] !== (0xffff0000 | 0));
}
