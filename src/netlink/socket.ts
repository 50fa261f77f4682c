// A netlink socket: opened in any namespace, read in batches into one mapped buffer, never a copy.
// Bun's own sockets and streams do not work on netlink, so this is recvmmsg and sendto; wait for `fd` with epoll
// in a Worker, or let receive wait. One thread uses it.
import { check, errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { type Pointer, ptr } from "../../ffi/memory.ts";
import * as nl from "./constants.ts";
import type { Netns } from "./netns.ts";
import { SLOT_BYTES, Slots } from "./slots.ts";

const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_RCVTIMEO = 20;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const EINTR = 4;

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

export class NetlinkSocket extends Slots {
  readonly fd: number;
  readonly portid: number;
  private readonly optlen = new Int32Array(new ArrayBuffer(4));

  /** @throws SysError */
  constructor(options: SocketOptions = {}) {
    const { netns, protocol = nl.NETLINK_ROUTE, slots = 32, slotBytes = SLOT_BYTES } = options;
    super(slots, slotBytes);
    const open = () =>
      check(`socket netlink ${protocol}`, libc.socket(nl.AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
    try {
      this.fd = netns ? netns.run(open) : open();
    } catch (error) {
      this.free();
      throw error;
    }
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
      this.close();
      throw error;
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
    return this.dropsOf(this.fd);
  }

  /**
   * Takes up to `max` datagrams, without waiting unless `wait`. Returns how many, or -errno: -EAGAIN (none there,
   * or the timeout), -ENOBUFS (the kernel dropped some: what is still queued can be read, and must be first).
   * Never throws, allocates nothing. Slot i is then at `offset(i)` and `length(i)` bytes long; 0 for one that was
   * cut or that the kernel did not send. For a dump a `max` of 1 to 4 keeps the chunk in the cache.
   */
  receive(max: number = this.slots, wait = false): number {
    return this.receiveFrom(this.fd, max, wait);
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
    this.free();
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
