// Whom datagrams are sent to, and by which link-layer address: netd is asked, as any host is, by ARP (RFC 826) and
// neighbour solicitation (RFC 4861), for the destination itself. It answers from the kernel's tables: with the gateway's
// address where the destination is behind one. Over bare IP packets nothing is asked: netd does that itself.
//
// An answer is used for a while, then asked for again while it is still used. Until there is one, a few datagrams wait.
import { isGroup, parseAddress, parseLladdr, AF_INET6 } from "../wire/address.ts";
import { fold, sumBytes } from "../wire/checksum.ts";
import { ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, setDst, setSrc } from "../wire/ether.ts";
import { IPPROTO_ICMPV6, P_IP, P_L4, P_L4_BYTES, swap16 } from "../wire/packet.ts";
import type { Sources } from "./datagrams.ts";
import type { Frames, Pipe } from "./pipe.ts";

const PEERS = 4096;
const FRESH_MS = 30_000;
/** netd asks for up to three seconds. */
const PATIENCE_MS = 3500;
const WAITING = 32;
const HEAD = 14;
const ARP_BYTES = HEAD + 28;
const SOLICITATION = 135;
const ADVERTISEMENT = 136;
const SOLICITATION_BYTES = HEAD + 40 + 32;

/** A destination. */
export class Peer {
  readonly text: string;
  readonly six: boolean;
  readonly words: Int32Array;
  mac0 = 0;
  mac1 = 0;
  /** Milliseconds: until when the link-layer address is good, 0 if there is none; when it was asked for. */
  until = 0;
  asked = Number.NEGATIVE_INFINITY;
  /** Datagrams that wait for it. */
  readonly waiting: { data: Uint8Array; port: number }[] = [];

  constructor(text: string, six: boolean, words: Int32Array) {
    this.text = text;
    this.six = six;
    this.words = words;
  }
}

export class Neighbours {
  readonly mac0: number;
  readonly mac1: number;
  private readonly peers = new Map<string, Peer>();
  private readonly pipe: Pipe;
  private readonly words: Int32Array<ArrayBufferLike>;
  private readonly sources: Sources;
  /** Those that are asked for now, by their address's words. */
  private readonly open = new Map<string, Peer>();

  constructor(pipe: Pipe, frames: Frames, mac: string, sources: Sources) {
    const bytes = parseLladdr(mac)!;
    this.mac0 = bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24);
    this.mac1 = bytes[4]! | (bytes[5]! << 8);
    this.pipe = pipe;
    this.words = frames.words;
    this.sources = sources;
  }

  /** @throws TypeError where it is no address */
  peer(text: string): Peer {
    const known = this.peers.get(text);
    if (known !== undefined) return known;
    const address = parseAddress(text);
    if (address === undefined) throw new TypeError(`"${text}" is no IPv4 or IPv6 address`);
    if (this.peers.size === PEERS) this.peers.delete(this.peers.keys().next().value!);
    const peer = new Peer(text, address.family === AF_INET6, address.words);
    this.peers.set(text, peer);
    return peer;
  }

  /** Whether a frame to `peer` can be sent now; asks if not, and before what is known gets too old. */
  knows(peer: Peer, now: number): boolean {
    if (now < peer.until) return true;
    if (isGroup(peer.words, 0, peer.six)) return this.group(peer);
    if (now - peer.asked > PATIENCE_MS) this.ask(peer, now);
    return peer.until > 0;
  }

  /** Keeps a copy of a datagram until the answer comes. False if enough wait. */
  keep(peer: Peer, data: Uint8Array, port: number): boolean {
    return peer.waiting.length < WAITING && peer.waiting.push({ data: data.slice(), port }) > 0;
  }

  /** Those that nobody answered for. */
  *late(now: number): Generator<Peer> {
    for (const [key, peer] of this.open)
      if (now - peer.asked > PATIENCE_MS && this.open.delete(key)) yield peer;
  }

  get isAsking(): boolean {
    return this.open.size > 0;
  }

  /** The Ethernet header of a packet to `peer` at word `ip`. */
  header(peer: Peer, ip: number): void {
    const { words } = this;
    setDst(words, ip, peer.mac0, peer.mac1);
    setSrc(words, ip, this.mac0, this.mac1);
    words[ip - 1] = (words[ip - 1]! & 0xffff) | ((peer.six ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4) << 16);
  }

  /** An ARP packet has come: the peer that it answers for. */
  arp(ip: number, now: number): Peer | undefined {
    const { words } = this;
    if (words[ip + 1]! >>> 16 !== 0x0200) return undefined; // an answer
    const address = (words[ip + 3]! >>> 16) | (words[ip + 4]! << 16);
    return this.learn(String(address), words[ip + 2]!, words[ip + 3]! & 0xffff, now);
  }

  /** An advertisement has come. */
  advertisement(p: Int32Array, now: number): Peer | undefined {
    const { words } = this;
    const at = p[P_L4]!;
    if ((words[at]! & 0xff) !== ADVERTISEMENT || p[P_L4_BYTES]! < 32 || at !== p[P_IP]! + 10)
      return undefined;
    const option = words[at + 6]!;
    if ((option & 0xffff) !== 0x0102) return undefined; // its link-layer address
    const mac0 = (option >>> 16) | (words[at + 7]! << 16);
    return this.learn(words.subarray(at + 2, at + 6).join(), mac0, words[at + 7]! >>> 16, now);
  }

  private learn(key: string, mac0: number, mac1: number, now: number): Peer | undefined {
    const peer = this.open.get(key);
    if (peer === undefined) return undefined;
    this.open.delete(key);
    peer.mac0 = mac0;
    peer.mac1 = mac1;
    peer.until = now + FRESH_MS;
    return peer;
  }

  /** The link-layer address of a group follows from its own (RFC 1112, 2464). */
  private group(peer: Peer): boolean {
    const [w0] = peer.words;
    const last = peer.six ? peer.words[3]! : w0!;
    if (peer.six) [peer.mac0, peer.mac1] = [0x3333 | (last << 16), last >>> 16];
    else if (w0 === -1) [peer.mac0, peer.mac1] = [-1, 0xffff];
    else [peer.mac0, peer.mac1] = [0x005e0001 | (((last >>> 8) & 0x7f) << 24), last >>> 16];
    peer.until = Number.POSITIVE_INFINITY;
    return true;
  }

  private ask(peer: Peer, now: number): void {
    const off = this.pipe.take();
    if (off < 0) return;
    peer.asked = now;
    this.open.set(peer.six ? peer.words.join() : String(peer.words[0]), peer);
    const ip = (off + HEAD) >>> 2;
    if (peer.six) this.solicit(peer.words, ip);
    else this.request(peer.words[0]!, ip);
    this.pipe.push(peer.six ? SOLICITATION_BYTES : ARP_BYTES);
  }

  private request(target: number, ip: number): void {
    const { words } = this;
    const sender = this.sources.four?.[0] ?? 0;
    setDst(words, ip, -1, 0xffff);
    setSrc(words, ip, this.mac0, this.mac1);
    words[ip - 1] = (words[ip - 1]! & 0xffff) | (ETHERTYPE_ARP << 16);
    words[ip] = 0x0008_0100;
    words[ip + 1] = 0x0100_0406;
    words[ip + 2] = this.mac0;
    words[ip + 3] = this.mac1 | (sender << 16);
    words[ip + 4] = sender >>> 16;
    words[ip + 5] = 0;
    words[ip + 6] = target;
  }

  private solicit(target: Int32Array, ip: number): void {
    const { words } = this;
    const last = target[3]! >>> 8; // the solicited-node group: ff02::1:ff00:0/104 and the last 24 bits
    setDst(words, ip, 0x3333 | (0xff << 16) | ((last & 0xff) << 24), last >>> 8);
    setSrc(words, ip, this.mac0, this.mac1);
    words[ip - 1] = (words[ip - 1]! & 0xffff) | (ETHERTYPE_IPV6 << 16);
    words[ip] = 0x60;
    words[ip + 1] = swap16(32) | (IPPROTO_ICMPV6 << 16) | (255 << 24);
    words.set(this.sources.to6(target, 0), ip + 2);
    words.set([0x02ff, 0, 0x0100_0000, 0xff | (last << 8)], ip + 6);
    words[ip + 10] = SOLICITATION;
    words[ip + 11] = 0;
    words.set(target, ip + 12);
    words[ip + 16] = 0x0101 | (this.mac0 << 16);
    words[ip + 17] = (this.mac0 >>> 16) | (this.mac1 << 16);
    const sum = sumBytes(words, (ip + 2) << 2, 64, (IPPROTO_ICMPV6 << 8) + swap16(32));
    words[ip + 10] = SOLICITATION | (~fold(sum) << 16);
  }
}
