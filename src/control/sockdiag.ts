// What the card's own kernel has: its sockets, asked for through sock_diag in the card's namespace. Two questions: who
// holds a port that somebody wants to match, and who would get the answer of a flow that a client begins. All protocols
// with ports; of both families, because a socket on :: takes IPv4 too, unless it is IPV6_V6ONLY. A protocol that this
// kernel has not (SCTP's and DCCP's modules are seldom loaded) has no socket either: it is asked anew each time, since
// the module may come, which costs no more than the answer "no such protocol".
//
// An SCTP socket may have many addresses, and each of its peers too: it is one KernelSocket for each of its own, and has its
// port whoever sends.
//
//   nlmsghdr (16) | inet_diag_req_v2: family, protocol, ext, pad | states (32 bits) | id
//   id: local port, remote port (be16) | local address (16) | remote address (16) | ifindex | cookie (8)
//   answer: family, state, timer, retrans | id | expires, rqueue, wqueue, uid, inode | attributes
//
// In a request for one UDP socket the kernel takes local and remote the other way round ("for historical reasons").
// Sources: linux/sock_diag.h, linux/inet_diag.h; net/ipv4/inet_diag.c, net/ipv4/udp_diag.c, net/sctp/diag.c.
import { SysError } from "../../ffi/errno.ts";
import { NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR } from "../netlink/constants.ts";
import type { Netns } from "../netlink/netns.ts";
import { NetlinkSocket } from "../netlink/socket.ts";
import { AF_INET, AF_INET6, formatAddress } from "../wire/address.ts";

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const INET_DIAG_SKV6ONLY = 11;
const INET_DIAG_LOCALS = 17; // of SCTP: each a sockaddr_storage
const SOCKADDR_BYTES = 128;
const TCP_TIME_WAIT = 6;
const TCP_CLOSE = 7; // of UDP: not connected
const TCP_LISTEN = 10;
const ALL_BUT_TIME_WAIT = 0xffff & ~(1 << TCP_TIME_WAIT);
const CONNECTED = ALL_BUT_TIME_WAIT & ~(1 << TCP_LISTEN);
const REQUEST_BYTES = 16 + 56;
const MESSAGE_BYTES = 72; // of an answer, before its attributes
const ENOENT = 2;
const EOPNOTSUPP = 95;
const ETIMEDOUT = 110;
const REPLY_MS = 2000;
// Whatever port it is asked about, the kernel goes over its whole table of TCP connections, 300 us here. So all of them are
// asked for at once, and, where that was done often in this second, what was heard is good for a moment; but not on a
// host that has many.
const OFTEN = 8;
const HEARD_MS = 5;
const MANY = 1000;
const MANY_MS = 60_000;

const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const IPPROTO_DCCP = 33;
const IPPROTO_SCTP = 132;
const IPPROTO_UDPLITE = 136;
const NAMES: Readonly<Record<number, string>> = {
  [IPPROTO_TCP]: "tcp",
  [IPPROTO_UDP]: "udp",
  [IPPROTO_DCCP]: "dccp",
  [IPPROTO_SCTP]: "sctp",
  [IPPROTO_UDPLITE]: "udplite",
};
/** All that have ports, and so sockets that hold them. */
export const PROTOCOLS: readonly number[] = Object.keys(NAMES).map(Number);
/** Whether its sockets listen in no state of their own: one without a peer takes what comes from anywhere. */
const isDatagrams = (protocol: number): boolean => protocol === IPPROTO_UDP || protocol === IPPROTO_UDPLITE;

/** A socket of the kernel's. IPv4 on an IPv6 socket is family AF_INET here. */
export interface KernelSocket {
  readonly family: number;
  readonly protocol: number;
  /** memory words; all zero: any address */
  readonly local: Int32Array<ArrayBuffer>;
  readonly localPort: number;
  readonly remote: Int32Array<ArrayBuffer>;
  readonly remotePort: number;
  readonly listening: boolean;
  /** takes what comes from anywhere: it listens, or may have peers that it does not name */
  readonly anyPeer: boolean;
  /** on ::, and taking IPv4 too */
  readonly both: boolean;
  /** only waits for its end (TIME_WAIT): it holds nothing */
  readonly ending: boolean;
  readonly uid: number;
}

export const socketText = (socket: KernelSocket): string => {
  const { family, protocol, local, localPort, remote, remotePort, listening, uid } = socket;
  const text = (words: Int32Array, port: number): string => {
    const address = formatAddress(family, words);
    return `${family === AF_INET6 ? `[${address}]` : address}:${port}`;
  };
  const to = listening ? "" : ` to ${text(remote, remotePort)}`;
  return `${NAMES[protocol]} socket of uid ${uid} on ${text(local, localPort)}${to}`;
};

const any = (words: Int32Array): boolean => words.every((word) => word === 0);
const isMapped = (words: Int32Array): boolean => words[0] === 0 && words[1] === 0 && words[2] === -65536;
const mapped4 = (words: Int32Array) => Int32Array.of(0, 0, -65536, words[0]!);

/** Whether a frame to this address can be for the socket. */
export const takes = (socket: KernelSocket, family: number, address: Int32Array): boolean => {
  if (socket.both) return true;
  if (socket.family !== family) return false;
  return any(socket.local) || socket.local.every((word, i) => word === address[i]);
};

export class SockDiag {
  private readonly socket: NetlinkSocket;
  private readonly request = new Uint8Array(new ArrayBuffer(REQUEST_BYTES));
  private readonly view = new DataView(this.request.buffer);
  private sequence = 0;
  /** TCP's connections, and until when that is believed; until when there are too many to be told all of them. */
  private heard: readonly KernelSocket[] = [];
  private heardUntil = 0;
  private manyUntil = 0;
  /** How often they were asked for in this second. */
  private second = 0;
  private often = 0;
  private readonly ifindex: number;

  /** @param ifindex the card's: a socket that is bound to it gets its packets too; @throws SysError */
  constructor(netns: Netns, ifindex: number) {
    this.ifindex = ifindex;
    this.socket = new NetlinkSocket({ netns, protocol: NETLINK_SOCK_DIAG, slots: 4, timeoutMs: REPLY_MS });
  }

  close(): void {
    this.socket.close();
  }

  static knows(protocol: number): boolean {
    return NAMES[protocol] !== undefined;
  }

  /**
   * The kernel's sockets that hold a local port, all of them with 0; without those that are ending. @throws SysError
   */
  holders(protocol: number, port: number): KernelSocket[] {
    if (protocol !== IPPROTO_TCP) return this.dump(protocol, port, ALL_BUT_TIME_WAIT);
    return [...this.dump(protocol, port, 1 << TCP_LISTEN), ...this.connected(port)];
  }

  /** TCP's sockets that do not listen, with this local port: as of now, or of a moment ago. */
  private connected(port: number): readonly KernelSocket[] {
    const now = performance.now();
    if (now < this.manyUntil) return this.dump(IPPROTO_TCP, port, CONNECTED);
    const second = Math.floor(now / 1000);
    if (second !== this.second) this.often = 0;
    this.second = second;
    if (now >= this.heardUntil || this.often < OFTEN) {
      this.often++;
      this.heard = this.dump(IPPROTO_TCP, 0, CONNECTED);
      this.heardUntil = performance.now() + HEARD_MS;
      if (this.heard.length > MANY) this.manyUntil = now + MANY_MS;
    }
    return port === 0 ? this.heard : this.heard.filter(({ localPort }) => localPort === port);
  }

  /** The kernel's sockets that take what comes from anywhere. @throws SysError */
  listeners(protocol: number): KernelSocket[] {
    return this.dump(protocol, 0, 1 << (isDatagrams(protocol) ? TCP_CLOSE : TCP_LISTEN));
  }

  /** The kernel's sockets that have a peer; not TCP's where there are many. @throws SysError */
  connections(protocol: number): readonly KernelSocket[] {
    if (protocol === IPPROTO_TCP) return performance.now() < this.manyUntil ? [] : this.connected(0);
    return this.dump(protocol, 0, isDatagrams(protocol) ? 0xffff & ~(1 << TCP_CLOSE) : CONNECTED);
  }

  private dump(protocol: number, port: number, states: number): KernelSocket[] {
    const found: KernelSocket[] = [];
    for (const family of [AF_INET, AF_INET6]) {
      this.fill(family, protocol, NLM_F_REQUEST | NLM_F_DUMP, states);
      this.view.setUint16(24, port);
      this.ask(protocol, (socket) => void found.push(socket));
    }
    return found;
  }

  /**
   * The kernel's socket that gets a packet from `remote` to `local`, if there is one: connected, or listening there.
   * @throws SysError
   */
  receiver(
    family: number,
    protocol: number,
    local: Int32Array,
    localPort: number,
    remote: Int32Array,
    remotePort: number,
  ): KernelSocket | undefined {
    if (protocol === IPPROTO_SCTP)
      // which is asked by an association alone
      return this.dump(protocol, localPort, ALL_BUT_TIME_WAIT).find((one) => takes(one, family, local));
    this.fill(family, protocol, NLM_F_REQUEST, 0xffff);
    const near = !isDatagrams(protocol);
    this.view.setUint16(24, near ? localPort : remotePort);
    this.view.setUint16(26, near ? remotePort : localPort);
    this.view.setUint32(60, this.ifindex, true);
    for (let i = 0; i < (family === AF_INET6 ? 4 : 1); i++) {
      this.view.setInt32((near ? 28 : 44) + 4 * i, local[i]!, true);
      this.view.setInt32((near ? 44 : 28) + 4 * i, remote[i]!, true);
    }
    let found: KernelSocket | undefined;
    this.ask(protocol, (socket) => {
      found = socket;
    });
    return found;
  }

  private fill(family: number, protocol: number, flags: number, states: number): void {
    const { view } = this;
    this.request.fill(0);
    view.setUint32(0, REQUEST_BYTES, true);
    view.setUint16(4, SOCK_DIAG_BY_FAMILY, true);
    view.setUint16(6, flags, true);
    view.setUint32(8, ++this.sequence, true);
    view.setUint8(16, family);
    view.setUint8(17, protocol);
    view.setUint32(20, states, true);
    view.setUint32(64, 0xffffffff, true); // INET_DIAG_NOCOOKIE
    view.setUint32(68, 0xffffffff, true);
  }

  private ask(protocol: number, each: (socket: KernelSocket) => void): void {
    const op = `ask sock_diag about ${NAMES[protocol]}`;
    const dump = (this.view.getUint16(6, true) & NLM_F_DUMP) === NLM_F_DUMP;
    const sent = this.socket.send(this.request, 0, REQUEST_BYTES);
    if (sent < 0) throw new SysError(op, -sent);
    for (;;) {
      const n = this.socket.receive(4, true);
      if (n < 0) throw new SysError(op, n === -11 ? ETIMEDOUT : -n);
      for (let i = 0; i < n; i++) {
        const { words } = this.socket;
        const end = this.socket.offset(i) + this.socket.length(i);
        for (let at = this.socket.offset(i); at + 16 <= end; at += (words[at >> 2]! + 3) & ~3) {
          const length = words[at >> 2]!;
          if (length < 16 || at + length > end) break;
          if (words[(at >> 2) + 2] !== this.sequence) continue; // of a question that was given up
          const type = words[(at >> 2) + 1]! & 0xffff;
          if (type === NLMSG_ERROR || type === NLMSG_DONE) {
            const error = -words[(at >> 2) + 4]!;
            // Not found; or no such protocol in this kernel.
            if (error === 0 || error === ENOENT || error === EOPNOTSUPP) return;
            throw new SysError(op, error);
          }
          const answer = new DataView(this.socket.bytes.buffer, at + 16, length - 16);
          for (const one of readSockets(answer, protocol)) each(one);
          if (!dump) return;
        }
      }
    }
  }
}

/** What an answer tells of, without its netlink header. */
export function readSockets(view: DataView, protocol: number): KernelSocket[] {
  const six = view.getUint8(0) === AF_INET6;
  const wordsAt = (at: number, count: number) =>
    Int32Array.from({ length: 4 }, (_, i) => (i < count ? view.getInt32(at + 4 * i, true) : 0));
  const locals: Int32Array<ArrayBuffer>[] = [];
  let v6only = false;
  for (let off = MESSAGE_BYTES; off + 4 <= view.byteLength; off += (view.getUint16(off, true) + 3) & ~3) {
    const end = off + view.getUint16(off, true);
    if (end < off + 4 || end > view.byteLength) break;
    const type = view.getUint16(off + 2, true);
    if (type === INET_DIAG_SKV6ONLY) v6only = view.getUint8(off + 4) !== 0;
    if (type !== INET_DIAG_LOCALS) continue;
    for (let at = off + 4; at + SOCKADDR_BYTES <= end; at += SOCKADDR_BYTES) {
      const isSix = view.getUint16(at, true) === AF_INET6;
      locals.push(isSix ? wordsAt(at + 8, 4) : six ? mapped4(wordsAt(at + 4, 1)) : wordsAt(at + 4, 1));
    }
  }
  const state = view.getUint8(1);
  const size = six ? 4 : 1;
  const remote = wordsAt(24, size);
  const listening = state === TCP_LISTEN || any(remote);
  if (locals.length === 0) locals.push(wordsAt(8, size));
  return locals.map((local) => {
    const four = !six || isMapped(local);
    const unmap = (address: typeof local) => (six && four ? Int32Array.of(address[3]!, 0, 0, 0) : address);
    return {
      family: four ? AF_INET : AF_INET6,
      protocol,
      local: unmap(local),
      localPort: view.getUint16(4),
      remote: unmap(remote),
      remotePort: view.getUint16(6),
      listening,
      anyPeer: listening || protocol === IPPROTO_SCTP,
      both: six && any(local) && !v6only && listening,
      ending: state === TCP_TIME_WAIT && protocol === IPPROTO_TCP,
      uid: view.getUint32(64, true),
    };
  });
}
