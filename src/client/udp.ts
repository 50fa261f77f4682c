// UDP over a channel, in the form of Bun.udpSocket: `udp.bind` gives a socket whose callbacks get datagrams, one by one as
// copies (`data`) or where they lie (`batch`), and which sends. Beside the kernel's sockets: what is sent goes out together
// at the end of the callback, or of the current task.
//
//   event loop:  poll until nothing comes for a while -> wait (waiter.ts) -> ...       or `run`: a thread of its own
import { SysError } from "../../ffi/errno.ts";
import { AF_INET6, formatAddress, parseAddress } from "../wire/address.ts";
import { ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherType } from "../wire/ether.ts";
import {
  ERROR,
  IPPROTO_UDP,
  NEIGHBOUR,
  P_FRAGMENT,
  P_KIND,
  P_PORTS,
  P_PROTOCOL,
  P_WORDS,
  parseIp,
  swap16,
  WHOLE,
} from "../wire/packet.ts";
import { putUdp4, putUdp6, type Sum, sumOf, UDP4_HEAD, UDP6_HEAD } from "../wire/udp.ts";
import { type AttachOptions, attach, type Channel } from "./channel.ts";
import { Datagrams, Sources } from "./datagrams.ts";
import { errorIn } from "./icmp.ts";
import { Neighbours, type Peer } from "./neighbours.ts";
import type { Frames } from "./pipe.ts";
import { Refused } from "./request.ts";

const EBADF = 9;
const EMSGSIZE = 90;
const EHOSTUNREACH = 113;
/** How long a socket looks again by itself before it waits: about what being woken costs. */
const LINGER_MS = 0.05;
const TURNS = 16;
/** While something is due in time: room in the ring, an answer about a neighbour. */
const TICK_MS = 1;
const FIRST_EPHEMERAL = 49152;
const TRIES = 64;

export interface UdpHandlers {
  /** A datagram: a copy, the callback's to keep. */
  data?(socket: UdpSocket, data: Buffer, port: number, address: string): void;
  /** Instead of `data`: all that have come, where they lie. Nothing of it may be used once the callback returns. */
  batch?(socket: UdpSocket, batch: Datagrams): void;
  /** `send` has said false, and may be tried again. */
  drain?(socket: UdpSocket): void;
  /** A destination cannot be reached (an ICMP error, no neighbour), or netd has ended: then the socket is closed. */
  error?(socket: UdpSocket, error: Error): void;
  close?(socket: UdpSocket): void;
}

export interface UdpOptions extends Omit<AttachOptions, "listen" | "ip"> {
  /** 0, or none: one that is free, of 49152 and up */
  port?: number;
  /** one of the card's addresses; without it all of them, IPv4 and IPv6 */
  hostname?: string;
  socket: UdpHandlers;
}

type Data = string | ArrayBufferView | ArrayBufferLike;

const encoder = new TextEncoder();
const bytesOf = (data: Data): Uint8Array<ArrayBufferLike> => {
  if (data instanceof Uint8Array) return data;
  if (typeof data === "string") return encoder.encode(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer || data instanceof SharedArrayBuffer) return new Uint8Array(data);
  throw new TypeError(`a datagram of ${data === null ? "null" : typeof data}: expected a string, or bytes`);
};

function expectPort(port: number, least: number): void {
  if (!Number.isInteger(port) || port < least || port > 65535)
    throw new TypeError(`port ${port}: expected a whole number from ${least} to 65535`);
}

export class UdpSocket implements Disposable {
  readonly port: number;
  /** as it was given, or "::" */
  readonly hostname: string;
  readonly channel: Channel;
  /** Datagrams that were dropped: damaged, fragments, or an answer for which the daemon had no room. */
  dropped = 0;
  private readonly handlers: UdpHandlers;
  private readonly frames: Frames;
  private readonly datagrams: Datagrams;
  private readonly sources: Sources;
  private readonly neighbours: Neighbours;
  private readonly sum: Sum;
  private readonly packet = new Int32Array(P_WORDS);
  private readonly quoted = new Int32Array(P_WORDS);
  /** The port as the high half of a ports' word. */
  private readonly own: number;
  private now = performance.now();
  private heard = 0;
  private isPolling = false;
  private isFlushing = false;
  private isFull = false;
  private ticking: Timer | undefined;

  /** @internal use udp.bind */
  constructor(channel: Channel, port: number, hostname: string | undefined, handlers: UdpHandlers) {
    const { pipe, frames } = channel;
    this.channel = channel;
    this.port = port;
    this.hostname = hostname ?? "::";
    this.handlers = handlers;
    this.frames = frames;
    this.own = swap16(port);
    this.sum = sumOf(pipe.memory);
    this.sources = sourcesOf(hostname === undefined ? channel.addresses : [hostname]);
    this.neighbours = new Neighbours(pipe, frames, channel.mac, this.sources);
    const { mac0, mac1 } = this.neighbours;
    this.datagrams = new Datagrams(frames, pipe, this.sources, this.sum, mac0, mac1);
    setImmediate(this.pump);
  }

  /**
   * Sends a datagram, at the end of the current callback or task. False if the daemon does not keep up, or the neighbour
   * is not known and enough waits for it: the datagram is not sent, and `drain` will be called.
   * @throws SysError EMSGSIZE if it is too long: nothing is fragmented; EBADF once the socket is closed; TypeError if
   * `address` is no address, or `port` no port
   */
  send(data: Data, port: number, address: string): boolean {
    if (this.closed) throw new SysError(`send to ${address}`, EBADF, "the socket is closed");
    const bytes = bytesOf(data);
    expectPort(port, 1);
    const peer = this.neighbours.peer(address);
    const { pipe, mtu } = this.channel;
    const most = mtu - (peer.six ? UDP6_HEAD : UDP4_HEAD);
    if (bytes.length > most)
      throw new SysError(`send ${bytes.length} bytes to ${address}`, EMSGSIZE, `at most ${most}`);
    this.flushSoon();
    if (pipe.head !== 0 && !this.neighbours.knows(peer, this.now)) {
      this.tickSoon();
      return this.neighbours.keep(peer, bytes, port);
    }
    return this.put(peer, bytes, port);
  }

  /** `send` of many, [data, port, address, data, port, address, ...], at once; how many of them were sent, from the front. */
  sendMany(datagrams: readonly (Data | number | string)[]): number {
    if (datagrams.length % 3 !== 0) throw new TypeError("sendMany: expected [data, port, address, ...]");
    let sent = 0;
    for (let i = 0; i + 2 < datagrams.length; i += 3, sent++)
      if (!this.send(datagrams[i] as Data, datagrams[i + 1] as number, datagrams[i + 2] as string)) break;
    this.channel.pipe.flush();
    return sent;
  }

  /**
   * Serves in this thread until `close()` in a callback, or until `stop[0]` is not 0: no event loop runs meanwhile. Blocks
   * where nothing comes for `lingerMs`; -1 never does.
   * @throws SysError when netd has ended
   */
  run(stop?: Int32Array, lingerMs: number = LINGER_MS): void {
    const { channel } = this;
    while (!channel.isClosed && (stop === undefined || Atomics.load(stop, 0) === 0)) {
      if (this.turn() > 0) continue;
      this.now = performance.now();
      if (lingerMs < 0 || this.now - this.heard < lingerMs) continue;
      channel.wait(stop === undefined ? -1 : 100);
      this.heard = this.now = performance.now();
    }
  }

  /** The socket is gone, and its port free. */
  close(): void {
    if (this.channel.isClosed) return;
    clearTimeout(this.ticking);
    this.channel.pipe.flush();
    this.channel.close();
    this.handlers.close?.(this);
  }

  get closed(): boolean {
    return this.channel.isClosed;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Takes what has come, a batch at a time. */
  private turn(): number {
    let taken = 0;
    for (let i = 0; i < TURNS && !this.channel.isClosed; i++) {
      this.isPolling = true;
      try {
        const n = this.channel.poll(this.take);
        if (n === 0) break;
        taken += n;
      } finally {
        this.isPolling = false;
      }
    }
    if (taken > 0) this.heard = this.now = performance.now();
    return taken;
  }

  private readonly pump = (): void => {
    if (this.channel.isClosed) return;
    let taken = 0;
    this.now = performance.now();
    try {
      taken = this.turn();
    } finally {
      // Also after a callback that threw: the next datagrams come all the same.
      if (taken > 0 || this.now - this.heard < LINGER_MS) setImmediate(this.pump);
      else this.channel.ready().then(this.pump, this.fail);
    }
  };

  private readonly fail = (error: Error): void => {
    if (this.handlers.error) this.handlers.error(this, error);
    this.close();
    if (!this.handlers.error) throw error;
  };

  private readonly take = (frames: Frames): void => {
    const { datagrams, handlers } = this;
    datagrams.n = 0;
    for (let i = 0; i < frames.n; i++) this.sort(i);
    if (datagrams.n === 0) return;
    if (handlers.batch) handlers.batch(this, datagrams);
    else if (handlers.data)
      for (let i = 0; i < datagrams.n && !this.closed; i++) {
        const data = Buffer.from(datagrams.payload(i));
        handlers.data(this, data, datagrams.port(i), datagrams.address(i));
      }
  };

  /** Frame `i`: a datagram for us, or what keeps the socket going. */
  private sort(i: number): void {
    const { frames, packet: p, channel } = this;
    const { words } = frames;
    const { head } = channel;
    const ip = (frames.off[i]! + head) >>> 2;
    const bytes = frames.len[i]! - head;
    let six = (words[ip]! & 0xf0) === 0x60;
    if (head !== 0) {
      const type = etherType(words, ip);
      if (type === ETHERTYPE_ARP) this.found(this.neighbours.arp(ip, this.now));
      six = type === ETHERTYPE_IPV6;
      if (!six && type !== ETHERTYPE_IPV4) return;
    }
    if (!parseIp(words, p, six, ip, bytes, false)) this.dropped++;
    else if (p[P_PROTOCOL] === IPPROTO_UDP) {
      if (p[P_FRAGMENT] !== WHOLE) this.dropped++;
      else if (p[P_PORTS]! >>> 16 === this.own && !this.datagrams.add(i, p)) this.dropped++;
    } else if (p[P_KIND] === NEIGHBOUR) this.found(this.neighbours.advertisement(p, this.now));
    else if (p[P_KIND] === ERROR) {
      const error = errorIn(words, p, this.quoted);
      if (error) this.handlers.error?.(this, error);
    }
  }

  /** A neighbour that was asked for: what waits for it goes. */
  private found(peer: Peer | undefined): void {
    if (peer === undefined) return;
    for (const { data, port } of peer.waiting.splice(0)) if (!this.put(peer, data, port)) this.dropped++;
  }

  private put(peer: Peer, data: Uint8Array, port: number): boolean {
    const { frames, sources } = this;
    const { pipe } = this.channel;
    const { words } = frames;
    const off = pipe.take();
    if (off < 0) {
      this.isFull = true;
      this.tickSoon();
      return false;
    }
    const ip = (off + pipe.head) >>> 2;
    const own = peer.six ? UDP6_HEAD : UDP4_HEAD;
    const ports = this.own | (swap16(port) << 16);
    frames.bytes.set(data, (ip << 2) + own);
    if (peer.six) {
      words.set(sources.to6(peer.words, 0), ip + 2);
      words.set(peer.words, ip + 6);
      putUdp6(words, ip, ports, data.length, this.sum);
    } else putUdp4(words, ip, sources.four?.[0] ?? 0, peer.words[0]!, ports, data.length, this.sum);
    if (pipe.head !== 0) this.neighbours.header(peer, ip);
    pipe.push(pipe.head + own + data.length);
    return true;
  }

  /** What a poll sends goes at its end anyway. */
  private flushSoon(): void {
    if (this.isPolling || this.isFlushing) return;
    this.isFlushing = true;
    this.now = performance.now();
    queueMicrotask(this.flush);
  }

  private readonly flush = (): void => {
    this.isFlushing = false;
    if (this.channel.isClosed) return;
    this.channel.pipe.flush();
    if (this.channel.pipe.staged > 0) this.tickSoon();
  };

  private tickSoon(): void {
    this.ticking ??= setTimeout(this.tick, TICK_MS);
  }

  private readonly tick = (): void => {
    const { neighbours, handlers, channel } = this;
    this.ticking = undefined;
    if (channel.isClosed) return;
    this.now = performance.now();
    this.flush();
    for (const peer of neighbours.late(this.now)) {
      peer.waiting.length = 0;
      handlers.error?.(this, new SysError(`send to ${peer.text}`, EHOSTUNREACH, "no neighbour answers"));
    }
    if (this.isFull && channel.pipe.take() >= 0) {
      this.isFull = false;
      handlers.drain?.(this);
    }
    if (this.isFull || neighbours.isAsking) this.tickSoon();
  };
}

function sourcesOf(addresses: readonly string[]): Sources {
  const sources = new Sources();
  for (const text of addresses) {
    const address = parseAddress(text);
    if (address === undefined) throw new TypeError(`"${text}" is no IPv4 or IPv6 address`);
    const { family, words } = address;
    if (family !== AF_INET6) sources.four ??= words;
    else if (formatAddress(family, words).startsWith("fe80:")) sources.link ??= words;
    else sources.six ??= words;
  }
  return sources;
}

/**
 * A UDP socket on netd's card. Datagrams longer than the MTU allows are not sent, and fragments not put together.
 * @throws Refused with netd's code and sentence (the port is the kernel's: `kernel_port`), SysError where no netd answers
 */
async function bind(options: UdpOptions): Promise<UdpSocket> {
  const { port = 0, hostname, socket, ...rest } = options;
  expectPort(port, 0);
  const channel = await attach({ ...rest, ip: true });
  try {
    const listen = (to: number) =>
      channel.listen({ proto: "udp", port: to, ...(hostname !== undefined && { address: hostname }) });
    let bound = port;
    for (let tries = 0; ; tries++)
      try {
        if (port === 0) bound = FIRST_EPHEMERAL + Math.floor(Math.random() * (65536 - FIRST_EPHEMERAL));
        await listen(bound);
        return new UdpSocket(channel, bound, hostname, socket);
      } catch (error) {
        if (port !== 0 || !(error instanceof Refused) || tries === TRIES) throw error;
      }
  } catch (error) {
    channel.close();
    throw error;
  }
}

export const udp = { bind };
