// A netlink socket: opened in any namespace, read in batches into one mapped buffer, never a copy.
// Bun's own sockets and streams do not work on netlink, so this is recvmmsg and sendto; wait for `fd` with epoll
// in a Worker, or let receive wait. One thread uses it.
//
//   buffer: slot 0 | slot 1 | ... | mmsghdr[slots] (64 bytes each) | iovec[slots] (16) | sockaddr_nl[slots] (16)
//   A slot takes one datagram, which may hold many messages (a dump's chunk: up to 32 KiB).
import { check, errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, ptr, unmap } from "../../ffi/memory.ts";
import * as nl from "./constants.ts";
import type { Netns } from "./netns.ts";

const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_RCVTIMEO = 20;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_MEMINFO = 55;
const SK_MEMINFO_DROPS = 8;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const MSG_WAITFORONE = 0x10000;
const EINTR = 4;

const SLOT_BYTES = 128 * 1024;
/** Slots start on different cache sets: at a power of two apart they would share one. */
const SLOT_SKEW = 320;
const MMSGHDR_BYTES = 64;

export interface SocketOptions {
  /** Where it is opened; the calling thread's own namespace if missing. */
  netns?: Netns;
  protocol?: number;
  /** Bytes of kernel buffer; one queued event costs 832 of them. */
  receiveBuffer?: number;
  sendBuffer?: number;
  /** Most datagrams that one receive takes. */
  slots?: number;
  /** Longest datagram; longer ones are cut, counted in `truncated` and not delivered. */
  slotBytes?: number;
  /** For `receive(_, true)`; 0 waits for ever. */
  timeoutMs?: number;
}

export class NetlinkSocket {
  readonly fd: number;
  readonly portid: number;
  readonly slots: number;
  /** The receive buffer, for the decoders. Empty after close. */
  words: Int32Array;
  bytes: Uint8Array;
  /** Datagrams that were longer than a slot: as good as an overrun. */
  truncated = 0;
  /** Datagrams from another process. */
  foreign = 0;

  private readonly stride: number;
  private readonly mapping: number;
  private readonly mappingBytes: number;
  private readonly headers: Pointer;
  private readonly headerWord: number;
  private readonly nameWord: number;
  private readonly meminfo = new Uint32Array(new ArrayBuffer(36));
  private readonly optlen = new Int32Array(new ArrayBuffer(4));

  /** @throws SysError */
  constructor(options: SocketOptions = {}) {
    const { netns, protocol = nl.NETLINK_ROUTE, slots = 32, slotBytes = SLOT_BYTES } = options;
    const open = () =>
      check(`socket netlink ${protocol}`, libc.socket(nl.AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
    this.fd = netns ? netns.run(open) : open();
    try {
      this.force(SO_RCVBUFFORCE, SO_RCVBUF, options.receiveBuffer ?? 4 << 20);
      this.force(SO_SNDBUFFORCE, SO_SNDBUF, options.sendBuffer ?? 1 << 20);
      for (const option of [nl.NETLINK_EXT_ACK, nl.NETLINK_CAP_ACK, nl.NETLINK_GET_STRICT_CHK])
        this.set(nl.SOL_NETLINK, option, Int32Array.of(1));
      const timeout = options.timeoutMs ?? 0;
      this.set(
        SOL_SOCKET,
        SO_RCVTIMEO,
        Int32Array.of(Math.floor(timeout / 1000), 0, (timeout % 1000) * 1000, 0),
      );
      this.portid = this.bind();
    } catch (error) {
      libc.close(this.fd);
      throw error;
    }

    this.slots = slots;
    this.stride = ((slotBytes + 63) & ~63) + SLOT_SKEW;
    const headerOff = this.stride * slots;
    const iovecOff = headerOff + slots * MMSGHDR_BYTES;
    const nameOff = iovecOff + slots * 16;
    this.mappingBytes = nameOff + slots * 16;
    this.mapping = mapPrivate(this.mappingBytes, true);
    const buffer = bufferAt(this.mapping, this.mappingBytes);
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.headers = (this.mapping + headerOff) as Pointer;
    this.headerWord = headerOff >> 2;
    this.nameWord = nameOff >> 2;
    const view = new DataView(buffer);
    const address = (off: number, to: number) => view.setBigUint64(off, BigInt(this.mapping + to), true);
    for (let i = 0; i < slots; i++) {
      const header = headerOff + i * MMSGHDR_BYTES;
      const iovec = iovecOff + i * 16;
      address(header, nameOff + i * 16);
      view.setUint32(header + 8, 12, true);
      address(header + 16, iovec);
      view.setUint32(header + 24, 1, true);
      address(iovec, i * this.stride);
      view.setUint32(iovec + 8, slotBytes, true);
    }
  }

  /** Joins multicast groups (RTNLGRP_*). */
  join(...groups: number[]): void {
    for (const group of groups) this.set(nl.SOL_NETLINK, nl.NETLINK_ADD_MEMBERSHIP, Int32Array.of(group));
  }

  leave(...groups: number[]): void {
    for (const group of groups) this.set(nl.SOL_NETLINK, nl.NETLINK_DROP_MEMBERSHIP, Int32Array.of(group));
  }

  /** Messages that the kernel dropped for want of buffer since the socket was opened (wraps at 2^32). */
  drops(): number {
    this.optlen[0] = 36;
    const result = libc.getsockopt(this.fd, SOL_SOCKET, SO_MEMINFO, ptr(this.meminfo), ptr(this.optlen));
    if (result < 0) throw new SysError("getsockopt SO_MEMINFO", errno());
    return this.meminfo[SK_MEMINFO_DROPS]!;
  }

  /**
   * Takes up to `max` datagrams, without waiting unless `wait`. Returns how many, or -errno: -EAGAIN (none there,
   * or the timeout), -ENOBUFS (the kernel dropped some: what is still queued can be read, and must be first).
   * Never throws, allocates nothing. Slot i is then at `offset(i)` and `length(i)` bytes long; 0 for one that was
   * cut or that the kernel did not send. For a dump a `max` of 1 to 4 keeps the chunk in the cache.
   */
  receive(max: number = this.slots, wait = false): number {
    let n: number;
    do {
      n = libc.recvmmsg(this.fd, this.headers, max, wait ? MSG_WAITFORONE : MSG_DONTWAIT, null);
      if (n < 0) n = -errno();
    } while (n === -EINTR);
    const { words } = this;
    for (let i = 0; i < n; i++) {
      const header = this.headerWord + i * (MMSGHDR_BYTES / 4);
      if (words[this.nameWord + i * 4 + 1] !== 0) {
        this.foreign++;
        words[header + 14] = 0;
      } else if ((words[header + 12]! & MSG_TRUNC) !== 0) {
        this.truncated++;
        words[header + 14] = 0;
      }
    }
    return n;
  }

  /** Byte offset of slot i in `words` and `bytes`. */
  offset(i: number): number {
    return i * this.stride;
  }

  /** Bytes that the last receive put into slot i. */
  length(i: number): number {
    return this.words[this.headerWord + i * (MMSGHDR_BYTES / 4) + 14]!;
  }

  /** Sends `length` bytes of requests to the kernel, which has done them all when this returns. Returns 0 or -errno. */
  send(bytes: Uint8Array, off: number, length: number): number {
    const address = (ptr(bytes) + off) as Pointer;
    let sent: number;
    do {
      sent = Number(libc.sendto(this.fd, address, length, 0, null, 0));
      if (sent < 0) sent = -errno();
    } while (sent === -EINTR);
    return Math.min(sent, 0);
  }

  close(): void {
    libc.close(this.fd);
    this.words = new Int32Array(0);
    this.bytes = new Uint8Array(0);
    unmap(this.mapping, this.mappingBytes);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private set(level: number, option: number, value: Int32Array): void {
    const result = libc.setsockopt(this.fd, level, option, ptr(value), value.byteLength);
    if (result < 0) throw new SysError(`setsockopt ${level} ${option} on netlink`, errno());
  }

  /** The option that ignores rmem_max, or without privilege the one that it caps. */
  private force(option: number, plain: number, bytes: number): void {
    const value = Int32Array.of(bytes);
    if (libc.setsockopt(this.fd, SOL_SOCKET, option, ptr(value), 4) < 0) this.set(SOL_SOCKET, plain, value);
  }

  private bind(): number {
    const name = new Uint16Array(new ArrayBuffer(12));
    name[0] = nl.AF_NETLINK;
    check("bind netlink", libc.bind(this.fd, ptr(name), 12));
    this.optlen[0] = 12;
    check("getsockname netlink", libc.getsockname(this.fd, ptr(name), ptr(this.optlen)));
    return new Uint32Array(name.buffer)[1]!;
  }
}
