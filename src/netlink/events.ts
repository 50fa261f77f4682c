// The event socket, and what was taken from it but not applied yet. Taking comes before applying: the kernel drops
// events for good once the socket's buffer is full (ENOBUFS), while memory of ours can wait.
//
//   queue: | message | message | ...   as received, 4-byte aligned, their lengths in nlmsghdr; head..tail
//   held:  the same: messages that were looked at and put off until a dump of their kind is done
import { SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, unmap } from "../../ffi/memory.ts";
import * as nl from "./constants.ts";
import { messageLength } from "./message.ts";
import type { Netns } from "./netns.ts";
import { NetlinkSocket } from "./socket.ts";

export interface EventSink {
  /** One message, in order. */
  event(words: Int32Array, bytes: Uint8Array, off: number, len: number): void;
}

const GROUPS = [
  nl.RTNLGRP_LINK,
  nl.RTNLGRP_NEIGH,
  nl.RTNLGRP_IPV4_IFADDR,
  nl.RTNLGRP_IPV6_IFADDR,
  nl.RTNLGRP_IPV4_ROUTE,
  nl.RTNLGRP_IPV6_ROUTE,
  nl.RTNLGRP_IPV4_RULE,
  nl.RTNLGRP_IPV6_RULE,
  nl.RTNLGRP_IPV4_NETCONF,
  nl.RTNLGRP_IPV6_NETCONF,
  nl.RTNLGRP_NEXTHOP,
];

/** Room for half a million events in each queue; more than that waits in the socket. */
const QUEUE_BYTES = 64 << 20;
const KEPT_BYTES = 8 << 20;
const MADV_DONTNEED = 4;
const SLOTS = 32;
const SLOT_BYTES = 64 << 10;

export class Events {
  readonly socket: NetlinkSocket;
  /** Times that events were lost: ENOBUFS, a message cut short, or the drop counter alone. */
  overruns = 0;
  private readonly queue = new Queue();
  private readonly held = new Queue();
  private losing = false;
  private drops = 0;

  /** Opened and subscribed. @throws SysError */
  constructor(netns: Netns | undefined, receiveBuffer: number) {
    this.socket = new NetlinkSocket({
      ...(netns && { netns }),
      receiveBuffer,
      slots: SLOTS,
      slotBytes: SLOT_BYTES,
    });
    this.socket.join(...GROUPS);
  }

  /** Whether all that was taken has been looked at. */
  get empty(): boolean {
    return this.queue.head === this.queue.tail;
  }

  /**
   * Takes what the socket holds, at most `batches` times 32 datagrams and as far as there is room. Returns true once
   * the socket is empty. A loss is told by `lost`, then. @throws SysError
   */
  take(batches: number): boolean {
    const { socket, queue } = this;
    for (let i = 0; i < batches && queue.room(SLOTS * SLOT_BYTES); i++) {
      const n = socket.receive(SLOTS);
      if (n === -nl.EAGAIN) return true;
      // What was queued before the loss is still there, and the kernel adds nothing until all of it is read.
      if (n === -nl.ENOBUFS) this.losing = true;
      else if (n < 0) throw new SysError("receive netlink events", -n);
      for (let k = 0; k < n; k++) queue.append(socket.words, socket.offset(k), socket.length(k));
    }
    return false;
  }

  /** Whether events were lost since the last call. Ask when the socket is empty: only then a dump sees all that comes after. */
  lost(): boolean {
    const drops = this.socket.drops();
    const lost = this.losing || this.socket.truncated > 0 || drops !== this.drops;
    this.losing = false;
    this.socket.truncated = 0;
    this.drops = drops;
    if (lost) this.overruns++;
    return lost;
  }

  /** Shows at most `max` messages to `sink`. */
  apply(sink: EventSink, max: number): void {
    const { queue } = this;
    for (let i = 0; i < max && queue.head < queue.tail; i++) {
      const off = queue.head;
      const len = queue.words[off >> 2]!;
      queue.head = off + ((len + 3) & ~3);
      sink.event(queue.words, queue.bytes, off, len);
    }
  }

  /** Puts a message off that `apply` shows. False if there is no room for it. */
  hold(off: number, len: number): boolean {
    if (!this.held.room(len + 16)) return false;
    this.held.append(this.queue.words, off, len);
    return true;
  }

  /** Shows what was put off, in order, and returns how many they were. */
  replay(sink: EventSink): number {
    const { held } = this;
    let n = 0;
    for (; held.head < held.tail; n++) {
      const off = held.head;
      const len = held.words[off >> 2]!;
      held.head = off + ((len + 3) & ~3);
      sink.event(held.words, held.bytes, off, len);
    }
    return n;
  }

  close(): void {
    this.socket.close();
    this.queue.close();
    this.held.close();
  }
}

class Queue {
  head = 0;
  tail = 0;
  private readonly mapping = mapPrivate(QUEUE_BYTES, true);
  private readonly buffer = bufferAt(this.mapping, QUEUE_BYTES);
  readonly words: Int32Array = new Int32Array(this.buffer);
  readonly bytes: Uint8Array = new Uint8Array(this.buffer);

  /** Whether `bytes` more fit; moves what is left to the front if that helps. */
  room(bytes: number): boolean {
    if (this.head === this.tail) {
      // What a burst took is given back.
      if (this.tail > KEPT_BYTES) libc.madvise(this.mapping as Pointer, QUEUE_BYTES, MADV_DONTNEED);
      this.head = this.tail = 0;
    }
    if (QUEUE_BYTES - this.tail >= bytes) return true;
    if (this.head < QUEUE_BYTES / 2) return false;
    this.bytes.copyWithin(0, this.head, this.tail);
    this.tail -= this.head;
    this.head = 0;
    return true;
  }

  /** Copies the whole messages of `length` bytes at `off`. */
  append(from: Int32Array, off: number, length: number): void {
    const { words } = this;
    const end = off + length;
    for (let len: number; (len = messageLength(from, off, end)) > 0; off += (len + 3) & ~3) {
      const n = (len + 3) >> 2;
      const to = this.tail >> 2;
      const at = off >> 2;
      for (let i = 0; i < n; i++) words[to + i] = from[at + i]!;
      this.tail += n * 4;
    }
  }

  close(): void {
    unmap(this.mapping, QUEUE_BYTES);
  }
}
