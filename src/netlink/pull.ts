// Whole dumps for the library: asked for, received to their end as fast as the kernel makes them, and only then
// decoded, since what changes while the kernel walks its tables can be missed. A dump that was disturbed is repeated.
//
// Disturbed is what the kernel says so of (NLM_F_DUMP_INTR), and what it does not: IPv6 routes and neighbours are
// walked without a word (linux/Documentation/userspace-api/netlink/intro.rst; net/ipv6/ip6_fib.c), so a second
// socket listens meanwhile. If the kernel still says so after TRIES, that is an error and no partial answer.
import { SysError } from "../../ffi/errno.ts";
import { type Naming, type NetlinkError, readAck } from "./ack.ts";
import { EAGAIN, ENOBUFS, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN } from "./constants.ts";
import { messageLength, messageSeq, messageType, Requests } from "./message.ts";
import type { Netns } from "./netns.ts";
import { NetlinkSocket } from "./socket.ts";

export type Fill = (m: Requests) => void;

/** Sees every message of a chunk; a dump's are all of one type. */
export type Visit = (words: Int32Array, bytes: Uint8Array, off: number, len: number) => void;

const TRIES = 8;
/** Of a dump that only our own listening calls disturbed: neighbours change all the time. */
const QUIET_TRIES = 3;
/** Datagrams a receive call; a chunk is then still in the cache when it is decoded. */
const SLOTS = 4;
const BLOCK_BYTES = 1 << 20;
/** So many bytes are received before others have their turn. */
const TURN_BYTES = 4 << 20;
const EINTR = 4;
const EBADMSG = 74;
const EMSGSIZE = 90;
/** A dump's end with these says that there is nothing: no such table, interface, protocol or family. */
const EMPTY = new Set([2, 19, 95, 97]);

export interface PullOptions {
  signal?: AbortSignal | undefined;
  /** multicast groups whose messages mean that the dump was disturbed */
  watch?: readonly number[];
  /** what the request is, where the protocol is not rtnetlink */
  naming?: Naming;
}

/** The raw messages of a dump, in blocks. */
export class Blocks {
  readonly blocks: { words: Int32Array; bytes: Uint8Array; length: number }[] = [];
  bytes = 0;
  private readonly least: number;

  /** @param least bytes that a block has at least */
  constructor(least: number = BLOCK_BYTES) {
    this.least = least;
  }

  append(from: Uint8Array, off: number, length: number): void {
    let block = this.blocks.at(-1);
    if (!block || block.length + length > block.bytes.length) {
      const bytes = new Uint8Array(Math.max(this.least, (length + 3) & ~3));
      block = { words: new Int32Array(bytes.buffer), bytes, length: 0 };
      this.blocks.push(block);
    }
    block.bytes.set(from.subarray(off, off + length), block.length);
    block.length += (length + 3) & ~3;
    this.bytes += (length + 3) & ~3;
  }
}

/** Dumps of one namespace; each at a time has a socket of its own, kept for the next. */
export class Puller {
  private readonly netns: Netns | undefined;
  private readonly protocol: number;
  private readonly idle: NetlinkSocket[] = [];
  private seq = 1;
  private closed = false;

  constructor(netns: Netns | undefined, protocol: number) {
    this.netns = netns;
    this.protocol = protocol;
  }

  /**
   * One dump, kept: its messages in the kernel's order.
   * @throws NetlinkError as the kernel refused it, or EINTR if it never came whole; what the signal was aborted with
   */
  async pull(fill: Fill, options: PullOptions = {}): Promise<Blocks> {
    let blocks = new Blocks();
    await this.repeat(fill, options, {
      heads: 0,
      begin: () => {
        blocks = new Blocks();
      },
      chunk(words, bytes, from, end) {
        const to = pass(words, from, end, this);
        blocks.append(bytes, from, Math.min(to, end) - from);
        return to;
      },
    });
    return blocks;
  }

  /** One dump, decoded as it comes: `begin` is called anew whenever it is repeated. Throws as `pull`. */
  async repeat(fill: Fill, options: PullOptions, sink: ChunkSink): Promise<void> {
    for (let tries = 1; ; tries++) {
      sink.begin();
      const result = await this.once(fill, options, sink);
      if (result === "whole" || (result === "watched" && tries >= QUIET_TRIES)) return;
      if (tries >= TRIES)
        throw new SysError("dump", EINTR, `the kernel's table changed under each of ${TRIES} dumps`);
      await Bun.sleep(tries - 1);
    }
  }

  close(): void {
    this.closed = true;
    for (const socket of this.idle.splice(0)) socket.close();
  }

  /** One dump, not repeated: how it went. */
  async once(
    fill: Fill,
    { signal, watch = [], naming }: PullOptions,
    sink: Omit<ChunkSink, "begin">,
  ): Promise<"whole" | "interrupted" | "watched"> {
    signal?.throwIfAborted();
    const watcher = watch.length > 0 ? this.watcher(watch) : undefined;
    const socket = this.idle.pop() ?? this.open();
    let ended = false;
    try {
      const m = new Requests();
      m.firstSeq = this.seq++;
      fill(m);
      const sent = socket.send(m.bytes, 0, m.length);
      if (sent < 0) throw new SysError("send netlink dump request", -sent);
      const state: State = { error: undefined, ended: false, naming };
      sink.heads = 0;
      for (let turn = 0; !state.ended; ) {
        const n = socket.receive(SLOTS);
        if (n < 0) throw new SysError("receive netlink dump", -n);
        if (socket.truncated > 0)
          throw new SysError("receive netlink dump", EMSGSIZE, "longer than the buffer");
        for (let i = 0; i < n; i++) {
          const off = socket.offset(i);
          turn += socket.length(i);
          chunk(socket, off, off + socket.length(i), m, state, sink);
        }
        if (turn < TURN_BYTES || state.ended) continue;
        turn = 0;
        await new Promise((resolve) => setImmediate(resolve));
        signal?.throwIfAborted();
      }
      ended = true;
      const { error } = state;
      if (error && !EMPTY.has(error.errno)) throw error;
      if ((sink.heads >>> 16) & NLM_F_DUMP_INTR) return "interrupted";
      return watcher && heard(watcher) ? "watched" : "whole";
    } finally {
      watcher?.close();
      // One that was left in the middle would answer with the rest.
      if (ended && !this.closed) this.idle.push(socket);
      else socket.close();
    }
  }

  private open(): NetlinkSocket {
    return new NetlinkSocket({
      ...(this.netns && { netns: this.netns }),
      protocol: this.protocol,
      slots: SLOTS,
    });
  }

  private watcher(groups: readonly number[]): NetlinkSocket {
    const netns = this.netns && { netns: this.netns };
    const socket = new NetlinkSocket({ ...netns, slots: 1, slotBytes: 64, receiveBuffer: 8192 });
    socket.join(...groups);
    return socket;
  }
}

export interface ChunkSink {
  /** The second words of the messages that were seen (type and NLM_F_*), ored. */
  heads: number;
  begin(): void;
  /**
   * Takes the dump's own messages from `off` on, and ors their second words into `heads`. Returns where it stopped: at
   * `end` or, since lengths are rounded up, beyond; or at a message that is none of those (DONE, or no message at all).
   */
  chunk(words: Int32Array, bytes: Uint8Array, off: number, end: number): number;
}

/** A chunk of which nothing is wanted yet but its flags, and its end. */
export function pass(words: Int32Array, off: number, end: number, into: { heads: number }): number {
  let { heads } = into;
  for (let len: number; (len = messageLength(words, off, end)) > 0; off += (len + 3) & ~3) {
    const second = words[(off >> 2) + 1]!;
    if ((second & 0xffff) <= NLMSG_OVERRUN) break;
    heads |= second;
  }
  into.heads = heads;
  return off;
}

interface State {
  error: NetlinkError | SysError | undefined;
  ended: boolean;
  naming: Naming | undefined;
}

/** Shows the messages of one datagram to the sink, and finds the dump's end. */
function chunk(
  socket: NetlinkSocket,
  off: number,
  end: number,
  m: Requests,
  state: State,
  sink: Omit<ChunkSink, "begin">,
): void {
  const { words, bytes } = socket;
  while (off < end) {
    let len = messageLength(words, off, end);
    // A datagram answers one request: none of ours, then.
    if (len > 0 && messageSeq(words, off) !== m.firstSeq) return;
    if (len > 0 && messageType(words, off) > NLMSG_OVERRUN) off = sink.chunk(words, bytes, off, end);
    if (off >= end) return;
    len = messageLength(words, off, end);
    const type = messageType(words, off);
    if (len === 0 || type > NLMSG_OVERRUN) {
      state.error = new SysError("receive netlink dump", EBADMSG);
      state.ended = true;
      return;
    }
    sink.heads |= words[(off >> 2) + 1]!;
    if (type === NLMSG_DONE || type === NLMSG_ERROR) {
      state.error = readAck(words, bytes, off, len, m, 0, state.naming);
      state.ended = true;
      return;
    }
    off += (len + 3) & ~3;
  }
}

function heard(socket: NetlinkSocket): boolean {
  const n = socket.receive(1);
  return n > 0 || n === -ENOBUFS || (n < 0 && n !== -EAGAIN);
}
